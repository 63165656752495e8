"""What the dispatcher knows while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from jupyter_jobs.actions.places import run_dir
from jupyter_jobs.backends.base import Backend, Handle
from jupyter_jobs.dispatcher.ledger import Ledger
from jupyter_jobs.model import Json, Progress, RunError
from jupyter_jobs.settings import Jobs
from jupyter_jobs.store import jobs
from jupyter_jobs.store.jobs import Frozen

KEPT_JOBS = 100
log = logging.getLogger("jupyter_jobs.dispatcher")

CHECK_SHARE = 25.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long we wait for others, in seconds. `grace`: from asking a run to end until it is killed. `overtime`: what a run may take beyond its time
    limit before we end it, because its runner did not. `check`: how long a look at an environment answers for runs that start after it."""

    submit: float = 60.0
    answer: float = 10.0
    grace: float = 10.0
    progress: float = 0.2
    overtime: float = 60.0
    check: float = 2.0


@dataclass(eq=False, kw_only=True)
class Active:
    """A run under way: claimed, perhaps not started yet (`handle` None). `parameters` and `label` are of one that we claimed ourselves."""

    run: str
    job: str
    attempt: int
    directory: Path
    parameters: dict[str, Json] = field(default_factory=dict)
    label: str = ""
    handle: Handle | None = None
    recorded: bool = False
    """The handle is in the store."""
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
    began: float | None = None
    """When the runner wrote its first event."""
    extended: float = 0.0
    relimit: asyncio.Event = field(default_factory=asyncio.Event)
    """`began` or `extended` changed."""
    overdue: RunError | None = None
    """Why we end it: it is far beyond its time limit."""


@dataclass(eq=False, kw_only=True)
class Check:
    """A look at a frozen environment: when it began and ended, in seconds of the event loop's clock."""

    task: asyncio.Task[None]
    began: float
    ended: float | None = None

    def stands(self, now: float, window: float) -> bool:
        """Whether it answers for a run that starts now: it goes on, or was good and began less than `window` seconds ago. A long one stands longer,
        so that looking takes at most a twenty-fifth of the time."""
        if self.ended is None:
            return True
        good = not self.task.cancelled() and self.task.exception() is None
        return good and now - self.began <= max(window, CHECK_SHARE * (self.ended - self.began))


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
    checks: dict[object, Check] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    """Runs of which it was said what they wait for, and what that was: `memory`, `cpu` or `disk`."""
    frozen: dict[str, Frozen] = field(default_factory=dict)
    """What runs of these jobs need of them; it never changes."""
    peaks: dict[str, int] = field(default_factory=dict)
    """The most memory that a run of each active job took so far."""
    nudged: bool = True
    """Others may have changed the store since we looked."""
    timer: asyncio.TimerHandle | None = None
    not_before: datetime | None = None
    """When the next run that waits for a time may start, for which `timer` is set."""
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

    def nudge(self) -> None:
        """Look at the store: others may have changed it."""
        self.nudged = True
        self.wake.set()

    def wake_at(self, when: datetime | None) -> None:
        """Look at the queue at that time, and at no other that was set before. Set again at each heartbeat, since clocks jump and machines sleep."""
        self.not_before = when
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if when is not None:
            seconds = max(0.0, (when - datetime.now(UTC)).total_seconds())
            self.timer = asyncio.get_running_loop().call_later(seconds, self.wake.set)

    async def frozen_of(self, job: str) -> Frozen | None:
        """What the runs of a job need of it; None when it is gone."""
        if job not in self.frozen:
            found = await self.ledger.read(jobs.frozen, job)
            if found is None:
                return None
            if len(self.frozen) >= KEPT_JOBS:
                self.frozen.clear()
            self.frozen[job] = found
        return self.frozen[job]

    def drain_without_store(self) -> None:
        """End because the data directory is gone, which nothing brings back."""
        self.drain(f"{self.settings.data_dir} has been removed: there is no store to serve")

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
        self.wake_at(self.not_before)
        for run in self.active.values():
            run.changed.set()


Prepare = Callable[[Dispatch, Active, Frozen], str]
"""Makes the run directory of an attempt, with `run.json`, and returns the kind of its workspace."""
