"""What a store's refusal means: one place that turns a database's errors into ours, with a code and the mend."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from jupyter_jobs.errors import Unavailable

RETRY_SECONDS = 5
REPAIR = "`jupyter jobs doctor --repair` copies what can be read into a new store and keeps this one aside. Nothing was changed."
_NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
NOTHING_BYTES = 64 << 10
"""Less than what SQLite needs beside a store that is only read."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def refusal(where: object, error: DBAPIError | sqlite3.Error) -> Unavailable:
    """The error of the store at `where`: `store_busy`, `store_corrupt`, `store_read_only`, `no_room`, else `store_unreachable`.

    Its text is the database's own, never the statement with its parameters.
    """
    orig = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(orig, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable(
            f"Another process has been writing to the store {where} for too long.",
            code="store_busy",
            mend="Try again soon; `jupyter jobs doctor` names who has it open.",
            retry_after=RETRY_SECONDS,
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return corrupt(where, str(orig))
    if code == sqlite3.SQLITE_FULL or (code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and is_full(Path(str(where)).parent)):
        # the files that SQLite needs beside the store fail in their own ways
        return _no_room(where)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return _read_only(where)
    mend = "Check that its disk is there and not full, or the database server running; `jupyter jobs doctor` says more."
    return Unavailable(f"The store {where} does not answer: {orig}.", code="store_unreachable", mend=mend, retry_after=RETRY_SECONDS)


def refusal_of_system(where: Path, error: OSError) -> Unavailable:
    """The same for what the operating system says when the store's files are opened."""
    if error.errno in _NOT_WRITABLE:
        return _read_only(where)
    if error.errno in _FULL:
        return _no_room(where)
    mend = "Set `Jobs.data_dir` to a folder that you can write."
    return Unavailable(f"The store {where} cannot be opened: {error.strerror}.", code="store_unreachable", mend=mend)


def is_full(folder: Path) -> bool:
    """Whether there is no room for anything where `folder` lies."""
    try:
        return shutil.disk_usage(folder).free < NOTHING_BYTES
    except OSError:
        return False


def corrupt(where: object, why: str) -> Unavailable:
    """A store that cannot be read as a database any more."""
    return Unavailable(f"The store {where} is damaged: {why}.", code="store_corrupt", mend=REPAIR)


def _no_room(where: object) -> Unavailable:
    mend = "Make room there, or delete old jobs."
    return Unavailable(f"The disk of the store {where} is full.", code="no_room", mend=mend, retry_after=RETRY_SECONDS)


def _read_only(where: object) -> Unavailable:
    mend = "Make its folder and files writable for you, or set `Jobs.data_dir` to a folder that is."
    return Unavailable(f"The store {where} cannot be written.", code="store_read_only", mend=mend)
