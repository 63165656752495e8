import type { TranslationBundle } from '@jupyterlab/translation';
import React, { useMemo } from 'react';

import type { Job, Run } from '../../api/schema';
import { useShared } from '../../components/context';
import { useNow } from '../../components/hooks';
import { ProgressBar, StateChip } from '../../components/state';
import type { Column } from '../../components/table';
import { Table } from '../../components/table';
import { formatDuration, formatTime, formatValue } from '../../model/format';
import { isFinal } from '../../model/states';
import { Skeleton } from '../jobs/states';

/** The seconds a run has taken so far, or took. */
export function runSeconds(run: Run, now: number): number | null {
  if (run.duration !== null) {
    return run.duration;
  }
  return run.started_at && !isFinal(run.state) ? Math.max(0, (now - new Date(run.started_at).getTime()) / 1000) : null;
}

/** The runs of a job: swept parameters and recorded values as columns. */
export function RunTable({ job, runs }: { job: Job; runs: readonly Run[] }): React.JSX.Element {
  const { trans, go } = useShared();
  const now = useNow(runs.some(run => run.started_at && !isFinal(run.state)));
  const names = job.parameter_names;
  const recorded = job.record_names;
  const columns = useMemo<Column<Run>[]>(
    () => [
      { id: 'number', title: '#', isNumber: true, cell: run => run.number, value: run => run.number },
      { id: 'state', title: trans.__('State'), cell: run => <StateChip state={run.status} />, value: run => run.status },
      ...names.map<Column<Run>>(name => ({
        id: `parameter ${name}`,
        title: name,
        className: 'jobs-mod-value',
        isNumber: runs.length > 0 && runs.every(run => ['number', 'bigint'].includes(typeof run.parameters[name])),
        cell: run => formatValue(run.parameters[name]),
        value: run => run.parameters[name]
      })),
      ...recorded.map<Column<Run>>(name => ({
        id: `record ${name}`,
        title: name,
        className: 'jobs-mod-record',
        isNumber: true,
        cell: run => formatValue(run.records[name]),
        value: run => run.records[name]
      })),
      {
        id: 'progress',
        title: trans.__('Progress'),
        cell: run => <RunProgress run={run} />,
        value: run => (run.progress.total > 0 ? run.progress.done / run.progress.total : 0)
      },
      {
        id: 'duration',
        title: trans.__('Duration'),
        isNumber: true,
        cell: run => {
          const seconds = runSeconds(run, now);
          return seconds === null ? '' : formatDuration(seconds);
        },
        value: run => runSeconds(run, now)
      },
      {
        id: 'started',
        title: trans.__('Started'),
        cell: run => (run.started_at ? formatTime(run.started_at, true) : ''),
        value: run => run.started_at
      },
      {
        id: 'error',
        title: '',
        isWide: true,
        className: 'jobs-mod-message',
        cell: run => run.error && <span title={run.error.message}>{shortError(run, trans)}</span>
      }
    ],
    [trans, names, recorded, runs, now]
  );
  if (runs.length === 0 && job.total > 0) {
    return <Skeleton />;
  }
  return (
    <Table
      label={trans.__('Runs of %1', job.name)}
      columns={columns}
      rows={runs}
      keyOf={run => run.id}
      onOpen={run => go.openRun(run.id)}
      empty={trans.__('This job has no runs.')}
    />
  );
}

/** What went wrong, on one line. */
function shortError(run: Run, trans: TranslationBundle): string {
  const { error } = run;
  const what = error?.ename ? `${error.ename}: ${error.evalue}` : (error?.message ?? '');
  return error?.cell ? trans.__('%1 (cell %2)', what, error.cell.number) : what;
}

function RunProgress({ run }: { run: Run }): React.JSX.Element | null {
  const { trans } = useShared();
  const { done, total, cell } = run.progress;
  if (total === 0 || isFinal(run.state)) {
    return isFinal(run.state) && total > 0 ? (
      <span className="jobs-Quiet">
        {done}/{total}
      </span>
    ) : null;
  }
  return (
    <>
      <ProgressBar done={done} total={total} label={trans.__('Cells of run %1', run.number)} />
      {cell && <span className="jobs-Quiet">{trans.__('cell %1', cell.number)}</span>}
    </>
  );
}
