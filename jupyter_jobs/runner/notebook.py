"""The executed notebook: written while it runs, its streams merged, its ids kept."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import nbformat

from jupyter_jobs.runner import room
from jupyter_jobs.runner.failures import RunFailed
from jupyter_jobs.runner.log import Journal
from jupyter_jobs.runner.rundir import write_atomic

log = logging.getLogger(__name__)

SPLIT_MOST = 4 << 20
"""Characters of streams up to which texts are split into lines, as notebooks usually have them; beyond, that takes many times the memory."""
FIRST_SAVE = 0.5
"""Seconds until the notebook of a run that goes on is written for the first time."""


class Saver:
    """Writes the notebook some seconds after it changed, not at every change, and at the end."""

    def __init__(self, nb: Any, path: Path, interval: float) -> None:
        self._nb = nb
        self._path = path
        self._interval = interval
        # a run that is over in no time writes its notebook once
        self._last = time.monotonic() - max(0.0, interval - FIRST_SAVE)
        self._pending: asyncio.TimerHandle | None = None

    def changed(self) -> None:
        """Have the notebook written soon. Called on the loop."""
        if not self._pending:
            wait = max(0.0, self._last + self._interval - time.monotonic())
            self._pending = asyncio.get_running_loop().call_later(wait, self._save_soon)

    def _save_soon(self) -> None:
        self._pending = None
        try:
            self.save()
        except OSError as error:
            # the last time counts
            log.error("The notebook cannot be written: %s", error)

    def save(self, final: bool = False) -> None:
        """Write the notebook. Raises OSError."""
        began = time.monotonic()
        # in between without splitting texts into lines, which needs a copy of everything
        if final and _printed(self._nb) < SPLIT_MOST:
            text: str = nbformat.v4.writes(self._nb)  # type: ignore[no-untyped-call]
        else:
            text = json.dumps(self._nb, ensure_ascii=False)
        # half surrogate pairs become JSON escapes this way
        data = text.encode("utf-8", "backslashreplace")
        del text
        write_atomic(self._path, data)
        self._last = time.monotonic()
        # a large notebook must not keep the run busy with writing
        self._interval = max(self._interval, 10 * (self._last - began))


def save_last(saver: Saver, journal: Journal) -> None:
    """Write the notebook at the end of its run. Raises RunFailed where that is impossible, unless the run ends with another reason already."""
    # in a `finally`, where this is what is on its way
    ends_with = sys.exc_info()[1]
    try:
        saver.save(final=True)
    except OSError as error:
        journal.note(f"The executed notebook could not be written: {error.strerror}.")
        if ends_with is not None:
            return
        if room.is_full(error):
            raise RunFailed(room.no_room("the executed notebook", error)) from error
        raise


def _printed(nb: Any) -> int:
    return sum(len(output.text) for cell in nb.cells for output in cell.get("outputs", ()) if output.output_type == "stream")


def merge_streams(cell: Any, index: int, places: MutableMapping[str, dict[int, list[int]]]) -> None:
    """Join successive pieces of the same stream, as JupyterLab does, and drop what a carriage return overwrote.

    `places` is nbclient's map of display ids to positions among a cell's outputs; it is kept right.
    """
    outputs = cell.get("outputs")
    if not outputs:
        return
    merged: list[Any] = []
    pieces: list[list[str]] = []
    position = []
    for output in outputs:
        if merged and output.output_type == "stream" and merged[-1].output_type == "stream" and merged[-1].name == output.name:
            pieces[-1].append(output.text)
        else:
            merged.append(output)
            pieces.append([output.text] if output.output_type == "stream" else [])
        position.append(len(merged) - 1)
    for output, texts in zip(merged, pieces, strict=True):
        if texts:
            output.text = overwritten("".join(texts))
    cell.outputs = merged
    for by_cell in places.values():
        if index in by_cell:
            by_cell[index] = [position[old] for old in by_cell[index]]


def overwritten(text: str) -> str:
    """Text as a terminal leaves it: of a line with carriage returns, what came after the last one."""
    if "\r" not in text:
        return text
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


def condensed(text: str) -> str:
    """A piece of text that takes less room: `overwritten` makes the same of it, wherever in a text it stands."""
    if "\r" not in text:
        return text
    lines = text.split("\n")
    shorter = ["".join(line.rstrip("\r").rpartition("\r")[1:]) for line in lines]
    return "\n".join(shorter) + ("\r" if lines[-1].endswith("\r") else "")


def project_seen(started_in: str, folder: str, project: str) -> str:
    """Where a run sees its project: `started_in` less the notebook's `folder` in a copy, else the original place."""
    if not started_in:
        return project
    path = Path(started_in)
    return str(path.parents[len(Path(folder).parts) - 1]) if folder and folder != "." else str(path)


def keep_error(cell: Any, reply: Mapping[str, Any]) -> None:
    """Have a failed cell's error among its outputs, also where the kernel only replied with it (IPython's UsageError)."""
    if not any(output.output_type == "error" for output in cell.outputs):
        output = error_output(reply.get("ename", ""), reply.get("evalue", ""))
        output["traceback"] = list(reply.get("traceback") or output["traceback"])
        cell.outputs.append(output)


def error_output(name: str, text: str) -> Any:
    """An error output as a kernel would have left it."""
    return nbformat.v4.new_output("error", ename=name, evalue=text, traceback=[f"{name}: {text}"])  # type: ignore[no-untyped-call]
