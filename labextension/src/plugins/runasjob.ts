import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, Notification } from '@jupyterlab/apputils';
import { IFileBrowserFactory } from '@jupyterlab/filebrowser';
import { INotebookTracker } from '@jupyterlab/notebook';

import { runAsJobIcon } from '../components/icons';
import type { Base } from '../tokens';
import { COMMANDS, IJobsBase } from '../tokens';

function activate(
  app: JupyterFrontEnd,
  base: Base,
  tracker: INotebookTracker | null,
  browsers: IFileBrowserFactory | null,
  palette: ICommandPalette | null
): void {
  const { trans } = base;
  const { commands } = app;
  const label = (args: { [key: string]: unknown }) =>
    args['toolbar'] === true ? trans.__('Run as job') : trans.__('Run as Job…');
  const caption = trans.__('Run this notebook as a job, on a frozen copy of its project');

  /** Open the form of the notebook in front, saved first: a job runs what is on disk. */
  async function runCurrent(): Promise<void> {
    const panel = tracker?.currentWidget;
    if (!panel) {
      Notification.info(trans.__('Open a notebook first, then press “Run as job” in its toolbar.'), { autoClose: 6000 });
      return;
    }
    const { context } = panel;
    await context.ready;
    const isUnsaved = context.model.dirty;
    if (isUnsaved) {
      await context.save();
      if (context.model.dirty) {
        Notification.warning(trans.__('%1 was not saved. A job runs what is on disk: save it first.', context.path), {
          autoClose: 8000
        });
        return;
      }
    }
    await commands.execute(COMMANDS.create, { path: context.path, saved: isUnsaved });
  }

  commands.addCommand(COMMANDS.runAsJob, {
    label,
    caption,
    icon: runAsJobIcon,
    describedBy: { args: { type: 'object', properties: { toolbar: { type: 'boolean' } } } },
    execute: runCurrent
  });

  const selected = () => {
    const items = [...(browsers?.tracker.currentWidget?.selectedItems() ?? [])];
    return items.length === 1 && items[0]?.type === 'notebook' ? items[0].path : undefined;
  };
  commands.addCommand(COMMANDS.runFileAsJob, {
    label,
    caption,
    icon: runAsJobIcon,
    describedBy: { args: { type: 'object', properties: {} } },
    isVisible: () => selected() !== undefined,
    execute: () => {
      const path = selected();
      return path === undefined ? undefined : commands.execute(COMMANDS.create, { path });
    }
  });
  palette?.addItem({ command: COMMANDS.runAsJob, category: trans.__('Jobs') });
}

/** “Run as job” in the notebook's toolbar, the menus and the palette; where is in `schema/plugin.json`. */
export const runAsJobPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-jobs:plugin',
  description: 'Adds “Run as job” to notebooks.',
  autoStart: true,
  requires: [IJobsBase],
  optional: [INotebookTracker, IFileBrowserFactory, ICommandPalette],
  activate
};
