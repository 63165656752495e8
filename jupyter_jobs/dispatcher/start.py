"""Carrying a claimed run: its environment is checked, its run directory written, its runner started, and then it is followed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from jupyter_jobs.backends.base import Handle, Submission
from jupyter_jobs.dispatcher.aftermath import clear_up_after
from jupyter_jobs.dispatcher.follow import conclude, follow, take_in
from jupyter_jobs.dispatcher.spec import EnvironmentCheck, check_environment, environment_of
from jupyter_jobs.dispatcher.state import Active, Check, Dispatch, log
from jupyter_jobs.errors import JobsError, NotFound, Unavailable
from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.model import RunError
from jupyter_jobs.runner import room
from jupyter_jobs.store import ending
from jupyter_jobs.store.ending import Ended
from jupyter_jobs.store.jobs import Frozen

T = TypeVar("T")


async def carry(dispatch: Dispatch, active: Active) -> None:
    """Carry a run from wherever it is to its end. Whatever hinders its start, or a fault of ours, makes it FAILED with the reason."""
    ended = await _carry(dispatch, active)
    if ended is not None:
        await clear_up_after(dispatch, active, ended)


async def _carry(dispatch: Dispatch, active: Active) -> Ended | None:
    try:
        if active.handle is None:
            await start(dispatch, active)
        if active.handle is not None:
            return await follow(dispatch, active)
        return await conclude(dispatch, active, RunState.CANCELED, None)
    except JobsError as failure:
        return await _fail(dispatch, active, RunError(code=failure.code, message=failure.message, mend=failure.mend, detail=_json(failure.detail)))
    except OSError as failure:
        code, mend = ("no_room", room.MEND) if room.is_full(failure) else ("not_stored", "See dispatcher.log in the data directory.")
        message = f"The files of run {active.run} cannot be written: {failure.strerror}."
        return await _fail(dispatch, active, RunError(code=code, message=message, mend=mend))
    except Exception as failure:  # noqa: BLE001 - a fault in our code must not leave a run that is "running" for ever
        log.exception("carrying %s failed", active.run)
        message = f"Run {active.run} could not be carried out: {type(failure).__name__}."
        return await _fail(dispatch, active, RunError(code="internal_error", message=message, mend="See dispatcher.log in the data directory."))


async def start(dispatch: Dispatch, active: Active) -> None:
    """Start a claimed run. It has a handle afterwards, unless a cancel came first. Raises `JobsError` or `OSError` when it cannot start."""
    frozen = await patiently(dispatch, active, lambda: dispatch.frozen_of(active.job))
    if frozen is None:
        raise NotFound(f"There is no job {active.job} any more.", code="job_not_found", job=active.job)
    await _checked(dispatch, active, frozen)
    if active.cancel.is_set():
        return
    active.submitting = True
    try:
        active.workspace = await patiently(dispatch, active, lambda: asyncio.to_thread(dispatch.prepare, dispatch, active, frozen))
        active.handle = await _submitted(dispatch, active)
        await patiently(dispatch, active, lambda: take_in(dispatch, active))
    finally:
        active.submitting = False
        active.submitted.set()


async def patiently(dispatch: Dispatch, active: Active, work: Callable[[], Awaitable[T]]) -> T:
    """`work`, tried again at each heartbeat while the store refuses: no run fails because a store is full or locked for a while."""
    while True:
        try:
            return await work()
        except SQLAlchemyError as failure:
            log.error("%s waits for the store: %s", active.run, getattr(failure, "orig", None) or type(failure).__name__)
            await dispatch.next_beat()


async def requeue(dispatch: Dispatch, active: Active) -> None:
    """Put a claimed run of which nothing was started back into the queue."""
    await dispatch.ledger.write(ending.give_back, active.run, active.attempt)


async def _checked(dispatch: Dispatch, active: Active, frozen: Frozen) -> None:
    """Verify the frozen environment, once for all runs that start while that goes on and shortly after. Raises `JobsError` when it has drifted."""
    wanted = environment_of(frozen)
    if wanted is None:
        return
    now = asyncio.get_running_loop().time()
    check = dispatch.checks.get(wanted)
    if check is None or not check.stands(now, dispatch.limits.check):
        check = dispatch.checks[wanted] = _look(dispatch, wanted, now)
    # shielded: one run's end must not end the check that others wait for
    canceled = asyncio.ensure_future(active.cancel.wait())
    try:
        await asyncio.wait({check.task, canceled}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        canceled.cancel()
    if check.task.done():
        await check.task


def _look(dispatch: Dispatch, wanted: EnvironmentCheck, now: float) -> Check:
    check = Check(task=asyncio.create_task(asyncio.to_thread(check_environment, dispatch.settings, wanted)), began=now)

    def over(_: asyncio.Task[None]) -> None:
        check.ended = asyncio.get_running_loop().time()

    check.task.add_done_callback(over)
    return check


async def _submitted(dispatch: Dispatch, active: Active) -> Handle:
    submission = Submission(run=active.run, attempt=active.attempt, directory=active.directory)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(dispatch.limits.submit):
                return await dispatch.backend.submit(submission)
        async with asyncio.timeout(dispatch.limits.answer):
            # it may have come to life unheard; if not, it never will
            if (found := await dispatch.backend.find(submission)) is not None:
                return found
        raise TimeoutError
    except TimeoutError as error:
        raise Unavailable(
            f"The backend “{dispatch.backend.name}” did not start run {active.run} within {dispatch.limits.submit:g} s.",
            code="backend_silent",
            mend="Check that it is up, then run it again.",
        ) from error
    except OSError as error:
        raise Unavailable(f"The backend “{dispatch.backend.name}” could not start run {active.run}: {error}.", code="runner_not_started") from error


async def _fail(dispatch: Dispatch, active: Active, error: RunError) -> Ended | None:
    if active.handle is not None:
        try:
            async with asyncio.timeout(dispatch.limits.answer):
                await dispatch.backend.cancel(active.handle, force=True)
        except (TimeoutError, JobsError, OSError) as failure:
            log.error("%s could not be ended: %s", active.run, failure)
    return await conclude(dispatch, active, RunState.FAILED, error)


def _json(detail: dict[str, object]) -> dict[str, object]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in detail.items()}
