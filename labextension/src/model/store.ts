import type { Client } from '../api/client';
import { ApiError } from '../api/client';
import type { CreateJob, ErrorBody, Job, Run } from '../api/schema';
import type { JobsState, Stale } from './jobs';
import { NO_JOBS, withEvents, withJob, withJobList, withoutJob, withRuns } from './jobs';
import type { Observable } from './observable';
import { observable } from './observable';

const PAGE = 50;
const RUNS_PAGE = 500;
/** Fetch single objects up to this many, lists beyond. */
const FEW = 8;
/** Changes closer together than this, in milliseconds, are fetched together. */
const GATHER = 120;
/** Waits, in milliseconds, before a catch-up that failed is tried again; it doubles up to the longest. */
const RETRY = 1000;
const LONGEST_RETRY = 30_000;

/** What the panels know and can do. Actions throw `ApiError`. */
export interface JobsStore {
  readonly client: Client;
  readonly state: Observable<JobsState>;
  /** Ask whether the server part is there, and load the first page of jobs. */
  load(): Promise<void>;
  more(): Promise<void>;
  filter(search: string, status: string): void;
  /** A change was announced, or may have been missed. */
  hint(seq: number): void;
  /** Keep a job and all its runs up to date until the returned function is called. */
  watchJob(id: string): () => void;
  /** Keep a run and its job up to date until the returned function is called. */
  watchRun(id: string): () => void;
  create(request: CreateJob): Promise<Job>;
  cancelJob(id: string): Promise<void>;
  deleteJob(id: string, cancel: boolean): Promise<void>;
  cancelRun(id: string): Promise<void>;
}

function isMissing(error: unknown): boolean {
  return error instanceof ApiError && error.status === 404 && error.body.code !== 'not_ours';
}

function bodyOf(error: unknown): ErrorBody {
  if (error instanceof ApiError) {
    return error.body;
  }
  throw error;
}

/** How often something is watched, by its id. */
function counter(): { has(id: string): boolean; up(id: string): void; down(id: string): void; ids(): string[] } {
  const counts = new Map<string, number>();
  return {
    has: id => counts.has(id),
    up: id => counts.set(id, (counts.get(id) ?? 0) + 1),
    down: id => {
      const left = (counts.get(id) ?? 1) - 1;
      if (left > 0) {
        counts.set(id, left);
      } else {
        counts.delete(id);
      }
    },
    ids: () => [...counts.keys()]
  };
}

