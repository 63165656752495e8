import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ILabShell, ILayoutRestorer } from '@jupyterlab/application';
import { MainAreaWidget, showErrorMessage, WidgetTracker } from '@jupyterlab/apputils';
import { PathExt } from '@jupyterlab/coreutils';
import { IDocumentManager } from '@jupyterlab/docmanager';
import React from 'react';

import type { Navigation, Shared } from '../components/context';
import { jobsIcon, runAsJobIcon, stateIcon } from '../components/icons';
import { shownState } from '../model/states';
import { CreateBody } from '../panels/create/body';
import { JobBody } from '../panels/job/body';
import { Panel } from '../panels/panel';
import { RunBody } from '../panels/run/body';
import type { Base } from '../tokens';
import { COMMANDS, IJobsBase, IJobsNavigation, PANEL_ID } from '../tokens';
import { openNotebooks } from './notebooks';
import { place } from './place';

type View = MainAreaWidget<Panel>;

/** What a view is of: a job's or run's id, or a notebook's contents path. */
const subjects = new WeakMap<View, string>();

function activate(
  app: JupyterFrontEnd,
  base: Base,
  documents: IDocumentManager,
  labShell: ILabShell | null,
  restorer: ILayoutRestorer | null
): Navigation {
  const { trans } = base;
  const notebooks = openNotebooks(app, documents, trans);

  const go: Navigation = {
    openJob: id => void app.commands.execute(COMMANDS.openJob, { id }),
    openRun: id => void app.commands.execute(COMMANDS.openRun, { id }),
    newJob: path => void app.commands.execute(COMMANDS.create, { path }),
    showJobs: () => app.shell.activateById(PANEL_ID),
    openFile: path => {
      app.serviceManager.contents.get(path, { content: false }).then(
        () => documents.openOrReveal(path),
        () =>
          showErrorMessage(
            trans.__('Cannot open the notebook'),
            trans.__('%1 is not below the folder that this server shows.', path)
          )
      );
    }
  };
  const shared: Shared = { ...base, go };

  /** A kind of view: one widget per subject, restored with the layout. */
  function kind(
    command: string,
    namespace: string,
    argument: 'id' | 'path',
    create: (subject: string, args: { saved: boolean }, dispose: () => void) => View
  ): void {
    const tracker = new WidgetTracker<View>({ namespace: `jupyter-jobs-${namespace}` });
    app.commands.addCommand(command, {
      label: namespace,
      describedBy: { args: { type: 'object', properties: { [argument]: { type: 'string' } }, required: [argument] } },
      execute: args => {
        const subject = args[argument];
        if (typeof subject !== 'string') {
          return;
        }
        let view = tracker.find(candidate => subjects.get(candidate) === subject);
        if (!view) {
          const made: View = create(subject, { saved: args['saved'] === true }, () => made.dispose());
          made.id = `jupyter-jobs-${namespace}-${subject}`;
          made.title.closable = true;
          subjects.set(made, subject);
          void tracker.add(made);
          view = made;
        }
        place(app, labShell !== null, view);
      }
    });
    void restorer?.restore(tracker, {
      command,
      args: view => ({ [argument]: subjects.get(view) ?? '' }),
      name: view => subjects.get(view) ?? ''
    });
  }

  function view(body: (onTitle: (title: string, state: string | null) => void) => React.JSX.Element, className: string): View {
    const onTitle = (title: string, state: string | null) => {
      const shown = shownState(state);
      Object.assign(made.title, { label: title, caption: title, icon: stateIcon(shown), iconClass: `jobs-mod-${shown}` });
    };
    const made = new MainAreaWidget({ content: new Panel(shared, () => body(onTitle), className) });
    made.title.icon = jobsIcon;
    made.toolbar.hide();
    return made;
  }

  kind(COMMANDS.openJob, 'job', 'id', id => {
    const made = view(onTitle => <JobBody id={id} onTitle={onTitle} />, 'jobs-Job');
    made.title.label = trans.__('Job');
    return made;
  });
  kind(COMMANDS.openRun, 'run', 'id', id => {
    const made = view(onTitle => <RunBody id={id} onTitle={onTitle} />, 'jobs-Run');
    made.title.label = trans.__('Run');
    return made;
  });
  kind(COMMANDS.create, 'form', 'path', (path, { saved }, dispose) => {
    const onCreated = (job: string) => {
      go.openJob(job);
      dispose();
    };
    const made = view(
      () => <CreateBody path={path} notebooks={notebooks} wasSaved={saved} onCreated={onCreated} />,
      'jobs-Create'
    );
    made.title.label = trans.__('Run %1 as a job', PathExt.basename(path));
    made.title.icon = runAsJobIcon;
    return made;
  });
  return go;
}

/** The views in the main area: a job, a run, the form. */
export const viewsPlugin: JupyterFrontEndPlugin<Navigation> = {
  id: 'jupyter-jobs:views',
  description: 'Shows jobs and runs, and the form that makes a job.',
  autoStart: true,
  provides: IJobsNavigation,
  requires: [IJobsBase, IDocumentManager],
  optional: [ILabShell, ILayoutRestorer],
  activate
};
