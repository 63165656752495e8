"""Content-addressed files: `objects/ab/<sha256>.<mode>.<mtime_ns>`, hard-linked into trees, and the cache that spares reading them again."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import operator
import os
import stat
import tempfile
import threading
import time
from array import array
from collections.abc import Collection, Iterable
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import msgspec

from jupyter_jobs.errors import BadInput
from jupyter_jobs.snapshot.names import safe_text, shown

BLOCK = 1 << 20
READ_TRIES = 4
RACY_NS = 2_000_000_000
"""A file changed less than this before it was read is read again next time: a later change could have left the same times (2 s: FAT)."""
PERMISSIONS = 0o777
FICLONE = 0x40049409

_buffers = threading.local()


STAMP_BYTES = 32

_stamp = operator.attrgetter("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")


def stamps_of(statuses: Collection[os.stat_result]) -> bytes:
    """What tells that files are still those that were read: size, mtime_ns, ctime_ns, inode, eight bytes each."""
    return packed(chain.from_iterable(map(_stamp, statuses)))


def packed(numbers: Iterable[int]) -> bytes:
    """Numbers as eight bytes each. No step of Python for each: there are tens of thousands."""
    kept = list(numbers)
    try:
        return array("q", kept).tobytes()
    except OverflowError:  # inodes may use the highest bit
        return array("Q", [number & (1 << 64) - 1 for number in kept]).tobytes()


class Copied(NamedTuple):
    """A file as it was read: `digest` and the status that goes with exactly these bytes."""

    digest: str
    status: os.stat_result


class StatCache(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What is known of a project, in columns: `names`, JSON-safe texts joined by NUL, and for each its stamp and its digest (sha256, 32 bytes), which
    is the file's as long as the stamp is. If these, `links` (targets) and `empty` directories (modes) are all unchanged, the project's snapshot is
    `snapshot`, made at `created_at`."""

    directory: str = ""
    names: str = ""
    stamps: bytes = b""
    digests: bytes = b""
    links: dict[str, str] = {}
    empty: dict[str, int] = {}
    snapshot: str = ""
    created_at: datetime | None = None

    def paths(self) -> list[str]:
        """The names, one by one."""
        return self.names.split("\0") if self.names else []

    def known(self) -> dict[str, tuple[bytes, str]]:
        """Stamp and digest (hex) of each."""
        return {
            path: (self.stamps[at * STAMP_BYTES : (at + 1) * STAMP_BYTES], self.digests[at * 32 : (at + 1) * 32].hex())
            for at, path in enumerate(self.paths())
        }


def object_path(data_dir: Path, digest: str, mode: int, mtime_ns: int) -> str:
    """Where the file of this content, mode and time is kept."""
    return f"{data_dir}/objects/{digest[:2]}/{digest}.{mode:o}.{mtime_ns}"


def prepare_objects(data_dir: Path) -> None:
    """Make the directories of the object store (0700)."""
    Path(data_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
    Path(data_dir, "objects").mkdir(mode=0o700, exist_ok=True)
    for number in range(256):
        Path(data_dir, "objects", f"{number:02x}").mkdir(mode=0o700, exist_ok=True)


def link_object(source: str, target: str, size: int) -> bool:
    """Give the object `source` the further name `target`; a copy where another link is not possible. False: there is no such object of this size
    (an empty one may be left by a power cut)."""
    try:
        os.link(source, target, follow_symlinks=False)
        if os.lstat(target).st_size != size:
            Path(target).unlink()
            return False
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP):
            raise
        try:
            copy_file(source, target)
        except FileNotFoundError:
            return False
    return True


def store_object(data_dir: Path, path: str, copied: Copied) -> None:
    """Keep the new file `path` of a tree as an object; if there is one already, the tree takes that instead."""
    status = copied.status
    kept = object_path(data_dir, copied.digest, stat.S_IMODE(status.st_mode) & PERMISSIONS, status.st_mtime_ns)
    try:
        os.link(path, kept, follow_symlinks=False)
    except FileExistsError:
        if os.lstat(kept).st_size != status.st_size:
            replace_by_link(path, kept)
            return
        replace_by_link(kept, path)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP):
            raise


def replace_by_link(source: str, target: str) -> None:
    """Let `target` be the same file as `source`, atomically. Where no link is possible, `target` stays as it is."""
    beside = f"{target}.{os.getpid()}-{threading.get_ident()}"
    try:
        os.link(source, beside, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOENT):
            raise
        return
    Path(beside).replace(target)


