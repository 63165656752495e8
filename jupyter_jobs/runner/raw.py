"""What a kernel's process writes past its protocol: compiled libraries, start-up errors, last words."""

from __future__ import annotations

from collections import deque

from jupyter_jobs.runner.log import Journal, Stream

HELD = 16_384
HEARD = 4 * HELD
"""Characters of what came as messages that are remembered: what is held back is compared with them."""


class RawOutput:
    """Logs the process's standard streams. Some kernels send the same text as messages too: then only what no message said is logged, at the end."""

    def __init__(self, journal: Journal) -> None:
        self.repeated = False
        self._journal = journal
        self._held: dict[Stream, str] = {}
        self._heard: deque[str] = deque()
        self._heard_size = 0

    def __call__(self, descriptor: int, text: str) -> None:
        """Text that came from descriptor 1 or 2 of the process."""
        stream: Stream = "stderr" if descriptor == 2 else "stdout"
        if self.repeated:
            self._held[stream] = (self._held.get(stream, "") + text)[-HELD:]
        else:
            self._journal.output(stream, text)

    def heard(self, text: str) -> None:
        """Text that came as a message."""
        if self.repeated:
            self._heard.append(text[-HEARD:])
            self._heard_size += len(self._heard[-1])
            while self._heard_size - len(self._heard[0]) >= HEARD:
                self._heard_size -= len(self._heard.popleft())

    def flush(self) -> str:
        """Log what no message has said; returns it."""
        heard = "".join(self._heard)
        unheard = ""
        for stream, text in self._held.items():
            lines = "".join(line for line in text.splitlines(keepends=True) if line.strip() and line.strip() not in heard)
            self._journal.output(stream, lines)
            unheard += lines
        self._held.clear()
        return unheard
