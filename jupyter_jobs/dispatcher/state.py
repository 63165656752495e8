"""What the dispatcher knows while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from jupyter_jobs.actions.places import run_dir
from jupyter_jobs.backends.base import Backend, Handle
from jupyter_jobs.dispatcher.ledger import Ledger
from jupyter_jobs.model import Json, Progress
from jupyter_jobs.settings import Jobs

log = logging.getLogger("jupyter_jobs.dispatcher")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long we wait for others, in seconds. `grace`: from asking a run to end until it is killed."""

    submit: float = 60.0
    answer: float = 10.0
    grace: float = 10.0
    progress: float = 0.2


@dataclass(eq=False, kw_only=True)
class Active:
    """A run under way: claimed, perhaps not started yet (`handle` None)."""

    run: str
    job: str
    attempt: int
    directory: Path
    handle: Handle | None = None
    submitting: bool = False
    submitted: asyncio.Event = field(default_factory=asyncio.Event)
    abandoned: bool = False
    """The store does not know it any more: nothing is written about it."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    cancel: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    offset: int = 0
    running: bool = False
    progress: Progress | None = None
    records: dict[str, Json] = field(default_factory=dict)
    workspace: str = ""


@dataclass(eq=False, kw_only=True)
class Dispatch:
    """The dispatcher's own state; one event loop, no locks."""

    settings: Jobs
    ledger: Ledger
    backend: Backend
    sockets: Path
    parallel: int
    prepare: Prepare
    limits: Limits = field(default_factory=Limits)
    active: dict[str, Active] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)
    """Runs of another host, which we can only look at from time to time."""
    checks: dict[object, asyncio.Task[None]] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)
    """Runs of which it was said that they wait for memory."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    why: str = ""
    _beats: list[asyncio.Future[None]] = field(default_factory=list)

    def drain(self, why: str) -> None:
        """Start nothing more and end soon; runs go on."""
        if not self.draining.is_set():
            self.why = why
            log.info("ending: %s; %d active runs go on", why, len(self.active))
            self.draining.set()
            self.wake.set()

    def directory_of(self, run: str, attempt: int) -> Path:
        """The run directory of an attempt."""
        return run_dir(Path(self.settings.data_dir).absolute(), run, attempt)

    async def next_beat(self) -> None:
        """Return at the next heartbeat: when to try again what the store or a disk refused."""
        beat: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._beats.append(beat)
        await beat

    def beat(self) -> None:
        for future in self._beats:
            if not future.done():
                future.set_result(None)
        self._beats.clear()
        for run in self.active.values():
            run.changed.set()


Prepare = Callable[[Dispatch, Active], str]
"""Makes the run directory of an attempt, with `run.json`, and returns the kind of its workspace."""
