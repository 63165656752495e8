import type { Json } from '../api/json';
import type { Event, Job, Run } from '../api/schema';

/** A job for tests: six runs, three under way. */
export function job(id: string, fields: Partial<Job> = {}): Job {
  return {
    id,
    name: id,
    description: '',
    state: 'active',
    status: 'running',
    notebook: 'report.ipynb',
    source: 'churn/report.ipynb',
    project: '/home/u/churn',
    snapshot: 'b055c0',
    environment: '',
    kernel: {
      name: 'python3',
      display_name: 'Python 3',
      language: 'python',
      argv: [],
      env: {},
      interrupt_mode: 'signal',
      resource_dir: ''
    },
    parameter_names: ['lr'],
    record: [],
    record_names: [],
    variables: [],
    live: [],
    counts: { complete: 3, running: 3 },
    total: 6,
    strip: 'cccrrr',
    created_at: '2026-11-22T14:00:00Z',
    created_by: '',
    ended_at: null,
    seq: 1,
    notes: [],
    priority: 0,
    max_parallel: 0,
    fail_fast: false,
    retries: { attempts: 1, backoff: 'fixed', delay: 0, max_delay: 3600, jitter: 0, on: ['interrupted'] },
    time_limit: null,
    cell_timeout: null,
    resources: {},
    ...fields
  };
}

/** A run for tests, queued. */
export function run(of: string, number: number, fields: Partial<Run> = {}): Run {
  return {
    id: `${of}-${number}`,
    job: of,
    number,
    combination: number,
    parameters: { lr: number / 10 },
    label: `lr=${number / 10}`,
    state: 'queued',
    status: fields.state ?? 'queued',
    attempt: 0,
    progress: { done: 0, total: 0, cell: null },
    records: {},
    error: null,
    created_at: '2026-11-22T14:00:00Z',
    started_at: null,
    ended_at: null,
    duration: null,
    peak_memory: null,
    workspace: '',
    live: [],
    rerun_of: '',
    seq: 1,
    not_before: null,
    extended: 0,
    superseded: false,
    ...fields
  };
}

/** An event for tests. */
export function event(seq: number, kind: string, of: string, id = '', data: { [key: string]: Json } = {}): Event {
  return { seq, at: '2026-11-22T14:00:00Z', kind, job: of, run: id, state: '', data };
}
