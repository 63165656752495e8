import type { TranslationBundle } from '@jupyterlab/translation';
import { createContext, useContext, useEffect, useSyncExternalStore } from 'react';

import type { JobsStore } from '../model/store';

/** What a person can go to from any panel. */
export interface Navigation {
  openJob(id: string): void;
  openRun(id: string): void;
  /** Open a notebook or another file of the project; `cell` counts from 1. */
  openFile(path: string, cell?: number): void;
  /** Open the form for a notebook, by its contents path. */
  newJob(path: string): void;
  showJobs(): void;
}

/** What every panel is given: the store, the translated strings and the ways out. */
export interface Shared {
  store: JobsStore;
  /** Reach the server and listen for changes, once; called when something of ours is seen. */
  connect(): void;
  trans: TranslationBundle;
  go: Navigation;
  /** The theme, for documents of ours in frames. */
  isLight(): boolean;
  onThemeChange(listener: () => void): () => void;
}

const SharedContext = createContext<Shared | null>(null);

export const SharedProvider = SharedContext.Provider;

/** What the panel was given. */
export function useShared(): Shared {
  const shared = useContext(SharedContext);
  if (!shared) {
    throw new Error('No SharedProvider above this component');
  }
  return shared;
}

/** The translated strings. */
export function useTrans(): TranslationBundle {
  return useShared().trans;
}

/** Whether a panel can be seen, so that streams end when nobody looks. */
export interface Visibility {
  isVisible(): boolean;
  subscribe(listener: () => void): () => void;
}

const VisibilityContext = createContext<Visibility>({ isVisible: () => true, subscribe: () => () => undefined });

export const VisibilityProvider = VisibilityContext.Provider;

/** Reach the server as soon as the panel is seen. */
export function useConnection(): void {
  const { connect } = useShared();
  const isVisible = useVisible();
  useEffect(() => {
    if (isVisible) {
      connect();
    }
  }, [connect, isVisible]);
}

/** Whether the panel this component is in can be seen now. */
export function useVisible(): boolean {
  const visibility = useContext(VisibilityContext);
  return useSyncExternalStore(visibility.subscribe, visibility.isVisible);
}
