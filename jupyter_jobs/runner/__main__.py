"""`python -m jupyter_jobs.runner RUN_DIR`: execute one run and leave `result.json`. Exit status 0 when that was written, else 1."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import msgspec

from jupyter_jobs.runner import clock, live, processes, room, rundir, workspace
from jupyter_jobs.runner.failures import RunFailed
from jupyter_jobs.runner.log import Journal
from jupyter_jobs.runner.names import safe_text
from jupyter_jobs.runner.outcome import Outcome, Stopped
from jupyter_jobs.runner.rundir import Artifact, CellCount, LiveFacts, RunError, RunResult, RunSpec, Way

log = logging.getLogger("jupyter_jobs.runner")


class Canceled(BaseException):
    """SIGTERM came while the run was being prepared."""


class Cancel:
    """What SIGTERM does: end the preparation, ask the running kernel to stop, or, once it has ended, nothing."""

    def __init__(self) -> None:
        self.preparing = True
        self.stop: Callable[[], None] | None = None

    def connect(self, stop: Callable[[], None] | None) -> None:
        """From now on, SIGTERM calls `stop`; with None, it is ignored."""
        self.preparing = False
        self.stop = stop

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.stop:
            self.stop()
        elif self.preparing:
            raise Canceled


def main(arguments: list[str], channel: socket.socket | None = None) -> int:
    """Run the attempt whose directory is named. `channel` leads to the fork server if that has forked us."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    # they quote from notebooks what may be a parameter's value
    for talkative in ("traitlets", "papermill"):
        logging.getLogger(talkative).setLevel(logging.CRITICAL)
    if len(arguments) != 2:
        print("usage: python -m jupyter_jobs.runner RUN_DIR", file=sys.stderr)
        return 1
    began = clock.begin()
    run_dir = Path(arguments[1]).absolute()
    if (run_dir / rundir.RESULT).exists():
        print(f"{run_dir} has a result already.", file=sys.stderr)
        return 1
    try:
        spec = rundir.read_spec(run_dir)
    except (OSError, msgspec.DecodeError) as error:
        print(f"{run_dir / rundir.SPEC} cannot be read: {error}", file=sys.stderr)
        return 1
    cancel = Cancel()
    signal.signal(signal.SIGTERM, cancel)
    signal.signal(signal.SIGINT, cancel)
    # new limits are read when the cells begin; from then on this signal tells of newer ones
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        if not rundir.claim(run_dir, rundir.Identity(pid=os.getpid(), started=processes.started(os.getpid()))):
            print(f"{run_dir}: a dispatcher has decided that this attempt does not start.", file=sys.stderr)
            return 1
        processes.adopt_orphans()
        room.reserve(run_dir)
        journal = Journal(run_dir, spec.run, spec.attempt, spec.hints, spec.max_log_bytes)
        room.write_result(run_dir, attempt(spec, run_dir, journal, cancel, began, channel))
    except OSError as error:
        with contextlib.suppress(OSError):
            # it goes to that disk too
            print(f"{run_dir} cannot be written: {error}", file=sys.stderr)
        if room.is_full(error):
            # at once: an interpreter that cannot flush its streams changes the exit status
            os._exit(room.EXIT_NO_ROOM)
        return 1
    journal.hint_now()
    return 0


def attempt(spec: RunSpec, run_dir: Path, journal: Journal, cancel: Cancel, began: float, channel: socket.socket | None = None) -> RunResult:
    """Prepare, execute, clear away. Whatever happens is in the result."""
    outcome = Outcome()
    facts: list[LiveFacts] = []
    sockets: list[Path] = []
    try:
        journal.way("runner", Way(by="fork" if channel else "spawn"))
        for note in spec.workspace.notes:
            journal.note(note)
        facts = [live.facts_of(bind) for bind in spec.workspace.binds if bind.live]
        _execute(spec, run_dir, journal, cancel, began, outcome, sockets, channel)
    except (Canceled, Stopped):
        outcome.state = "canceled"
    except RunFailed as failed:
        outcome.fail(failed.error)
    except Exception as error:
        if isinstance(error, OSError) and room.is_full(error):
            outcome.fail(room.no_room("what the run needs", error))
            return _clear_away(spec, run_dir, journal, began, facts, outcome, sockets)
        log.exception("The run failed for a reason of our own.")
        outcome.fail(RunError(code="internal_error", message=f"The runner failed: {type(error).__name__}: {error}", mend="Report this error."))
    finally:
        cancel.connect(None)
    return _clear_away(spec, run_dir, journal, began, facts, outcome, sockets)


