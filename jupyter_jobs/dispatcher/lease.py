"""One dispatcher per store: a file lock on this host, a row in the store against other hosts."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection

from jupyter_jobs.backends import processes
from jupyter_jobs.backends.processes import Process
from jupyter_jobs.dispatcher.ledger import Ledger
from jupyter_jobs.errors import Conflict
from jupyter_jobs.store import dispatcher as table
from jupyter_jobs.store import events
from jupyter_jobs.store.database import SCHEMA_VERSION
from jupyter_jobs.store.dispatcher import Lease
from jupyter_jobs.version import __version__

HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 120.0
"""A dispatcher of another host that was silent for so long is taken for dead."""
WATCH_SECONDS = 1.5 * HEARTBEAT_SECONDS
"""How long a heartbeat that looks old is watched before its dispatcher is taken for dead."""
LOCK_SECONDS = 20.0


async def lock(path: Path) -> int:
    """Lock the file `path` and return its descriptor; waits for one that is just ending. Raises `Conflict` when it stays locked."""
    if (descriptor := lock_now(path)) is not None:
        return descriptor
    loop = asyncio.get_running_loop()
    got: asyncio.Future[int] = loop.create_future()

    def deliver(descriptor: int) -> None:
        if got.done():
            os.close(descriptor)
        else:
            got.set_result(descriptor)

    def wait() -> None:
        descriptor = lock_blocking(path)
        try:
            loop.call_soon_threadsafe(deliver, descriptor)
        except RuntimeError:  # the loop is closed: we were given up
            os.close(descriptor)

    threading.Thread(target=wait, name="lock", daemon=True).start()
    try:
        async with asyncio.timeout(LOCK_SECONDS):
            return await got
    except TimeoutError as error:
        raise taken("on this machine") from error


def lock_now(path: Path) -> int | None:
    """The locked descriptor, or None when another process has the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if still_there(descriptor, path):
            return descriptor
        os.close(descriptor)


def lock_blocking(path: Path) -> int:
    """The locked descriptor, however long that takes."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if still_there(descriptor, path):
            return descriptor
        os.close(descriptor)


def still_there(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at `path`; a cleaner of temporary files or a logout may have removed it."""
    with contextlib.suppress(FileNotFoundError):
        mine, there = os.fstat(descriptor), path.stat()
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
    return False


def my_lease() -> Lease:
    """A lease for this process, from now."""
    me = processes.identify(os.getpid())
    now = events.now()
    return Lease(
        host=me.host,
        boot_id=me.boot,
        pid=me.pid,
        pid_started=me.started,
        version=__version__,
        schema=SCHEMA_VERSION,
        since=now,
        heartbeat_at=now,
    )


async def watch(ledger: Ledger, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> Lease | None:
    """The lease of another host's dispatcher that is dead: its heartbeat looks old (or comes from the future) and does not beat while we look.

    Clocks of two hosts differ, and one may have been set: an old time alone proves nothing. Returns at once when there is no such lease.
    """
    held = await ledger.read(table.current)
    if held is None or held.host == processes.here() or timedelta(0) <= events.now() - held.heartbeat_at < timedelta(seconds=STALE_SECONDS):
        return None
    await pause(WATCH_SECONDS)
    return held if await ledger.read(table.current) == held else None


def acquire(conn: Connection, mine: Lease, dead: Lease | None = None) -> None:
    """Take the row. Raises `Conflict` when a living dispatcher has it: on another host (unless it is `dead`), or on this one behind another
    socket directory."""
    held = table.current(conn)
    if held is not None and held.pid != mine.pid:
        process = Process(host=held.host, boot=held.boot_id, pid=held.pid, started=held.pid_started)
        if processes.alive(process):
            # it lost its sockets (a logout removes the runtime directory): this tells it to make them again
            processes.send(process, signal.SIGHUP)
            raise taken(f"as pid {held.pid}")
    if (held := table.acquire(conn, mine, dead)) is not None:
        raise taken(f"on {held.host} (pid {held.pid}), heard from at {held.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC")


def taken(where: str) -> Conflict:
    return Conflict(
        f"A dispatcher of this store already runs {where}.",
        code="dispatcher_running",
        mend="Use that one, or end it with `jupyter jobs dispatcher stop` there.",
    )
