"""The table of events: every change, numbered in the order in which it happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from jupyter_jobs.model import Event, EventList
from jupyter_jobs.store.pages import bounded
from jupyter_jobs.store.tables import events, jobs, runs

PROGRESS = "run.progress"
RECORDS = "run.records"
DELETED = "job.deleted"

_INSERT = insert(events)
_NOTE_JOB = update(jobs).where(jobs.c.id == bindparam("the_job")).values(seq=bindparam("the_seq"))
_NOTE_RUN = update(runs).where(runs.c.id == bindparam("the_run")).values(seq=bindparam("the_seq"))
_DROP_PROGRESS = delete(events).where(events.c.run == bindparam("the_run"), events.c.kind == PROGRESS)
_DROP_RECORDS = delete(events).where(events.c.run == bindparam("the_run"), events.c.kind == RECORDS)


def now() -> datetime:
    """The time, aware, in UTC."""
    return datetime.now(UTC)


def append(
    conn: Connection,
    kind: str,
    job: str,
    *,
    run: str = "",
    state: str = "",
    data: Mapping[str, object] | None = None,
    at: datetime | None = None,
    note_at_run: bool = True,
) -> int:
    """Append an event, note its number at its job and run, and return the number.

    `note_at_run` is False where the caller changes the run next, and writes the number with what else it changes.
    """
    row = {"at": at or now(), "kind": kind, "job": job, "run": run, "state": state, "data": dict(data or {})}
    key = conn.execute(_INSERT, row).inserted_primary_key
    assert key is not None
    seq = int(key[0])
    conn.execute(_NOTE_JOB, {"the_job": job, "the_seq": seq})
    if run and note_at_run:
        conn.execute(_NOTE_RUN, {"the_run": run, "the_seq": seq})
    return seq


def append_for_runs(
    conn: Connection,
    kind: str,
    job: str,
    run_ids: Sequence[str],
    *,
    state: str = "",
    data: Mapping[str, object] | None = None,
    at: datetime | None = None,
) -> None:
    """Append one event for each of a job's runs, in few statements."""
    if not run_ids:
        return
    at = at or now()
    before = last_seq(conn)
    conn.execute(insert(events), [{"at": at, "kind": kind, "job": job, "run": run, "state": state, "data": dict(data or {})} for run in run_ids])
    mine = (
        select(events.c.run, func.max(events.c.seq).label("seq")).where(events.c.job == job, events.c.seq > before).group_by(events.c.run).subquery()
    )
    conn.execute(
        update(runs)
        .where(runs.c.job == job, runs.c.id.in_(select(mine.c.run)))
        .values(seq=select(mine.c.seq).where(mine.c.run == runs.c.id).scalar_subquery())
    )
    conn.execute(update(jobs).where(jobs.c.id == job).values(seq=select(func.max(mine.c.seq)).scalar_subquery()))


def drop_progress(conn: Connection, run: str) -> None:
    """Forget a run's progress event: only its last one says anything."""
    conn.execute(_DROP_PROGRESS, {"the_run": run})


def drop_records(conn: Connection, run: str) -> None:
    """Forget which values a run had recorded before: each such event names all of them."""
    conn.execute(_DROP_RECORDS, {"the_run": run})


def drop_old_deletions(conn: Connection, keep: int = 10_000) -> None:
    """Forget all but the last `keep` deletions of jobs, of which nothing else is left: who was away for longer than that lists anew anyway."""
    kept = select(events.c.seq).where(events.c.kind == DELETED).order_by(events.c.seq.desc()).limit(1).offset(keep).scalar_subquery()
    conn.execute(delete(events).where(events.c.kind == DELETED, events.c.seq <= kept))


def drop_job(conn: Connection, job: str) -> None:
    """Forget all events of a job."""
    conn.execute(delete(events).where(events.c.job == job))


def after(conn: Connection, seq: int, limit: int = 500, *, job: str | None = None, run: str | None = None) -> EventList:
    """At most `limit` (and never more than a page's `MAX_LIMIT`) events with a number above `seq`, oldest first, of all jobs, one job or one run."""
    query = select(events).where(events.c.seq > seq).order_by(events.c.seq).limit(bounded(limit))
    if job is not None:
        query = query.where(events.c.job == job)
    if run is not None:
        query = query.where(events.c.run == run)
    found = [Event(**row) for row in conn.execute(query).mappings()]
    return EventList(events=found, last=found[-1].seq if found else seq)


def waits_for(conn: Connection, run: str) -> str:
    """What a queued run was last said to wait for since it was queued: the `reason` of its event `run.waiting`; empty if nothing was said."""
    query = select(events.c.kind, events.c.data).where(events.c.run == run, events.c.kind.in_(("run.waiting", "run.state")))
    row = conn.execute(query.order_by(events.c.seq.desc()).limit(1)).first()
    return str(row.data.get("reason", "")) if row is not None and row.kind == "run.waiting" else ""


def last_seq(conn: Connection) -> int:
    """The highest number of an event that is kept; 0 in an empty store."""
    return conn.execute(select(func.max(events.c.seq))).scalar() or 0
