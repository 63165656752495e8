// Generated from docs/openapi.json by `npm run generate`; do not edit.

import type { Json } from './json';

/**
 * More combinations for a job, on what was frozen for it. `parameters` and `only` as in `CreateJob`. A combination that the job has already is
 * refused, unless `duplicates`.
 */
export interface AddRuns {
  grid_text?: string;
  parameters?: { [key: string]: Json[] };
  only?: number[];
  duplicates?: boolean;
}

/**
 * A `RetryPolicy` that is asked for.
 */
export interface AskRetries {
  attempts?: number;
  backoff?: "exponential" | "fixed";
  delay?: number;
  max_delay?: number;
  jitter?: number;
  on?: string[];
}

/**
 * A run's n-th try. `state`, `exit_code` and `error` tell how it ended; `exit_code` is negative for a signal. An attempt that ends `canceled`
 * while its run goes on was never started.
 */
export interface Attempt {
  number: number;
  host: string;
  started_at: string;
  ended_at: string | null;
  state: RunState | null;
  exit_code: number | null;
  error: RunError | null;
}

export interface AttemptList {
  attempts: Attempt[];
}

/**
 * A cell that could be tagged `parameters`: its literal assignments.
 */
export interface CellCandidate {
  cell: CellRef;
  source: string;
  parameters: Parameter[];
}

/**
 * A cell of the source notebook: its id as fixed in the snapshot and its number, counted from 1 over all cells.
 */
export interface CellRef {
  id: string;
  number: number;
}

/**
 * When a cell ran, in seconds since the epoch; `ended_at` null while it runs.
 */
export interface CellTime {
  cell: CellRef;
  started_at: number;
  ended_at: number | null;
}

/**
 * What may be changed of a job that exists; null leaves it as it is. Jobs of a higher `priority` start first.
 */
export interface ChangeJob {
  name?: string | null;
  description?: string | null;
  priority?: number | null;
  max_parallel?: number | null;
}

/**
 * One point of the grid. `number` counts from 1 in grid order, first key slowest. `parameters` are plain (a notebook's);
 * `step_parameters` are per step of a pipeline, by UUID. `label` is what people read: `lr=0.1, seed=2`.
 */
export interface Combination {
  number: number;
  parameters: { [key: string]: Json };
  step_parameters: { [key: string]: { [key: string]: Json } };
  label: string;
}

/**
 * `total` counts all; `combinations` holds the first 1000.
 */
export interface Combinations {
  names: string[];
  total: number;
  combinations: Combination[];
}

/**
 * Ask for the combinations that `CreateJob` with the same fields would make.
 */
export interface CombinationsRequest {
  path: string;
  grid_text?: string;
  grid_path?: string;
  no_grid?: boolean;
  parameters?: { [key: string]: Json[] };
}

export interface CopiedFiles {
  copied: string[];
}

/**
 * Copy files of a run into the project, or into the folder `to`. Existing files are refused unless `overwrite`.
 */
export interface CopyFiles {
  paths: string[];
  to?: string;
  overwrite?: boolean;
}

/**
 * Freeze a notebook's project and environment and queue one run per combination.
 *
 * The grid comes from, in this order: `grid_text` (the text of a parameters file, as the form has it), `grid_path`, the file
 * `<name>.parameters.json` beside the notebook unless `no_grid`. `parameters` (`{name: [values]}`) replace or add single keys.
 * `only` are combination numbers; empty means all. `time_limit` bounds a run, `cell_timeout` each cell, in seconds. `retries`: none given means one
 * more attempt, at once, of a run that was interrupted. `max_parallel` runs of the job at a time, 0: no limit of its own. `fail_fast`: the first
 * run that has failed for good ends the job.
 *
 * `fork`: kernels may be forked from a warm process, where `preload` modules are imported beforehand and, if `learn_preload`, what the notebook
 * imports.
 */
export interface CreateJob {
  path: string;
  name?: string;
  description?: string;
  kernel?: string;
  project?: string;
  exclude?: string[];
  include?: string[];
  live?: LivePath[];
  grid_text?: string;
  grid_path?: string;
  no_grid?: boolean;
  parameters?: { [key: string]: Json[] };
  only?: number[];
  record?: string[];
  output_dir?: string;
  time_limit?: number | null;
  cell_timeout?: number | null;
  accept_drift?: boolean;
  retries?: AskRetries | null;
  priority?: number;
  max_parallel?: number;
  fail_fast?: boolean;
  resources?: Resources;
  fork?: boolean;
  preload?: string[];
  learn_preload?: boolean;
}

