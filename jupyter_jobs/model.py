"""The nouns of jupyter_jobs as frozen structs: what the store keeps and what REST, the CLI and the panel speak.

Every struct here is a wire type: the OpenAPI document and the TypeScript types are generated from this file and `requests.py`. Times are aware
datetimes in UTC, durations are seconds, sizes are bytes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from jupyter_jobs.lifecycle import JobState, RunState

MONTH = 31 * 86400
"""Seconds; the longest delay or extension that makes sense."""

Json = Annotated[object, msgspec.Meta(extra_json_schema={"description": "any JSON value"})]
"""Any JSON value: null, bool, int, float (finite), str, list or dict of them."""


class Struct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what we send; unknown fields are ignored when read, so that an older client understands a newer server."""


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what we are sent; an unknown field is an error that names it."""


# -- errors ------------------------------------------------------------------------------------------------------------


class ErrorBody(Struct, frozen=True, kw_only=True):
    """Body of every 4xx and 5xx answer. `detail` may hold `field`, `file`, `line`, `key`, `step`, `paths`, …"""

    code: str
    message: str
    mend: str = ""
    detail: dict[str, Json] = {}


class CellRef(Struct, frozen=True, kw_only=True):
    """A cell of the source notebook: its id as fixed in the snapshot and its number, counted from 1 over all cells."""

    id: str
    number: int


class RunError(Struct, frozen=True, kw_only=True):
    """Why a run failed. `code` is ours (`docs/lifecycle.md` lists them); `ename`, `evalue`, `traceback` are the notebook's own."""

    code: str
    message: str
    mend: str = ""
    cell: CellRef | None = None
    ename: str = ""
    evalue: str = ""
    traceback: str = ""
    detail: dict[str, Json] = {}


class Finding(Struct, frozen=True, kw_only=True):
    """Something to know before a run starts. An `error` stops the job from being made, a `warning` is shown."""

    code: str
    level: Literal["error", "warning", "note"]
    message: str
    mend: str = ""
    field: str = ""
    cell: int | None = None
    path: str = ""


# -- parameters and grid -----------------------------------------------------------------------------------------------


class Parameter(Struct, frozen=True, kw_only=True):
    """A variable of the notebook's `parameters` cell. `default` is its JSON text, or the source text where it is no JSON value
    (`is_json` false: the job may override it, the form cannot edit it as JSON)."""

    name: str
    type: str
    default: str
    is_json: bool = True
    help: str = ""


class CellCandidate(Struct, frozen=True, kw_only=True):
    """A cell that could be tagged `parameters`: its literal assignments."""

    cell: CellRef
    source: str
    parameters: list[Parameter]


class Combination(Struct, frozen=True, kw_only=True):
    """One point of the grid. `number` counts from 1 in grid order, first key slowest. `parameters` are plain (a notebook's);
    `step_parameters` are per step of a pipeline, by UUID. `label` is what people read: `lr=0.1, seed=2`."""

    number: int
    parameters: dict[str, Json]
    step_parameters: dict[str, dict[str, Json]] = {}
    label: str = ""


class GridFile(Struct, frozen=True, kw_only=True):
    """A parameters file found beside a notebook: its path and its text as it is."""

    path: str
    text: str


class Combinations(Struct, frozen=True, kw_only=True):
    """`total` counts all; `combinations` holds the first 1000."""

    names: list[str]
    total: int
    combinations: list[Combination]


# -- project, snapshot, environment ------------------------------------------------------------------------------------


class ProjectChoice(Struct, frozen=True, kw_only=True):
    """The directory to freeze and why. `mode` `files`: no directory could be chosen silently, so only the notebook and what it names
    (`files`, relative to `directory`) are frozen. `alternatives` are directories that the person may choose instead."""

    directory: str
    mode: Literal["directory", "files"]
    why: str
    alternatives: list[str] = []
    files: list[str] = []


