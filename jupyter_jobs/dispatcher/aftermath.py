"""What is left to do when a run has ended: its results go where the person wanted them, and jobs that wait to be deleted are."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from jupyter_jobs.actions.prune import delete_requested
from jupyter_jobs.actions.results import copy_to_output_dir
from jupyter_jobs.dispatcher.queue import begin
from jupyter_jobs.dispatcher.state import Active, Dispatch, log
from jupyter_jobs.errors import JobsError
from jupyter_jobs.lifecycle import FINAL
from jupyter_jobs.store import output
from jupyter_jobs.store.ending import Ended

LEFT_OUT_SHOWN = 100


async def clear_up_after(dispatch: Dispatch, active: Active, ended: Ended) -> None:
    """What an attempt's end leaves to do. The run's state stands whatever happens here."""
    if ended.others:
        # some of them are under way and are to be told
        dispatch.nudge()
    if ended.state not in FINAL:
        return
    if ended.output_due:
        await deliver(dispatch, active)
    elif ended.deleting:
        await clear_up(dispatch, active.run)


async def deliver_what_is_due(dispatch: Dispatch) -> None:
    """Begin to deliver what an earlier dispatcher left."""
    for left in await dispatch.ledger.read(output.due):
        # runs that `reconcile` found ended deliver by themselves
        if left.run not in dispatch.active:
            directory = dispatch.directory_of(left.run, left.attempt)
            begin(dispatch, Active(run=left.run, job=left.job, attempt=left.attempt, directory=directory), deliver)


async def deliver(dispatch: Dispatch, active: Active) -> None:
    """Copy an ended run's files to its job's output folder. It is tried once, and what came of it is said by event `run.output`; until that is
    stored it stays due, for the next dispatcher too."""
    said: dict[str, object] = {}
    while True:
        try:
            said = said or await asyncio.to_thread(_copy, dispatch, active.run)
            deleting = await dispatch.ledger.write(output.settle, active.run, said)
            break
        except SQLAlchemyError as failure:
            log.error("the output of %s waits for the store: %s", active.run, getattr(failure, "orig", None) or type(failure).__name__)
            await dispatch.next_beat()
    if deleting:
        await clear_up(dispatch, active.run)


def _copy(dispatch: Dispatch, run: str) -> dict[str, object]:
    """What the event says."""
    try:
        copied, missing = copy_to_output_dir(dispatch.ledger.engine, Path(dispatch.settings.data_dir), run)
    except JobsError as failure:
        log.error("the output of %s: %s", run, failure)
        return {"code": failure.code, "message": failure.message, "mend": failure.mend}
    return {"files": len(copied)} | ({"left_out": missing[:LEFT_OUT_SHOWN]} if missing else {})


async def clear_up(dispatch: Dispatch, after: str = "the start") -> None:
    """Delete the jobs that wait to be deleted and may be now. A failure is logged."""
    try:
        await asyncio.to_thread(_delete, dispatch)
    except (JobsError, OSError, SQLAlchemyError) as failure:
        log.error("after %s: %s", after, getattr(failure, "orig", None) or failure)


def _delete(dispatch: Dispatch) -> None:
    for job in delete_requested(dispatch.ledger.engine, Path(dispatch.settings.data_dir)):
        log.info("job %s deleted, as was asked", job)
