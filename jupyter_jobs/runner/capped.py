"""The log's files: the beginning of what was said, and its end; what lay between is left out, and readers are told how much.

`log.jsonl` is the beginning. Once it holds half of what a log may, `log.<offset>-<lines>.jsonl` files follow: `offset` is where the file begins,
counted in bytes as if nothing had ever been left out, `lines` how many records came before it. The oldest of them goes when a new one would be
too much. So an offset means the same for ever, whoever follows the log reads on across the files, and a runner that is killed leaves its last
words on disk. Imports nothing of ours outside `runner`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from jupyter_jobs.runner import rundir
from jupyter_jobs.runner.rundir import LogRecord

_NAME = re.compile(r"log\.(\d+)-(\d+)\.jsonl")
_TAIL_FILES = 4
_READ = 1 << 20
"""Most bytes that a reader holds at a time; a record is far shorter."""

_record = msgspec.json.Decoder(LogRecord)


@dataclass(frozen=True)
class Part:
    """A file of a log: where it begins, in bytes and in records."""

    path: Path
    offset: int
    lines: int


def parts(directory: Path) -> list[Part]:
    """The files of the log in a run directory, in order."""
    found = [Part(directory / rundir.LOG, 0, 0)]
    try:
        names = os.listdir(directory)  # noqa: PTH208 - on the way of every reader
    except FileNotFoundError:
        return found
    for name in names:
        if match := _NAME.fullmatch(name):
            found.append(Part(directory / name, int(match[1]), int(match[2])))
    return sorted(found, key=lambda part: part.offset)


class CappedLog:
    """Appends to a log of at most `limit` bytes on disk (0: any number). One process writes it; records are JSON with a line's end."""

    def __init__(self, directory: Path, limit: int) -> None:
        self._directory = directory
        self._head = limit // 2
        self._each = limit // 2 // _TAIL_FILES
        self._last = parts(directory)[-1]
        self._descriptor = _open(self._last.path)
        self._size = os.fstat(self._descriptor).st_size
        self._lines = self._last.lines

    @property
    def room(self) -> int | None:
        """Bytes that still fit into the file that is written; None where there is no limit."""
        if not self._head:
            return None
        return (self._head if self._last.offset == 0 else self._each) - self._size

    @property
    def tail(self) -> int | None:
        """Once the beginning is full: how many of the last bytes are kept at least. Else None."""
        return None if not self._head or self._last.offset == 0 else self._each * (_TAIL_FILES - 1)

    def append(self, data: bytes, lines: int) -> None:
        """Append whole records, `lines` of them. Raises OSError; then nothing of them was written."""
        written = 0
        try:
            # in one write: a reader may see a part of the last record, never a mixture
            while written < len(data):
                written += os.write(self._descriptor, data[written:] if written else data)
        except OSError:
            if written:
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += written
        self._lines += lines

    def next_part(self, skipped_bytes: int = 0, skipped_lines: int = 0) -> None:
        """Go on in another file, and let the oldest of the end go; `skipped` was left out altogether. Raises OSError; then all is as before."""
        start, lines = self._last.offset + self._size + skipped_bytes, self._lines + skipped_lines
        following = Part(self._directory / f"log.{start}-{lines}.jsonl", start, lines)
        # made before another is removed: whoever reads never sees an end that is none
        descriptor = _open(following.path)
        os.close(self._descriptor)
        self._descriptor, self._last, self._size, self._lines = descriptor, following, 0, lines
        for part in parts(self._directory)[1:-_TAIL_FILES]:
            part.path.unlink()


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def read(directory: Path, offset: int = 0, limit: int | None = None) -> Iterator[tuple[LogRecord, int]]:
    """The records of the log in a run directory from `offset` on, each with the offset to go on from; stops after `limit` bytes.

    Where something was left out, a record of the stream `system` says how much. A line that is none is named as damaged. A log that does not exist
    yet has no records.
    """
    while limit is None or limit > 0:
        known = parts(directory)
        index = max(number for number, part in enumerate(known) if part.offset <= offset)
        part = known[index]
        following = known[index + 1] if index + 1 < len(known) else None
        before = offset
        try:
            for record, offset in _read_part(part, offset, limit):  # noqa: B020 - the caller's place moves on
                yield record, offset
        except FileNotFoundError:
            if index:
                # it was removed just now: look again
                continue
        if limit is not None:
            limit -= offset - before
            if limit <= 0:
                return
        if following is None:
            return
        # it was there before we read, so the part before it was complete
        if following.offset > offset:
            yield _left_out(part, following, offset), following.offset
        offset = following.offset


def _read_part(part: Part, offset: int, limit: int | None) -> Iterator[tuple[LogRecord, int]]:
    left = limit
    with part.path.open("rb") as file:
        file.seek(offset - part.offset)
        while left is None or left > 0:
            data = file.readline(_READ)
            if not data.endswith(b"\n"):
                return
            offset += len(data)
            if left is not None:
                left -= len(data)
            try:
                yield _record.decode(data), offset
            except (msgspec.DecodeError, UnicodeDecodeError):
                yield LogRecord(at=0, stream="system", text="(a damaged line of the log)"), offset


def _left_out(part: Part, following: Part, offset: int) -> LogRecord:
    many = f"{_size(following.offset - offset)} of output"
    try:
        if offset == part.offset + part.path.stat().st_size:
            with part.path.open("rb") as file:
                before = part.lines + sum(piece.count(b"\n") for piece in iter(lambda: file.read(_READ), b""))
            many = f"{following.lines - before:,} lines ({_size(following.offset - offset)})"
        with following.path.open("rb") as file:
            at = _record.decode(file.readline(_READ)).at
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        # gone, or nothing in it yet
        at = 0.0
    return LogRecord(at=at, stream="system", text=f"… {many} left out …")


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
