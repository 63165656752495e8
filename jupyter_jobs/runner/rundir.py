"""The run directory: the files through which a dispatcher and the runner of one attempt speak.

The dispatcher writes `run.json`, the runner everything else and `result.json` last, so whoever reads a `result.json` reads the truth.
Imports nothing but the standard library and msgspec: dispatchers and backends import it too. Times are seconds since the epoch, sizes bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

SPEC = "run.json"
LOG = "log.jsonl"
EVENTS = "events.jsonl"
NOTEBOOK = "output.ipynb"
RESULT = "result.json"
RUNNER = "runner.json"
RUNNER_LOG = "runner.log"
KERNEL = "kernel.json"
EXIT = "exit.json"
LIMITS = "limits.json"
USAGE = "usage.jsonl"

RUN_MARK = "JUPYTER_JOBS_RUN"
"""The environment variable that marks every process of a run; its value is the run's id."""

T = TypeVar("T")


class Struct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what is written here; unknown fields are ignored, so that runner and dispatcher may differ in version."""


class Kernel(Struct, frozen=True, kw_only=True):
    """The frozen kernelspec: absolute `argv` with `{connection_file}` left in, its own variables, its language."""

    argv: list[str]
    name: str = ""
    display_name: str = ""
    language: str = "python"
    env: dict[str, str] = {}
    interrupt_mode: Literal["signal", "message"] = "signal"
    resource_dir: str = ""


class Mount(Struct, frozen=True, kw_only=True):
    """A frozen environment root (`source`) that the run sees at `target`."""

    source: str
    target: str


class Bind(Struct, frozen=True, kw_only=True):
    """A path outside what was frozen: `source` is seen at `target`, read-only unless `writable`. `live`: the person asked to read it in place,
    so the run records what was there."""

    source: str
    target: str
    writable: bool = False
    live: bool = False


class Ignored(Struct, frozen=True, kw_only=True):
    """A path relative to the project that the rules leave out, and the rule."""

    path: str
    rule: str


class Link(Struct, frozen=True, kw_only=True):
    """A symbolic link that the run needs inside the project and the snapshot leaves out; `path` is relative to the project."""

    path: str
    target: str


class WorkspaceSpec(Struct, frozen=True, kw_only=True):
    """What the run sees: the snapshot's `tree` at `project`, frozen environments, live paths. `cwd`: the notebook's folder in the project.

    `partial`: the snapshot holds single files only, everything else in the project stays visible, read-only. `notes` go to the run's log.
    """

    mode: Literal["overlay", "copy"]
    project: str
    tree: str
    cwd: str = ""
    environment: list[Mount] = []
    binds: list[Bind] = []
    links: list[Link] = []
    partial: bool = False
    notes: list[str] = []
    ignored: list[Ignored] = []


class Artifact(Struct, frozen=True, kw_only=True):
    """A file that the run made, changed or deleted; `path` is relative to the project."""

    path: str
    bytes: int
    kind: Literal["created", "changed", "deleted"]


class Resources(Struct, frozen=True, kw_only=True):
    """What all processes of a run may use together: cores, bytes of memory, bytes that it writes to its workspace. None: as much as there is."""

    cpu: float | None = None
    memory: int | None = None
    storage: int | None = None


class RunSpec(Struct, frozen=True, kw_only=True):
    """`run.json`: everything the runner needs. `time_limit` bounds the run, `cell_timeout` each cell, in seconds.

    `fork`: the kernel may be forked from a warm server. `preload`: modules that such a server imports beforehand for the runs that follow, besides
    those that the notebook imports if `learn_preload`. `cgroup`: a directory of cgroup v2 where the runner may make a group for the run, to hold it
    to its `resources`.
    `max_log_bytes` bounds the log, `max_stream_bytes` what the notebook keeps of a cell's standard output and error; 0: not at all.
    """

    run: str
    job: str
    notebook: str
    kernel: Kernel
    workspace: WorkspaceSpec
    attempt: int = 1
    notebook_path: str = ""
    parameters: dict[str, object] = {}
    label: str = ""
    variables_file: str = ""
    extra_env: dict[str, str] = {}
    record: list[str] = []
    time_limit: float | None = None
    cell_timeout: float | None = None
    fork: bool = True
    preload: list[str] = []
    learn_preload: bool = True
    resources: Resources = Resources()
    cgroup: str = ""
    socket_dir: str = ""
    hints: str = ""
    max_log_bytes: int = 0
    max_stream_bytes: int = 0


class Limits(Struct, frozen=True, kw_only=True):
    """`limits.json`, written by the dispatcher when a run may take longer than `run.json` says: seconds from its beginning. SIGUSR1 tells the
    runner, which reads it again before it ends a run, too."""

    time_limit: float


class CellRef(Struct, frozen=True, kw_only=True):
    """A cell of the source notebook: its id and its number, counted from 1 over all cells. The injected parameters are number 0."""

    id: str
    number: int


class RunEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of `events.jsonl`. `state`: `state`; `progress`: `done`, `total`, `cell`; `record`: `name`, `value`; `phase`: `name`, `seconds`;
    `way`: `name` (of `runner` or `kernel`), `value` (`Way`)."""

    at: float
    kind: Literal["state", "progress", "record", "phase", "way"]
    state: str = ""
    done: int = 0
    total: int = 0
    cell: CellRef | None = None
    name: str = ""
    value: object = None
    seconds: float = 0.0


