import React, { useCallback, useEffect, useRef, useState } from 'react';

import type { Job, Run } from '../../api/schema';
import { useConnection, useShared } from '../../components/context';
import { useFetched } from '../../components/hooks';
import { Log } from '../../components/log';
import { ErrorNote } from '../../components/notes';
import { StateChip } from '../../components/state';
import { Tabs } from '../../components/tabs';
import { formatTime, shortDigest } from '../../model/format';
import { useObservable } from '../../model/observable';
import { isFinal } from '../../model/states';
import { EventTable, readEvents } from '../job/events';
import { Skeleton } from '../jobs/states';
import { RunActions, RunDuration } from './actions';
import { RunErrorBox } from './errorbox';
import { FilesTab } from './files';
import { Page } from './page';
import { ParametersTab } from './parameters';

/** One run, read-only: its page, its log, its files. */
export function RunBody({ id, onTitle }: { id: string; onTitle(title: string, state: string | null): void }): React.JSX.Element {
  const { store, trans } = useShared();
  const { jobs, runs, gone, serverError } = useObservable(store.state);
  const [tab, setTab] = useState('notebook');
  const cell = useRef('');
  const [jump, setJump] = useState(0);
  useConnection();
  useEffect(() => store.watchRun(id), [store, id]);
  const run = runs.get(id);
  const job = run && jobs.get(run.job);
  const title = run && job ? trans.__('%1 of %2', run.number, job.name) : '';
  const status = run?.status ?? null;
  useEffect(() => {
    if (title) {
      onTitle(title, status);
    }
  }, [title, status, onTitle]);
  const goToCell = useCallback((cellId: string) => {
    cell.current = cellId;
    setJump(before => before + 1);
    setTab('notebook');
  }, []);
  if (gone.has(id)) {
    return <div className="jobs-Empty">{trans.__('This run was deleted.')}</div>;
  }
  if (!run || !job) {
    return serverError ? <ErrorNote error={serverError} /> : <Skeleton />;
  }
  const log = <Log path={`runs/${id}/logs`} fileName={`${job.name} ${run.number}.log`} withRuns={false} />;
  return (
    <>
      <Banner run={run} job={job} />
      {run.error && <RunErrorBox error={run.error} onGoToCell={isFinal(run.state) ? goToCell : null} />}
      <Tabs
        label={trans.__('Parts of the run')}
        chosen={tab}
        onChoose={setTab}
        tabs={[
          {
            id: 'notebook',
            title: trans.__('Notebook'),
            body: () =>
              isFinal(run.state) ? (
                <Page run={run} job={job} cell={cell.current} jump={jump} />
              ) : (
                <Waiting run={run}>{log}</Waiting>
              )
          },
          { id: 'logs', title: trans.__('Logs'), body: () => log },
          { id: 'files', title: trans.__('Files'), body: () => <FilesTab run={run} job={job} /> },
          { id: 'parameters', title: trans.__('Parameters'), body: () => <ParametersTab run={run} job={job} /> },
          { id: 'events', title: trans.__('Events'), body: () => <RunEvents run={run} /> }
        ]}
      />
    </>
  );
}

/** What one is looking at, so that nobody takes it for the notebook itself. */
function Banner({ run, job }: { run: Run; job: Job }): React.JSX.Element {
  const { trans, go } = useShared();
  const at = run.started_at ?? run.created_at;
  return (
    <header className="jobs-Banner" role="note" aria-label={trans.__('What this is')}>
      <span className="jobs-Banner-mark">{trans.__('read-only')}</span>
      <span className="jobs-Banner-name">
        {trans.__('run %1 of', run.number)}{' '}
        <button type="button" className="jobs-Link" onClick={() => go.openJob(job.id)}>
          {job.name}
        </button>
      </span>
      {run.label && (
        <span className="jobs-Banner-label" title={run.label}>
          {run.label}
        </span>
      )}
      <span title={job.snapshot}>{trans.__('snapshot %1', shortDigest(job.snapshot))}</span>
      <time dateTime={at}>{formatTime(at)}</time>
      {run.live.length > 0 && (
        <span
          className="jobs-Banner-live"
          title={run.live.map(({ path, modified }) => (modified ? `${path} (${formatTime(modified)})` : path)).join('\n')}
        >
          {trans.__('live data: %1', run.live.map(({ path }) => path).join(', '))}
        </span>
      )}
      <StateChip state={run.status} />
      <RunDuration run={run} />
      <span className="jobs-Spacer" />
      <RunActions run={run} job={job} />
    </header>
  );
}

/** In the page's place until the run ends: how far it is, and its log. */
function Waiting({ run, children }: { run: Run; children: React.ReactNode }): React.JSX.Element {
  const { trans } = useShared();
  const { done, total, cell } = run.progress;
  const sentence =
    run.state === 'queued' || run.state === 'created'
      ? trans.__('The run waits for its turn. Its page appears here when it ends.')
      : cell
        ? trans.__('Cell %1 is running, %2 of %3 are done. The page appears here when the run ends.', cell.number, done, total)
        : total > 0
          ? trans.__('%1 of %2 cells are done. The page appears here when the run ends.', done, total)
          : trans.__('The run is starting. Its page appears here when it ends.');
  return (
    <div className="jobs-Waiting">
      <p role="status">{sentence}</p>
      {total > 0 && <progress value={done} max={total} aria-label={trans.__('Cells of the run')} />}
      {children}
    </div>
  );
}

function RunEvents({ run }: { run: Run }): React.JSX.Element {
  const { store } = useShared();
  const { value, error } = useFetched(`${run.id} ${run.seq} ${run.state}`, () =>
    readEvents(after => store.client.runEvents(run.id, after))
  );
  return error ? <ErrorNote error={error} /> : <EventTable events={value} withRuns={false} />;
}
