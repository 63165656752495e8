import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ILayoutRestorer } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { ILauncher } from '@jupyterlab/launcher';
import React from 'react';

import type { Navigation } from '../components/context';
import { jobsIcon } from '../components/icons';
import { JobsBody } from '../panels/jobs/body';
import { Panel } from '../panels/panel';
import type { Base } from '../tokens';
import { COMMANDS, IJobsBase, IJobsNavigation, PANEL_ID } from '../tokens';

function activate(
  app: JupyterFrontEnd,
  base: Base,
  go: Navigation,
  restorer: ILayoutRestorer | null,
  palette: ICommandPalette | null,
  launcher: ILauncher | null
): void {
  const { trans } = base;
  const runCurrent = () => void app.commands.execute(COMMANDS.runAsJob);
  const panel = new Panel({ ...base, go }, () => <JobsBody runCurrent={runCurrent} />, 'jobs-Jobs');
  panel.id = PANEL_ID;
  panel.title.icon = jobsIcon;
  panel.title.caption = trans.__('Jobs');
  panel.node.setAttribute('role', 'region');
  panel.node.setAttribute('aria-label', trans.__('Jobs'));
  app.shell.add(panel, 'left', { rank: 250, type: 'Jobs' });
  restorer?.add(panel, PANEL_ID);

  app.commands.addCommand(COMMANDS.showJobs, {
    label: args => (args['isLauncher'] === true ? trans.__('Jobs') : trans.__('Show Jobs')),
    caption: trans.__('Notebooks that run as jobs, and their results'),
    icon: jobsIcon,
    describedBy: { args: { type: 'object', properties: { isLauncher: { type: 'boolean' } } } },
    execute: () => app.shell.activateById(PANEL_ID)
  });
  palette?.addItem({ command: COMMANDS.showJobs, category: trans.__('Jobs') });
  launcher?.add({ command: COMMANDS.showJobs, category: trans.__('Other'), rank: 5, args: { isLauncher: true } });
}

/** The list of jobs in the left area. */
export const panelPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-jobs:panel',
  description: 'Lists jobs in the left area.',
  autoStart: true,
  requires: [IJobsBase, IJobsNavigation],
  optional: [ILayoutRestorer, ICommandPalette, ILauncher],
  activate
};
