"""Room that is kept beside a SQLite store for what makes room: on a full disk even a deletion has to be written first."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from jupyter_jobs.store.refusal import refusal

RESERVED = 2 << 20
"""Bytes that are really taken, not only named."""
LEAST = 1 << 20
"""Less is not worth while."""
LEFT = 6 << 20
"""Bytes that must stay free where it is taken: more than runs need to start."""


def keep(engine: Engine, left: int = LEFT) -> None:
    """Take the room, or take it again after it was given up, if so many bytes stay free beside it. One `stat` where it is there."""
    path = _place(engine)
    if path is None:
        return
    with contextlib.suppress(OSError):
        if path.exists() and path.stat().st_size >= RESERVED:
            return
        size = min(RESERVED, shutil.disk_usage(path.parent).free - left)
        if size < LEAST:
            return
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, size)
            else:
                os.write(descriptor, bytes(size))
        except OSError:
            path.unlink()
        finally:
            os.close(descriptor)


def give_up_for(engine: Engine, error: DBAPIError | sqlite3.Error) -> bool:
    """Whether room was made for what failed with `error`: the disk was full, and the reserve was there. It is worth another try then."""
    path = _place(engine)
    if path is None or refusal(engine.url.database, error).code != "no_room":
        return False
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _place(engine: Engine) -> Path | None:
    """None where the database has no disk of ours."""
    return Path(f"{engine.url.database}.reserve") if engine.dialect.name == "sqlite" else None
