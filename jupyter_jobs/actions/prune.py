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

from sqlalchemy import Engine

from jupyter_jobs.actions.places import html_dir, job_dir, jobs_dir, runs_dir
from jupyter_jobs.store import jobs, snapshots
from jupyter_jobs.store.database import read, write

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
    with write(engine) as conn:
        ready = jobs.to_delete(conn)
        for job in ready:
            jobs.delete(conn, job)
    prune(engine, data_dir)
    return ready


def prune(engine: Engine, data_dir: Path) -> None:
    """Remove files of jobs that are gone, and snapshots, environments and objects that no job names. Does nothing while a job is being made:
    the next call will."""
    try:
        with _lock(data_dir, fcntl.LOCK_EX | fcntl.LOCK_NB) as locked:
            if not locked:
                log.info("%s has no file locks: nothing else is looked at while files are removed.", data_dir)
            with write(engine) as conn:
                snapshots.drop_unused(conn)
                known_snapshots, known_environments = snapshots.digests(conn)
                known_jobs = jobs.ids(conn)
            for folder in _names(jobs_dir(data_dir)):
                if folder not in known_jobs:
                    remove_tree(job_dir(data_dir, folder))
            for folder in _names(data_dir / "runs"):
                if folder not in known_jobs:
                    remove_tree(runs_dir(data_dir, folder))
            for folder in _names(html_dir(data_dir)):
                if folder not in known_jobs:
                    remove_tree(html_dir(data_dir) / folder)
            for digest in _names(data_dir / "snapshots"):
                if digest not in known_snapshots:
                    remove_tree(data_dir / "snapshots" / digest)
            for digest in _names(data_dir / "environments"):
                if digest not in known_environments and digest != "index":
                    remove_tree(data_dir / "environments" / digest)
            _drop_objects(data_dir / "objects")
    except BlockingIOError:
        log.debug("A job is being made; nothing is pruned now.")


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


def _drop_objects(objects: Path) -> None:
    """Objects that no tree links to. Where trees are copies, objects only save the next copy."""
    for group in _names(objects):
        with os.scandir(objects / group) as entries:
            for entry in entries:
                if entry.stat(follow_symlinks=False).st_nlink == 1:
                    Path(entry.path).unlink(missing_ok=True)


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
