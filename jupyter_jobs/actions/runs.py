"""What a person does with runs."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from sqlalchemy import Connection

from jupyter_jobs.actions.context import Context
from jupyter_jobs.actions.jobs import job_id, tell_dispatcher
from jupyter_jobs.errors import Conflict, NotFound
from jupyter_jobs.lifecycle import FINAL
from jupyter_jobs.model import AttemptList, EventList, Run, RunList
from jupyter_jobs.store import attempts
from jupyter_jobs.store import events as events_store
from jupyter_jobs.store import jobs as jobs_store
from jupyter_jobs.store import runs as store
from jupyter_jobs.store.database import read, write
from jupyter_jobs.store.runs import RunMark


def list_runs(context: Context, job: str, *, after: str = "", limit: int = 100, state: Iterable[str] = (), sort: str = "number") -> RunList:
    """A page of a job's runs. Raises `NotFound`, `BadInput`."""
    with read(context.engine) as conn:
        return store.list_page(conn, job_id(conn, job), after=after, limit=limit, state=state, sort=sort)


def show_run(context: Context, run: str) -> Run:
    """The run `<job>-<number>`; the job's id may be shortened. Raises `NotFound` (`run_not_found`)."""
    with read(context.engine) as conn:
        return find_run(conn, run)


def cancel_run(context: Context, run: str) -> Run:
    """Cancel a run that has not ended; one that has stays as it is. Raises `NotFound`."""
    with write(context.engine) as conn:
        found = find_run(conn, run)
        changed = store.request_cancel(conn, found.id)
        found = find_run(conn, found.id)
    if changed:
        tell_dispatcher(context)
    return found


def extend_run(context: Context, run: str, seconds: float) -> Run:
    """Let a run under way take so many seconds more than its time limit. Raises `NotFound`, `Conflict` (`no_time_limit`, `run_not_active`)."""
    with write(context.engine) as conn:
        found = find_run(conn, run)
        job = jobs_store.frozen(conn, found.job)
        if job is None or job.time_limit is None:
            raise Conflict(f"Run {found.id} has no time limit.", code="no_time_limit", mend="It may take as long as it does.", run=found.id)
        if not store.extend(conn, found.id, seconds):
            raise Conflict(f"Run {found.id} is {found.status}.", code="run_not_active", mend="Only a run under way can be extended.", run=found.id)
        found = find_run(conn, found.id)
    tell_dispatcher(context)
    return found


def run_attempts(context: Context, run: str) -> AttemptList:
    """A run's attempts so far, first one first. Raises `NotFound`."""
    with read(context.engine) as conn:
        return AttemptList(attempts=attempts.list_of(conn, find_run(conn, run).id))


def check_attempt(run: Run, attempt: int) -> int:
    """The number of an attempt that the run has had; of the present one for 0. Raises `NotFound` (`attempt_not_found`)."""
    if attempt > run.attempt:
        mend = f"It had {run.attempt} so far; see `GET runs/{run.id}/attempts`."
        raise NotFound(f"Run {run.id} has no attempt {attempt}.", code="attempt_not_found", mend=mend, run=run.id)
    return attempt or run.attempt


def as_it_was(context: Context, run: Run, attempt: int) -> Run:
    """The run with the state, times and error of an earlier attempt."""
    with read(context.engine) as conn:
        past = attempts.list_of(conn, run.id)[attempt - 1]
    state = past.state or run.state
    return msgspec.structs.replace(
        run, state=state, status=state, started_at=past.started_at, ended_at=past.ended_at, error=past.error, attempt=attempt
    )


def run_events(context: Context, run: str, *, after: int = 0, limit: int = 500) -> EventList:
    """What happened to a run after event `after`. Raises `NotFound`."""
    with read(context.engine) as conn:
        return events_store.after(conn, after, limit, run=find_run(conn, run).id)


def run_marks(context: Context, job: str, *, first: int = 1) -> list[RunMark]:
    """A job's runs from number `first` on, as much of them as reading their logs needs."""
    with read(context.engine) as conn:
        return store.marks(conn, job, first)


def run_mark(context: Context, run: str) -> RunMark | None:
    """The same of one run; None when it is gone."""
    with read(context.engine) as conn:
        found = store.get(conn, run)
    return None if found is None else RunMark(id=found.id, number=found.number, attempt=found.attempt, ended=found.state in FINAL)


def find_run(conn: Connection, text: str) -> Run:
    """The run that `text` names. Raises `NotFound` (`job_not_found`, `run_not_found`)."""
    found = store.get(conn, text)
    if found is not None:
        return found
    job, dash, number = text.rpartition("-")
    if dash and number.isascii() and number.isdigit():
        found = store.get(conn, store.run_id(job_id(conn, job), int(number[:9])))
    if found is None:
        raise NotFound(f"There is no run {text}.", code="run_not_found", mend="`jupyter jobs runs JOB` shows a job's runs.", run=text)
    return found