/**
 * The dispatcher of this store. `running` false: there is none, the next job starts one, and `active` and `queued` runs have none to look after
 * them.
 */
export interface DispatcherStatus {
  running: boolean;
  pid: number;
  host: string;
  since: string | null;
  version: string;
  active: number;
  queued: number;
  parallel: number;
  note: string;
  paused: boolean;
}

/**
 * An installed distribution. `frozen` is false where its source lies outside what was frozen (an editable install too large to freeze).
 */
export interface Distribution {
  name: string;
  version: string;
  editable: string;
  frozen: boolean;
}

/**
 * A frozen kernel environment: fingerprint (sha256, hex), original prefix, how it was frozen, what is in it.
 */
export interface Environment {
  digest: string;
  prefix: string;
  python: string;
  mode: "copy" | "hardlink" | "none" | "recorded" | "reflink";
  distributions: Distribution[];
  created_at: string;
  notes: Finding[];
}

/**
 * `mode`: how it would be frozen here: `reflink`, `hardlink`, `copy`, or only `recorded` and checked before each run.
 */
export interface EnvironmentPreview {
  prefix: string;
  python: string;
  mode: "copy" | "hardlink" | "none" | "recorded" | "reflink";
  distributions: number;
  findings: Finding[];
}

/**
 * Body of every 4xx and 5xx answer. `detail` may hold `field`, `file`, `line`, `key`, `step`, `paths`, …
 */
export interface ErrorBody {
  code: string;
  message: string;
  mend: string;
  detail: { [key: string]: Json };
}

/**
 * A change, in the order it happened. `kind`: `job.created`, `run.state`, `run.progress`, …; `state` set for `*.state`.
 */
export interface Event {
  seq: number;
  at: string;
  kind: string;
  job: string;
  run: string;
  state: string;
  data: { [key: string]: Json };
}

/**
 * `last` is the seq to ask after next time.
 */
export interface EventList {
  events: Event[];
  last: number;
}

/**
 * Seconds that a run may take longer than its time limit, in addition to what it was given before.
 */
export interface Extend {
  seconds: number;
}

/**
 * Something to know before a run starts. An `error` stops the job from being made, a `warning` is shown.
 */
export interface Finding {
  code: string;
  level: "error" | "note" | "warning";
  message: string;
  mend: string;
  field: string;
  cell: number | null;
  path: string;
}

export interface FolderSize {
  path: string;
  files: number;
  bytes: number;
}

/**
 * A parameters file found beside a notebook: its path and its text as it is.
 */
export interface GridFile {
  path: string;
  text: string;
}

export interface Health {
  version: string;
  schema: number;
  store: string;
  data_dir: string;
  workspace: "copy" | "overlay";
  workspace_note: string;
  dispatcher: DispatcherStatus;
  findings: Finding[];
}

/**
 * Something the rules leave out, and the rule: `.gitignore:3: data/`.
 */
export interface IgnoredPath {
  path: string;
  rule: string;
  is_directory: boolean;
}

/**
 * What is known about a notebook before a job is made of it. `path` is as asked, `name` a proposal for the job's name.
 */
export interface Inspection {
  path: string;
  name: string;
  kernel: KernelInfo;
  kernels: KernelInfo[];
  parameters: Parameter[];
  has_parameters_cell: boolean;
  candidates: CellCandidate[];
  grid: GridFile | null;
  project: ProjectChoice;
  findings: Finding[];
}

/**
 * A job. `status` is what to show: derived from the runs (`lifecycle.job_status`). `counts` (by state) and `total` are of the newest run of each
 * combination; `strip` has one letter per run in order (`lifecycle.STATE_LETTERS`; empty above 1000 runs). `notebook` is relative to `project`;
 * `source` is the contents path or file as submitted; `variables` are names only.
 */
export interface Job {
  id: string;
  name: string;
  description: string;
  state: JobState;
  status: RunState | null;
  notebook: string;
  source: string;
  project: string;
  snapshot: string;
  environment: string;
  kernel: KernelInfo;
  parameter_names: string[];
  record: string[];
  record_names: string[];
  variables: string[];
  live: LivePath[];
  counts: { [key: string]: number };
  total: number;
  strip: string;
  created_at: string;
  created_by: string;
  ended_at: string | null;
  seq: number;
  notes: Finding[];
  priority: number;
  max_parallel: number;
  fail_fast: boolean;
  retries: RetryPolicy;
  time_limit: number | null;
  cell_timeout: number | null;
  resources: Resources;
}

