"""How a server or a client without one listens to the dispatcher and speaks to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from sqlalchemy import Engine

from jupyter_jobs.dispatcher.process import ensure_dispatcher
from jupyter_jobs.dispatcher.socket import answers, dispatcher_appeared, nudge, subscribe
from jupyter_jobs.settings import Jobs
from jupyter_jobs.sockets import DISPATCHER_SOCKET, socket_path
from jupyter_jobs.store import dispatcher, queue, runs
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


def take_up(engine: Engine, settings: Jobs) -> str:
    """See to runs that nobody looks after, for those who look at runs or wait for them: where the last dispatcher was killed, or the machine has
    started again since, another is started. One that was stopped stays stopped; then this returns what a person is to know, else nothing. Blocks.

    Raises `Unavailable` when a dispatcher is needed and cannot be had.
    """
    if answers(socket_path(settings.data_dir) / DISPATCHER_SOCKET):
        return ""
    with read(engine) as conn:
        if not queue.demand(conn):
            return ""
        lease, active, waiting = dispatcher.current(conn), runs.active(conn), queue.count(conn)
    from jupyter_jobs.actions.health import lives
    from jupyter_jobs.backends import processes

    here, boot = processes.here(), processes.boot_id()
    if lease is None and all(run.host != here or run.boot_id == boot for run in active):
        return (
            f"No dispatcher runs since it was stopped: {len(active)} active and {waiting} queued runs stay as they are shown "
            "until `jupyter jobs dispatcher start`."
        )
    # another host's looks after them, as far as is known here; one that lives is ending just now, or makes its sockets again
    if lease is None or (lease.host == here and not lives(lease)):
        ensure_dispatcher(settings)
    return ""


def dispatcher_was_killed(engine: Engine) -> bool:
    """Whether the last dispatcher of this host ended without giving its lease back. One that was stopped did, and stays stopped."""
    from jupyter_jobs.dispatcher.lease import my_lease

    with read(engine) as conn:
        held = dispatcher.current(conn)
    return held is not None and held.host == my_lease().host
