import { Token } from '@lumino/coreutils';

import type { Navigation, Shared } from './components/context';

/** What every panel needs but the ways out, and `connect`, which reaches the server the first time somebody looks. */
export type Base = Omit<Shared, 'go'>;

export const IJobsBase = new Token<Base>(
  'jupyter-jobs:IJobsBase',
  'The store of jobs and the translated strings of jupyter_jobs.'
);

export const IJobsNavigation = new Token<Navigation>(
  'jupyter-jobs:IJobsNavigation',
  'Opens jobs, runs and the form that makes a job.'
);

/** Ids of our commands. */
export const COMMANDS = {
  runAsJob: 'jupyter-jobs:run-as-job',
  runFileAsJob: 'jupyter-jobs:run-file-as-job',
  showJobs: 'jupyter-jobs:show',
  create: 'jupyter-jobs:create',
  openJob: 'jupyter-jobs:open-job',
  openRun: 'jupyter-jobs:open-run'
} as const;

export const PANEL_ID = 'jupyter-jobs-panel';
