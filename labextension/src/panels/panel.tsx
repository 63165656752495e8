import { ReactWidget } from '@jupyterlab/ui-components';
import type { Message } from '@lumino/messaging';
import React from 'react';

import type { Shared } from '../components/context';
import { SharedProvider, VisibilityProvider } from '../components/context';

/** A widget that renders one of our panels and tells it when it is seen. */
export class Panel extends ReactWidget {
  constructor(
    private readonly _shared: Shared,
    private readonly _body: () => React.JSX.Element,
    className: string
  ) {
    super();
    this.addClass('jobs-Panel');
    this.addClass(className);
  }

  protected override render(): React.JSX.Element {
    return (
      <SharedProvider value={this._shared}>
        <VisibilityProvider value={this._visibility}>{this._body()}</VisibilityProvider>
      </SharedProvider>
    );
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this._notify();
  }

  protected override onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this._notify();
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this._notify();
  }

  private _notify(): void {
    this._listeners.forEach(listener => listener());
  }

  private readonly _listeners = new Set<() => void>();

  private readonly _visibility = {
    isVisible: () => this.isVisible,
    subscribe: (listener: () => void) => {
      this._listeners.add(listener);
      return () => this._listeners.delete(listener);
    }
  };
}
