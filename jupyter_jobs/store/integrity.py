"""A SQLite store's soundness: looked at now and then when it is opened, and copied before anything changes its schema."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from jupyter_jobs.errors import Unavailable
from jupyter_jobs.store.refusal import corrupt, refusal

SMALL_BYTES = 4 << 20
"""A store up to this size is looked at whenever it is opened: that takes a few milliseconds."""
CHECK_SECONDS = 24 * 3600.0
KEPT_BACKUPS = 3
SPARE_BYTES = 16 << 20
"""Room that must be left beside a backup, for the migration itself."""


def check(path: Path) -> None:
    """Look whether the store is sound, if that is due. Raises `Unavailable` (`store_corrupt`, …); nothing is changed then."""
    if not _due(path):
        return
    if problems := problems_of(path, quick=True):
        raise corrupt(path, problems[0])
    # a folder that cannot be written says so when somebody writes; then this check is only made more often
    with contextlib.suppress(OSError):
        mark = _mark(path)
        mark.write_text(_boot())
        mark.chmod(0o600)


def problems_of(path: Path, *, quick: bool) -> list[str]:
    """What SQLite finds wrong with the file, at most ten things. `quick` leaves out whether indexes agree with their tables.

    Raises `Unavailable` when the file cannot be looked at (`store_busy`, `store_read_only`, …).
    """
    try:
        with closing(sqlite3.connect(path, timeout=10)) as connection:
            rows = connection.execute("PRAGMA quick_check(10)" if quick else "PRAGMA integrity_check(10)").fetchall()
            if not quick:
                strays = connection.execute("PRAGMA foreign_key_check").fetchmany(10)
                rows += [(f"a row of {row[0]} names a row of {row[2]} that is not there",) for row in strays]
    except sqlite3.Error as error:
        found = refusal(path, error)
        if found.code != "store_corrupt":
            raise found from error
        return [str(error)]
    # its first words name a database and a page, line by line
    return [" ".join(str(row[0]).split()) for row in rows if row[0] != "ok"]


def is_held(path: Path, seconds: float) -> bool:
    """Whether another process keeps the right to write for longer than that."""
    try:
        with closing(sqlite3.connect(path, timeout=seconds, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return False


def back_up(path: Path, schema: int) -> Path:
    """Copy the store beside itself before it is migrated to `schema`; the newest three copies are kept. Raises `Unavailable` (`no_room`, …)."""
    size = sum(file.stat().st_size for file in (path, path.with_name(f"{path.name}-wal")) if file.exists())
    free = shutil.disk_usage(path.parent).free
    if free < size + SPARE_BYTES:
        raise Unavailable(
            f"The store {path} must be brought to schema {schema}, and there is no room to back it up: {size + SPARE_BYTES >> 20} MiB are needed,"
            f" {free >> 20} MiB are free.",
            code="no_room",
            mend="Make room there; the store stays as it is until then.",
            needed=size + SPARE_BYTES,
            free=free,
        )
    copy = path.with_name(f"{path.name}.before-{schema}.{datetime.now(UTC):%Y%m%dT%H%M%S}")
    partial = path.with_name(f"{copy.name}.partial")
    try:
        copy_store(path, partial)
        partial.replace(copy)
    finally:
        partial.unlink(missing_ok=True)
    for old in backups(path)[KEPT_BACKUPS:]:
        old.unlink()
    return copy


def backups(path: Path) -> list[Path]:
    """Copies that were made before migrations, newest first."""
    found = [each for each in path.parent.glob(f"{path.name}.before-*") if not each.name.endswith(".partial")]
    return sorted(found, key=lambda each: each.name.rpartition(".")[2], reverse=True)


def copy_store(path: Path, target: Path) -> None:
    """Copy a store that may be in use to a private file. Raises `Unavailable`, OSError."""
    target.unlink(missing_ok=True)
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
    except sqlite3.Error as error:
        raise refusal(path, error) from error


def files_of(path: Path) -> Iterator[Path]:
    """The store's file and those that SQLite keeps beside it, as far as they exist."""
    return (file for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))) if file.exists())


def _mark(path: Path) -> Path:
    return path.with_name(f"{path.name}.checked")


def _due(path: Path) -> bool:
    """After the machine was started, once a day, and always for a small store. What crashes processes leaves SQLite's files sound."""
    size = path.stat().st_size
    if not size:
        return False
    if size <= SMALL_BYTES:
        return True
    try:
        mark = _mark(path)
        # also where a clock was set back
        return mark.read_text() != _boot() or not 0 <= time.time() - mark.stat().st_mtime < CHECK_SECONDS
    except (OSError, UnicodeDecodeError):
        return True


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
