import React from 'react';

import type { ErrorBody } from '../../api/schema';
import { useTrans } from '../../components/context';
import { jobsIcon } from '../../components/icons';

const ENABLE = 'jupyter server extension enable jupyter_jobs';

/** The panel when the server part is absent, disabled or not working: what to type. */
export function NoServer({
  error,
  isMissing,
  onRetry
}: {
  error: ErrorBody | null;
  isMissing: boolean;
  onRetry(): void;
}): React.JSX.Element {
  const trans = useTrans();
  const isOffline = error?.code === 'no_answer';
  const title = isOffline
    ? trans.__('The Jupyter server does not answer')
    : isMissing
      ? trans.__('The server part of jupyter_jobs is not running')
      : trans.__('jupyter_jobs cannot work as it is');
  return (
    <div className="jobs-Teach" role="alert">
      <h3>{title}</h3>
      {error && <p className="jobs-Quiet">{error.message}</p>}
      {isMissing && !isOffline && (
        <>
          <p>{trans.__('Enable it in the environment that JupyterLab runs in, then restart JupyterLab:')}</p>
          <pre className="jobs-Command" tabIndex={0}>
            {ENABLE}
          </pre>
        </>
      )}
      {error?.mend && <p>{error.mend}</p>}
      <button type="button" className="jobs-Button" onClick={onRetry}>
        {trans.__('Try again')}
      </button>
    </div>
  );
}

/** The panel before the first job: what a job is, and the one click that makes one. */
export function NoJobs({ runCurrent }: { runCurrent(): void }): React.JSX.Element {
  const trans = useTrans();
  return (
    <div className="jobs-Teach">
      <jobsIcon.react tag="div" className="jobs-Teach-icon" width="40px" height="40px" />
      <h3>{trans.__('No jobs yet')}</h3>
      <p>
        {trans.__(
          'A job runs a notebook away from your editor: on a frozen copy of its project and environment, once for every combination of its parameters.'
        )}
      </p>
      <ol>
        <li>{trans.__('Open a notebook.')}</li>
        <li>{trans.__('Press “Run as job” in its toolbar.')}</li>
        <li>{trans.__('Watch the runs here; each leaves a read-only page.')}</li>
      </ol>
      <button type="button" className="jobs-Button jobs-mod-accept" onClick={runCurrent}>
        {trans.__('Run the notebook in front')}
      </button>
    </div>
  );
}

/** Grey bars where the list will be, for the moment it takes. */
export function Skeleton(): React.JSX.Element {
  const trans = useTrans();
  return (
    <div className="jobs-Skeleton" role="status" aria-label={trans.__('Loading')}>
      {[70, 50, 60].map(width => (
        <span key={width} style={{ width: `${width}%` }} />
      ))}
    </div>
  );
}
