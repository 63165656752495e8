"""The storm: while a job runs, processes of it are killed at moments that a seed chooses among its events."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from sqlalchemy.exc import OperationalError

from jupyter_jobs.client import has_ended
from jupyter_jobs.dispatcher.process import ensure_dispatcher
from jupyter_jobs.dispatcher.socket import dispatcher_appeared, subscribe
from jupyter_jobs.errors import JobsError
from jupyter_jobs.model import Job
from jupyter_jobs.store import events, jobs
from jupyter_jobs.store.database import open_store, read
from tests.acceptance.faults import victims
from tests.acceptance.faults.site import Site

SECONDS = 600.0
"""The most that a sweep may take. Nothing waits for time to pass but the storm itself, at most 0.3 s before each stroke."""


@dataclass
class Storm:
    """What was done. `hit`: number and attempt of runs of which a process was killed."""

    strokes: list[str] = field(default_factory=list)
    hit: set[tuple[int, int]] = field(default_factory=set)

    def counts(self) -> Counter[str]:
        return Counter(self.strokes)


class Watch:
    """The store as it changes: `seq` of its last event, and whether the job has ended."""

    def __init__(self, site: Site, job: str) -> None:
        self._site = site
        self._job = job
        self._engine = open_store(site.settings.data_dir)
        self._changed = asyncio.Condition()
        self.seq = 0
        self.over = False

    async def run(self) -> None:
        """Follow until the job has ended, whatever becomes of the dispatchers."""
        while not self.over:
            await dispatcher_appeared(self._site.settings)
            async with contextlib.aclosing(subscribe(self._site.settings)) as announced:
                async for _ in announced:
                    await asyncio.to_thread(self._look)
                    async with self._changed:
                        self._changed.notify_all()
                    if self.over:
                        break
        self._engine.dispose()

    def _look(self) -> None:
        try:
            with read(self._engine) as conn:
                job = jobs.get(conn, self._job)
                seq = events.last_seq(conn)
        except OperationalError:
            # on a full disk SQLite cannot even read at times; it is looked at again when the dispatcher has written something
            return
        assert job is not None
        self.seq = seq
        self.over = has_ended(job)

    async def until(self, seq: int) -> None:
        """Return once the store has come to event `seq`, or the job has ended."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.over or self.seq >= seq)


async def rage(
    site: Site, job: Job, rng: random.Random, *, most: int, gap: int, also: Callable[[Watch], Coroutine[None, None, None]] | None = None
) -> Storm:
    """Kill up to `most` processes, about one each `gap` events, until the job has ended. `also` runs beside it."""
    storm = Storm()
    watch = Watch(site, job.id)
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        group.create_task(watch.run())
        other = group.create_task(also(watch)) if also else None
        server = group.create_task(asyncio.to_thread(lambda: None))
        deck: list[str] = []
        while not watch.over and len(storm.strokes) < most:
            await watch.until(watch.seq + rng.randint(1, 2 * gap))
            # a moment between two events too
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rng.uniform(0, 0.3)):
                    await watch.until(watch.seq + 1)
            if not deck:
                deck = rng.sample(victims.KINDS, len(victims.KINDS))
            if watch.over:
                break
            stroke = await asyncio.to_thread(_strike, site, rng, deck)
            if stroke is None:
                continue
            storm.strokes.append(stroke.kind)
            if stroke.attempt:
                storm.hit.add(stroke.attempt)
            if stroke.kind == "server" and server.done():
                server = group.create_task(asyncio.to_thread(_again, site))
            if stroke.kind == "dispatcher":
                await asyncio.to_thread(ensure, site)
        await watch.until(1 << 62)
        if other is not None:
            other.cancel()
    return storm


def _strike(site: Site, rng: random.Random, deck: list[str]) -> victims.Found | None:
    """Kill a process of the first kind in the deck of which there is one, else of any."""
    living = victims.found_in(site)
    # the rest of the deck may be of kinds that there are none of, where nothing is forked
    for kind in [*deck, *(kind for kind in rng.sample(victims.KINDS, len(victims.KINDS)) if kind not in deck)]:
        able = [each for each in living if each.kind == kind and (kind not in victims.OF_A_RUN or each.attempt)]
        if able:
            if kind in deck:
                deck.remove(kind)
            chosen = rng.choice(sorted(able, key=lambda each: each.process.pid))
            return chosen if victims.kill(chosen) else None
    return None


def _again(site: Site) -> None:
    assert site.server is not None
    site.server.wait()
    site.start_server()


def ensure(site: Site, tries: int = 5) -> None:
    """As whoever looks at their jobs next would."""
    for left in reversed(range(tries)):
        try:
            ensure_dispatcher(site.settings)
            return
        except JobsError:
            # a full disk may refuse it, or it was struck while it rose
            if not left:
                raise


def beat(site: Site) -> None:
    """Have the dispatcher try again at once what a store refused."""
    for each in victims.found_in(site):
        if each.kind == "dispatcher":
            victims.processes.send(each.process, signal.SIGHUP)
