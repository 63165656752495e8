"""What a place where runs execute offers. Every backend passes `tests/backends/test_conformance.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend can do. `survives`: its runs go on without the dispatcher. `shares_memory`: they use this machine's memory.
    `notifies`: `notify` reaches them."""

    survives: bool
    shares_memory: bool
    notifies: bool = False


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to start: the run directory holds `run.json` already. `boot`: the boot of the machine in which it was claimed; empty: this one."""

    run: str
    attempt: int
    directory: Path
    boot: str = ""


class Handle(msgspec.Struct, frozen=True, kw_only=True):
    """How a backend finds a started attempt again, in another dispatcher too. The store keeps it as JSON; `data` is the backend's own."""

    backend: str
    run: str
    data: dict[str, str | int] = {}


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """An ended attempt. `code` and `signal` are known only to the process's parent."""

    code: int | None = None
    signal: int | None = None


class Backend(Protocol):
    """Where runs execute. Methods may raise `errors.Unavailable`; the dispatcher bounds how long it waits for each."""

    name: str
    capabilities: Capabilities

    def start(self) -> None:
        """Make ready for submissions that may come. Called once, on the loop."""
        ...

    def close(self) -> None:
        """Let go of what is not a run's. Runs go on."""
        ...

    async def submit(self, submission: Submission) -> Handle:
        """Start the runner on the run directory. Anything raised means that nothing was started."""
        ...

    async def find(self, submission: Submission) -> Handle | None:
        """The handle of an attempt that may have been started by a dispatcher that ended before it could keep it; None if it was never started, and
        then it never will be."""
        ...

    async def poll(self, handles: Sequence[Handle]) -> list[Exit | None]:
        """For each handle: None while it is under way, how it ended otherwise. A place that is not ours to see is under way."""
        ...

    async def wait(self, handle: Handle) -> Exit:
        """Return once the attempt has ended and nothing of it is left."""
        ...

    async def cancel(self, handle: Handle, *, force: bool = False) -> None:
        """Ask the runner to end its run, which leaves the notebook and a result; with `force` end everything of the run at once."""
        ...

    async def notify(self, handle: Handle) -> None:
        """Tell the runner that `limits.json` in its run directory has changed. It has written an event already, so it listens. One that has ended is
        none's harm."""
        ...

    async def memory(self, handle: Handle) -> int:
        """Bytes that the attempt holds now; 0 where that is unknown."""
        ...

    def logs(self, directory: Path) -> Path:
        """The file with what the runner itself said."""
        ...