class LivePath(Struct, frozen=True, kw_only=True):
    """A directory or file that is read from the original place instead of being frozen. `path` is absolute or relative to the project.
    When a run starts, `bytes`, `files` and `modified` record what was there."""

    path: str
    writable: bool = False
    files: int | None = None
    bytes: int | None = None
    modified: datetime | None = None


class FolderSize(Struct, frozen=True, kw_only=True):
    path: str
    files: int
    bytes: int


class IgnoredPath(Struct, frozen=True, kw_only=True):
    """Something the rules leave out, and the rule: `.gitignore:3: data/`."""

    path: str
    rule: str
    is_directory: bool = False


class NamedInput(Struct, frozen=True, kw_only=True):
    """A path that the notebook names. `ignored`: exists, but the rules leave it out; `outside`: exists, not below the project."""

    path: str
    cell: int
    state: Literal["ignored", "outside", "missing", "frozen", "live"]
    rule: str = ""
    bytes: int | None = None


class Preview(Struct, frozen=True, kw_only=True):
    """What a job made now would freeze. `copied_bytes` is what each run would copy (0 with an overlay)."""

    project: ProjectChoice
    files: int
    bytes: int
    folders: list[FolderSize]
    largest: list[FolderSize]
    ignored: list[IgnoredPath]
    inputs: list[NamedInput]
    live: list[LivePath]
    environment: EnvironmentPreview
    workspace: Literal["overlay", "copy"]
    copied_bytes: int
    findings: list[Finding]


class Snapshot(Struct, frozen=True, kw_only=True):
    """A frozen project: digest of its manifest (sha256, hex), totals, and what could not be frozen as it is."""

    digest: str
    directory: str
    files: int
    bytes: int
    created_at: datetime
    notes: list[Finding] = []


class Distribution(Struct, frozen=True, kw_only=True):
    """An installed distribution. `frozen` is false where its source lies outside what was frozen (an editable install too large to freeze)."""

    name: str
    version: str
    editable: str = ""
    frozen: bool = True


class EnvironmentPreview(Struct, frozen=True, kw_only=True):
    """`mode`: how it would be frozen here: `reflink`, `hardlink`, `copy`, or only `recorded` and checked before each run."""

    prefix: str
    python: str
    mode: Literal["reflink", "hardlink", "copy", "recorded", "none"]
    distributions: int
    findings: list[Finding] = []


class Environment(Struct, frozen=True, kw_only=True):
    """A frozen kernel environment: fingerprint (sha256, hex), original prefix, how it was frozen, what is in it."""

    digest: str
    prefix: str
    python: str
    mode: Literal["reflink", "hardlink", "copy", "recorded", "none"]
    distributions: list[Distribution]
    created_at: datetime
    notes: list[Finding] = []


class KernelInfo(Struct, frozen=True, kw_only=True):
    """A kernelspec as resolved where the job was submitted: absolute argv (`{connection_file}` left in), its own variables, its language."""

    name: str
    display_name: str
    language: str
    argv: list[str] = []
    env: dict[str, str] = {}
    interrupt_mode: Literal["signal", "message"] = "signal"
    resource_dir: str = ""


class Inspection(Struct, frozen=True, kw_only=True):
    """What is known about a notebook before a job is made of it. `path` is as asked, `name` a proposal for the job's name."""

    path: str
    name: str
    kernel: KernelInfo
    kernels: list[KernelInfo]
    parameters: list[Parameter]
    has_parameters_cell: bool
    candidates: list[CellCandidate]
    grid: GridFile | None
    project: ProjectChoice
    findings: list[Finding]


# -- jobs and runs -----------------------------------------------------------------------------------------------------


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """When a run gets another attempt: up to `attempts` more, if the one before failed with a code in `on` (empty: whatever the code).

    `delay` seconds lie between them, with `exponential` twice as many each time, never more than `max_delay`; `jitter` is the share of them
    that is drawn by chance.
    """

    attempts: Annotated[int, msgspec.Meta(ge=0, le=20)] = 1
    backoff: Literal["fixed", "exponential"] = "fixed"
    delay: Annotated[float, msgspec.Meta(ge=0, le=MONTH)] = 0.0
    max_delay: Annotated[float, msgspec.Meta(ge=0, le=MONTH)] = 3600.0
    jitter: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    on: list[str] = []


