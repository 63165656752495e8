import type { JupyterFrontEnd } from '@jupyterlab/application';
import type { IDocumentManager } from '@jupyterlab/docmanager';
import type { DocumentRegistry } from '@jupyterlab/docregistry';
import { FileDialog } from '@jupyterlab/filebrowser';
import type { NotebookModel, NotebookPanel } from '@jupyterlab/notebook';
import type { TranslationBundle } from '@jupyterlab/translation';

import type { CellCandidate } from '../api/schema';
import type { Notebooks } from '../panels/create/notebook';

type Context = DocumentRegistry.IContext<DocumentRegistry.IModel>;

const TAG = 'parameters';

/** The index of the cell that the server meant: by its number, unless the notebook has been changed since. */
function indexOf(model: NotebookModel, candidate: CellCandidate): number {
  const sources = Array.from(model.cells, cell => cell.sharedModel.getSource());
  const index = candidate.cell.number - 1;
  return sources[index] === candidate.source ? index : sources.indexOf(candidate.source);
}

/** The application's open notebooks, as the form needs them. */
export function openNotebooks(app: JupyterFrontEnd, documents: IDocumentManager, trans: TranslationBundle): Notebooks {
  const contextOf = (path: string): Context | undefined => {
    const widget = documents.findWidget(path, null);
    return widget ? documents.contextForWidget(widget) : undefined;
  };

  async function save(context: Context): Promise<void> {
    await context.ready;
    await context.save();
    if (context.model.dirty) {
      throw new Error(trans.__('%1 could not be saved. A job runs what is on disk: save it first.', context.path));
    }
  }

  return {
    isDirty: path => contextOf(path)?.model.dirty ?? false,
    save: async path => {
      const context = contextOf(path);
      if (!context?.model.dirty) {
        return false;
      }
      await save(context);
      return true;
    },
    tagCell: async (path, candidate) => {
      const panel = documents.openOrReveal(path, undefined, undefined, { activate: false }) as NotebookPanel | undefined;
      if (!panel) {
        throw new Error(trans.__('%1 could not be opened.', path));
      }
      await panel.context.ready;
      const model = panel.context.model as unknown as NotebookModel;
      const cell = model.cells.get(indexOf(model, candidate));
      if ((cell as unknown) === undefined) {
        throw new Error(trans.__('Cell %1 has changed. Save the notebook and try again.', candidate.cell.number));
      }
      const tags: unknown = cell.getMetadata('tags');
      const before = Array.isArray(tags) ? tags.filter(tag => typeof tag === 'string') : [];
      cell.setMetadata('tags', [...before.filter(tag => tag !== TAG), TAG]);
      await save(panel.context);
    },
    watch: (path, listener) => {
      const context = contextOf(path);
      if (!context) {
        return () => undefined;
      }
      const onSave = (_: unknown, state: DocumentRegistry.SaveState) => state.startsWith('completed') && listener(true);
      const onState = () => listener(false);
      context.saveState.connect(onSave);
      context.model.stateChanged.connect(onState);
      return () => {
        context.saveState.disconnect(onSave);
        context.model.stateChanged.disconnect(onState);
      };
    },
    chooseGrid: async path => {
      const result = await FileDialog.getOpenFiles({
        manager: documents,
        title: trans.__('Choose a parameters file'),
        defaultPath: path.split('/').slice(0, -1).join('/'),
        filter: item => (item.type === 'file' && item.path.endsWith('.json') ? { score: 1 } : null)
      });
      const chosen = result.button.accept ? result.value?.[0] : undefined;
      if (chosen?.type !== 'file') {
        return null;
      }
      const model = await app.serviceManager.contents.get(chosen.path, { type: 'file', format: 'text', content: true });
      return { path: chosen.path, text: String(model.content) };
    }
  };
}
