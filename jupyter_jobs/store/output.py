"""Ended runs whose files are still to be copied to their job's output folder. `runs.move` notes that with the end; here is what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec
from sqlalchemy import Connection, func, select, update

from jupyter_jobs.store import events, jobs
from jupyter_jobs.store.tables import runs


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """An ended run whose files are still to be copied, and its last attempt."""

    run: str
    job: str
    attempt: int


_due = runs.c.output_due_since.is_not(None)


def due(conn: Connection) -> list[Due]:
    """All of them, the oldest first."""
    query = select(runs.c.id, runs.c.job, runs.c.attempt).where(_due).order_by(runs.c.output_due_since, runs.c.id)
    return [Due(run=run, job=job, attempt=attempt) for run, job, attempt in conn.execute(query)]


def count_due(conn: Connection, job: str = "") -> int:
    """How many runs they are, of one job or of all."""
    query = select(func.count()).select_from(runs).where(_due)
    return conn.execute(query.where(runs.c.job == job) if job else query).scalar() or 0


def settle(conn: Connection, run: str, said: Mapping[str, object], *, at: datetime | None = None) -> bool:
    """Note that a run's files were copied, or cannot be, with the event `run.output` that says so; whether its job is to be deleted."""
    job = conn.execute(update(runs).where(runs.c.id == run, _due).values(output_due_since=None).returning(runs.c.job)).scalar()
    if job is None:
        return False
    events.append(conn, "run.output", job, run=run, data=said, at=at)
    return jobs.is_deleting(conn, job)
