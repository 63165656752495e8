"""The table of attempts: which process carried a run, and how it ended. `runs.claim` begins one."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select, update

from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.model import Attempt, RunError
from jupyter_jobs.store import events
from jupyter_jobs.store.tables import attempts


def record_handle(conn: Connection, run: str, attempt: int, *, handle: str = "", pid: int | None = None, pid_started: int | None = None) -> None:
    """Note the process of an attempt: its id with its start time, because ids are given again. Host and boot id stand there since the claim."""
    statement = update(attempts).where(attempts.c.run == run, attempts.c.number == attempt)
    conn.execute(statement.values(pid=pid, pid_started=pid_started, handle=handle))


def end(
    conn: Connection,
    run: str,
    attempt: int,
    state: RunState,
    *,
    exit_code: int | None = None,
    error: RunError | None = None,
    at: datetime | None = None,
) -> bool:
    """Note how an attempt ended (`state` is final); once only: whether this call was the first."""
    statement = update(attempts).where(attempts.c.run == run, attempts.c.number == attempt, attempts.c.ended_at.is_(None))
    return bool(conn.execute(statement.values(state=state, exit_code=exit_code, error=error, ended_at=at or events.now())).rowcount)


def list_of(conn: Connection, run: str) -> list[Attempt]:
    """A run's attempts, first one first."""
    rows = conn.execute(select(attempts).where(attempts.c.run == run).order_by(attempts.c.number)).mappings()
    return [
        Attempt(**{name: row[name] for name in Attempt.__struct_fields__ if name != "state"}, state=RunState(row["state"]) if row["state"] else None)
        for row in rows
    ]
