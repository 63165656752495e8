"""Removing files that no job needs. Rows go first, in a transaction; files after it, so that a crash leaves too much, never too little."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, Engine

from jupyter_jobs.actions.places import html_dir
from jupyter_jobs.store import events, jobs, reserve, snapshots
from jupyter_jobs.store.database import read, write_in_need

log = logging.getLogger(__name__)

STAGING = ".new-"
"""Beginning of the names of folders that a job is still put together in."""


@contextlib.contextmanager
def freezing(data_dir: Path) -> Iterator[None]:
    """While this is held, what was just frozen stays, although no job names it yet."""
    with _lock(data_dir, fcntl.LOCK_SH) as locked:
        if not locked:
            log.warning("%s has no file locks: do not delete jobs while one is being made.", data_dir)
        yield


def delete_requested(engine: Engine, data_dir: Path) -> list[str]:
    """Delete the jobs whose deletion was asked for and whose runs have all ended; their ids. The dispatcher calls it when runs end."""
    with read(engine) as conn:
        ready = jobs.to_delete(conn)
    if not ready:
        return []

    def delete(conn: Connection) -> list[str]:
        found = jobs.to_delete(conn)
        for job in found:
            jobs.delete(conn, job)
        return found

    deleted = write_in_need(engine, delete)
    prune(engine, data_dir)
    return deleted


def prune(engine: Engine, data_dir: Path) -> None:
    """Remove files of jobs that are gone, and snapshots, environments and objects that no job names. Does nothing while a job is being made:
    the next call will."""
    try:
        with _lock(data_dir, fcntl.LOCK_EX | fcntl.LOCK_NB) as locked:
            if not locked:
                log.info("%s has no file locks: nothing else is looked at while files are removed.", data_dir)

            def drop(conn: Connection) -> list[Path]:
                snapshots.drop_unused(conn)
                events.drop_old_deletions(conn)
                return _unneeded_folders(conn, data_dir)

            for folder in write_in_need(engine, drop):
                remove_tree(folder)
            for file in _unneeded_objects(data_dir / "objects"):
                file.unlink(missing_ok=True)
            reserve.keep(engine)
    except BlockingIOError:
        log.debug("A job is being made; nothing is pruned now.")


def unneeded(engine: Engine, data_dir: Path) -> list[Path] | None:
    """Folders and files that `prune` would remove; None while a job is being made, when nobody can say."""
    try:
        with _lock(data_dir, fcntl.LOCK_EX | fcntl.LOCK_NB), read(engine) as conn:
            return [*_unneeded_folders(conn, data_dir), *_unneeded_objects(data_dir / "objects")]
    except BlockingIOError:
        return None


def _unneeded_folders(conn: Connection, data_dir: Path) -> list[Path]:
    used_snapshots, used_environments = snapshots.digests(conn)
    known = jobs.ids(conn)
    kept = {"jobs": known, "runs": known, "snapshots": used_snapshots, "environments": used_environments | {"index"}}
    folders = {data_dir / place: names for place, names in kept.items()} | {html_dir(data_dir): known}
    return [folder / name for folder, names in folders.items() for name in _names(folder) if name not in names]


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it, whatever its modes; what cannot be removed is logged and stays."""

    def open_up(function: object, name: str, problem: BaseException) -> None:
        # an overlay leaves a folder of mode 000, snapshots keep folders without write permission
        parent = Path(name).parent
        for place in (parent, Path(name)):
            with contextlib.suppress(OSError):
                if stat.S_ISDIR(place.lstat().st_mode):
                    place.chmod(0o700)
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(Path(name).lstat().st_mode):
                shutil.rmtree(name, onerror=lambda *failure: log.warning("Cannot remove %s: %s", failure[1], failure[2][1]))
            else:
                os.unlink(name)  # noqa: PTH108

    shutil.rmtree(path, onerror=lambda function, name, info: open_up(function, name, info[1]))
    if os.path.lexists(path):
        log.warning("%s could not be removed altogether.", path)


def _unneeded_objects(objects: Path) -> Iterator[Path]:
    """Objects that no tree links to. Where trees are copies, objects only save the next copy."""
    for group in _names(objects):
        with os.scandir(objects / group) as entries:
            yield from (Path(entry.path) for entry in entries if entry.stat(follow_symlinks=False).st_nlink == 1)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def _lock(data_dir: Path, how: int) -> Iterator[bool]:
    """Hold the lock; false where the file system has none. Raises BlockingIOError when it is taken and `how` does not wait."""
    # in the data directory, not with the sockets: several hosts may share it
    descriptor = os.open(data_dir / "freeze.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, how)
            locked = True
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                raise
            locked = False
        yield locked
    finally:
        os.close(descriptor)
