import type { JupyterFrontEnd } from '@jupyterlab/application';
import type { Widget } from '@lumino/widgets';

/**
 * Put a widget where it has room: the main area; in Notebook 7, whose main area belongs to one document, the area below it.
 */
export function place(app: JupyterFrontEnd, hasTabs: boolean, widget: Widget): void {
  if (!widget.isAttached) {
    app.shell.add(widget, hasTabs ? 'main' : 'down');
  }
  app.shell.activateById(widget.id);
}
