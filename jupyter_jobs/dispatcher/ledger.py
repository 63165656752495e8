"""The store as the dispatcher uses it: one thread does all of it, so the event loop never waits on a disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine

from jupyter_jobs.store import events
from jupyter_jobs.store.database import read, write

T = TypeVar("T")
P = ParamSpec("P")


class Ledger:
    """Transactions in the order in which they were asked for. `announce` is called on the loop with the last event's number after each."""

    def __init__(self, engine: Engine, announce: Callable[[int], None]) -> None:
        self.engine = engine
        self._announce = announce
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")

    async def write(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`function(connection, …)` in a transaction that may write."""

        def work() -> tuple[T, int]:
            with write(self.engine) as conn:
                return function(conn, *args, **kwargs), events.last_seq(conn)

        return await self._do(work)

    async def read(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`function(connection, …)` in a transaction that only reads."""

        def work() -> tuple[T, int]:
            with read(self.engine) as conn:
                return function(conn, *args, **kwargs), events.last_seq(conn)

        return await self._do(work)

    async def _do(self, work: Callable[[], tuple[T, int]]) -> T:
        # shielded: a transaction that has begun is told to the subscribers, whoever stops waiting for it
        done = asyncio.ensure_future(asyncio.get_running_loop().run_in_executor(self._thread, work))
        done.add_done_callback(self._tell)
        result, _ = await asyncio.shield(done)
        return result

    def _tell(self, done: asyncio.Future[tuple[T, int]]) -> None:
        if not done.cancelled() and done.exception() is None:
            self._announce(done.result()[1])

    def close(self) -> None:
        """Wait for what was asked for, then close the store."""
        self._thread.shutdown()
        self.engine.dispose()
