"""How an attempt ends: its run ends with it, or waits for another; and what that means for the job's other runs."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection, bindparam, select

from jupyter_jobs import retries
from jupyter_jobs.lifecycle import ACTIVE, RunState
from jupyter_jobs.model import Json, RunError
from jupyter_jobs.store import attempts, events, runs
from jupyter_jobs.store import jobs as jobs_store
from jupyter_jobs.store.runs import NO_FACTS, Facts
from jupyter_jobs.store.tables import jobs
from jupyter_jobs.store.tables import runs as runs_table

AROUND = {
    "backend_silent",
    "failed",
    "internal_error",
    "interpreter_missing",
    "interrupted",
    "kernel_died",
    "memory_error",
    "no_room",
    "not_stored",
    "runner_not_started",
    "workspace_failed",
}
"""Codes of what lies in the machine around a run. What a job has frozen fails again, so a re-run mends nothing else."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the run: a final state, or QUEUED. `others`: so many runs of the job were canceled with it. `deleting`: the job is to be
    deleted. `output_due`: the run's files are to be copied to the job's output folder."""

    state: RunState
    others: int = 0
    deleting: bool = False
    output_due: bool = False


_FOUND = (
    select(
        runs_table.c.job,
        runs_table.c.state,
        runs_table.c.attempt,
        runs_table.c.retried,
        runs_table.c.cancel_requested_at,
        jobs.c.retries,
        jobs.c.fail_fast,
        jobs.c.delete_requested_at,
        jobs.c.peak_memory,
    )
    .join(jobs, jobs.c.id == runs_table.c.job)
    .where(runs_table.c.id == bindparam("the_run"))
)


def end(
    conn: Connection,
    run: str,
    attempt: int,
    state: RunState,
    *,
    error: RunError | None = None,
    exit_code: int | None = None,
    at: datetime | None = None,
    facts: Facts = NO_FACTS,
    how: dict[str, Json] | None = None,
    output_due: bool = False,
    draw: Callable[[], float] = random.random,
) -> Ended | None:
    """End the present attempt of an active run in the final `state`; None, and nothing is written, if it is another's or not active.

    A failed one whose job's policy says so puts its run back into the queue, unless a cancel was asked for or the job is to be deleted. One that
    failed for good ends a job that fails fast. FAILED needs `error`; `how` goes into the event; `output_due` counts if the run ends; of `facts` only
    the peak is kept where another attempt follows; `draw` is for the jitter.
    """
    at = at or events.now()
    found = conn.execute(_FOUND, {"the_run": run}).first()
    if found is None or found.attempt != attempt or found.state not in ACTIVE:
        return None
    policy = found.retries or retries.DEFAULT
    unwanted = found.cancel_requested_at is not None or found.delete_requested_at is not None
    if facts.peak_memory is not None and facts.peak_memory > (found.peak_memory or 0):
        jobs_store.note_peak(conn, found.job, facts.peak_memory)
    attempts.end(conn, run, attempt, state, exit_code=exit_code, error=error, at=at)
    if state is RunState.FAILED and error is not None and not unwanted and retries.is_retried(policy, error.code, found.retried):
        delay = retries.delay_before(policy, found.retried, draw)
        not_before = at + timedelta(seconds=delay) if delay else None
        runs.move(conn, run, RunState.QUEUED, error=error, at=at, retried=found.retried + 1, not_before=not_before, how=how)
        return Ended(state=RunState.QUEUED)
    runs.move(conn, run, state, error=error, at=at, facts=facts, how=how, output_due=output_due)
    others = 0
    if state is RunState.FAILED and found.fail_fast:
        others = runs.request_cancel_job(conn, found.job, error=_because_of(run, error))
    return Ended(state=state, others=others, deleting=found.delete_requested_at is not None, output_due=output_due)


def give_back(conn: Connection, run: str, attempt: int, *, at: datetime | None = None) -> bool:
    """End the present attempt of an active run, of which nothing was started: the run waits for another, which uses no retry up, or is canceled if
    that was asked for. False, and nothing is written, if it is another's or not active."""
    at = at or events.now()
    asked = conn.execute(select(runs_table.c.cancel_requested_at).where(runs_table.c.id == run)).scalar()
    state = RunState.QUEUED if asked is None else RunState.CANCELED
    moved = runs.move(conn, run, state, attempt=attempt, at=at, sources=ACTIVE)
    return moved and attempts.end(conn, run, attempt, RunState.CANCELED, at=at)


def _because_of(run: str, error: RunError | None) -> RunError:
    message = f"Run {run} failed, and its job ends with the first run that does."
    if error is not None and error.code in AROUND:
        mend = f"Mend what failed, then `jupyter jobs rerun {run.rpartition('-')[0]} --failed`."
    else:
        mend = "Correct what failed and make a new job: a re-run has the notebook and the limits of this one."
    return RunError(code="fail_fast", message=message, mend=mend, detail={"run": run})