class Resources(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each run of a job may use: `cpu` in cores (1.5), `memory` and `storage` (what it writes) in bytes.

    One figure is both, the limit and what is kept free for the run: a smaller request would promise to two runs what only one can have.
    """

    cpu: float | None = None
    memory: int | None = None
    storage: int | None = None


class Job(Struct, frozen=True, kw_only=True):
    """A job. `status` is what to show: derived from the runs (`lifecycle.job_status`). `counts` (by state) and `total` are of the newest run of each
    combination; `strip` has one letter per run in order (`lifecycle.STATE_LETTERS`; empty above 1000 runs). `notebook` is relative to `project`;
    `source` is the contents path or file as submitted; `variables` are names only."""

    id: str
    name: str
    description: str
    state: JobState
    status: RunState | None
    notebook: str
    source: str
    project: str
    snapshot: str
    environment: str
    kernel: KernelInfo
    parameter_names: list[str]
    record: list[str]
    record_names: list[str]
    variables: list[str]
    live: list[LivePath]
    counts: dict[str, int]
    total: int
    strip: str
    created_at: datetime
    created_by: str
    ended_at: datetime | None
    seq: int
    notes: list[Finding]
    priority: int
    max_parallel: int
    fail_fast: bool
    retries: RetryPolicy
    time_limit: float | None
    cell_timeout: float | None
    resources: Resources = Resources()


class Progress(Struct, frozen=True, kw_only=True):
    """How far a run is: cells done of total code cells, and the cell that is running."""

    done: int
    total: int
    cell: CellRef | None = None


class Run(Struct, frozen=True, kw_only=True):
    """One combination of a job. `id` is `<job id>-<number>`. `state` is what the store holds, `status` what to show
    (`canceling` once a cancel was asked). `attempt` counts its tries; `not_before`: when the next one may start. `extended`: seconds that this
    attempt was given on top of its time limit. `superseded`: a later run of the combination stands for it."""

    id: str
    job: str
    number: int
    combination: int
    parameters: dict[str, Json]
    label: str
    state: RunState
    status: str
    attempt: int
    progress: Progress
    records: dict[str, Json]
    error: RunError | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration: float | None
    peak_memory: int | None
    workspace: str
    live: list[LivePath]
    rerun_of: str
    seq: int
    not_before: datetime | None
    extended: float
    superseded: bool


class Attempt(Struct, frozen=True, kw_only=True):
    """A run's n-th try. `state`, `exit_code` and `error` tell how it ended; `exit_code` is negative for a signal. An attempt that ends `canceled`
    while its run goes on was never started."""

    number: int
    host: str
    started_at: datetime
    ended_at: datetime | None
    state: RunState | None
    exit_code: int | None
    error: RunError | None


class AttemptList(Struct, frozen=True, kw_only=True):
    attempts: list[Attempt]


class Page(Struct, frozen=True, kw_only=True):
    """How a list goes on: pass `next` as `after`; empty at the end. `total` counts all that match."""

    next: str
    total: int


class JobList(Struct, frozen=True, kw_only=True):
    jobs: list[Job]
    page: Page


class RunList(Struct, frozen=True, kw_only=True):
    runs: list[Run]
    page: Page


class WaitingRun(Struct, frozen=True, kw_only=True):
    """A run in the queue; `position` counts from 1. `why`: `time` (another attempt, not before `run.not_before`), `job` (its job is paused or runs as
    many as it may), `disk`, `memory` or `cpu` (it is this run's turn, and there is too little of that), or empty: its turn will come."""

    position: int
    priority: int
    why: Literal["", "time", "job", "disk", "memory", "cpu"]
    run: Run


class Queue(Struct, frozen=True, kw_only=True):
    """What runs and what waits, in the order in which it will start. `paused`: nothing starts until somebody resumes it. `parallel`: runs at a
    time."""

    paused: bool
    paused_at: datetime | None
    paused_by: str
    parallel: int
    active: list[Run]
    waiting: list[WaitingRun]
    page: Page


class RunFile(Struct, frozen=True, kw_only=True):
    """A file that a run made or changed. `path` is relative to the project; one below an absolute place outside is not kept."""

    path: str
    bytes: int
    kind: Literal["created", "changed", "deleted"]
    media_type: str = ""


class RunFiles(Struct, frozen=True, kw_only=True):
    files: list[RunFile]


class CopiedFiles(Struct, frozen=True, kw_only=True):
    copied: list[str]


class UsageSample(Struct, frozen=True, kw_only=True):
    """What a run's processes used at a time (seconds since the epoch). `cpu`: seconds so far, of ended processes too. `memory`: where `measure` is
    `pss`, what processes share counts once, where it is `rss` with each of them. `storage`: bytes written to the workspace, null where nobody has
    looked yet."""

    at: float
    cpu: float
    memory: int
    processes: int
    storage: int | None
    measure: Literal["pss", "rss"]


class CellTime(Struct, frozen=True, kw_only=True):
    """When a cell ran, in seconds since the epoch; `ended_at` null while it runs."""

    cell: CellRef
    started_at: float
    ended_at: float | None


class Usage(Struct, frozen=True, kw_only=True):
    """What a run used, as its present attempt went on: at most some 600 samples, further apart the longer it takes, and none where it took less than
    half a second. `peak_memory` and `cpu_seconds` are known at its end."""

    run: str
    attempt: int
    samples: list[UsageSample]
    cells: list[CellTime]
    limits: Resources
    peak_memory: int | None
    cpu_seconds: float | None


class LogLine(Struct, frozen=True, kw_only=True):
    """One line of a run's log, or a piece of one: `end` is the newline, a carriage return, or empty when the line goes on.
    `cell` is the cell's number; 0 where the line comes from outside any cell."""

    at: float
    stream: Literal["stdout", "stderr", "system"]
    text: str
    end: str = "\n"
    cell: int = 0


class RunLine(LogLine, frozen=True, kw_only=True):
    """A line of a log as a stream sends it: `line` is its text, `run` whose it is."""

    text: str = msgspec.field(name="line")
    run: str


class Event(Struct, frozen=True, kw_only=True):
    """A change, in the order it happened. `kind`: `job.created`, `run.state`, `run.progress`, …; `state` set for `*.state`."""

    seq: int
    at: datetime
    kind: str
    job: str
    run: str = ""
    state: str = ""
    data: dict[str, Json] = {}


class EventList(Struct, frozen=True, kw_only=True):
    """`last` is the seq to ask after next time."""

    events: list[Event]
    last: int


class DispatcherStatus(Struct, frozen=True, kw_only=True):
    """The dispatcher of this store. `running` false: there is none, the next job starts one, and `active` and `queued` runs have none to look after
    them."""

    running: bool
    pid: int = 0
    host: str = ""
    since: datetime | None = None
    version: str = ""
    active: int = 0
    queued: int = 0
    parallel: int = 0
    note: str = ""
    paused: bool = False


class Health(Struct, frozen=True, kw_only=True):
    version: str
    schema: int
    store: str
    data_dir: str
    workspace: Literal["overlay", "copy"]
    workspace_note: str
    dispatcher: DispatcherStatus
    findings: list[Finding]


class ManifestEntry(Struct, frozen=True, kw_only=True):
    """One path of a snapshot: `file`, `link` (`target`), or `directory` (only empty ones)."""

    path: str
    kind: Literal["file", "link", "directory"]
    mode: int
    mtime_ns: int = 0
    size: int = 0
    digest: str = ""
    target: str = ""


class SnapshotView(Struct, frozen=True, kw_only=True):
    snapshot: Snapshot
    environment: Environment | None
    entries: list[ManifestEntry]