export interface JobList {
  jobs: Job[];
  page: Page;
}

/**
 * What a person decided about a job; its progress is derived from its runs.
 */
export type JobState = "active" | "archived" | "draft" | "paused";

/**
 * A kernelspec as resolved where the job was submitted: absolute argv (`{connection_file}` left in), its own variables, its language.
 */
export interface KernelInfo {
  name: string;
  display_name: string;
  language: string;
  argv: string[];
  env: { [key: string]: string };
  interrupt_mode: "message" | "signal";
  resource_dir: string;
}

/**
 * A directory or file that is read from the original place instead of being frozen. `path` is absolute or relative to the project.
 * When a run starts, `bytes`, `files` and `modified` record what was there.
 */
export interface LivePath {
  path: string;
  writable: boolean;
  files: number | null;
  bytes: number | null;
  modified: string | null;
}

/**
 * One path of a snapshot: `file`, `link` (`target`), or `directory` (only empty ones).
 */
export interface ManifestEntry {
  path: string;
  kind: "directory" | "file" | "link";
  mode: number;
  mtime_ns: number;
  size: number;
  digest: string;
  target: string;
}

/**
 * Move a waiting run among those of the same priority: `before` another, or `to` the first or last place.
 */
export interface MoveRun {
  run: string;
  before?: string;
  to?: "" | "first" | "last";
}

/**
 * A path that the notebook names. `ignored`: exists, but the rules leave it out; `outside`: exists, not below the project.
 */
export interface NamedInput {
  path: string;
  cell: number;
  state: "frozen" | "ignored" | "live" | "missing" | "outside";
  rule: string;
  bytes: number | null;
}

/**
 * How a list goes on: pass `next` as `after`; empty at the end. `total` counts all that match.
 */
export interface Page {
  next: string;
  total: number;
}

/**
 * A variable of the notebook's `parameters` cell. `default` is its JSON text, or the source text where it is no JSON value
 * (`is_json` false: the job may override it, the form cannot edit it as JSON).
 */
export interface Parameter {
  name: string;
  type: string;
  default: string;
  is_json: boolean;
  help: string;
}

/**
 * What a job made now would freeze. `copied_bytes` is what each run would copy (0 with an overlay).
 */
export interface Preview {
  project: ProjectChoice;
  files: number;
  bytes: number;
  folders: FolderSize[];
  largest: FolderSize[];
  ignored: IgnoredPath[];
  inputs: NamedInput[];
  live: LivePath[];
  environment: EnvironmentPreview;
  workspace: "copy" | "overlay";
  copied_bytes: number;
  findings: Finding[];
}

/**
 * What would be frozen? Fields as in `CreateJob`.
 */
export interface PreviewRequest {
  path: string;
  kernel?: string;
  project?: string;
  exclude?: string[];
  include?: string[];
  live?: LivePath[];
}

/**
 * How far a run is: cells done of total code cells, and the cell that is running.
 */
export interface Progress {
  done: number;
  total: number;
  cell: CellRef | null;
}

/**
 * The directory to freeze and why. `mode` `files`: no directory could be chosen silently, so only the notebook and what it names
 * (`files`, relative to `directory`) are frozen. `alternatives` are directories that the person may choose instead.
 */
export interface ProjectChoice {
  directory: string;
  mode: "directory" | "files";
  why: string;
  alternatives: string[];
  files: string[];
}

/**
 * What runs and what waits, in the order in which it will start. `paused`: nothing starts until somebody resumes it. `parallel`: runs at a
 * time.
 */
export interface Queue {
  paused: boolean;
  paused_at: string | null;
  paused_by: string;
  parallel: number;
  active: Run[];
  waiting: WaitingRun[];
  page: Page;
}

/**
 * Which combinations of a job run again: those whose newest run has `failed` or was canceled because another had (code `fail_fast`), `all` that
 * have ended, or those of these run numbers.
 */
export interface Rerun {
  which?: "all" | "failed" | number[];
}

/**
 * What each run of a job may use: `cpu` in cores (1.5), `memory` and `storage` (what it writes) in bytes.
 *
 * One figure is both, the limit and what is kept free for the run: a smaller request would promise to two runs what only one can have.
 */
