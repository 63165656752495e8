"""The way to an endpoint in this process, on the store itself: the same table, no server."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import msgspec

from jupyter_jobs.client import Query, Sent, query_text
from jupyter_jobs.errors import JobsError

if TYPE_CHECKING:
    from jupyter_jobs.actions.context import Context
    from jupyter_jobs.api.answers import Message, Stream
    from jupyter_jobs.api.news import News
    from jupyter_jobs.settings import Jobs

log = logging.getLogger(__name__)


class LocalTransport:
    """The endpoints in this process, on the store itself. Paths are file names."""

    remote = False

    def __init__(self, settings: Jobs | None = None) -> None:
        from jupyter_jobs.settings import load_settings

        self._settings = settings or load_settings()
        self._context: Context | None = None
        self._owed = False
        """A dispatcher was needed for a change of ours and could not be told."""
        self._said = ""
        self._followed = 0
        """Streams that are open: they see by themselves whether a dispatcher is there."""

    def request(self, method: str, path: str, query: Query, body: bytes) -> bytes:
        from jupyter_jobs.api.answers import Document

        answer = self._call(method, path, query, body)
        if answer is None:
            return b""
        if isinstance(answer, Document):
            return b"".join(answer.chunks())
        return msgspec.json.encode(answer)

    def stream(self, path: str, query: Query) -> Iterator[Sent]:
        stream: Stream = self._call("GET", path, query, b"")  # type: ignore[assignment]
        self._followed += 1
        try:
            for message in _messages(stream, self._take_up, self._settings):
                yield Sent(message.event, b"{}" if message.data is None else msgspec.json.encode(message.data), message.id)
        finally:
            self._followed -= 1

    def close(self) -> None:
        if self._context is not None:
            self._context.engine.dispose()
            self._context = None

    def _call(self, method: str, path: str, query: Query, body: bytes) -> object:
        from sqlalchemy.exc import DBAPIError

        from jupyter_jobs.api.routes import ROUTES
        from jupyter_jobs.api.table import decode, find_route

        route, values = find_route(ROUTES, method, path)
        context, request = self._opened(), decode(route, values, query_text(query), body)
        try:
            if route.method == "GET" and not self._followed:
                self._look_after_runs()
            return route.endpoint(context, request)
        except DBAPIError as error:
            from jupyter_jobs.store.database import shown
            from jupyter_jobs.store.refusal import refusal

            raise refusal(shown(context.engine), error) from None

    def _opened(self) -> Context:
        if self._context is None:
            from jupyter_jobs.actions.context import local_context
            from jupyter_jobs.dispatcher.process import make_way

            # opening the store may migrate it, which an older dispatcher must not see happen
            replaced = make_way(self._settings)
            self._context = local_context(self._settings, self._nudge)
            if replaced:
                self._nudge()
        return self._context

    def _nudge(self) -> None:
        from jupyter_jobs.api.dispatching import tell_dispatcher

        self._owed = True
        tell_dispatcher(self._opened().engine, self._settings)
        self._owed = False

    def _look_after_runs(self) -> None:
        """What is shown next shall be true: that takes a dispatcher. Where none can be had it is shown all the same."""
        try:
            self._take_up()
        except JobsError as error:
            self._say(error.message)

    def _take_up(self) -> None:
        """Start a dispatcher if runs need one that was killed; say it when it was stopped. Raises `Unavailable` when none can be had."""
        from jupyter_jobs.api.dispatching import take_up

        if self._owed:
            self._nudge()
        elif said := take_up(self._opened().engine, self._settings):
            self._say(said)

    def _say(self, text: str) -> None:
        """Say it once: whoever follows a job looks at it again and again."""
        if text != self._said:
            self._said = text
            log.warning(text)


def _messages(stream: Stream, take_up: Callable[[], None], settings: Jobs) -> Iterator[Message]:
    """The messages of a stream, from an event loop in a thread of its own: the caller may be inside one, as a kernel's cells are."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="jupyter_jobs stream", daemon=True)
    thread.start()
    following = asyncio.run_coroutine_threadsafe(_Following.begin(stream, take_up, settings), loop).result()
    try:
        while (messages := asyncio.run_coroutine_threadsafe(following.step(), loop).result()) is not None:
            yield from messages
    finally:
        asyncio.run_coroutine_threadsafe(following.end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _Following:
    """A stream and what brings its news, on one event loop."""

    def __init__(self, news: News, found: AsyncGenerator[Sequence[Message], None], dispatcher: asyncio.Task[None]) -> None:
        self._news = news
        self._found = found
        self._dispatcher = dispatcher
        self._step: asyncio.Task[Any] | None = None

    @classmethod
    async def begin(cls, stream: Stream, take_up: Callable[[], None], settings: Jobs) -> Self:
        from jupyter_jobs.api.dispatching import follow_dispatcher
        from jupyter_jobs.api.news import News, batches

        news = News()

        async def grown(_seq: int) -> None:
            news.changed()

        async def absent() -> None:
            # whoever waits for runs wants them carried on when the dispatcher was killed, and must know when it was stopped
            await asyncio.to_thread(take_up)

        return cls(news, batches(stream, news, asyncio.to_thread), asyncio.create_task(follow_dispatcher(settings, grown, absent)))

    async def step(self) -> Sequence[Message] | None:
        """The next messages; None at the end. Raises what the stream raises, and `Unavailable` when no dispatcher can be had."""
        self._step = asyncio.current_task()
        coming = asyncio.ensure_future(anext(self._found, None))
        try:
            await asyncio.wait({coming, self._dispatcher}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                self._dispatcher.result()
            return await coming
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    async def end(self) -> None:
        running = [task for task in (self._step, self._dispatcher) if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._found.aclose()
        self._news.close()
        await asyncio.get_running_loop().shutdown_default_executor()
