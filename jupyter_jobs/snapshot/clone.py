"""Walking, hashing and cloning a directory of an environment: by reflink, else by hard link, else by copy."""

from __future__ import annotations

import csv
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import msgspec

from jupyter_jobs.runner.workspace import copy_file, reflink
from jupyter_jobs.snapshot.roots import Root, is_nested_prefix, site_folders

Method = Literal["reflink", "hardlink", "copy"]

_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EACCES, errno.EOPNOTSUPP})
_LARGE = 8 << 20
_SOURCE_NOISE = frozenset(
    {".git", ".hg", ".svn", "node_modules", ".tox", ".nox", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".ipynb_checkpoints"}
)
_CACHE = "__pycache__"


class TooMuch(Exception):
    """More bytes or files than may be copied."""

    def __init__(self, files: int, size: int) -> None:
        super().__init__(f"{files} files, {size} bytes")
        self.files = files
        self.bytes = size


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One path of a root as stat saw it. `kind`: `f` file, `l` link (`target`), `d` directory (times and inode 0: other things change them)."""

    path: str
    kind: str
    mode: int
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0
    target: str = ""


def walk(root: Root, skip: Iterable[str], *, max_bytes: int | None = None, max_files: int | None = None) -> tuple[list[Entry], list[str]]:
    """What is in a root, sorted by path, and the paths that could not be read or named. Compiled caches, environments in it and `skip` are left out.

    Raises TooMuch as soon as a limit is passed.
    """
    entries: list[Entry] = []
    unread: list[str] = []
    skipped = set(skip)
    size = 0
    noise = _SOURCE_NOISE if root.kind == "source" else frozenset()
    folders = [""]
    while folders:
        relative = folders.pop()
        here = f"{root.path}/{relative}" if relative else root.path
        try:
            with os.scandir(here) as scan:
                inside = list(scan)
        except (PermissionError, FileNotFoundError):
            unread.append(here)
            continue
        is_conda = False
        if any(entry.name in ("pyvenv.cfg", "conda-meta") for entry in inside):
            if relative and is_nested_prefix(entry.name for entry in inside):
                # its own directory stays, as the place that it can be mounted on
                continue
            is_conda = any(entry.name == "conda-meta" for entry in inside)
        for entry in inside:
            name = entry.name
            if name == _CACHE or name in noise or entry.path in skipped or (is_conda and name in ("pkgs", "envs")):
                continue
            path = f"{relative}/{name}" if relative else name
            try:
                status = entry.stat(follow_symlinks=False)
                name.encode()
            except (FileNotFoundError, UnicodeEncodeError):
                unread.append(repr(entry.path))
                continue
            mode = stat.S_IMODE(status.st_mode)
            if stat.S_ISDIR(status.st_mode):
                folders.append(path)
                entries.append(Entry(path, "d", mode))
            elif stat.S_ISREG(status.st_mode):
                size += status.st_size
                entries.append(Entry(path, "f", mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))
            elif stat.S_ISLNK(status.st_mode):
                entries.append(Entry(path, "l", 0, target=os.readlink(entry.path)))  # noqa: PTH115
        if (max_bytes is not None and size > max_bytes) or (max_files is not None and len(entries) > max_files):
            raise TooMuch(len(entries), size)
    return sorted(entries, key=lambda entry: entry.path), unread


def entry_of(path: str, relative: str) -> Entry:
    """The entry of one path. Raises OSError."""
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        return Entry(relative, "d", mode)
    if stat.S_ISLNK(status.st_mode):
        return Entry(relative, "l", 0, target=os.readlink(path))  # noqa: PTH115
    return Entry(relative, "f", mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def digest_of(path: str) -> str:
    """sha256 of a file's content, hex. Raises OSError."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - on the hot path
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests_of(paths: Sequence[str]) -> list[str]:
    """sha256 of many files, in order, empty for one that is gone or may not be read; several at a time: hashing leaves the interpreter free."""

    def known(path: str) -> str:
        try:
            return digest_of(path)
        except (FileNotFoundError, PermissionError):
            return ""

    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
        return list(pool.map(known, paths, chunksize=64))


def possible_method(root: Root, folder: Path) -> Method:
    """How files of a root can be cloned into `folder`. Touches no file of the root, whose ctime would change. Raises OSError."""
    sample = _sample(root.path)
    if sample is None:
        return "copy"
    place = folder / f".probe-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        with open(sample, "rb") as reader, place.open("xb") as writer:  # noqa: PTH123
            if reflink(reader.fileno(), writer.fileno()):
                return "reflink"
    finally:
        place.unlink(missing_ok=True)
    return "hardlink" if _may_link_to(sample, folder) else "copy"


def _may_link_to(sample: str, folder: Path) -> bool:
    """Whether the system will let us make a link to a file: same mount, and ours if links are protected."""
    status = os.stat(sample)  # noqa: PTH116
    if status.st_dev != folder.stat().st_dev or _mount_id(sample) != _mount_id(str(folder)):
        return False
    if os.geteuid() in (0, status.st_uid) or os.access(sample, os.R_OK | os.W_OK):
        return True
    protected = Path("/proc/sys/fs/protected_hardlinks")
    return protected.exists() and protected.read_text().strip() == "0"