/** A store over the REST API; nothing is fetched before `load`, and nothing is polled. */
export function createStore(client: Client): JobsStore {
  const state = observable<JobsState>(NO_JOBS);
  const watchedJobs = counter();
  const watchedRuns = counter();
  let gathering: ReturnType<typeof setTimeout> | null = null;
  let catching = false;
  let again = false;
  let retry = RETRY;
  let listRequest = 0;

  const change = (next: (before: JobsState) => JobsState) => state.set(next(state.get()));

  async function fetchList(after: string): Promise<void> {
    const { search, status } = state.get();
    const request = (listRequest += 1);
    const list = await client.jobs({ limit: PAGE, after, search, status });
    if (request === listRequest) {
      change(before => withJobList(before, list, after !== ''));
    }
  }

  async function fetchJob(id: string): Promise<void> {
    try {
      const job = await client.job(id);
      change(before => withJob(before, job));
    } catch (error) {
      if (!isMissing(error)) {
        throw error;
      }
      change(before => withoutJob(before, id));
    }
  }

  async function fetchRuns(job: string): Promise<void> {
    let after = '';
    do {
      const { runs, page }: { runs: Run[]; page: { next: string } } = await client.runs(job, { limit: RUNS_PAGE, after });
      change(before => withRuns(before, runs));
      after = page.next;
    } while (after);
  }

  async function fetchRun(id: string): Promise<Run | null> {
    try {
      const run = await client.run(id);
      change(before => withRuns(before, [run]));
      return run;
    } catch (error) {
      if (!isMissing(error)) {
        throw error;
      }
      change(before => ({ ...before, gone: new Set(before.gone).add(id) }));
      return null;
    }
  }

  const jobOf = (run: string) => state.get().runs.get(run)?.job ?? run.slice(0, run.lastIndexOf('-'));

  async function refresh({ jobs, runs, progressed }: Stale): Promise<void> {
    const { search, status } = state.get();
    const looked = new Set([...watchedJobs.ids(), ...watchedRuns.ids().map(jobOf)]);
    const isFiltered = search !== '' || status !== '';
    if (jobs.size > FEW || (isFiltered && jobs.size > 0)) {
      await fetchList('');
      await Promise.all([...jobs].filter(id => looked.has(id)).map(fetchJob));
    } else {
      await Promise.all([...jobs].map(fetchJob));
    }
    const seen = [...progressed].filter(id => watchedRuns.has(id) && !runs.has(id));
    const wanted = [...runs].filter(id => watchedRuns.has(id) || watchedJobs.has(jobOf(id))).concat(seen);
    if (wanted.length <= FEW) {
      await Promise.all(wanted.map(fetchRun));
    } else {
      await Promise.all([...new Set(wanted.map(jobOf))].map(fetchRuns));
    }
  }

  /** Read the events after the last one seen, to the end, and fetch what they name. */
  async function catchUp(): Promise<void> {
    if (catching) {
      again = true;
      return;
    }
    catching = true;
    try {
      let more = true;
      while (more || again) {
        again = false;
        const before = state.get().seq;
        const { events, last } = await client.events(before);
        const { state: next, stale } = withEvents(state.get(), events);
        const seq = Math.max(next.seq, last);
        state.set({ ...next, seq });
        stale.deleted.forEach(id => change(current => withoutJob(current, id)));
        await refresh(stale);
        more = events.length > 0 && seq > before;
      }
      retry = RETRY;
      change(before => (before.serverError ? { ...before, serverError: null } : before));
    } catch (error) {
      const serverError = bodyOf(error);
      change(before => ({ ...before, serverError }));
      // nobody may announce anything for long: a server that was only starting must not leave the page behind
      setTimeout(() => hint(0), retry);
      retry = Math.min(2 * retry, LONGEST_RETRY);
    } finally {
      catching = false;
    }
  }

  function hint(seq: number): void {
    const { server, seq: seen } = state.get();
    if (server === 'loading') {
      again = true;
      return;
    }
    if (gathering !== null || (seq > 0 && seq <= seen)) {
      return;
    }
    gathering = setTimeout(() => {
      gathering = null;
      void (server === 'ready' ? catchUp() : load());
    }, GATHER);
  }

  async function load(): Promise<void> {
    try {
      const health = await client.health();
      change(before => ({ ...before, health }));
      await fetchList('');
      change(before => ({ ...before, server: 'ready', serverError: null }));
      if (again) {
        void catchUp();
      }
      await Promise.all([...watchedJobs.ids().flatMap(id => [fetchJob(id), fetchRuns(id)]), ...watchedRuns.ids().map(fetchRun)]);
    } catch (error) {
      const body = bodyOf(error);
      const isServerMissing = error instanceof ApiError && error.isServerMissing;
      change(before => ({ ...before, server: isServerMissing ? 'missing' : 'broken', serverError: body }));
    }
  }

  /** Report a failure to fetch in the background where all panels show it. */
  function quietly(work: Promise<unknown>): void {
    work.catch((error: unknown) => {
      const serverError = bodyOf(error);
      change(before => ({ ...before, serverError }));
    });
  }

  return {
    client,
    state,
    load,
    hint,
    more: async () => {
      const { next } = state.get();
      if (next) {
        await fetchList(next);
      }
    },
    filter: (search, status) => {
      change(before => ({ ...before, search, status }));
      quietly(fetchList(''));
    },
    watchJob: id => {
      watchedJobs.up(id);
      quietly(
        Promise.all([
          fetchJob(id),
          fetchRuns(id).catch((error: unknown) => (isMissing(error) ? null : Promise.reject(error as Error)))
        ])
      );
      return () => watchedJobs.down(id);
    },
    watchRun: id => {
      watchedRuns.up(id);
      quietly(fetchRun(id).then(run => (run ? fetchJob(run.job) : null)));
      return () => watchedRuns.down(id);
    },
    create: async request => {
      const job = await client.createJob(request);
      change(before => withJob(before, job));
      return job;
    },
    cancelJob: async id => {
      const job = await client.cancelJob(id);
      change(before => withJob(before, job));
      hint(0);
    },
    deleteJob: async (id, cancel) => {
      await client.deleteJob(id, cancel);
      change(before => withoutJob(before, id));
    },
    cancelRun: async id => {
      const run = await client.cancelRun(id);
      change(before => withRuns(before, [run]));
    }
  };
}