def copy_file(source: str, target: str | None) -> Copied:
    """Copy a file with its mode and mtime and tell its digest, from one and the same state of it. Without a `target` it is only read.

    The copy is a reflink where the file system can. A file that changes while it is read is read again; BadInput if it never holds still.
    BadInput too if it cannot be read, FileNotFoundError if it is gone.
    """
    for _ in range(READ_TRIES):
        reading = _open(source)
        if reading < 0:
            continue
        try:
            before = os.fstat(reading)
            if not stat.S_ISREG(before.st_mode):
                continue
            writing = -1 if target is None else os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                digest, size = _transfer(reading, writing, before.st_size, before.st_dev)
                after = os.fstat(reading)
                same = (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (after.st_size, after.st_mtime_ns, after.st_ctime_ns)
                if same and size == after.st_size:
                    if target is not None:
                        os.utime(writing, ns=(after.st_mtime_ns, after.st_mtime_ns))
                        os.fchmod(writing, stat.S_IMODE(after.st_mode) & PERMISSIONS)
                    return Copied(digest, after)
            finally:
                if target is not None:
                    os.close(writing)
        finally:
            os.close(reading)
    raise BadInput(
        f"{shown(source)} changes while it is read ({READ_TRIES} tries).",
        code="file_keeps_changing",
        mend="Stop what writes it, leave it out (.jobsignore or exclude), or read it live.",
        field="exclude",
        path=safe_text(source),
    )


def _open(source: str) -> int:
    """Open a file for reading; -1 where there is a link or a socket by now."""
    try:
        return os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise BadInput(
            f"{shown(source)} cannot be read.",
            code="unreadable_files",
            mend="Give yourself the permission, or leave it out (.jobsignore or exclude).",
            field="exclude",
            paths=[safe_text(source)],
        ) from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return -1
        raise


def _transfer(reading: int, writing: int, expected: int, device: int) -> tuple[str, int]:
    """Copy all bytes (`writing` -1: only read them); their sha256 and number. A reflink's digest is that of the clone, which changes no more."""
    cloned = expected > 0 and writing >= 0 and _clone(reading, writing, device)
    source = writing if cloned else reading
    target = -1 if cloned else writing
    if not hasattr(_buffers, "block"):
        _buffers.block = memoryview(bytearray(BLOCK))
    block: memoryview = _buffers.block
    digest = hashlib.sha256()
    size = 0
    while count := os.readv(source, [block]):
        piece = block[:count]
        digest.update(piece)
        size += count
        while target >= 0 and piece:
            piece = piece[os.write(target, piece) :]
        if count < BLOCK and size >= expected:
            break
    return digest.hexdigest(), size


_no_clone: set[int] = set()
"""Devices whose files could not be reflinked into the store: their file system cannot, or it is another one."""


def _clone(reading: int, writing: int, device: int) -> bool:
    if device in _no_clone:
        return False
    try:
        fcntl.ioctl(writing, FICLONE, reading)
    except OSError:
        _no_clone.add(device)
        return False
    return True


def cache_path(data_dir: Path, directory: str) -> Path:
    """The stat cache of a project, by its real path."""
    real = os.path.realpath(directory)
    return Path(data_dir) / "stat-cache" / f"{hashlib.sha256(os.fsencode(real)).hexdigest()[:24]}.msgpack"


def load_cache(data_dir: Path, directory: str) -> StatCache:
    """What is known of a project. A damaged cache is an empty one: it only spares work."""
    try:
        cache = msgspec.msgpack.decode(cache_path(data_dir, directory).read_bytes(), type=StatCache)
    except (FileNotFoundError, msgspec.MsgspecError):
        return StatCache()
    return cache if cache.directory == safe_text(os.path.realpath(directory)) else StatCache()


def save_cache(data_dir: Path, directory: str, cache: StatCache) -> None:
    """Remember a project; atomically, the last writer wins."""
    path = cache_path(data_dir, directory)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, msgspec.msgpack.encode(msgspec.structs.replace(cache, directory=safe_text(os.path.realpath(directory)))))


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file (0600) so that a reader sees all of it or the old one."""
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def may_trust(status: os.stat_result, read_at_ns: int) -> bool:
    """Whether a file read at `read_at_ns` (`now_ns()` before) may be known by its stamp: not where a change could go unseen (git calls it racy)."""
    return max(status.st_mtime_ns, status.st_ctime_ns) <= read_at_ns - RACY_NS


def now_ns() -> int:
    """The clock that file times are compared with."""
    return time.time_ns()
