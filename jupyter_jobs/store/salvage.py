"""A damaged SQLite store: what can be read of it is copied into a sound one, and the damaged file is kept."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path

import msgspec
from sqlalchemy import create_engine
from sqlalchemy.engine import URL

from jupyter_jobs.model import Environment
from jupyter_jobs.store import integrity
from jupyter_jobs.store.tables import metadata

MOST_UNREADABLE = 20_000
"""Row numbers of a table that are tried one by one before the rest of it is given up."""
SEQUENCES = ("SELECT seq FROM sqlite_sequence WHERE name = 'events'", "SELECT max(seq) FROM events", "SELECT max(seq) FROM runs")


class Salvaged(msgspec.Struct, frozen=True, kw_only=True):
    """Rows copied of each table, and row numbers that could not be read (or whose rows broke a rule). `kept` is the damaged file's copy.

    `in_place`: processes that have the store open see the mended one; otherwise they must be started again.
    """

    kept: str
    rows: dict[str, int]
    lost: dict[str, int]
    in_place: bool


def salvage(path: Path, schema: int) -> Salvaged:
    """Replace the store at `path` by what can be read of it; `schema` is taken where its own version cannot be read. Raises OSError, sqlite3.Error.

    No dispatcher may be at work. The store is only touched when the new one is complete.
    """
    from jupyter_jobs.store.migrations import upgrade

    kept = path.with_name(f"{path.name}.damaged.{datetime.now(UTC):%Y%m%dT%H%M%S}")
    # read from a copy that may be written to: what a killed process left half done in a rollback journal has to be undone first
    read = path.with_name(f"{path.name}.read")
    for file in integrity.files_of(path):
        for copy in (kept, read):
            shutil.copy2(file, copy.with_name(copy.name + file.name.removeprefix(path.name)))
    made = path.with_name(f"{path.name}.salvaged")
    for file in integrity.files_of(made):
        file.unlink()
    rows: dict[str, int] = {}
    lost: dict[str, int] = {}
    with closing(sqlite3.connect(read)) as source:
        engine = create_engine(URL.create("sqlite", database=str(made)))
        with engine.begin() as conn:
            upgrade(conn, f"{_schema(source, schema):04}")
        engine.dispose()
        made.chmod(0o600)
        with closing(sqlite3.connect(made, isolation_level=None)) as target:
            # rows that name a job which is lost go with it
            target.execute("PRAGMA foreign_keys = ON")
            target.execute("BEGIN")
            for table in metadata.sorted_tables:
                if table.name == "jobs":
                    _stand_in(source, target, path.parent)
                rows[table.name], lost[table.name] = _copy(source, target, table.name)
            target.execute("COMMIT")
            _keep_numbers(source, target)
            in_place = _replace(target, made, path)
    for file in integrity.files_of(read):
        file.unlink()
    return Salvaged(kept=str(kept), rows=rows, lost={name: count for name, count in lost.items() if count}, in_place=in_place)


def _schema(source: sqlite3.Connection, otherwise: int) -> int:
    try:
        return int(source.execute("SELECT version_num FROM alembic_version").fetchone()[0])
    except (sqlite3.Error, TypeError, ValueError):
        return otherwise


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> tuple[int, int]:
    """Copy a table's readable rows; how many, and how many were not."""
    columns = [row[1] for row in target.execute(f"PRAGMA table_info({table})")]
    names = ", ".join(f'"{name}"' for name in columns)
    insert = f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})"
    copied = lost = 0
    for row in _rows(source, table, names):
        try:
            if row is None:
                lost += 1
            else:
                target.execute(insert, row)
                copied += 1
        except sqlite3.IntegrityError:
            lost += 1
    return copied, lost


def _rows(source: sqlite3.Connection, table: str, names: str) -> Iterator[tuple[object, ...] | None]:
    """The rows in the order of their numbers, and None for each number that cannot be read or was given up: halves of what cannot be read are tried
    again."""
    unreadable = 0
    ranges = [(0, _last_number(source, table) + 1)]
    while ranges and unreadable < MOST_UNREADABLE:
        first, end = ranges.pop()
        try:
            found = source.execute(f"SELECT {names} FROM {table} NOT INDEXED WHERE rowid >= ? AND rowid < ? ORDER BY rowid", (first, end)).fetchall()
        except sqlite3.DatabaseError:
            if end - first > 1:
                middle = (first + end) // 2
                ranges += [(middle, end), (first, middle)]
            else:
                unreadable += 1
                yield None
            continue
        yield from found
    for first, end in ranges:
        yield from repeat(None, end - first)


def _last_number(source: sqlite3.Connection, table: str) -> int:
    try:
        return source.execute(f"SELECT max(rowid) FROM {table}").fetchone()[0] or 0
    except sqlite3.DatabaseError:
        return 1 << 20


def _stand_in(source: sqlite3.Connection, target: sqlite3.Connection, data_dir: Path) -> None:
    """Give jobs back the snapshots and environments that they name and whose rows are lost: the files are what counts."""
    for row in _rows(source, "jobs", "snapshot, environment, project, created_at"):
        if row is None:
            continue
        snapshot, digest, project, made = row
        values = (snapshot, project, made)
        target.execute("INSERT OR IGNORE INTO snapshots (digest, directory, files, bytes, created_at, notes) VALUES (?, ?, 0, 0, ?, '[]')", values)
        if digest is None:
            continue
        try:
            found = msgspec.json.decode((data_dir / "environments" / str(digest) / "environment.json").read_bytes(), type=Environment)
        except (OSError, msgspec.MsgspecError):
            found = Environment(digest=str(digest), prefix="", python="", mode="recorded", distributions=[], created_at=datetime.now(UTC), notes=[])
        facts = (digest, found.prefix, found.mode, made, msgspec.json.encode(found).decode())
        target.execute("INSERT OR IGNORE INTO environments (digest, prefix, mode, created_at, body) VALUES (?, ?, ?, ?, ?)", facts)


def _keep_numbers(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """A number of an event that was given once is never given again, however much is lost."""
    highest = 0
    for connection in (source, target):
        for query in SEQUENCES:
            try:
                highest = max(highest, (connection.execute(query).fetchone() or (0,))[0] or 0)
            except sqlite3.DatabaseError:
                continue
    target.execute("DELETE FROM sqlite_sequence WHERE name = 'events'")
    target.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('events', ?)", (highest,))


def _replace(salvaged: sqlite3.Connection, made: Path, path: Path) -> bool:
    """Put the new store, open as `salvaged`, into the old one's place; whether that was possible within the old file."""
    try:
        with closing(sqlite3.connect(path, timeout=10)) as old:
            salvaged.backup(old)
        if not integrity.problems_of(path, quick=False):
            made.unlink()
            return True
    except sqlite3.Error:
        # too damaged to be written to, or never free
        pass
    for each in integrity.files_of(path):
        each.unlink()
    made.replace(path)
    return False
