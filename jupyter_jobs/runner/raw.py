"""What a kernel's process writes past its protocol: compiled libraries, start-up errors, last words."""

from __future__ import annotations

from collections import deque

from jupyter_jobs.runner.log import Journal, Stream

KEPT = 16_384
"""Characters of a stream that wait for their message, and of messages that wait for their text."""


class RawOutput:
    """Logs the process's standard streams. Some kernels send the same text as messages too: then only what no message said is logged, at the end.

    `cell` is the number of the cell that runs, or of the last one that ran.
    """

    def __init__(self, journal: Journal) -> None:
        self.repeated = False
        self.cell = 0
        self._journal = journal
        self._echoes: dict[Stream, Echo] = {"stdout": Echo(), "stderr": Echo()}

    def __call__(self, descriptor: int, text: str) -> None:
        """Text that came from descriptor 1 or 2 of the process."""
        stream: Stream = "stderr" if descriptor == 2 else "stdout"
        if self.repeated:
            self._echoes[stream].came(text, self.cell)
        else:
            self._journal.output(stream, text, self.cell)

    def heard(self, stream: Stream, text: str) -> None:
        """Text that came as a message."""
        if self.repeated:
            self._echoes[stream].said(text)

    def flush(self) -> str:
        """Log what no message has said, for the cells in which it came; returns it."""
        unheard = ""
        for stream, echo in self._echoes.items():
            for cell, text in echo.unheard():
                self._journal.output(stream, text, cell)
                unheard += text
        return unheard


class Echo:
    """One stream that comes twice, by two ways, in the same order: as it is, and as messages with other text in between."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, str]] = deque()
        self._size = 0
        self._messages = ""

    def came(self, text: str, cell: int) -> None:
        for line in text.splitlines(keepends=True):
            self._lines.append((cell, line))
            self._size += len(line)
        self._compare()
        while self._size > KEPT:
            self._size -= len(self._lines.popleft()[1])

    def said(self, text: str) -> None:
        self._messages = (self._messages + text)[-max(KEPT, len(text)) :]
        self._compare()

    def _compare(self) -> None:
        """Drop the lines that messages have said; what messages said before such a line is not looked at again."""
        waiting: deque[tuple[int, str]] = deque()
        for cell, line in self._lines:
            _, found, after = self._messages.partition(line.strip()) if line.strip() else ("", "blank", self._messages)
            if found:
                self._messages = after
                self._size -= len(line)
            else:
                waiting.append((cell, line))
        self._lines = waiting

    def unheard(self) -> list[tuple[int, str]]:
        """The lines that no message said, with the cells in which they came; they are forgotten."""
        lines = list(self._lines)
        self._lines.clear()
        self._size = 0
        return lines
