"""What is left to do when a run has ended: its results go where the person wanted them, and jobs that wait to be deleted are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

from sqlalchemy.exc import SQLAlchemyError

from jupyter_jobs.actions.prune import delete_requested
from jupyter_jobs.actions.results import copy_to_output_dir
from jupyter_jobs.dispatcher.state import Active, Dispatch, log
from jupyter_jobs.errors import JobsError
from jupyter_jobs.lifecycle import FINAL
from jupyter_jobs.store.ending import Ended

P = ParamSpec("P")


async def clear_up_after(dispatch: Dispatch, active: Active, ended: Ended) -> None:
    """What an attempt's end leaves to do. The run's state stands whatever happens here; a failure is logged."""
    if ended.others:
        # some of them are under way and are to be told
        dispatch.nudge()
    if ended.state not in FINAL:
        return
    frozen = await dispatch.frozen_of(active.job)
    if frozen is not None and frozen.spec.output_dir:
        await _logged(active.run, copy_to_output_dir, dispatch.ledger.engine, Path(dispatch.settings.data_dir), active.run)
    if ended.deleting:
        await clear_up(dispatch, active.run)


async def clear_up(dispatch: Dispatch, after: str = "the start") -> None:
    """Delete the jobs that wait to be deleted and may be now. A failure is logged."""
    await _logged(after, _delete, dispatch)


async def _logged(after: str, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    try:
        await asyncio.to_thread(function, *args, **kwargs)
    except (JobsError, OSError, SQLAlchemyError) as failure:
        log.error("after %s: %s", after, getattr(failure, "orig", None) or failure)


def _delete(dispatch: Dispatch) -> None:
    for job in delete_requested(dispatch.ledger.engine, Path(dispatch.settings.data_dir)):
        log.info("job %s deleted, as was asked", job)
