"""From the dispatcher to who looks: it says that the store grew, we read what is new and pass it on as hints."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from jupyter_events import EventLogger
from sqlalchemy import Engine

from jupyter_jobs.api.news import News
from jupyter_jobs.lifecycle import ACTIVE, RunState
from jupyter_jobs.model import Event
from jupyter_jobs.settings import Jobs
from jupyter_jobs.store import runs
from jupyter_jobs.store.database import read

SCHEMA_ID = "https://schema.jupyter.org/jupyter_jobs/change/v1"
SCHEMA_FILE = Path(__file__).parent / "api" / "events.yaml"
BRIEF_SECONDS = 1.0

T = TypeVar("T")


async def follow_dispatcher(settings: Jobs, grown: Callable[[int], Awaitable[None]], absent: Callable[[], Awaitable[None]] | None = None) -> None:
    """Call `grown(seq)` whenever the dispatcher says that the store has more events, for as long as this runs, over dispatchers that come and
    go. `absent` is called when none answers, before waiting for one."""
    from jupyter_jobs.dispatcher.socket import dispatcher_appeared, subscribe

    while True:
        began = time.monotonic()
        async for seq in subscribe(settings):
            await grown(seq)
        if absent is not None:
            await absent()
        if time.monotonic() - began < BRIEF_SECONDS:
            # one that listens and hangs up at once must not make us spin
            await asyncio.sleep(BRIEF_SECONDS)
        await dispatcher_appeared(settings)


class Live:
    """Passes the store's new events on: to listeners of this process, and as `{job, run, state, kind, seq}` to Jupyter's event bus.

    `read(seq)` reads events after a seq, in a thread; `last` is where to begin.
    """

    def __init__(self, news: News, events: EventLogger, read: Callable[[int], Awaitable[list[Event]]], last: int) -> None:
        self._news = news
        self._events = events
        self._read = read
        self._last = last
        self._busy = asyncio.Lock()
        if SCHEMA_ID not in events.schemas.schema_ids:
            events.register_event_schema(SCHEMA_FILE)

    async def catch_up(self, seq: int | None = None) -> list[Event]:
        """Pass on what is new, up to the present; `seq`: nothing to do when that was seen already."""
        passed: list[Event] = []
        async with self._busy:
            while seq is None or seq > self._last:
                found = await self._read(self._last)
                if not found:
                    break
                self._last = found[-1].seq
                for event in found:
                    self._events.emit(schema_id=SCHEMA_ID, data=hint_of(event))
                self._news.changed(event.job for event in found)
                passed += found
        return passed


def hint_of(event: Event) -> dict[str, object]:
    """What everybody on the event bus may see of an event: no parameter, no value."""
    return {"job": event.job, "run": event.run, "state": event.state, "kind": event.kind, "seq": event.seq}


def tell_dispatcher(engine: Engine, settings: Jobs) -> None:
    """Tell the dispatcher that the store changed; start one, or replace an older one, if there is anything to run. Blocks.

    Raises `Unavailable` when one is needed and cannot be had.
    """
    from jupyter_jobs.dispatcher.process import ensure_dispatcher
    from jupyter_jobs.dispatcher.socket import nudge

    with read(engine) as conn:
        waiting = runs.count(conn, ACTIVE | {RunState.QUEUED})
    if waiting:
        ensure_dispatcher(settings)
    else:
        nudge(settings)
