"""The tables of snapshots and environments. Both are named by their content, so inserting one again changes nothing."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, delete, insert, select

from jupyter_jobs.model import Environment, Snapshot
from jupyter_jobs.store.tables import environments, jobs, snapshots


def insert_snapshot(conn: Connection, snapshot: Snapshot) -> None:
    """Insert a snapshot unless it is there."""
    if get_snapshot(conn, snapshot.digest) is None:
        conn.execute(insert(snapshots).values(**msgspec.structs.asdict(snapshot)))


def get_snapshot(conn: Connection, digest: str) -> Snapshot | None:
    """The snapshot, or None."""
    row = conn.execute(select(snapshots).where(snapshots.c.digest == digest)).mappings().first()
    return Snapshot(**row) if row else None


def insert_environment(conn: Connection, environment: Environment) -> None:
    """Insert an environment unless it is there."""
    if get_environment(conn, environment.digest) is None:
        row = {"digest": environment.digest, "prefix": environment.prefix, "mode": environment.mode, "created_at": environment.created_at}
        conn.execute(insert(environments).values(**row, body=msgspec.json.encode(environment).decode()))


def get_environment(conn: Connection, digest: str) -> Environment | None:
    """The environment, or None."""
    body = conn.execute(select(environments.c.body).where(environments.c.digest == digest)).scalar()
    return msgspec.json.decode(body, type=Environment) if body is not None else None


def drop_unused(conn: Connection) -> tuple[list[str], list[str]]:
    """Delete the rows of snapshots and environments that no job names; their digests."""
    unused_snapshots = list(conn.execute(select(snapshots.c.digest).where(snapshots.c.digest.not_in(select(jobs.c.snapshot)))).scalars())
    named = select(jobs.c.environment).where(jobs.c.environment.is_not(None))
    unused_environments = list(conn.execute(select(environments.c.digest).where(environments.c.digest.not_in(named))).scalars())
    conn.execute(delete(snapshots).where(snapshots.c.digest.in_(unused_snapshots)))
    conn.execute(delete(environments).where(environments.c.digest.in_(unused_environments)))
    return unused_snapshots, unused_environments


def digests(conn: Connection) -> tuple[set[str], set[str]]:
    """Digests of all snapshots and of all environments that are kept."""
    return set(conn.execute(select(snapshots.c.digest)).scalars()), set(conn.execute(select(environments.c.digest)).scalars())
