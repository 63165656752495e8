"""Building the tree of a snapshot: in a private directory beside the snapshots, from objects and from the project's files."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from jupyter_jobs.snapshot.listing import Listing
from jupyter_jobs.snapshot.objects import (
    PERMISSIONS,
    Copied,
    copy_file,
    link_object,
    may_trust,
    now_ns,
    object_path,
    prepare_objects,
    store_object,
)

Progress = Callable[[int, int], None]
"""Called with the files done and the files in all."""

BUILDING = ".building-"
ABANDONED_SECONDS = 60.0
BATCH = 64


@contextmanager
def building(data_dir: Path) -> Iterator[str]:
    """A private directory beside the snapshots, locked while it is in use; whatever is left of it in the end is removed, by us or the next one."""
    prepare_objects(data_dir)
    snapshots = data_dir / "snapshots"
    snapshots.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_abandoned(snapshots)
    place = tempfile.mkdtemp(dir=snapshots, prefix=BUILDING)
    lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield place
    finally:
        os.close(lock)
        if os.path.lexists(place):
            shutil.rmtree(place)


def remove_abandoned(snapshots: Path) -> None:
    for left in snapshots.glob(f"{BUILDING}*"):
        try:
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - os.fstat(lock).st_ctime > ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)


def fill(data_dir: Path, tree: str, listing: Listing, known: dict[str, str], progress: Progress | None) -> dict[str, tuple[Copied, bool]]:
    """Build the tree; what each file was, and whether it may be known by its stamp. Links come last, so that nothing can be written through one."""
    os.mkdir(tree, 0o700)
    for folder in sorted(listing.directories):
        os.mkdir(f"{tree}/{folder}", 0o700)
    paths = sorted(listing.files)
    done: dict[str, tuple[Copied, bool]] = {}

    def take(batch: list[str]) -> list[tuple[str, Copied, bool]]:
        taken: list[tuple[str, Copied, bool]] = []
        for path in batch:
            one = _take_file(data_dir, f"{listing.directory}/{path}", f"{tree}/{path}", listing.files[path], known.get(path, ""))
            if one is not None:
                taken.append((path, *one))
        return taken

    batches = [paths[at : at + BATCH] for at in range(0, len(paths), BATCH)]
    with ThreadPoolExecutor(min(4, len(os.sched_getaffinity(0))), "snapshot") as pool:
        for batch, taken in zip(batches, pool.map(take, batches), strict=True):
            done.update((path, (copied, trusted)) for path, copied, trusted in taken)
            if progress is not None:
                progress(min(len(paths), len(done) + len(batch) - len(taken)), len(paths))
    for path in listing.links:
        os.symlink(listing.targets[path], f"{tree}/{path}")
        os.utime(f"{tree}/{path}", ns=(listing.links[path].st_mtime_ns,) * 2, follow_symlinks=False)
    for folder in sorted(listing.directories, reverse=True):
        try:
            status = os.stat(f"{listing.directory}/{folder}")
        except FileNotFoundError:
            continue
        os.chmod(f"{tree}/{folder}", status.st_mode & PERMISSIONS | stat.S_IRWXU)
        os.utime(f"{tree}/{folder}", ns=(status.st_mtime_ns,) * 2)
    return done


def _take_file(data_dir: Path, source: str, target: str, status: os.stat_result, digest: str) -> tuple[Copied, bool] | None:
    if digest and link_object(object_path(data_dir, digest, status.st_mode & PERMISSIONS, status.st_mtime_ns), target, status.st_size):
        return Copied(digest, status), True
    read_at = now_ns()
    try:
        copied = copy_file(source, target)
    except FileNotFoundError:
        return None
    store_object(data_dir, target, copied)
    return copied, may_trust(copied.status, read_at)
