import React, { useEffect, useMemo, useState } from 'react';

import type { Job } from '../../api/schema';
import { useConnection, useShared } from '../../components/context';
import { useFetched, useNow } from '../../components/hooks';
import { Log } from '../../components/log';
import { ErrorNote, Findings } from '../../components/notes';
import { StateChip } from '../../components/state';
import { Strip } from '../../components/strip';
import { Tabs } from '../../components/tabs';
import { formatDuration, formatTime, shortDigest } from '../../model/format';
import { runsOf } from '../../model/jobs';
import { useObservable } from '../../model/observable';
import { endedOf, isFinal } from '../../model/states';
import { Skeleton } from '../jobs/states';
import { JobActions } from './actions';
import { EventTable, readEvents } from './events';
import { RunTable } from './runs';
import { SnapshotTab } from './snapshot';

/** Squares in the header of a job; beyond, the table has them. */
const SQUARES = 1000;

/** One job: how far it is, its runs, its log, what it froze. */
export function JobBody({ id, onTitle }: { id: string; onTitle(title: string, state: string | null): void }): React.JSX.Element {
  const { store, trans } = useShared();
  const { jobs, runs: allRuns, gone, serverError } = useObservable(store.state);
  const [tab, setTab] = useState('runs');
  useConnection();
  useEffect(() => store.watchJob(id), [store, id]);
  const job = jobs.get(id);
  const runs = useMemo(() => runsOf(allRuns, id), [allRuns, id]);
  const name = job?.name;
  const status = job?.status ?? null;
  useEffect(() => {
    if (name) {
      onTitle(name, status);
    }
  }, [name, status, onTitle]);
  if (gone.has(id)) {
    return <div className="jobs-Empty">{trans.__('This job was deleted.')}</div>;
  }
  if (!job) {
    return serverError ? <ErrorNote error={serverError} /> : <Skeleton />;
  }
  return (
    <>
      <JobHeader job={job} labels={new Map(runs.map(run => [run.number, run.label]))} onSnapshot={() => setTab('snapshot')} />
      <Findings findings={job.notes} />
      <Tabs
        label={trans.__('Parts of the job')}
        chosen={tab}
        onChoose={setTab}
        tabs={[
          { id: 'runs', title: trans.__('Runs'), count: job.total, body: () => <RunTable job={job} runs={runs} /> },
          {
            id: 'logs',
            title: trans.__('Logs'),
            body: () => <Log path={`jobs/${id}/logs`} fileName={`${job.name}.log`} withRuns />
          },
          { id: 'snapshot', title: trans.__('Snapshot'), body: () => <SnapshotTab job={id} /> },
          { id: 'events', title: trans.__('Events'), body: () => <JobEvents job={job} /> }
        ]}
      />
    </>
  );
}

interface HeaderProps {
  job: Job;
  labels: ReadonlyMap<number, string>;
  onSnapshot(): void;
}

function JobHeader({ job, labels, onSnapshot }: HeaderProps): React.JSX.Element {
  const { trans } = useShared();
  const isEnded = job.status !== null && isFinal(job.status);
  const now = useNow(!isEnded);
  const { ended, failed } = endedOf(job.counts);
  const end = isEnded && job.ended_at ? new Date(job.ended_at).getTime() : now;
  const seconds = (end - new Date(job.created_at).getTime()) / 1000;
  return (
    <header className="jobs-Title">
      <div className="jobs-Title-first">
        <h2>{job.name}</h2>
        <StateChip state={job.status} />
        <span className="jobs-Title-figures">
          {isEnded ? trans._n('%1 run', '%1 runs', job.total) : trans.__('%1 of %2', ended, job.total)}
          {failed > 0 && <span className="jobs-mod-failed"> · {trans.__('%1 failed', failed)}</span>}
        </span>
        <span className="jobs-Quiet">{formatDuration(Math.max(0, seconds))}</span>
        <span className="jobs-Spacer" />
        <JobActions job={job} />
      </div>
      {job.description && <p className="jobs-Quiet">{job.description}</p>}
      <div className="jobs-Title-second">
        <Strip job={job} most={SQUARES} labels={labels} />
        <span className="jobs-Spacer" />
        <span className="jobs-Quiet" title={job.source}>
          {job.notebook} · {job.kernel.display_name} · {formatTime(job.created_at)}
        </span>
        <button type="button" className="jobs-Link" title={job.snapshot} onClick={onSnapshot}>
          {trans.__('snapshot %1', shortDigest(job.snapshot))}
        </button>
      </div>
    </header>
  );
}

function JobEvents({ job }: { job: Job }): React.JSX.Element {
  const { store } = useShared();
  const { value, error } = useFetched(`${job.id} ${job.seq}`, () => readEvents(after => store.client.jobEvents(job.id, after)));
  return error ? <ErrorNote error={error} /> : <EventTable events={value} withRuns />;
}
