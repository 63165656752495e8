"""The lease: the one row that says which dispatcher serves this store. On one host a file lock is the truth; this row speaks to other hosts."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from jupyter_jobs.store import events
from jupyter_jobs.store.tables import dispatcher


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the store: `pid_started` as in attempts, `schema` the newest that it knows."""

    host: str
    boot_id: str
    pid: int
    pid_started: int
    version: str
    schema: int
    since: datetime
    heartbeat_at: datetime


def current(conn: Connection) -> Lease | None:
    """The lease as it stands, held by a living dispatcher or not."""
    row = conn.execute(select(dispatcher)).mappings().first()
    return msgspec.convert({name: row[name] for name in Lease.__struct_fields__}, Lease) if row else None


def acquire(conn: Connection, mine: Lease, dead: Lease | None = None) -> Lease | None:
    """Take the lease and return None, or return the lease of another host's dispatcher, unless it is the one that was found `dead`.

    The caller holds this host's lock, so that a lease of the same host is a dead one's.
    """
    held = current(conn)
    # what has beaten since it was found dead lives, and is no longer the same
    if held is not None and held.host != mine.host and held != dead:
        return held
    conn.execute(delete(dispatcher))
    conn.execute(insert(dispatcher).values(id=1, **msgspec.structs.asdict(mine)))
    return None


def heartbeat(conn: Connection, mine: Lease, *, at: datetime | None = None) -> bool:
    """Say that we live; False when another dispatcher has taken the lease: then end."""
    return bool(conn.execute(update(dispatcher).where(_is_ours(mine)).values(heartbeat_at=at or events.now())).rowcount)


def release(conn: Connection, mine: Lease) -> bool:
    """Give the lease back; False when it was no longer ours."""
    return bool(conn.execute(delete(dispatcher).where(_is_ours(mine))).rowcount)


def _is_ours(mine: Lease) -> ColumnElement[bool]:
    return (dispatcher.c.host == mine.host) & (dispatcher.c.pid == mine.pid) & (dispatcher.c.pid_started == mine.pid_started)