class LogRecord(Struct, frozen=True, kw_only=True):
    """A line of `log.jsonl`. `end` is the newline, a carriage return, or empty where the line goes on; `cell` is 0 outside any cell."""

    at: float
    stream: Literal["stdout", "stderr", "system"]
    text: str
    end: Literal["\n", "\r", ""] = "\n"
    cell: int = 0


class UsageSample(Struct, frozen=True, kw_only=True, array_like=True):
    """A line of `usage.jsonl`, as an array: what the run's processes used at a time. Read the whole file each time: it is thinned out as it grows.

    `cpu`: seconds since the kernel was started, of ended processes too. `memory`: `pss` counts what processes share once, `rss` with each of them
    (where there are too many to look at closely). `storage`: bytes that the run has written to its workspace, None before anybody looked.
    """

    at: float
    cpu: float
    memory: int
    processes: int
    storage: int | None = None
    measure: Literal["pss", "rss"] = "rss"


class RunError(Struct, frozen=True, kw_only=True):
    """Why a run failed, as in `model.RunError`. `traceback` is free of colour codes; `detail["traceback_ansi"]` is the raw one."""

    code: str
    message: str
    mend: str = ""
    cell: CellRef | None = None
    ename: str = ""
    evalue: str = ""
    traceback: str = ""
    detail: dict[str, object] = {}


