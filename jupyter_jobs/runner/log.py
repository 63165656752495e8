"""What a run says while it runs: `log.jsonl`, `events.jsonl`, and the datagrams that wake whoever follows them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import time
from pathlib import Path
from typing import Literal

import msgspec

from jupyter_jobs.runner import rundir
from jupyter_jobs.runner.rundir import CellRef, LogRecord, RunEvent, Way

Stream = Literal["stdout", "stderr", "system"]

LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
LONGEST = 16_384
HINT_INTERVAL = 0.05


def records_of(text: str, at: float, stream: Stream, cell: int) -> list[LogRecord]:
    """A chunk of output as log records: one per line, long lines in pieces; what does not end its line has an empty `end`."""
    records = []
    for match in LINE.finditer(text):
        line = match.group()
        body = line.rstrip("\r\n")
        end: Literal["\n", "\r", ""] = "\n" if line.endswith("\n") else "\r" if line.endswith("\r") else ""
        while len(body) > LONGEST:
            records.append(LogRecord(at=at, stream=stream, text=body[:LONGEST], end="", cell=cell))
            body = body[LONGEST:]
        records.append(LogRecord(at=at, stream=stream, text=body, end=end, cell=cell))
    return records


class Journal:
    """Appends to the run's log and events. `cell` is the number of the cell that is running, 0 outside of any."""

    def __init__(self, run_dir: Path, run: str, attempt: int, hints: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self.cell = 0
        self.phases: dict[str, float] = {}
        self.ways: dict[str, Way] = {}
        self._log = os.open(run_dir / rundir.LOG, flags, 0o600)
        self._events = os.open(run_dir / rundir.EVENTS, flags, 0o600)
        self._hints = hints
        self._hint = msgspec.json.encode({"run": run, "attempt": attempt})
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if hints else None
        if self._socket:
            self._socket.setblocking(False)
        self._hinted = 0.0
        self._trailing: asyncio.TimerHandle | None = None

    def output(self, stream: Stream, text: str, cell: int | None = None) -> None:
        """Append a chunk of output as it came, for the running cell unless another is named. Raises OSError."""
        lines = records_of(text, time.time(), stream, self.cell if cell is None else cell)
        if lines:
            self._append(self._log, lines)

    def note(self, text: str) -> None:
        """Append a line of our own to the log. Raises OSError."""
        self.output("system", text.rstrip("\n") + "\n")

    def state(self, state: str) -> None:
        """Tell that the run has come to this state."""
        self._event(RunEvent(at=time.time(), kind="state", state=state))

    def progress(self, done: int, total: int, cell: CellRef | None = None) -> None:
        """Tell how many code cells are done, and which one starts."""
        self._event(RunEvent(at=time.time(), kind="progress", done=done, total=total, cell=cell))

    def record(self, name: str, value: object) -> None:
        """Tell a recorded value, which must be JSON."""
        self._event(RunEvent(at=time.time(), kind="record", name=name, value=value))

    def phase(self, name: str, seconds: float) -> None:
        """Tell how long a part of the run's own work took."""
        self.phases[name] = round(seconds, 4)
        self._event(RunEvent(at=time.time(), kind="phase", name=name, seconds=round(seconds, 4)))

    def way(self, name: str, way: Way) -> None:
        """Tell how the process of that name came to life."""
        self.ways[name] = way
        self._event(RunEvent(at=time.time(), kind="way", name=name, value=way))

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
        self._append(self._events, [event])

    def _append(self, descriptor: int, lines: list[LogRecord] | list[RunEvent]) -> None:
        data = b"".join(encode(line) + b"\n" for line in lines)
        # whole records in one write: a reader may see a part of the last one, never a mixture
        while data:
            data = data[os.write(descriptor, data) :]
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


def encode(line: LogRecord | RunEvent) -> bytes:
    """A record as JSON. Half surrogate pairs, which a kernel may print, become question marks."""
    if isinstance(line, RunEvent):
        return rundir.encode(line, "replace")
    try:
        return msgspec.json.encode(line)
    except UnicodeEncodeError:
        return msgspec.json.encode(msgspec.structs.replace(line, text=line.text.encode("utf-8", "replace").decode()))
