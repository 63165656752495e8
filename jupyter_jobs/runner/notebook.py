"""The executed notebook: written while it runs, its streams merged, its ids kept."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Container, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import nbformat

from jupyter_jobs.runner.rundir import write_atomic


class Saver:
    """Writes the notebook some seconds after it changed, not at every change, and at the end."""

    def __init__(self, nb: Any, path: Path, interval: float) -> None:
        self._nb = nb
        self._path = path
        self._interval = interval
        self._last = 0.0
        self._pending: asyncio.TimerHandle | None = None

    def changed(self) -> None:
        """Have the notebook written soon. Called on the loop."""
        if not self._pending:
            wait = max(0.0, self._last + self._interval - time.monotonic())
            self._pending = asyncio.get_running_loop().call_later(wait, self.save)

    def save(self, final: bool = False) -> None:
        """Write the notebook. Raises OSError."""
        self._pending = None
        began = time.monotonic()
        # in between without splitting texts into lines, which needs a copy of everything
        text: str = nbformat.v4.writes(self._nb) if final else json.dumps(self._nb, ensure_ascii=False)  # type: ignore[no-untyped-call]
        # half surrogate pairs become JSON escapes this way
        write_atomic(self._path, text.encode("utf-8", "backslashreplace"))
        self._last = time.monotonic()
        # a large notebook must not keep the run busy with writing
        self._interval = max(self._interval, 10 * (self._last - began))


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


def unique_id(wanted: str, taken: Container[str]) -> str:
    """A cell id that no cell of the source has."""
    while wanted in taken:
        wanted += "-"
    return wanted


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
