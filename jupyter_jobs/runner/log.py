"""What a run says while it runs: `log.jsonl`, `events.jsonl`, and the datagrams that wake whoever follows them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
import time
from pathlib import Path
from typing import Literal

import msgspec

from jupyter_jobs.runner import clock, rundir
from jupyter_jobs.runner.capped import CappedLog
from jupyter_jobs.runner.rundir import CellRef, LogRecord, RunEvent, Way

log = logging.getLogger(__name__)

Stream = Literal["stdout", "stderr", "system"]

LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
LONGEST = 16_384
HINT_INTERVAL = 0.05
BLOCK = 1 << 20
"""Characters of output that become records at a time: a cell may print gigabytes in one go."""


def records_of(text: str, at: float, stream: Stream, cell: int) -> list[LogRecord]:
    """A chunk of output as log records: one per line, long lines in pieces; what does not end its line has an empty `end`."""
    records = []
    for match in LINE.finditer(text):
        line = match.group()
        body = line.rstrip("\r\n")
        end: Literal["\n", "\r", ""] = "\n" if line.endswith("\n") else "\r" if line.endswith("\r") else ""
        last = max(0, len(body) - 1) // LONGEST * LONGEST
        records += [LogRecord(at=at, stream=stream, text=body[start : start + LONGEST], end="", cell=cell) for start in range(0, last, LONGEST)]
        records.append(LogRecord(at=at, stream=stream, text=body[last:], end=end, cell=cell))
    return records


class Journal:
    """Appends to the run's log and events. `cell` is the number of the cell that is running, 0 outside of any.

    A disk that refuses does not end the run: events wait for the next one that can be written, the log says how many lines it lost.
    `max_log_bytes` bounds the log (0: not at all).
    """

    def __init__(self, run_dir: Path, run: str, attempt: int, hints: str, max_log_bytes: int = 0) -> None:
        self.cell = 0
        self.phases: dict[str, float] = {}
        self.ways: dict[str, Way] = {}
        self._log = CappedLog(run_dir, max_log_bytes)
        self._lost = 0
        self._why_lost = ""
        self._events = os.open(run_dir / rundir.EVENTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._waiting = b""
        self._hints = hints
        self._hint = msgspec.json.encode({"run": run, "attempt": attempt})
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if hints else None
        if self._socket:
            self._socket.setblocking(False)
        self._hinted = 0.0
        self._trailing: asyncio.TimerHandle | None = None

    def output(self, stream: Stream, text: str, cell: int | None = None) -> None:
        """Append a chunk of output as it came, for the running cell unless another is named."""
        at, cell = clock.now(), self.cell if cell is None else cell
        place = 0
        while place < len(text):
            tail = self._log.tail
            if tail is not None and len(text) - place > tail + BLOCK:
                place = self._skip(text, place, _line_end(text, len(text) - tail - 1))
            end = len(text) if len(text) - place <= BLOCK else _line_end(text, place + BLOCK)
            self._write(records_of(text[place:end], at, stream, cell))
            place = end
        if text:
            self._wake()

    def _skip(self, text: str, place: int, end: int) -> int:
        """Leave out what would be gone from the log's end before this chunk is written; where to go on."""
        try:
            self._log.next_part(end - place, text.count("\n", place, end))
        except OSError as error:
            self._lose(text.count("\n", place, end), error)
        return end

    def _write(self, records: list[LogRecord]) -> None:
        first, size = 0, 0
        try:
            if self._lost:
                lost = f"… {self._lost:,} lines could not be written ({self._why_lost}) …"
                self._log.append(encode(LogRecord(at=clock.now(), stream="system", text=lost)) + b"\n", 1)
                self._lost = 0
            lines = [encode(record) + b"\n" for record in records]
            for number, line in enumerate(lines):
                if (room := self._log.room) is not None and size + len(line) > room:
                    self._log.append(b"".join(lines[first:number]), number - first)
                    first, size = number, 0
                    if self._log.tail is None:
                        mark = "The log has become long: from here on only its end is kept (`Jobs.max_log_bytes`)."
                        self._log.append(encode(LogRecord(at=clock.now(), stream="system", text=mark)) + b"\n", 1)
                    self._log.next_part()
                size += len(line)
            self._log.append(b"".join(lines[first:]), len(lines) - first)
        except OSError as error:
            self._lose(len(records) - first, error)

    def _lose(self, lines: int, error: OSError) -> None:
        if not self._lost:
            log.error("The log cannot be written: %s", error)
        self._lost, self._why_lost = self._lost + lines, error.strerror or type(error).__name__

    def say_lost(self) -> None:
        """Say how many lines were lost, where the log has not said so yet: nothing more comes."""
        if self._lost:
            self._write([])

    def note(self, text: str) -> None:
        """Append a line of our own to the log."""
        self.output("system", text.rstrip("\n") + "\n")

    def state(self, state: str) -> None:
        """Tell that the run has come to this state."""
        self._event(RunEvent(at=clock.now(), kind="state", state=state))

    def progress(self, done: int, total: int, cell: CellRef | None = None) -> None:
        """Tell how many code cells are done, and which one starts."""
        self._event(RunEvent(at=clock.now(), kind="progress", done=done, total=total, cell=cell))

    def record(self, name: str, value: object) -> None:
        """Tell a recorded value, which must be JSON."""
        self._event(RunEvent(at=clock.now(), kind="record", name=name, value=value))

    def phase(self, name: str, seconds: float) -> None:
        """Tell how long a part of the run's own work took."""
        self.phases[name] = round(seconds, 4)
        self._event(RunEvent(at=clock.now(), kind="phase", name=name, seconds=round(seconds, 4)))

    def way(self, name: str, way: Way) -> None:
        """Tell how the process of that name came to life."""
        self.ways[name] = way
        self._event(RunEvent(at=clock.now(), kind="way", name=name, value=way))

    def hint_now(self) -> None:
        """Wake whoever listens. A hint that is lost is no loss: the files are the truth."""
        self._hinted = time.monotonic()
        if self._trailing:
            self._trailing.cancel()
            self._trailing = None
        if self._socket:
            # nobody listens, its queue is full, or the path is too long for a socket
            with contextlib.suppress(OSError):
                self._socket.sendto(self._hint, self._hints)

    def _event(self, event: RunEvent) -> None:
        self._waiting += encode(event) + b"\n"
        written = 0
        try:
            while written < len(self._waiting):
                written += os.write(self._events, self._waiting[written:])
        except OSError as error:
            # what a reader takes from this file is added up, so the rest of a record may follow later
            log.error("An event cannot be written and waits: %s", error)
        self._waiting = self._waiting[written:]
        self._wake()

    def _wake(self) -> None:
        wait = self._hinted + HINT_INTERVAL - time.monotonic()
        if wait <= 0:
            self.hint_now()
        elif not self._trailing:
            try:
                self._trailing = asyncio.get_running_loop().call_later(wait, self.hint_now)
            except RuntimeError:
                # no loop, so no flood of output either
                self.hint_now()


def _line_end(text: str, place: int) -> int:
    """The end of the line at `place`, or, where that is far, `place` itself."""
    end = text.find("\n", place, place + LONGEST)
    return end + 1 if end >= 0 else place


def encode(line: LogRecord | RunEvent) -> bytes:
    """A record as JSON. Half surrogate pairs, which a kernel may print, become question marks."""
    if isinstance(line, RunEvent):
        return rundir.encode(line, "replace")
    try:
        return msgspec.json.encode(line)
    except UnicodeEncodeError:
        return msgspec.json.encode(msgspec.structs.replace(line, text=line.text.encode("utf-8", "replace").decode()))
