"""What makes changes visible without anyone asking again and again: listeners that ring when a job changed or a log grew."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from jupyter_jobs.api.answers import Batch, Message, Stream
from jupyter_jobs.api.watch import watch_directories

KEEP_ALIVE_SECONDS = 15.0
"""How often a quiet stream shows that it lives; proxies cut silent connections, and writing finds out that the client has gone."""

T = TypeVar("T")
InThread = Callable[[Callable[[], T]], Awaitable[T]]


class Listener:
    """Someone who waits for news of a job (empty: of any) and of some directories. Belongs to a `News`; close it."""

    def __init__(self, news: News, job: str) -> None:
        self.job = job
        self.directories: frozenset[Path] = frozenset()
        self._news = news
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    def forget(self) -> None:
        """What rang so far is known; call it before looking, so that nothing that comes while looking is lost."""
        self._rung.clear()

    async def wait(self, seconds: float) -> bool:
        """Whether it rang within `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        return self._rung.is_set()

    def watch(self, directories: frozenset[Path]) -> bool:
        """Ring for changes in these directories from now on. True when one is new: look again, it may have changed just before."""
        return self._news.watch(self, directories)

    def close(self) -> None:
        self._news.close_listener(self)


class News:
    """Rings listeners. Belongs to one event loop and is used on it alone."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._watched: set[Path] = set()
        self._watch = watch_directories()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._watch.fileno(), self._directories_changed)

    def listen(self, job: str) -> Listener:
        listener = Listener(self, job)
        self._listeners.add(listener)
        return listener

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def changed(self, jobs: Iterable[str] | None = None) -> None:
        """Something happened to these jobs; None: to any."""
        known = None if jobs is None else set(jobs)
        for listener in self._listeners:
            if known is None or not listener.job or listener.job in known:
                listener.ring()

    def watch(self, listener: Listener, directories: frozenset[Path]) -> bool:
        added = False
        possible = set()
        for directory in directories:
            if directory not in self._watched:
                # one that does not exist yet is tried again when the run's next event comes
                if not self._watch.add(directory):
                    continue
                self._watched.add(directory)
            possible.add(directory)
            added = added or directory not in listener.directories
        listener.directories = frozenset(possible)
        self._drop_unwatched()
        return added

    def close_listener(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        self._drop_unwatched()

    def close(self) -> None:
        self._loop.remove_reader(self._watch.fileno())
        self._watch.close()

    def _drop_unwatched(self) -> None:
        wanted = {directory for listener in self._listeners for directory in listener.directories}
        for directory in self._watched - wanted:
            self._watch.remove(directory)
            self._watched.discard(directory)

    def _directories_changed(self) -> None:
        changed = self._watch.drain()
        for listener in self._listeners:
            if not changed.isdisjoint(listener.directories):
                listener.ring()


async def batches(stream: Stream, news: News, in_thread: InThread[Batch]) -> AsyncGenerator[Sequence[Message], None]:
    """What `stream` has, then what it has after each piece of news, until it ends. An empty batch now and then means: still there."""
    listener = news.listen(stream.job)
    try:
        while True:
            listener.forget()
            batch = await in_thread(stream.read)
            if batch.messages:
                yield batch.messages
            if batch.ended:
                return
            if batch.more or listener.watch(batch.watch):
                continue
            while not await listener.wait(KEEP_ALIVE_SECONDS):
                yield []
    finally:
        listener.close()
