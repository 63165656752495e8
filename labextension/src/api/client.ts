import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import { parseJson, stringifyJson } from './json';
import type {
  Combinations,
  CombinationsRequest,
  CopiedFiles,
  CopyFiles,
  CreateJob,
  ErrorBody,
  EventList,
  Health,
  Inspection,
  Job,
  JobList,
  Preview,
  PreviewRequest,
  Run,
  RunFiles,
  RunList,
  SnapshotView
} from './schema';

/** An answer of the server that is not a success, or no answer at all (`status` 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly body: ErrorBody
  ) {
    super(body.message);
  }

  /** Whether the server extension itself is absent or not working, rather than the request being wrong. */
  get isServerMissing(): boolean {
    return this.body.code === 'no_answer' || this.body.code === 'not_ours';
  }
}

/** Queries of a list. Empty values are left out of the URL. */
export type Query = Record<string, string | number | boolean | undefined>;

interface RequestOptions {
  query?: Query;
  body?: object;
  signal?: AbortSignal;
  headers?: Record<string, string>;
}

/** The REST API, one function per endpoint. Every function throws `ApiError`, or an `AbortError` when its signal fires. */
export interface Client {
  /** Address of an endpoint, without any token. */
  url(path: string, query?: Query): string;
  /** The bare answer of an endpoint, for streams and downloads. */
  open(path: string, options?: RequestOptions): Promise<Response>;
  health(): Promise<Health>;
  inspect(path: string, signal?: AbortSignal): Promise<Inspection>;
  combinations(request: CombinationsRequest, signal?: AbortSignal): Promise<Combinations>;
  preview(request: PreviewRequest, signal?: AbortSignal): Promise<Preview>;
  jobs(query: Query, signal?: AbortSignal): Promise<JobList>;
  job(id: string): Promise<Job>;
  createJob(request: CreateJob): Promise<Job>;
  cancelJob(id: string): Promise<Job>;
  deleteJob(id: string, cancel: boolean): Promise<void>;
  runs(job: string, query: Query): Promise<RunList>;
  jobEvents(job: string, after: number): Promise<EventList>;
  snapshot(job: string): Promise<SnapshotView>;
  run(id: string): Promise<Run>;
  cancelRun(id: string): Promise<Run>;
  runEvents(run: string, after: number): Promise<EventList>;
  files(run: string): Promise<RunFiles>;
  copyFiles(run: string, request: CopyFiles): Promise<CopiedFiles>;
  events(after: number): Promise<EventList>;
}

const BASE = 'jupyter-jobs/api';

/** Encode a path segment by segment, so that `a b/c#d` stays one path. */
export function encodePath(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/');
}

/** Whether a path stays below where it is put: no `.` or `..`, which a URL would resolve to another endpoint. */
export function staysBelow(path: string): boolean {
  return path.split('/').every(part => part !== '.' && part !== '..');
}

async function errorOf(response: Response): Promise<ApiError> {
  const text = await response.text();
  try {
    const value = JSON.parse(text) as Partial<ErrorBody>;
    if (typeof value.code === 'string' && typeof value.message === 'string') {
      const { code, message, mend = '', detail = {} } = value;
      return new ApiError(response.status, { code, message, mend, detail });
    }
  } catch {
    // not our JSON: a page of the server or of a proxy in front of it, described by its status below
  }
  const code = response.status === 404 || response.status >= 502 ? 'not_ours' : 'unexpected_answer';
  const message = `${response.status} ${response.statusText}`.trim();
  return new ApiError(response.status, { code, message, mend: '', detail: {} });
}

/** A client of the server that `settings` names. */
export function createClient(settings: ServerConnection.ISettings): Client {
  function url(path: string, query: Query = {}): string {
    const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== '');
    const search = new URLSearchParams(given.map(([key, value]) => [key, String(value)])).toString();
    return URLExt.join(settings.baseUrl, BASE, path) + (search ? `?${search}` : '');
  }

  async function open(path: string, options: RequestOptions = {}, method = 'GET'): Promise<Response> {
    const init: RequestInit = { method, signal: options.signal, headers: options.headers };
    if (options.body) {
      init.body = stringifyJson(options.body);
    }
    let response: Response;
    try {
      response = await ServerConnection.makeRequest(url(path, options.query), init, settings);
    } catch (error) {
      if (options.signal?.aborted) {
        throw error;
      }
      const message = error instanceof Error ? error.message : String(error);
      throw new ApiError(0, { code: 'no_answer', message, mend: '', detail: {} });
    }
    if (!response.ok) {
      throw await errorOf(response);
    }
    return response;
  }

  async function call<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const response = await open(path, options, method);
    const text = await response.text();
    return (text === '' ? undefined : parseJson(text)) as T;
  }

  const at = encodePath;
  return {
    url,
    open: (path, options) => open(path, options),
    health: () => call('GET', 'health'),
    inspect: (path, signal) => call('GET', 'inspect', { query: { path }, signal }),
    combinations: (body, signal) => call('POST', 'combinations', { body, signal }),
    preview: (body, signal) => call('POST', 'preview', { body, signal }),
    jobs: (query, signal) => call('GET', 'jobs', { query, signal }),
    job: id => call('GET', `jobs/${at(id)}`),
    createJob: body => call('POST', 'jobs', { body }),
    cancelJob: id => call('POST', `jobs/${at(id)}/cancel`, { body: {} }),
    deleteJob: (id, cancel) => call('DELETE', `jobs/${at(id)}`, { query: { cancel: cancel || undefined } }),
    runs: (job, query) => call('GET', `jobs/${at(job)}/runs`, { query }),
    jobEvents: (job, after) => call('GET', `jobs/${at(job)}/events`, { query: { after } }),
    snapshot: job => call('GET', `jobs/${at(job)}/snapshot`),
    run: id => call('GET', `runs/${at(id)}`),
    cancelRun: id => call('POST', `runs/${at(id)}/cancel`, { body: {} }),
    runEvents: (run, after) => call('GET', `runs/${at(run)}/events`, { query: { after } }),
    files: run => call('GET', `runs/${at(run)}/files`),
    copyFiles: (run, body) => call('POST', `runs/${at(run)}/files/copy`, { body }),
    events: after => call('GET', 'events', { query: { after } })
  };
}