class Way(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a process of the run came to life, why not by forking where that was wanted, and which modules it had imported before."""

    by: Literal["fork", "spawn"]
    why: str = ""
    imported: list[str] = []


class LiveFacts(Struct, frozen=True, kw_only=True):
    """What was at a live path when the run started. None where it was too much to count or could not be read."""

    path: str
    writable: bool = False
    files: int | None = None
    bytes: int | None = None
    modified: float | None = None


class CellCount(Struct, frozen=True, kw_only=True):
    """Code cells that ran, and all of them."""

    done: int
    total: int


class RunResult(Struct, frozen=True, kw_only=True):
    """`result.json`, written last: the kernel and all its processes are gone by then. `phases`: seconds that each part of the run took.

    `peak_memory`: the largest that was sampled, or that a single process ever held. `cpu_seconds`: of all processes of the run but the runner.
    """

    state: Literal["complete", "failed", "canceled"]
    started_at: float
    ended_at: float
    cells: CellCount
    error: RunError | None = None
    records: dict[str, object] = {}
    artifacts: list[Artifact] = []
    peak_memory: int | None = None
    cpu_seconds: float | None = None
    live: list[LiveFacts] = []
    kernel_exit: int | None = None
    ways: dict[str, Way] = {}
    phases: dict[str, float] = {}


class Identity(Struct, frozen=True, kw_only=True):
    """`runner.json`: a process by number and start time (`processes.started`). `pid` 0: a dispatcher has decided that this attempt never starts."""

    pid: int
    started: int = 0


class KernelFacts(Struct, frozen=True, kw_only=True):
    """`kernel.json`: how to find the processes of a forked kernel. `keeper` is the parent of them all."""

    keeper: Identity


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file so that readers see the old or the whole new one, also after a crash. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # some network file systems cannot sync a directory; the file itself is synced
        with contextlib.suppress(OSError):
            os.fsync(directory)
    finally:
        os.close(directory)


def encode(value: msgspec.Struct, errors: Literal["strict", "replace"] = "strict") -> bytes:
    """A struct as JSON. msgspec's own encoder turns integers beyond 64 bits into strings and NaN into null; values must stay what they are.

    Raises ValueError for a float that is no JSON number and for text that is no Unicode (half a surrogate pair), which becomes a question mark
    with "replace".
    """
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors=errors)


def write_spec(run_dir: Path, spec: RunSpec) -> None:
    """Write `run.json` (mode 0600). Raises OSError."""
    write_atomic(run_dir / SPEC, encode(spec))


def read_spec(run_dir: Path) -> RunSpec:
    """Read `run.json`. Raises OSError, or msgspec.DecodeError where it is not of this form."""
    return msgspec.json.decode((run_dir / SPEC).read_bytes(), type=RunSpec)


def write_limits(run_dir: Path, limits: Limits) -> None:
    """Write `limits.json`. Raises OSError."""
    write_atomic(run_dir / LIMITS, encode(limits))


def read_limits(run_dir: Path) -> Limits | None:
    """What has changed of the run's limits; None if nothing has. Raises OSError, or msgspec.DecodeError where the file is not of this form."""
    try:
        return msgspec.json.decode((run_dir / LIMITS).read_bytes(), type=Limits)
    except FileNotFoundError:
        return None


def write_result(run_dir: Path, result: RunResult) -> None:
    """Write `result.json`, the runner's last act. Raises OSError."""
    # whatever a notebook says of itself, there is a result
    write_atomic(run_dir / RESULT, encode(result, "replace"))


def read_result(run_dir: Path) -> RunResult | None:
    """The run's result, or None while there is none. Raises msgspec.DecodeError where the file is not of this form."""
    try:
        data = (run_dir / RESULT).read_bytes()
    except FileNotFoundError:
        return None
    return msgspec.json.decode(data, type=RunResult)


def place_name(run_dir: Path) -> str:
    """A short name that only this run directory has: of its overlay, and of the directory for its kernel's sockets."""
    return f"k{hashlib.sha256(os.fsencode(run_dir)).hexdigest()[:8]}"


def socket_place(socket_dir: str, run_dir: Path) -> Path:
    """Where an attempt's kernel has its sockets, so that others can clear it away."""
    return Path(socket_dir) / place_name(run_dir)


def claim(run_dir: Path, process: Identity) -> bool:
    """Write `runner.json`, if nobody has: whoever does so decides whether this attempt ever starts. False if somebody was first. Raises OSError."""
    temporary = run_dir / f".{RUNNER}.{os.getpid()}"
    _write_private(temporary, encode(process))
    try:
        os.link(temporary, run_dir / RUNNER)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def read_identity(path: Path) -> Identity | None:
    """The process that `runner.json` names; None while there is no such file. Raises OSError, msgspec.DecodeError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Identity)
    except FileNotFoundError:
        return None


def write_kernel(run_dir: Path, facts: KernelFacts) -> None:
    """Write `kernel.json`. Raises OSError."""
    _write_private(run_dir / KERNEL, encode(facts))


def read_kernel(run_dir: Path) -> KernelFacts | None:
    """What `kernel.json` says; None where there is none, or not a whole one: its kernel has come to nothing yet then."""
    try:
        return msgspec.json.decode((run_dir / KERNEL).read_bytes(), type=KernelFacts)
    except (OSError, msgspec.MsgspecError):
        return None


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def write_exit(run_dir: Path, status: int) -> None:
    """Write `exit.json`: what only the parent of a runner learns. `status` is negative for a signal. Raises OSError."""
    end = {"signal": -status} if status < 0 else {"code": status}
    write_atomic(run_dir / EXIT, json.dumps(end).encode())


def read_records(path: Path, kind: type[T], offset: int = 0) -> tuple[list[T], int]:
    """The complete records of `log.jsonl` (`LogRecord`), `events.jsonl` (`RunEvent`) or `usage.jsonl` (`UsageSample`) from a byte offset on, and the
    offset to go on from.

    A missing file holds no records. Raises msgspec.DecodeError where a line is not of this form.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    complete = data[: data.rfind(b"\n") + 1]
    decoder = msgspec.json.Decoder(kind)
    return [decoder.decode(line) for line in complete.splitlines()], offset + len(complete)
