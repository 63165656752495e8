"""What a cell prints, kept within bounds: joined as it comes, and cut in the middle where it is too much for a notebook.

papermill's client keeps a piece for each message, and a cell may print gigabytes, or a million messages. What is no stream stays as it is.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import nbformat
from papermill.clientwrap import PapermillNotebookClient

from jupyter_jobs.runner.notebook import condensed

BLOCK = 64 << 10
"""Characters that are joined before they become an output."""
MOST_PIECES = 20_000
"""Outputs of a cell, where standard output and error take turns."""
TAIL = 4
IN_WIDGETS = 1 << 20
"""Characters that a run may print into widgets."""


class Printed:
    """What one cell has printed so far: into its outputs up to a number of characters, then only the end of it is kept (a quarter as much)."""

    def __init__(self, limit: int) -> None:
        self.name = ""
        self._limit = limit
        self._kept = 0
        self._made = 0
        self._pending: list[str] = []
        self._pending_size = 0
        self._last: deque[tuple[str, str]] = deque()
        self._last_size = 0
        self._dropped = 0
        self._dropped_lines = 0

    def add(self, outs: list[Any], name: str, text: str) -> None:
        """Take a piece of the stream `name`."""
        if name != self.name:
            self.settle(outs)
            self.name = name
        room = self._limit - self._kept - self._pending_size if self._limit else len(text)
        if self._last or self._dropped or len(text) > room or self._made >= MOST_PIECES:
            kept = 0 if self._last or self._dropped or self._made >= MOST_PIECES else max(0, room)
            self._hold(text[:kept])
            self.settle(outs)
            self._keep_last(name, text[kept:])
        else:
            self._hold(text)
        if self._pending_size >= BLOCK:
            self.settle(outs)

    def settle(self, outs: list[Any]) -> None:
        """Make an output of what has been joined so far."""
        if self._pending:
            text = condensed("".join(self._pending))
            self._pending.clear()
            self._pending_size = 0
            self._kept += len(text)
            self._made += 1
            outs.append(_stream(self.name, text))

    def finish(self, outs: list[Any]) -> None:
        """Have everything in the outputs: what was left out as a line that says so, and after it the end."""
        self.settle(outs)
        if self._dropped:
            outs.append(_stream("stderr", f"\n… {self._dropped_lines:,} lines ({self._dropped / 1e6:.1f} MB) left out; see the run's log …\n"))
        outs.extend(_stream(name, text) for name, text in self._last)
        self._last.clear()
        self._last_size = self._dropped = self._dropped_lines = 0

    def _hold(self, text: str) -> None:
        if text:
            self._pending.append(text)
            self._pending_size += len(text)

    def _keep_last(self, name: str, text: str) -> None:
        most = self._limit // TAIL or BLOCK
        if len(text) > most:
            self._drop(text[: len(text) - most])
            text = text[len(text) - most :]
        if self._last and self._last[-1][0] == name and len(self._last[-1][1]) + len(text) <= BLOCK:
            self._last[-1] = (name, self._last[-1][1] + text)
        else:
            # in small pieces, because whole ones go
            self._last.extend((name, text[start : start + BLOCK]) for start in range(0, len(text), BLOCK))
        self._last_size += len(text)
        while self._last_size > most or len(self._last) > MOST_PIECES:
            _, oldest = self._last.popleft()
            self._last_size -= len(oldest)
            self._drop(oldest)

    def _drop(self, text: str) -> None:
        self._dropped += len(text)
        self._dropped_lines += text.count("\n")


class BoundedClient(PapermillNotebookClient):  # type: ignore[misc]
    """papermill's client; a cell's streams take at most `max_stream` characters of the notebook (0: any number) and a quarter more for their end."""

    max_stream = 0
    _in_widgets = 0
    _widgets_full = False

    def output(self, outs: list[Any], msg: dict[str, Any], display_id: str | None, cell_index: int) -> Any:
        if self.output_hook_stack[msg["parent_header"].get("msg_id")]:
            return self._into_widget(outs, msg, display_id, cell_index)
        if self.clear_before_next_output:
            self._printed.pop(cell_index, None)
        if msg["msg_type"] != "stream" or self.clear_before_next_output:
            self._settle(cell_index, outs, last=msg["msg_type"] in ("error", "execute_result"))
            return super().output(outs, msg, display_id, cell_index)
        printed = self._printed.get(cell_index)
        if printed is None:
            printed = self._printed[cell_index] = Printed(self.max_stream)
        printed.add(outs, msg["content"]["name"], msg["content"]["text"])
        return None

    def _into_widget(self, outs: list[Any], msg: dict[str, Any], display_id: str | None, cell_index: int) -> Any:
        # an Output widget is sent back to the kernel whole at each piece
        if msg["msg_type"] == "stream" and self.max_stream:
            self._in_widgets += len(msg["content"]["text"])
            if self._widgets_full:
                return None
            if self._in_widgets > IN_WIDGETS:
                self._widgets_full = True
                msg["content"] = {"name": "stderr", "text": "\n… what follows is left out; see the run's log …\n"}
        return super().output(outs, msg, display_id, cell_index)

    def clear_output(self, outs: list[Any], msg: dict[str, Any], cell_index: int) -> None:
        if not self.output_hook_stack[msg["parent_header"].get("msg_id")] and not msg["content"].get("wait"):
            self._printed.pop(cell_index, None)
        super().clear_output(outs, msg, cell_index)

    async def async_execute_cell(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().async_execute_cell(*arguments, **options)
        finally:
            self.settle_outputs()

    def settle_outputs(self) -> None:
        """Have everything that cells have printed so far in their outputs."""
        for index in list(self._printed):
            self._settle(index, self.nb.cells[index].outputs, last=True)

    def _settle(self, cell_index: int, outs: list[Any], *, last: bool) -> None:
        if printed := self._printed.get(cell_index):
            if last:
                printed.finish(outs)
            else:
                printed.settle(outs)

    @property
    def _printed(self) -> dict[int, Printed]:
        found: dict[int, Printed] = self.__dict__.setdefault("_printed_by_cell", {})
        return found


def _stream(name: str, text: str) -> Any:
    return nbformat.v4.new_output("stream", name=name, text=text)  # type: ignore[no-untyped-call]
