"""A disk that is full: the run's result finds room all the same, and says so."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec

from jupyter_jobs.runner import rundir
from jupyter_jobs.runner.rundir import RunError, RunResult

EXIT_NO_ROOM = 28
"""The runner's exit status when not even a result could be written."""
RESERVE = ".result.reserve"
RESERVED = 256 << 10
"""Bytes that are taken before the run starts, for its result."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
MEND = "Make room (`jupyter jobs delete`, `jupyter jobs doctor --repair`), then run it again."


def is_full(error: BaseException) -> bool:
    """Whether this is what a full disk or a used-up quota says."""
    return isinstance(error, OSError) and error.errno in FULL


def no_room(what: str, error: OSError) -> RunError:
    """The failure of a run whose `what` could not be written."""
    message = f"The disk is full: {what} could not be written ({error.strerror})."
    return RunError(code="no_room", message=message, mend=MEND)


def reserve(run_dir: Path) -> None:
    """Take the room for the result. Raises OSError where there is none."""
    path = run_dir / RESERVE
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, RESERVED)
        else:
            os.write(descriptor, b" " * RESERVED)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(descriptor)


def write_result(run_dir: Path, result: RunResult) -> None:
    """Write `result.json`, the runner's last act; on a full disk into the room that was reserved. Raises OSError when that is gone too."""
    try:
        rundir.write_result(run_dir, result)
    except OSError as error:
        if not is_full(error):
            raise
        _write_reserved(run_dir, result, error)
    else:
        (run_dir / RESERVE).unlink(missing_ok=True)


def _write_reserved(run_dir: Path, result: RunResult, error: OSError) -> None:
    data = rundir.encode(result, "replace")
    if len(data) > RESERVED:
        # the state and the reason are what must not be lost
        failure = result.error or no_room("the list of the run's files and records", error)
        state = "failed" if result.state == "complete" else result.state
        data = rundir.encode(msgspec.structs.replace(result, state=state, error=failure, artifacts=[], records={}, live=[]), "replace")
    path = run_dir / RESERVE
    # in place: these blocks are ours already
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        written = 0
        while written < len(data):
            written += os.pwrite(descriptor, data[written:], written)
        os.ftruncate(descriptor, len(data))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    path.replace(run_dir / rundir.RESULT)
