import type { ErrorBody, Event, Health, Job, JobList, Run } from '../api/schema';
import { isFinal } from './states';

/** Whether the server part answers: `missing` when there is none, `broken` when it answers with an error of its own. */
export type ServerState = 'loading' | 'ready' | 'missing' | 'broken';

/** What the panels show, all of it replaced and never changed in place. */
export interface JobsState {
  server: ServerState;
  serverError: ErrorBody | null;
  health: Health | null;
  jobs: ReadonlyMap<string, Job>;
  /** Ids of the listed jobs in the list's order. */
  listed: readonly string[];
  /** Continuation of the list; empty at its end. */
  next: string;
  total: number;
  search: string;
  status: string;
  /** Runs of the jobs and runs that are being looked at. */
  runs: ReadonlyMap<string, Run>;
  /** Ids that were looked at and are no more. */
  gone: ReadonlySet<string>;
  /** The last change that was seen. */
  seq: number;
}

export const NO_JOBS: JobsState = {
  server: 'loading',
  serverError: null,
  health: null,
  jobs: new Map(),
  listed: [],
  next: '',
  total: 0,
  search: '',
  status: '',
  runs: new Map(),
  gone: new Set(),
  seq: 0
};

function merged<T extends { id: string; seq: number }>(known: ReadonlyMap<string, T>, fresh: readonly T[]): Map<string, T> {
  const next = new Map(known);
  for (const item of fresh) {
    const old = next.get(item.id);
    // answers may overtake one another: an older one never replaces a newer one
    if (!old || item.seq >= old.seq) {
      next.set(item.id, item);
    }
  }
  return next;
}

/** A page of the list came; `append` when it continues the one before. */
export function withJobList(state: JobsState, list: JobList, append: boolean): JobsState {
  const before = append ? state.listed : [];
  const ids = list.jobs.map(job => job.id).filter(id => !before.includes(id));
  return {
    ...state,
    jobs: merged(state.jobs, list.jobs),
    listed: [...before, ...ids],
    next: list.page.next,
    total: list.page.total,
    seq: Math.max(state.seq, ...list.jobs.map(job => job.seq))
  };
}

/** A job came; one that is not listed yet is put first when the list shows everything, newest first. */
export function withJob(state: JobsState, job: Job): JobsState {
  const isNew = !state.jobs.has(job.id) && !state.listed.includes(job.id);
  const newest = state.jobs.get(state.listed[0] ?? '');
  const goesFirst = isNew && !state.search && !state.status && (!newest || newest.created_at <= job.created_at);
  return {
    ...state,
    jobs: merged(state.jobs, [job]),
    listed: goesFirst ? [job.id, ...state.listed] : state.listed,
    total: goesFirst ? state.total + 1 : state.total
  };
}

/** A job was deleted. */
export function withoutJob(state: JobsState, id: string): JobsState {
  const jobs = new Map(state.jobs);
  jobs.delete(id);
  const runs = new Map([...state.runs].filter(([, run]) => run.job !== id));
  const listed = state.listed.filter(other => other !== id);
  const total = state.total - (state.listed.length - listed.length);
  return { ...state, jobs, runs, listed, total, gone: new Set(state.gone).add(id) };
}

/** Runs came. */
export function withRuns(state: JobsState, runs: readonly Run[]): JobsState {
  return { ...state, runs: merged(state.runs, runs) };
}

/** What must be fetched again because of some events. */
export interface Stale {
  jobs: ReadonlySet<string>;
  runs: ReadonlySet<string>;
  /** Runs whose event told how far they are, but not in which cell. */
  progressed: ReadonlySet<string>;
  deleted: ReadonlySet<string>;
}

function numberIn(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

function withProgress(run: Run, event: Event): Run | null {
  const done = numberIn(event.data['done']);
  const total = numberIn(event.data['total']);
  if (event.kind !== 'run.progress' || done === null || total === null || isFinal(run.state)) {
    return null;
  }
  const cell = event.data['cell'] as { id?: unknown; number?: unknown } | null | undefined;
  const number = numberIn(cell?.number);
  const known = number === null ? null : { id: typeof cell?.id === 'string' ? cell.id : '', number };
  return { ...run, progress: { done, total, cell: known } };
}

/**
 * Take note of events, in their order. A run's progress is in the event itself; everything else only says what to fetch again.
 */
export function withEvents(state: JobsState, events: readonly Event[]): { state: JobsState; stale: Stale } {
  const jobs = new Set<string>();
  const runs = new Set<string>();
  const progressed = new Set<string>();
  const deleted = new Set<string>();
  const known = new Map(state.runs);
  let seq = state.seq;
  for (const event of events) {
    if (event.seq <= state.seq) {
      continue;
    }
    seq = Math.max(seq, event.seq);
    if (event.kind === 'job.deleted') {
      deleted.add(event.job);
      continue;
    }
    if (event.job === '') {
      // of the queue as a whole
      continue;
    }
    const run = known.get(event.run);
    const moved = run && event.seq > run.seq ? withProgress(run, event) : null;
    if (moved) {
      known.set(moved.id, moved);
      if (!moved.progress.cell && moved.progress.done < moved.progress.total) {
        progressed.add(moved.id);
      }
      continue;
    }
    if (event.kind === 'run.progress' && !run) {
      continue;
    }
    jobs.add(event.job);
    if (event.run) {
      runs.add(event.run);
    }
  }
  deleted.forEach(id => jobs.delete(id));
  return { state: { ...state, runs: known, seq }, stale: { jobs, runs, progressed, deleted } };
}

/** The runs of a job in grid order. */
export function runsOf(runs: ReadonlyMap<string, Run>, job: string): Run[] {
  return [...runs.values()].filter(run => run.job === job).sort((left, right) => left.number - right.number);
}

/** The listed jobs: those with something under way or waiting, and those that have ended. */
export function sections(state: JobsState): { running: Job[]; recent: Job[] } {
  const listed = state.listed.map(id => state.jobs.get(id)).filter(job => job !== undefined);
  const isRunning = (job: Job) => job.status !== null && !isFinal(job.status);
  return { running: listed.filter(isRunning), recent: listed.filter(job => !isRunning(job)) };
}
