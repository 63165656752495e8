import type { JupyterFrontEnd } from '@jupyterlab/application';
import type { Widget } from '@lumino/widgets';
import { SplitPanel, TabPanel } from '@lumino/widgets';

/** Pixels below which the area under a document is too low to be read. */
const LOW = 260;

/** Give a widget of the area below the document its share of the page, if it has next to none. */
function makeRoom(widget: Widget): void {
  let inner: Widget = widget;
  while (inner.parent && !(inner.parent instanceof SplitPanel && inner.parent.orientation === 'vertical')) {
    inner = inner.parent;
  }
  const split = inner.parent;
  if (split instanceof SplitPanel && inner.node.clientHeight < LOW) {
    split.setRelativeSizes(split.widgets.map(other => (other === inner ? 3 : 2)));
  }
}

/** Bring a widget's tab to the front: Notebook 7 shows the area below the document and leaves its tabs as they are. */
function select(widget: Widget): void {
  for (let outer = widget.parent; outer; outer = outer.parent) {
    if (outer instanceof TabPanel) {
      outer.currentWidget = widget;
      return;
    }
  }
}

/**
 * Put a widget where it has room: the main area; in Notebook 7, whose main area belongs to one document, the area below it.
 */
export function place(app: JupyterFrontEnd, hasTabs: boolean, widget: Widget): void {
  if (!widget.isAttached) {
    app.shell.add(widget, hasTabs ? 'main' : 'down');
  }
  app.shell.activateById(widget.id);
  if (!hasTabs) {
    select(widget);
    // the page lays out what was just shown before it can be given another size
    requestAnimationFrame(() => makeRoom(widget));
  }
}
