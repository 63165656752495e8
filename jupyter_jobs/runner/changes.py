"""What a run did to its project: files that it created, changed or deleted."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from jupyter_jobs.runner.rundir import Artifact

_NOISE = frozenset({"__pycache__", ".ipynb_checkpoints"})
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


def changes_in_upper(upper: Path, tree: Path, not_ours: set[str], relative: str = "", *, hidden: bool = False) -> Iterator[Artifact]:
    """What the upper layer of an overlay holds that the tree below did not, but for paths in `not_ours`.

    `hidden`: the layer below does not show through here, so what is missing above is deleted.
    """
    here = upper / relative
    below = tree / relative
    entries = {entry.name: entry for entry in scan(here)}
    if hidden and below.is_dir() and not below.is_symlink():
        for name in sorted({inner.name for inner in below.iterdir()} - set(entries)):
            yield from _deleted(tree, f"{relative}/{name}" if relative else name)
    for name, entry in entries.items():
        path = f"{relative}/{name}" if relative else name
        if name in _NOISE or path in not_ours:
            continue
        status = entry.stat(follow_symlinks=False)
        lower = tree / path
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            yield from _deleted(tree, path)
        elif stat.S_ISDIR(status.st_mode):
            if os.path.lexists(lower) and (lower.is_symlink() or not lower.is_dir()):
                yield from _deleted(tree, path)
            yield from changes_in_upper(upper, tree, not_ours, path, hidden=hidden or _is_opaque(entry.path))
        elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            yield from _compared(Path(entry.path), status, lower, path, trust_times=False)


def _is_opaque(directory: str) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(directory, name) == b"y":
                return True
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM):
                raise
    return False


def changes_in_copy(project: Path, tree: Path, not_ours: set[str]) -> Iterator[Artifact]:
    """How a copy of the tree differs from it, but for paths in `not_ours`."""
    present: set[str] = set()
    folders = [""]
    while folders:
        relative = folders.pop()
        for entry in scan(project / relative):
            path = f"{relative}/{entry.name}" if relative else entry.name
            present.add(path)
            if entry.name in _NOISE or path in not_ours:
                continue
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                folders.append(path)
            elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                yield from _compared(Path(entry.path), status, tree / path, path, trust_times=True)
    for path in _files_below(tree, ""):
        if path not in present or ((project / path).is_dir() and not (tree / path).is_symlink()):
            yield Artifact(path=path, bytes=0, kind="deleted")


def scan(directory: Path) -> list[os.DirEntry[str]]:
    """A directory's entries, also where the run took our right to read it away."""
    if not os.access(directory, os.R_OK | os.X_OK):
        directory.chmod(0o700)
    with os.scandir(directory) as entries:
        return list(entries)


def _compared(path: Path, status: os.stat_result, lower: Path, relative: str, *, trust_times: bool) -> Iterator[Artifact]:
    try:
        before = lower.lstat()
    except (FileNotFoundError, NotADirectoryError):
        yield Artifact(path=relative, bytes=status.st_size, kind="created")
        return
    if stat.S_ISDIR(before.st_mode):
        yield Artifact(path=relative, bytes=status.st_size, kind="created")
        for inner in _files_below(lower, ""):
            yield Artifact(path=f"{relative}/{inner}", bytes=0, kind="deleted")
        return
    if stat.S_IFMT(before.st_mode) == stat.S_IFMT(status.st_mode) and before.st_size == status.st_size:
        if stat.S_ISLNK(status.st_mode):
            same = path.readlink() == lower.readlink()
        else:
            same = (trust_times and before.st_mtime_ns == status.st_mtime_ns) or _same_content(path, lower)
        if same:
            return
    yield Artifact(path=relative, bytes=status.st_size, kind="changed")


def _same_content(one: Path, other: Path) -> bool:
    if not os.access(one, os.R_OK):
        one.chmod(stat.S_IMODE(one.stat().st_mode) | stat.S_IRUSR)
    with one.open("rb") as first, other.open("rb") as second:
        while block := first.read(1 << 20):
            if block != second.read(1 << 20):
                return False
        return not second.read(1)


def _deleted(tree: Path, path: str) -> Iterator[Artifact]:
    below = tree / path
    if below.is_dir() and not below.is_symlink():
        for inner in _files_below(below, ""):
            yield Artifact(path=f"{path}/{inner}", bytes=0, kind="deleted")
    elif os.path.lexists(below):
        yield Artifact(path=path, bytes=0, kind="deleted")


def _files_below(root: Path, relative: str) -> Iterator[str]:
    for entry in os.scandir(root / relative):
        if entry.name in _NOISE:
            continue
        path = f"{relative}/{entry.name}" if relative else entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(root, path)
        else:
            yield path
