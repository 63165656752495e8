"""After a start: what became of the runs that the last dispatcher left.

A run of this host whose process lives is followed on; one that has ended has a result, or was interrupted; one that was claimed and never
started goes back into the queue. A run of another host can only be seen through its files: it is left alone until it has a result, or nothing
in its run directory has changed for `SILENCE` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from pathlib import Path

import msgspec

from jupyter_jobs.backends import processes
from jupyter_jobs.backends.base import Exit, Handle, Submission
from jupyter_jobs.dispatcher.follow import settle
from jupyter_jobs.dispatcher.queue import Carry, begin
from jupyter_jobs.dispatcher.start import requeue
from jupyter_jobs.dispatcher.state import Active, Dispatch, log
from jupyter_jobs.errors import JobsError
from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.runner import rundir
from jupyter_jobs.store import jobs, runs
from jupyter_jobs.store.runs import ActiveRun

SILENCE = 3600.0


async def reconcile(dispatch: Dispatch, carry: Carry) -> None:
    """Take over every run that the store has as active."""
    left = await dispatch.ledger.read(runs.active)
    dispatch.peaks |= await dispatch.ledger.read(jobs.peaks_of, {found.job for found in left})
    for found in left:
        if found.run in dispatch.active:
            continue
        active = Active(run=found.run, job=found.job, attempt=found.attempt, directory=dispatch.directory_of(found.run, found.attempt))
        active.workspace = await asyncio.to_thread(_workspace, active.directory)
        if (known := await dispatch.ledger.read(runs.get, found.run)) is not None:
            # what the last dispatcher took in is not told again
            active.running, active.progress, active.records = known.state is RunState.RUNNING, known.progress, dict(known.records)
        active.recorded, active.extended = bool(found.handle), found.extended
        if found.cancel_requested:
            active.cancel.set()
        if found.host != processes.here():
            await _look_at_foreign(dispatch, found, active)
            continue
        active.handle = await _handle(dispatch, found, active)
        if active.handle is not None:
            log.info("adopting %s attempt %d", found.run, found.attempt)
            begin(dispatch, active, carry)
        elif found.cancel_requested:
            begin(dispatch, active, _settle)
        else:
            log.info("%s attempt %d was claimed and never started: it is queued again", found.run, found.attempt)
            await requeue(dispatch, active)


async def ended_are_settled(dispatch: Dispatch) -> None:
    """Wait until runs that were over when they were taken over are so in the store: who started this dispatcher looks there next. Not for long."""
    taken = list(dispatch.active.values())
    followed = [(active.handle, active.task) for active in taken if active.handle is not None]
    over = [active.task for active in taken if active.handle is None and active.task is not None]
    with contextlib.suppress(TimeoutError, JobsError):
        async with asyncio.timeout(dispatch.limits.answer):
            found = await dispatch.backend.poll([handle for handle, _ in followed]) if followed else []
            over += [task for (_, task), end in zip(followed, found, strict=True) if end is not None and task is not None]
            if over:
                await asyncio.wait(over)


async def _handle(dispatch: Dispatch, found: ActiveRun, active: Active) -> Handle | None:
    if found.handle:
        return msgspec.json.decode(found.handle, type=Handle)
    return await dispatch.backend.find(Submission(run=found.run, attempt=found.attempt, directory=active.directory, boot=found.boot_id))


async def _settle(dispatch: Dispatch, active: Active) -> None:
    # in a task of its own: while the store refuses, this waits for the next heartbeat, which must not wait for us
    await settle(dispatch, active, Exit())


async def _look_at_foreign(dispatch: Dispatch, found: ActiveRun, active: Active) -> None:
    silent = await asyncio.to_thread(_silent_seconds, Path(dispatch.settings.data_dir), active.directory)
    if silent is None or silent > SILENCE or found.cancel_requested:
        log.info("%s ran on %s and has ended, or nothing was heard of it for long", found.run, found.host)
        dispatch.foreign.discard(found.run)
        begin(dispatch, active, _settle)
    elif found.run not in dispatch.foreign:
        log.info("%s runs on %s; it is looked at now and then", found.run, found.host)
        dispatch.foreign.add(found.run)


def _silent_seconds(data_dir: Path, directory: Path) -> float | None:
    """Seconds since a file of the run changed; None when it has a result."""
    if (directory / rundir.RESULT).exists():
        return None
    try:
        newest = max(entry.stat().st_mtime for entry in [directory, *directory.iterdir()])
        # by the clock of the disk that both hosts write to: ours may be wrong, or have been set
        with tempfile.NamedTemporaryFile(prefix=".now-", dir=data_dir) as probe:
            return os.fstat(probe.fileno()).st_mtime - newest
    except OSError:
        return SILENCE + 1


def _workspace(directory: Path) -> str:
    try:
        return rundir.read_spec(directory).workspace.mode
    except (OSError, msgspec.MsgspecError):
        return ""
