import React from 'react';

import type { Job } from '../../api/schema';
import { useShared } from '../../components/context';
import { StateChip } from '../../components/state';
import { Strip } from '../../components/strip';
import { formatAgo, formatDuration } from '../../model/format';
import { endedOf, isFinal } from '../../model/states';

/** Squares of one job in the list; the rest is a figure. */
const SQUARES = 48;

/** One job of the list: its state and name, the squares of its runs, how far it is. */
export function JobRow({ job, now }: { job: Job; now: number }): React.JSX.Element {
  const { trans, go } = useShared();
  const { ended, failed } = endedOf(job.counts);
  const isEnded = job.status !== null && isFinal(job.status);
  const end = isEnded && job.ended_at ? new Date(job.ended_at).getTime() : now;
  const seconds = Math.max(0, (end - new Date(job.created_at).getTime()) / 1000);
  const figures = failed > 0 && isEnded ? trans.__('%1 of %2 failed', failed, job.total) : `${ended}/${job.total}`;
  return (
    <li className="jobs-Row" onClick={() => go.openJob(job.id)}>
      <div className="jobs-Row-first">
        <StateChip state={job.status} quiet />
        <button
          type="button"
          className="jobs-Row-name"
          title={`${job.name}\n${job.source}`}
          onClick={event => {
            event.stopPropagation();
            go.openJob(job.id);
          }}
        >
          {job.name}
        </button>
        <span className="jobs-Row-time" title={new Date(job.created_at).toLocaleString()}>
          {isEnded ? formatAgo(job.ended_at ?? job.created_at, now, trans) : formatDuration(seconds)}
        </span>
      </div>
      <div className="jobs-Row-second">
        <Strip job={job} most={SQUARES} />
        <span className={failed > 0 ? 'jobs-Row-figures jobs-mod-failed' : 'jobs-Row-figures'}>{figures}</span>
        {isEnded && <span className="jobs-Row-duration">{formatDuration(seconds)}</span>}
      </div>
    </li>
  );
}
