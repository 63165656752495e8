"""What stat said of directories when they were found to be as an environment has them: a cache that spares walking them, made to be loaded and
compared in milliseconds. Missing, damaged or wrong, it costs time and nothing else.

A file whose stamp (ctime included) is the same is the same; a folder whose stamp is the same has the same names in it. A folder that changed shortly
before it was looked at is not believed: a later change could have left the same times.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import msgspec

from jupyter_jobs.snapshot.clone import Entry
from jupyter_jobs.snapshot.objects import RACY_NS, packed
from jupyter_jobs.snapshot.objects import now_ns as now_ns

_ITSELF = Entry("", "d", 0)
_REGULAR = 0o100000
_stamp = operator.attrgetter("st_mode", "st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")


class _Sight(msgspec.Struct, frozen=True, array_like=True):
    """One directory: `names` joined by NUL, the directory itself first, and their `stamps`, five numbers each. `skip`: what a walk leaves out."""

    base: str
    skip: list[str]
    names: str
    stamps: bytes


class _Seen(msgspec.Struct, frozen=True, array_like=True):
    environment: str
    sights: list[_Sight]


Place = tuple[str, Sequence[str], Sequence[Entry]]
"""A directory's absolute path, the paths that a walk of it leaves out, and what the walk found."""


def unchanged(file: Path, places: Sequence[tuple[str, Sequence[str]]]) -> str:
    """The environment that directories (path, what is left out) were when they were remembered in `file`, if all of them still are so; else empty."""
    try:
        seen = msgspec.msgpack.decode(file.read_bytes(), type=_Seen)
    except (FileNotFoundError, msgspec.MsgspecError):
        return ""
    if [(one.base, one.skip) for one in seen.sights] != [(base, list(skip)) for base, skip in places]:
        return ""
    # the smallest first: the person's own sources change oftener than what is installed
    for one in sorted(seen.sights, key=lambda one: len(one.names)):
        try:
            if _stamps(one.base, one.names.split("\0")) != one.stamps:
                return ""
        except OSError:
            return ""
    return seen.environment


def remember(file: Path, environment: str, places: Sequence[Place], began_ns: int) -> None:
    """Remember that directories are as `environment` has them, as their entries tell; `began_ns` is the time (`now_ns()`) before they were read.

    Nothing is remembered where a folder changed since or just before, or something is gone, or where there is no room for it.
    """
    try:
        sights = [sight for place in places if (sight := _sight(*place, began_ns))]
    except OSError:
        sights = []
    if len(sights) < len(places):
        file.unlink(missing_ok=True)
        return
    beside = file.with_name(f".{file.name}.{os.getpid()}-{os.urandom(4).hex()}")
    try:
        beside.write_bytes(msgspec.msgpack.encode(_Seen(environment, sights)))
        beside.replace(file)
    except OSError:
        # nobody fails for want of a cache
        beside.unlink(missing_ok=True)


def _sight(base: str, skip: Sequence[str], entries: Sequence[Entry], began_ns: int) -> _Sight | None:
    """What to remember of a directory; None where that would not be sure. Raises OSError."""
    # what an entry does not tell: a folder's times, a link's
    others = {entry.path: _stamp(os.lstat(f"{base}/{entry.path}")) for entry in (_ITSELF, *entries) if entry.kind != "f"}
    if any(max(stamp[2:4]) > began_ns - RACY_NS for stamp in others.values()):
        return None
    stamps = list(others[""])
    for entry in entries:
        stamps.extend(others.get(entry.path) or (entry.mode | _REGULAR, entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode))
    return _Sight(base, list(skip), "\0".join(["", *(entry.path for entry in entries)]), packed(stamps))


def _stamps(base: str, names: Sequence[str]) -> bytes:
    """No step of Python for each name: there are tens of thousands."""
    return packed(chain.from_iterable(map(_stamp, map(os.lstat, map(f"{base}/".__add__, names)))))
