"""How a server or a client without one listens to the dispatcher and speaks to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from sqlalchemy import Engine

from jupyter_jobs.dispatcher.process import ensure_dispatcher
from jupyter_jobs.dispatcher.socket import dispatcher_appeared, nudge, subscribe
from jupyter_jobs.settings import Jobs
from jupyter_jobs.store import dispatcher, queue
from jupyter_jobs.store.database import read

BRIEF_SECONDS = 1.0


async def follow_dispatcher(settings: Jobs, grown: Callable[[int], Awaitable[None]], absent: Callable[[], Awaitable[None]]) -> None:
    """Call `grown(seq)` whenever the dispatcher says that the store has more events, for as long as this runs, over dispatchers that come and
    go. `absent` is called when none answers, before waiting for one."""
    while True:
        began = time.monotonic()
        async for seq in subscribe(settings):
            await grown(seq)
        await absent()
        if time.monotonic() - began < BRIEF_SECONDS:
            # one that listens and hangs up at once must not make us spin
            await asyncio.sleep(BRIEF_SECONDS)
        await dispatcher_appeared(settings)


def tell_dispatcher(engine: Engine, settings: Jobs) -> None:
    """Tell the dispatcher that the store changed; start one, or replace an older one, if there is anything to run. Blocks.

    Raises `Unavailable` when one is needed and cannot be had.
    """
    with read(engine) as conn:
        needed = queue.demand(conn)
    if needed:
        ensure_dispatcher(settings)
    else:
        nudge(settings)


def dispatcher_was_killed(engine: Engine) -> bool:
    """Whether the last dispatcher of this host ended without giving its lease back. One that was stopped did, and stays stopped."""
    from jupyter_jobs.dispatcher.lease import my_lease

    with read(engine) as conn:
        held = dispatcher.current(conn)
    return held is not None and held.host == my_lease().host
