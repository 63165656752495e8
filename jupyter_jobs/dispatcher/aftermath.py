"""What is left to do when a run has ended: its results go where the person wanted them, and jobs that wait to be deleted are."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from jupyter_jobs.actions.prune import delete_requested
from jupyter_jobs.actions.results import copy_to_output_dir
from jupyter_jobs.dispatcher.state import Dispatch, log
from jupyter_jobs.errors import JobsError


async def clear_up(dispatch: Dispatch, run: str = "") -> None:
    """Deliver an ended run's files and delete what may be deleted now. The run's state stands whatever happens here; a failure is logged."""
    try:
        await asyncio.to_thread(_clear_up, dispatch, run)
    except (JobsError, OSError, SQLAlchemyError) as failure:
        log.error("after %s: %s", run or "the start", getattr(failure, "orig", None) or failure)


def _clear_up(dispatch: Dispatch, run: str) -> None:
    data_dir = Path(dispatch.settings.data_dir)
    if run:
        copy_to_output_dir(dispatch.ledger.engine, data_dir, run)
    for job in delete_requested(dispatch.ledger.engine, data_dir):
        log.info("job %s deleted, as was asked", job)
