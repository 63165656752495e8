"""Carrying a claimed run: its environment is checked, its run directory written, its runner started, and then it is followed."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec
from sqlalchemy import Connection

from jupyter_jobs.backends.base import Handle, Submission
from jupyter_jobs.dispatcher.aftermath import clear_up
from jupyter_jobs.dispatcher.follow import conclude, follow
from jupyter_jobs.dispatcher.spec import check_environment, environment_of
from jupyter_jobs.dispatcher.state import Active, Dispatch, log
from jupyter_jobs.errors import JobsError, Unavailable
from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.model import RunError
from jupyter_jobs.store import attempts, runs


async def carry(dispatch: Dispatch, active: Active) -> None:
    """Carry a run from wherever it is to its end. Whatever hinders its start, or a fault of ours, makes it FAILED with the reason."""
    await _carry(dispatch, active)
    await clear_up(dispatch, active.run)


async def _carry(dispatch: Dispatch, active: Active) -> None:
    try:
        if active.handle is None:
            await start(dispatch, active)
        if active.handle is not None:
            await follow(dispatch, active)
        else:
            await conclude(dispatch, active, RunState.CANCELED, None)
    except JobsError as failure:
        await _fail(dispatch, active, RunError(code=failure.code, message=failure.message, mend=failure.mend, detail=_json(failure.detail)))
    except Exception as failure:  # noqa: BLE001 - a fault in our code must not leave a run that is "running" for ever
        log.exception("carrying %s failed", active.run)
        message = f"Run {active.run} could not be carried out: {type(failure).__name__}."
        await _fail(dispatch, active, RunError(code="internal_error", message=message, mend="See dispatcher.log in the data directory."))


async def start(dispatch: Dispatch, active: Active) -> None:
    """Start a claimed run. It has a handle afterwards, unless a cancel came first. Raises `JobsError` or `OSError` when it cannot start."""
    await _checked(dispatch, active)
    if active.cancel.is_set():
        return
    active.submitting = True
    try:
        active.workspace = await asyncio.to_thread(dispatch.prepare, dispatch, active)
        active.handle = await _submitted(dispatch, active)
        await dispatch.ledger.write(_record, active, active.handle)
    finally:
        active.submitting = False
        active.submitted.set()


async def requeue(dispatch: Dispatch, active: Active) -> None:
    """Put a claimed run of which nothing was started back into the queue."""
    await dispatch.ledger.write(_requeue, active.run, active.attempt)


async def _checked(dispatch: Dispatch, active: Active) -> None:
    """Verify the frozen environment, once for all runs that start while that goes on. Raises `JobsError` when it has drifted."""
    wanted = await dispatch.ledger.read(environment_of, active.job)
    if wanted is None:
        return
    check = dispatch.checks.get(wanted)
    if check is None:
        check = dispatch.checks[wanted] = asyncio.create_task(asyncio.to_thread(check_environment, dispatch.settings, wanted))
        check.add_done_callback(lambda _: dispatch.checks.pop(wanted, None))
    # shielded: one run's end must not end the check that others wait for
    canceled = asyncio.ensure_future(active.cancel.wait())
    try:
        await asyncio.wait({check, canceled}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        canceled.cancel()
    if check.done():
        await check


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


async def _fail(dispatch: Dispatch, active: Active, error: RunError) -> None:
    if active.handle is not None:
        try:
            async with asyncio.timeout(dispatch.limits.answer):
                await dispatch.backend.cancel(active.handle, force=True)
        except (TimeoutError, JobsError, OSError) as failure:
            log.error("%s could not be ended: %s", active.run, failure)
    await conclude(dispatch, active, RunState.FAILED, error)


def _record(conn: Connection, active: Active, handle: Handle) -> None:
    pid, started = handle.data.get("pid", 0), handle.data.get("started", 0)
    attempts.record_handle(conn, active.run, active.attempt, pid=int(pid), pid_started=int(started), handle=msgspec.json.encode(handle).decode())


def _requeue(conn: Connection, run: str, attempt: int) -> None:
    found = runs.get(conn, run)
    wanted = RunState.CANCELED if found is not None and found.status == "canceling" else RunState.QUEUED
    if runs.move(conn, run, wanted, attempt=attempt):
        attempts.end(conn, run, attempt, RunState.CANCELED)


def _json(detail: dict[str, object]) -> dict[str, object]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in detail.items()}