def _mount_id(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as lines:  # noqa: PTH123
            return next((line for line in lines if line.startswith("mnt_id:")), "")
    except FileNotFoundError:
        # other systems
        return ""
    finally:
        os.close(descriptor)


def clone(root: Root, entries: Iterable[Entry], target: Path, method: Method, *, max_bytes: int) -> list[Entry]:
    """Clone a root to `target`, returning the entries as they are there, in the same order.

    By hard link, a file that no installer answers for is copied: such files are edited in place. Files that vanish meanwhile or may not be read are
    left out. Raises TooMuch when more than `max_bytes` would have to be copied, OSError.
    """
    may_link = _linkable(root) if method == "hardlink" else None
    # an environment inside a source directory lies inside its clone
    target.mkdir(parents=True, exist_ok=True)
    as_root = os.geteuid() == 0
    budget = [max_bytes]
    placed: list[Entry] = []
    directories = [("", stat.S_IMODE(os.stat(root.path).st_mode))]  # noqa: PTH116
    _clone_cache(root.path, str(target), method, budget)
    for entry in entries:
        source, place = f"{root.path}/{entry.path}", f"{target}/{entry.path}"
        try:
            if entry.kind == "d":
                os.mkdir(place)  # noqa: PTH102
                directories.append((entry.path, entry.mode))
                _clone_cache(source, place, method, budget)
            elif entry.kind == "l":
                os.symlink(entry.target, place)  # noqa: PTH211
            else:
                _clone_file(source, place, entry.size, method, may_link is not None and may_link(entry), budget)
            if as_root:
                _same_owner(source, place)
            placed.append(entry_of(place, entry.path))
        except (FileNotFoundError, PermissionError):
            continue
    for path, mode in reversed(directories):
        os.chmod(f"{target}/{path}", mode)  # noqa: PTH101
    return placed


def _clone_file(source: str, place: str, size: int, method: Method, may_link: bool, budget: list[int]) -> None:
    if may_link:
        try:
            os.link(source, place, follow_symlinks=False)
            return
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
    if method != "reflink":
        budget[0] -= size
        if budget[0] < 0:
            raise TooMuch(0, -budget[0])
    copy_file(source, place)


def _clone_cache(source: str, target: str, method: Method, budget: list[int]) -> None:
    """Compiled modules save time and are replaced, never written in place; they are no part of an environment's identity."""
    try:
        with os.scandir(f"{source}/{_CACHE}") as scan:
            compiled = [entry for entry in scan if entry.is_file(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    folder = f"{target}/{_CACHE}"
    os.mkdir(folder)  # noqa: PTH102
    for entry in compiled:
        try:
            _clone_file(entry.path, f"{folder}/{entry.name}", entry.stat().st_size, method, method == "hardlink", budget)
        except (FileNotFoundError, PermissionError):
            continue


def _same_owner(source: str, place: str) -> None:
    theirs, ours = os.lstat(source), os.lstat(place)
    if (theirs.st_uid, theirs.st_gid) != (ours.st_uid, ours.st_gid):
        os.lchown(place, theirs.st_uid, theirs.st_gid)


def _sample(path: str) -> str | None:
    """Some ordinary file of a directory."""
    for folder, _, names in os.walk(path):
        for name in names:
            file = f"{folder}/{name}"
            if stat.S_ISREG(os.lstat(file).st_mode) and os.access(file, os.R_OK):
                return file
    return None


def _linkable(root: Root) -> Callable[[Entry], bool]:
    """Which files may share an inode with the original: those of installed packages, the interpreter's own, and very large ones."""
    if root.kind == "source":
        return lambda entry: False
    listed = set(_listed(root))
    edited = site_folders(root) + (["bin"] if root.kind == "prefix" else [])

    def may_link(entry: Entry) -> bool:
        if entry.path in listed or entry.size > _LARGE:
            return True
        return bool(edited) and "/" in entry.path and not any(not folder or entry.path.startswith(folder + "/") for folder in edited)

    return may_link


def _listed(root: Root) -> Iterator[str]:
    """Paths, relative to the root, that an installer's records name."""
    for site in site_folders(root):
        for record in Path(root.path, site).glob("*.dist-info/RECORD"):
            with record.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
                for row in csv.reader(file):
                    if row:
                        yield os.path.normpath(os.path.join(site, row[0]))  # noqa: PTH118
    for package in Path(root.path, "conda-meta").glob("*.json"):
        yield from msgspec.json.decode(package.read_bytes(), type=_CondaPackage).files


class _CondaPackage(msgspec.Struct):
    files: list[str] = []


def remove_tree(path: Path) -> None:
    """Remove a clone, read-only directories in it included. Raises OSError."""
    for folder, names, _ in os.walk(path):
        for name in names:
            inner = os.path.join(folder, name)  # noqa: PTH118
            if not os.path.islink(inner) and not os.access(inner, os.W_OK | os.X_OK):  # noqa: PTH114
                os.chmod(inner, 0o700)  # noqa: PTH101
    shutil.rmtree(path)
