"""Streams: the log of a run or of a whole job, and the events. Each reads what is new when asked; whoever sends it waits for news between."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from jupyter_jobs.actions import jobs, runs
from jupyter_jobs.actions.context import Context
from jupyter_jobs.actions.places import run_dir
from jupyter_jobs.api.answers import Batch, Document, Message
from jupyter_jobs.errors import BadInput
from jupyter_jobs.model import RunLine
from jupyter_jobs.runner import capped
from jupyter_jobs.runner.rundir import LogRecord
from jupyter_jobs.store import events
from jupyter_jobs.store.database import read
from jupyter_jobs.store.runs import RunMark

BATCH_BYTES = 256 * 1024
"""How much log is read at a time, so that a client that does not read holds no more than this."""


@dataclass
class _Place:
    """How far the log of a run has been read: the attempt and the offset in its log, as `runner.capped` counts it."""

    attempt: int
    offset: int


Marks = Callable[[int], Sequence[RunMark]]
"""The runs from a number on, in order of their numbers. None at all: the job was deleted."""
Folder = Callable[[RunMark, int], Path]
"""The run directory of an attempt."""


class LogStream:
    """The lines of some runs of a job, until all have ended. A message's id is `A-B,C-D;NUMBER:ATTEMPT:OFFSET;…`: the runs that were sent whole, as
    ranges, and how far those under way were; so it stays short however many runs a job has. It means something to us alone."""

    def __init__(self, job: str, marks: Marks, folder: Folder, *, name: str, follow: bool, last: str, prefix: bool, first: int = 1) -> None:
        self.job = job
        self._name = name
        self._marks = marks
        self._folder = folder
        self._follow = follow
        self._prefix = prefix
        self._first = first
        self._whole, self._places = _read_position(last)

    def read(self) -> Batch:
        messages: list[Message] = []
        watch: set[Path] = set()
        left = BATCH_BYTES
        all_ended = True
        for mark in self._marks(self._whole.first_missing):
            if mark.number in self._whole:
                continue
            all_ended = all_ended and mark.ended
            place = self._places.setdefault(mark.number, _Place(self._first, 0))
            while place.attempt <= mark.attempt:
                for line, offset in capped.read(self._folder(mark, place.attempt), place.offset, left):
                    left -= offset - place.offset
                    place.offset = offset
                    messages.append(Message("line", _of_run(line, mark.id), self._position()))
                if left <= 0:
                    return Batch(messages, more=True)
                if place.attempt == mark.attempt:
                    break
                place.attempt, place.offset = place.attempt + 1, 0
            if mark.ended:
                self._whole.add(mark.number)
                del self._places[mark.number]
            elif mark.attempt:
                watch.add(self._folder(mark, mark.attempt))
        if all_ended or not self._follow:
            messages.append(Message("end"))
            return Batch(messages, ended=True)
        return Batch(messages, watch=frozenset(watch))

    def text(self) -> Document:
        return Document("text/plain; charset=utf-8", self._texts, f"{self._name}.log")

    def _texts(self) -> Iterator[bytes]:
        """The runs one after the other; with a prefix where a line begins, because pieces of a line follow each other."""
        for mark in self._marks(0):
            for attempt in range(self._first, mark.attempt + 1):
                at_start = True
                offset = 0
                folder = self._folder(mark, attempt)
                while True:
                    parts: list[str] = []
                    for line, after in capped.read(folder, offset, BATCH_BYTES):
                        parts += [f"{mark.id}: " if self._prefix and at_start else "", line.text, line.end]
                        at_start = line.end != ""
                        offset = after
                    if not parts:
                        break
                    yield "".join(parts).encode(errors="replace")

    def _position(self) -> str:
        under_way = (f"{number}:{place.attempt}:{place.offset}" for number, place in sorted(self._places.items()) if place.offset)
        return ";".join([str(self._whole), *under_way])


def _of_run(line: LogRecord, run: str) -> RunLine:
    return RunLine(at=line.at, stream=line.stream, text=line.text, end=line.end, cell=line.cell, run=run)


class _Ranges:
    """A set of whole numbers from 1 on, as ranges: `1-3,5-5`."""

    def __init__(self, ranges: list[tuple[int, int]]) -> None:
        self._ranges = sorted(ranges)

    def __contains__(self, number: int) -> bool:
        return any(first <= number <= last for first, last in self._ranges)

    def __str__(self) -> str:
        return ",".join(f"{first}-{last}" for first, last in self._ranges)

    @property
    def first_missing(self) -> int:
        return self._ranges[0][1] + 1 if self._ranges and self._ranges[0][0] <= 1 else 1

    def add(self, number: int) -> None:
        joined = (number, number)
        apart = []
        for first, last in self._ranges:
            if last + 1 == joined[0] or first == joined[1] + 1:
                joined = (min(first, joined[0]), max(last, joined[1]))
            else:
                apart.append((first, last))
        self._ranges = sorted([*apart, joined])


def _read_position(text: str) -> tuple[_Ranges, dict[int, _Place]]:
    if not re.fullmatch(r"(\d{1,9}-\d{1,9}(,\d{1,9}-\d{1,9})*)?(;\d{1,9}:\d{1,9}:\d{1,15})*", text, re.ASCII):
        raise BadInput("`last` is not the id of a message of this stream.", mend="Leave it out to begin at the start.", field="last")
    ranges, *places = text.split(";")
    whole = _Ranges([(int(first), int(last)) for first, last in (part.split("-") for part in ranges.split(",") if part)])
    found = {}
    for place in places:
        number, attempt, offset = map(int, place.split(":"))
        found[number] = _Place(max(attempt, 1), offset)
    return whole, found


def job_log(context: Context, job: str, *, follow: bool, last: str) -> LogStream:
    """The logs of all runs of a job, merged. Raises `NotFound`, and `BadInput` for an id that is none of ours."""
    job = jobs.show_job(context, job).id

    def marks(first: int) -> Sequence[RunMark]:
        return runs.run_marks(context, job, first=first)

    return LogStream(job, marks, partial(_folder, context.data_dir), name=job, follow=follow, last=last, prefix=True)


def run_log(context: Context, run: str, *, follow: bool, last: str, attempt: int = 0) -> LogStream:
    """The log of one run, over its attempts, or of one of them. Raises as `job_log`, and `NotFound` for an attempt that there was none of."""
    found = runs.show_run(context, run)
    if attempt:
        runs.check_attempt(found, attempt)

    def marks(_first: int) -> Sequence[RunMark]:
        mark = runs.run_mark(context, found.id)
        if mark is None:
            return []
        if 0 < attempt < mark.attempt or (attempt and mark.ended):
            return [msgspec.structs.replace(mark, attempt=attempt, ended=True)]
        return [mark]

    folder = partial(_folder, context.data_dir)
    return LogStream(found.job, marks, folder, name=found.id, follow=follow, last=last, prefix=False, first=attempt or 1)


def _folder(data_dir: Path, mark: RunMark, attempt: int) -> Path:
    return run_dir(data_dir, mark.id, attempt)


class EventStream:
    """Events after `after` as they happen; it has no end. A message's id is the event's seq."""

    def __init__(self, context: Context, job: str, after: int) -> None:
        self.job = job
        self._engine = context.engine
        self._after = after

    def read(self) -> Batch:
        with read(self._engine) as conn:
            found = events.after(conn, self._after, job=self.job or None)
        self._after = found.last
        return Batch([Message("change", event, str(event.seq)) for event in found.events], more=bool(found.events))

    def text(self) -> None:
        return None
