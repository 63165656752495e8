"""What a person does with jobs that exist."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from jupyter_jobs.actions.context import Context
from jupyter_jobs.actions.prune import delete_requested, prune, remove_tree
from jupyter_jobs.errors import BadInput, Conflict, JobsError, NotFound
from jupyter_jobs.lifecycle import ACTIVE
from jupyter_jobs.model import EventList, Job, JobList
from jupyter_jobs.requests import ChangeJob
from jupyter_jobs.store import events as events_store
from jupyter_jobs.store import jobs as store
from jupyter_jobs.store import output
from jupyter_jobs.store import runs as runs_store
from jupyter_jobs.store.database import read, shown, write, write_in_need
from jupyter_jobs.store.refusal import refusal

log = logging.getLogger(__name__)

NAME_LENGTH = 200


def list_jobs(
    context: Context, *, after: str = "", limit: int = 50, status: Iterable[str] = (), search: str = "", notebook: str = "", sort: str = "-created"
) -> JobList:
    """A page of jobs. `status`: any of these; `notebook`: its path as a person gives it. Raises `BadInput`."""
    also = str(context.locate(notebook).file) if notebook else ""
    with read(context.engine) as conn:
        return store.list_page(conn, after=after, limit=limit, status=status, search=search, notebook=notebook, file=also, sort=sort)


def show_job(context: Context, job: str) -> Job:
    """The job of this id, or of the only id that begins like this. Raises `NotFound`, `BadInput` (`ambiguous_id`)."""
    with read(context.engine) as conn:
        return _shown(conn, job_id(conn, job))


def cancel_job(context: Context, job: str) -> Job:
    """Cancel the runs of a job that have not ended. A job whose runs have all ended stays as it is. Raises `NotFound`."""
    with write(context.engine) as conn:
        job = job_id(conn, job)
        changed = runs_store.request_cancel_job(conn, job)
        shown = _shown(conn, job)
    if changed:
        tell_dispatcher(context)
    return shown


def change_job(context: Context, job: str, request: ChangeJob) -> Job:
    """Change what may be changed of a job. Raises `NotFound`, `BadInput` (`bad_name`)."""
    if request.name is not None and not 0 < len(request.name.strip()) <= NAME_LENGTH:
        mend = f"Give 1 to {NAME_LENGTH} characters."
        raise BadInput(f"A job's name cannot have {len(request.name.strip())} characters.", code="bad_name", mend=mend, field="name")
    with write(context.engine) as conn:
        job = job_id(conn, job)
        changed = store.change(
            conn,
            job,
            name=None if request.name is None else request.name.strip(),
            description=request.description,
            priority=request.priority,
            max_parallel=request.max_parallel,
        )
        shown = _shown(conn, job)
    if changed:
        tell_dispatcher(context)
    return shown


def delete_job(context: Context, job: str, *, cancel: bool = False) -> None:
    """Delete a job with its runs and their files, and the snapshots that nothing else needs.

    With active runs: `Conflict` (`job_active`) unless `cancel`; then they are canceled and the job goes when the last of them has ended. While files
    of its runs are copied to its output folder, it goes after that. On a full disk it is written where room was kept for it, and if that is too
    little, the job's run folders go first. Raises `NotFound`.
    """

    def delete(conn: Connection) -> None:
        found = job_id(conn, job)
        active, due = _unfinished(conn, found)
        if active and not cancel:
            raise Conflict(
                f"1 run of job {found} is active." if len(active) == 1 else f"{len(active)} runs of job {found} are active.",
                code="job_active",
                mend="Cancel it first, or delete it with `cancel`.",
                runs=active[:100],
            )
        if active or due:
            runs_store.request_cancel_job(conn, found)
            store.request_delete(conn, found)
        else:
            store.delete(conn, found)

    try:
        write_in_need(context.engine, delete)
    except DBAPIError as error:
        if refusal(shown(context.engine), error).code != "no_room" or not _remove_runs(context, job):
            raise
        write_in_need(context.engine, delete)
    tell_dispatcher(context)
    delete_requested(context.engine, context.data_dir)
    prune(context.engine, context.data_dir)


def _unfinished(conn: Connection, job: str) -> tuple[list[str], int]:
    """Runs that have not ended, and how many have files to deliver."""
    return runs_store.ids_of(conn, job, ACTIVE), output.count_due(conn, job)


def _remove_runs(context: Context, job: str) -> bool:
    """Remove the files of a job's runs, of which it was said that they go; whether that was possible and there were some."""
    with read(context.engine) as conn:
        found = job_id(conn, job)
        unfinished = any(_unfinished(conn, found))
    folder = context.data_dir / "runs" / found
    if unfinished or not folder.is_dir():
        return False
    remove_tree(folder)
    return True


def job_events(context: Context, job: str, *, after: int = 0, limit: int = 500) -> EventList:
    """What happened to a job and its runs after event `after`. Raises `NotFound`."""
    with read(context.engine) as conn:
        return events_store.after(conn, after, limit, job=job_id(conn, job))


def events_after(context: Context, *, after: int = 0, limit: int = 500) -> EventList:
    """What happened in the store after event `after`."""
    with read(context.engine) as conn:
        return events_store.after(conn, after, limit)


def tell_dispatcher(context: Context) -> None:
    """Nudge after something was stored; that it cannot be reached now undoes nothing and is only logged."""
    try:
        context.nudge()
    except JobsError as error:
        log.warning("The dispatcher could not be told: %s", error)


def job_id(conn: Connection, text: str) -> str:
    """The id that `text` is or begins. Raises `NotFound` (`job_not_found`), `BadInput` (`ambiguous_id`)."""
    found = store.find(conn, text) if text else []
    if text in found:
        return text
    if len(found) > 1:
        raise BadInput(f"Several jobs begin with {text}: {', '.join(found)}.", code="ambiguous_id", mend="Give more of the id.", field="job")
    if not found:
        raise NotFound(f"There is no job {text}.", code="job_not_found", mend="`jupyter jobs list` shows all.", job=text)
    return found[0]


def _shown(conn: Connection, job: str) -> Job:
    found = store.get(conn, job)
    if found is None:
        raise NotFound(f"There is no job {job}.", code="job_not_found", job=job)
    return found
