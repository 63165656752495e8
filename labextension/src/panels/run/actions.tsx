import { Notification } from '@jupyterlab/apputils';
import { caretLeftIcon, caretRightIcon, downloadIcon } from '@jupyterlab/ui-components';
import React from 'react';

import type { Job, Run } from '../../api/schema';
import { useShared } from '../../components/context';
import { download, errorBody, useNow } from '../../components/hooks';
import { baseName, formatDuration } from '../../model/format';
import { isFinal } from '../../model/states';
import { runSeconds } from '../job/runs';

/** How long the run has taken. */
export function RunDuration({ run }: { run: Run }): React.JSX.Element | null {
  const seconds = runSeconds(run, useNow(run.started_at !== null && !isFinal(run.state)));
  return seconds === null ? null : <span>{formatDuration(seconds)}</span>;
}

/** Cancel, the neighbours in the grid, and the executed notebook as a file. */
export function RunActions({ run, job }: { run: Run; job: Job }): React.JSX.Element {
  const { store, trans, go } = useShared();
  const report = (error: unknown) => {
    const { message, mend } = errorBody(error);
    Notification.error(`${message} ${mend}`.trim(), { autoClose: 8000 });
  };
  const stem = baseName(job.notebook).replace(/\.ipynb$/, '');
  return (
    <span className="jobs-Actions">
      {!isFinal(run.state) && run.status !== 'canceling' && (
        <button type="button" className="jobs-Button" onClick={() => void store.cancelRun(run.id).catch(report)}>
          {trans.__('Cancel')}
        </button>
      )}
      <button
        type="button"
        className="jobs-IconButton"
        disabled={run.number <= 1}
        title={trans.__('The run before')}
        aria-label={trans.__('The run before')}
        onClick={() => go.openRun(`${job.id}-${run.number - 1}`)}
      >
        <caretLeftIcon.react tag="span" width="16px" />
      </button>
      <button
        type="button"
        className="jobs-IconButton"
        disabled={run.number >= job.total}
        title={trans.__('The run after')}
        aria-label={trans.__('The run after')}
        onClick={() => go.openRun(`${job.id}-${run.number + 1}`)}
      >
        <caretRightIcon.react tag="span" width="16px" />
      </button>
      <button
        type="button"
        className="jobs-IconButton"
        title={trans.__('Download the executed notebook')}
        aria-label={trans.__('Download the executed notebook')}
        onClick={() => void download(store.client, `runs/${run.id}/notebook`, `${stem} ${run.number}.ipynb`).catch(report)}
      >
        <downloadIcon.react tag="span" width="16px" />
      </button>
    </span>
  );
}
