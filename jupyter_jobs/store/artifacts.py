"""The table of artifacts: files that runs made or changed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select

from jupyter_jobs.model import RunFile
from jupyter_jobs.store.tables import artifacts


def replace(conn: Connection, run: str, files: Sequence[RunFile]) -> None:
    """Set the list of a run's files."""
    conn.execute(delete(artifacts).where(artifacts.c.run == run))
    rows = [{"run": run, "path": file.path, "bytes": file.bytes, "kind": file.kind, "media_type": file.media_type} for file in files]
    if rows:
        conn.execute(insert(artifacts), rows)


def list_of(conn: Connection, run: str) -> list[RunFile]:
    """A run's files by path."""
    query = (
        select(artifacts.c.path, artifacts.c.bytes, artifacts.c.kind, artifacts.c.media_type).where(artifacts.c.run == run).order_by(artifacts.c.path)
    )
    return [RunFile(**row) for row in conn.execute(query).mappings()]
