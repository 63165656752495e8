"""Time limits while a run goes on: its runner is told when more is allowed, and what it lets run on far beyond is ended by us."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from jupyter_jobs.dispatcher.state import Active, Dispatch, log
from jupyter_jobs.errors import JobsError
from jupyter_jobs.model import RunError
from jupyter_jobs.runner import rundir
from jupyter_jobs.store.jobs import Frozen


async def limit(dispatch: Dispatch, active: Active) -> None:
    """Pass on each extension, and end the run `overtime` seconds after its time limit. The runner enforces the limit itself, so that is for one that
    hangs. The limit counts from the runner's first event, or, while there is none, from when it was started."""
    frozen = await _frozen(dispatch, active)
    if frozen is None or frozen.time_limit is None:
        return
    submitted = await asyncio.to_thread(_submitted_at, active.directory)
    told = (0.0, False)
    while True:
        active.relimit.clear()
        if active.extended and (active.extended, active.began is not None) != told:
            told = (active.extended, active.began is not None)
            await _tell(dispatch, active, frozen.time_limit + active.extended)
        allowed = frozen.time_limit + active.extended
        left = allowed + dispatch.limits.overtime - (time.time() - (active.began or submitted))
        try:
            async with asyncio.timeout(max(0.0, left)):
                await active.relimit.wait()
        except TimeoutError:
            log.warning("%s is %g s over its time limit, and its runner does nothing about that", active.run, dispatch.limits.overtime)
            active.overdue = RunError(
                code="time_limit_exceeded",
                message=f"The run took longer than the {allowed:g} s that it may take, and its process did not end it.",
                mend="Allow more time, or make the notebook faster.",
                detail={"limit": allowed},
            )
            active.cancel.set()
            return


async def _frozen(dispatch: Dispatch, active: Active) -> Frozen | None:
    while True:
        try:
            return await dispatch.frozen_of(active.job)
        except SQLAlchemyError as failure:
            log.error("the time limit of %s could not be read and is asked for again: %s", active.run, type(failure).__name__)
            await dispatch.next_beat()


async def _tell(dispatch: Dispatch, active: Active, allowed: float) -> None:
    assert active.handle is not None
    try:
        await asyncio.to_thread(rundir.write_limits, active.directory, rundir.Limits(time_limit=allowed))
        # before its first event it may not listen yet, and reads the file anyway
        if active.began is not None and dispatch.backend.capabilities.notifies:
            async with asyncio.timeout(dispatch.limits.answer):
                await dispatch.backend.notify(active.handle)
    except (TimeoutError, JobsError, OSError) as failure:
        log.error("%s could not be told that it may take longer: %s", active.run, failure)
    else:
        log.info("%s may take %g s", active.run, allowed)


def _submitted_at(directory: Path) -> float:
    """Seconds since the epoch."""
    try:
        return (directory / rundir.SPEC).stat().st_mtime
    except OSError:
        return time.time()
