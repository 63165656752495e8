"""From the dispatcher to who looks: it says that the store grew, we read what is new and pass it on as hints."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from jupyter_events import EventLogger

from jupyter_jobs.api.news import News
from jupyter_jobs.model import Event

SCHEMA_ID = "https://schema.jupyter.org/jupyter_jobs/change/v1"
SCHEMA_FILE = Path(__file__).parent / "api" / "events.yaml"


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
