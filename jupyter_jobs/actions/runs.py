"""What a person does with runs."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from jupyter_jobs.actions.context import Context
from jupyter_jobs.actions.jobs import job_id, tell_dispatcher
from jupyter_jobs.errors import NotFound
from jupyter_jobs.model import EventList, Run, RunList
from jupyter_jobs.store import events as events_store
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


def run_events(context: Context, run: str, *, after: int = 0, limit: int = 500) -> EventList:
    """What happened to a run after event `after`. Raises `NotFound`."""
    with read(context.engine) as conn:
        return events_store.after(conn, after, limit, run=find_run(conn, run).id)


def run_marks(context: Context, job: str, *, first: int = 1) -> list[RunMark]:
    """A job's runs from number `first` on, as much of them as reading their logs needs."""
    with read(context.engine) as conn:
        return store.marks(conn, job, first)


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