def _execute(
    spec: RunSpec,
    run_dir: Path,
    journal: Journal,
    cancel: Cancel,
    began: float,
    outcome: Outcome,
    sockets: list[Path],
    channel: socket.socket | None,
) -> None:
    started = time.monotonic()
    # its grammar of international URLs takes longer to build than everything else here to import; notebooks are checked without it
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    from jupyter_jobs.runner import kernel
    from jupyter_jobs.runner.execute import Execution
    from jupyter_jobs.runner.provisioner import Forking, forking_for

    journal.phase("imports", time.monotonic() - started)
    started = time.monotonic()
    sockets.append(kernel.make_socket_dir(spec, run_dir))
    connection_file = sockets[0] / "kernel.json"
    try:
        env = kernel.environment_of(spec)
        prepared = workspace.prepare(spec.workspace, run_dir, kernel.command_of(spec, connection_file), env)
        forking = forking_for(spec, prepared, env, channel)
    except (workspace.WorkspaceFailed, OSError, ValueError) as error:
        if isinstance(error, OSError) and room.is_full(error):
            raise RunFailed(room.no_room("the run's workspace", error)) from error
        message = f"The run's workspace could not be made: {error}"
        raise RunFailed(RunError(code="workspace_failed", message=message, mend="Run `jupyter jobs doctor`.")) from error
    journal.phase("workspace", time.monotonic() - started)
    how = (forking, "") if isinstance(forking, Forking) else (None, forking)
    execution = Execution(spec, run_dir, journal, kernel.make_kernel(spec, prepared.argv, connection_file, *how), outcome, began)
    execution.run({**env, **prepared.additions}, prepared.cwd, prepared.inside, cancel.connect)


def _clear_away(
    spec: RunSpec, run_dir: Path, journal: Journal, began: float, facts: list[LiveFacts], outcome: Outcome, sockets: list[Path]
) -> RunResult:
    started = time.monotonic()
    # the parent of everything that a forked kernel started has seen it all end
    left = [] if outcome.clear else processes.end_processes(spec.run, rundir.place_name(run_dir))
    if left:
        journal.note(f"Processes of this run that could not be ended: {', '.join(map(str, left))}.")
    if outcome.group:
        outcome.group.remove()
    artifacts: list[Artifact] = []
    try:
        artifacts = workspace.collect(spec.workspace, run_dir)
        workspace.clean(spec.workspace, run_dir, artifacts)
    except OSError as error:
        log.exception("The workspace could not be cleared away.")
        if room.is_full(error):
            outcome.fail(room.no_room("what the run left", error))
        message = f"The run's files could not be collected: {error}"
        outcome.fail(RunError(code="workspace_failed", message=message, mend="Run `jupyter jobs doctor`."))
    # a name that is no UTF-8 text must not cost the run its result
    artifacts = [msgspec.structs.replace(each, path=safe_text(each.path)) for each in artifacts]
    for directory in sockets:
        shutil.rmtree(directory, ignore_errors=True)
    journal.phase("clear", time.monotonic() - started)
    journal.say_lost()
    # kibibytes on Linux, bytes on macOS
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    largest = outcome.memory or ended.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    seconds = ended.ru_utime + ended.ru_stime if outcome.cpu is None else outcome.cpu
    return RunResult(
        state=outcome.state,
        error=outcome.error,
        started_at=began,
        ended_at=clock.now(),
        records=outcome.records,
        artifacts=artifacts,
        peak_memory=max(largest, outcome.peak) or None,
        cpu_seconds=round(seconds, 3),
        live=facts,
        kernel_exit=outcome.kernel_exit,
        cells=CellCount(done=outcome.done, total=outcome.total),
        ways=journal.ways,
        phases=journal.phases,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv))