export interface Resources {
  cpu?: number | null;
  memory?: number | null;
  storage?: number | null;
}

/**
 * When a run gets another attempt: up to `attempts` more, if the one before failed with a code in `on` (empty: whatever the code).
 *
 * `delay` seconds lie between them, with `exponential` twice as many each time, never more than `max_delay`; `jitter` is the share of them
 * that is drawn by chance.
 */
export interface RetryPolicy {
  attempts: number;
  backoff: "exponential" | "fixed";
  delay: number;
  max_delay: number;
  jitter: number;
  on: string[];
}

/**
 * One combination of a job. `id` is `<job id>-<number>`. `state` is what the store holds, `status` what to show
 * (`canceling` once a cancel was asked). `attempt` counts its tries; `not_before`: when the next one may start. `extended`: seconds that this
 * attempt was given on top of its time limit. `superseded`: a later run of the combination stands for it.
 */
export interface Run {
  id: string;
  job: string;
  number: number;
  combination: number;
  parameters: { [key: string]: Json };
  label: string;
  state: RunState;
  status: string;
  attempt: number;
  progress: Progress;
  records: { [key: string]: Json };
  error: RunError | null;
  created_at: string;
  started_at: string | null;
  ended_at: string | null;
  duration: number | null;
  peak_memory: number | null;
  workspace: string;
  live: LivePath[];
  rerun_of: string;
  seq: number;
  not_before: string | null;
  extended: number;
  superseded: boolean;
}

/**
 * Why a run failed. `code` is ours (`docs/lifecycle.md` lists them); `ename`, `evalue`, `traceback` are the notebook's own.
 */
export interface RunError {
  code: string;
  message: string;
  mend: string;
  cell: CellRef | null;
  ename: string;
  evalue: string;
  traceback: string;
  detail: { [key: string]: Json };
}

/**
 * A file that a run made or changed. `path` is relative to the project; one below an absolute place outside is not kept.
 */
export interface RunFile {
  path: string;
  bytes: number;
  kind: "changed" | "created" | "deleted";
  media_type: string;
}

export interface RunFiles {
  files: RunFile[];
}

/**
 * A line of a log as a stream sends it: `line` is its text, `run` whose it is.
 */
export interface RunLine {
  at: number;
  stream: "stderr" | "stdout" | "system";
  line: string;
  end: string;
  cell: number;
  run: string;
}

export interface RunList {
  runs: Run[];
  page: Page;
}

/**
 * States of a run. Shown besides: `scheduled` while its time has not come, `canceling` once a cancel was asked.
 */
export type RunState = "canceled" | "complete" | "created" | "failed" | "init" | "queued" | "running";

/**
 * A frozen project: digest of its manifest (sha256, hex), totals, and what could not be frozen as it is.
 */
export interface Snapshot {
  digest: string;
  directory: string;
  files: number;
  bytes: number;
  created_at: string;
  notes: Finding[];
}

export interface SnapshotView {
  snapshot: Snapshot;
  environment: Environment | null;
  entries: ManifestEntry[];
}

/**
 * What a run used, as its present attempt went on: at most some 600 samples, further apart the longer it takes, and none where it took less than
 * half a second. `peak_memory` and `cpu_seconds` are known at its end.
 */
export interface Usage {
  run: string;
  attempt: number;
  samples: UsageSample[];
  cells: CellTime[];
  limits: Resources;
  peak_memory: number | null;
  cpu_seconds: number | null;
}

/**
 * What a run's processes used at a time (seconds since the epoch). `cpu`: seconds so far, of ended processes too. `memory`: where `measure` is
 * `pss`, what processes share counts once, where it is `rss` with each of them. `storage`: bytes written to the workspace, null where nobody has
 * looked yet.
 */
export interface UsageSample {
  at: number;
  cpu: number;
  memory: number;
  processes: number;
  storage: number | null;
  measure: "pss" | "rss";
}

/**
 * A run in the queue; `position` counts from 1. `why`: `time` (another attempt, not before `run.not_before`), `job` (its job is paused or runs as
 * many as it may), `disk`, `memory` or `cpu` (it is this run's turn, and there is too little of that), or empty: its turn will come.
 */
export interface WaitingRun {
  position: number;
  priority: number;
  why: "" | "cpu" | "disk" | "job" | "memory" | "time";
  run: Run;
}
