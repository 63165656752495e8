import React from 'react';

import { stringifyJson } from '../../api/json';
import type { Job, Run } from '../../api/schema';
import { useTrans } from '../../components/context';
import { formatBytes, formatDuration, formatTime, formatValue } from '../../model/format';

/** What went in and what was recorded, and the circumstances. */
export function ParametersTab({ run, job }: { run: Run; job: Job }): React.JSX.Element {
  const trans = useTrans();
  const facts: [string, string][] = [
    [trans.__('Run'), run.id],
    [trans.__('Kernel'), job.kernel.display_name],
    [trans.__('Started'), run.started_at ? formatTime(run.started_at, true) : '–'],
    [trans.__('Duration'), run.duration === null ? '–' : formatDuration(run.duration)],
    [trans.__('Peak memory'), run.peak_memory === null ? '–' : formatBytes(run.peak_memory)],
    [trans.__('Workspace'), run.workspace || '–'],
    [trans.__('Attempt'), String(run.attempt)],
    [
      trans.__('Environment variables'),
      job.variables.length > 0 ? trans.__('%1 (names only): %2', job.variables.length, job.variables.join(', ')) : '–'
    ]
  ];
  const list = (title: string, entries: [string, string][], empty: string) => (
    <section>
      <h3>{title}</h3>
      {entries.length === 0 ? (
        <p className="jobs-Quiet">{empty}</p>
      ) : (
        <dl className="jobs-Facts">
          {entries.map(([name, value]) => (
            <React.Fragment key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </React.Fragment>
          ))}
        </dl>
      )}
    </section>
  );
  return (
    <div className="jobs-Sheet">
      {list(
        trans.__('Parameters'),
        Object.entries(run.parameters).map(([name, value]) => [name, stringifyJson(value, true)]),
        trans.__('None: the notebook ran as it is.')
      )}
      {list(
        trans.__('Recorded values'),
        Object.entries(run.records).map(([name, value]) => [name, formatValue(value)]),
        trans.__('None. Name variables under “Record” when you make the job.')
      )}
      {list(trans.__('Circumstances'), facts, '')}
    </div>
  );
}
