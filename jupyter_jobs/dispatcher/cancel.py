"""Ending a run that somebody wants to end: first asked, then killed, then given up."""

from __future__ import annotations

import asyncio
import contextlib

from jupyter_jobs.backends.base import Exit
from jupyter_jobs.dispatcher.state import Active, Dispatch, log
from jupyter_jobs.errors import JobsError


async def cancel(dispatch: Dispatch, active: Active, ended: asyncio.Future[Exit]) -> None:
    """Once a cancel is asked for, see to it that the run ends. Returns only when even killing did not help: nothing more is known of it then."""
    await active.cancel.wait()
    log.info("canceling %s", active.run)
    if not active.abandoned:
        await _tell(dispatch, active, force=False)
        await asyncio.wait({ended}, timeout=dispatch.limits.grace)
    if not ended.done():
        log.warning("%s did not end when asked and is killed", active.run)
        await _tell(dispatch, active, force=True)
        await asyncio.wait({ended}, timeout=dispatch.limits.grace)
    if not ended.done():
        log.error("%s did not end when killed and is given up", active.run)
        return
    # `ended` decides; returning here would say that it did not
    await asyncio.Event().wait()


async def _tell(dispatch: Dispatch, active: Active, *, force: bool) -> None:
    assert active.handle is not None
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(dispatch.limits.answer):
                await dispatch.backend.cancel(active.handle, force=force)
    except (JobsError, OSError) as failure:
        log.error("canceling %s: %s", active.run, failure)
