"""The server extension: the only place where the parts of the server's side are put together."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join

from jupyter_jobs.api.handler import ROOT, AssetsHandler, JobsHandler, describe
from jupyter_jobs.api.worker import Workers
from jupyter_jobs.errors import JobsError, Unavailable
from jupyter_jobs.live import Live
from jupyter_jobs.settings import Jobs

if TYPE_CHECKING:
    from jupyter_jobs.actions.context import Context, Located
    from jupyter_jobs.api.news import News
    from jupyter_jobs.api.table import Route
    from jupyter_jobs.model import Event

STATIC = Path(__file__).parent / "static"
HEARTBEAT_SECONDS = 60.0
"""How often active runs are reported as activity; idle cullers look every few minutes."""
WORKERS = 2
"""Processes for freezing, and as many for rendering."""
LEADING_TO_PAGES = frozenset({"listRuns", "showRun"})
"""Routes that a person asks for before the page of a run."""
PREFIX = "JUPYTER_JOBS_"
"""Of the environment variables by which a kernel finds us."""

T = TypeVar("T")


class JobsApp(ExtensionApp):
    """Run notebooks as jobs. Settings: `c.Jobs.…`, here or in `jupyter_jobs_config.py`, which dispatcher and command line read too."""

    name = "jupyter_jobs"
    load_other_extensions = True
    classes = [ServerApp, Jobs]  # noqa: RUF012 - as traitlets wants it

    def _config_file_name_default(self) -> str:
        return "jupyter_jobs_config"

    # -- putting together ------------------------------------------------------------------------------------------

    def initialize_settings(self) -> None:
        self.jobs = Jobs(parent=self)
        self.secret = secrets.token_urlsafe(32)
        self._quick = ThreadPoolExecutor(4, "jupyter_jobs")
        self._slow = ThreadPoolExecutor(4, "jupyter_jobs slow")
        self._reading = ThreadPoolExecutor(4, "jupyter_jobs reading")
        self._telling = ThreadPoolExecutor(1, "jupyter_jobs telling")
        self._workers = Workers(WORKERS)
        self._renderers = Workers(WORKERS, "jupyter_jobs.reports.html:prepare")
        self._context: Context | None = None
        self._opening = asyncio.Lock()
        self._news: News | None = None
        self._live: Live | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._active = 0
        self._beat: asyncio.TimerHandle | None = None

    def initialize_handlers(self) -> None:
        self.handlers.extend(
            [
                (rf"{ROOT}(?:/.*)?", JobsHandler),
                (rf"static/{self.name}/(.*)", AssetsHandler, {"path": [str(STATIC)]}),
            ]
        )

    async def _start_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        """Kernels that start from now on find us by their environment. The secret is good for our own routes only."""
        os.environ.update(self._for_kernels(serverapp))
        self._spawn(self._begin())

    def _for_kernels(self, serverapp: ServerApp) -> dict[str, str]:
        # a kernel is on this machine, and the host name that the server shows to others may mean nothing here
        url = urlsplit(serverapp.connection_url)
        if serverapp.ip in ("", "*", "0.0.0.0", "::", "localhost"):
            url = url._replace(netloc=f"127.0.0.1:{serverapp.port}")
        root = getattr(serverapp.contents_manager, "root_dir", "")
        if serverapp.sock or not isinstance(root, str):
            return {}
        found = {"URL": url_path_join(urlunsplit(url), ROOT), "SECRET": self.secret, "ROOT": root, "CERTIFICATE": serverapp.certfile}
        return {f"{PREFIX}{name}": value for name, value in found.items() if value}

    async def stop_extension(self) -> None:
        if os.environ.get(f"{PREFIX}SECRET") == self.secret:
            for name in ("URL", "SECRET", "ROOT", "CERTIFICATE"):
                os.environ.pop(f"{PREFIX}{name}", None)
        if self._beat is not None:
            self._beat.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._workers.close()
        self._renderers.close()
        for pool in (self._quick, self._slow, self._reading, self._telling):
            pool.shutdown(wait=False, cancel_futures=True)
        if self._news is not None:
            self._news.close()
        if self._context is not None:
            self._context.engine.dispose()

    def current_activity(self) -> int:
        """Runs that are active; the server's own idle shutdown asks."""
        return self._active

    # -- what the handlers need ------------------------------------------------------------------------------------

    @property
    def news(self) -> News:
        from jupyter_jobs.api.news import News

        if self._news is None:
            self._news = News()
        return self._news

    async def call(self, route: Route, request: object, user: str) -> object:
        """The endpoint's answer, computed in a thread. Raises `JobsError`; a store that does not answer is `Unavailable`."""
        from sqlalchemy.exc import DBAPIError

        from jupyter_jobs.store.database import shown
        from jupyter_jobs.store.refusal import refusal

        context = replace(await self.context(), user=user)
        if route.name in LEADING_TO_PAGES and not self._renderers.started:
            self._slow.submit(self._renderers.ready)
        try:
            return await _in(self._slow if route.slow else self._quick, partial(route.endpoint, context, request))
        except DBAPIError as error:
            # its own text would show the statement's parameters
            raise refusal(shown(context.engine), error) from None

    async def in_thread(self, function: Callable[[], T]) -> T:
        """The function's result, computed in a thread that reads for streams."""
        return await _in(self._reading, function)

    async def context(self) -> Context:
        """What actions need, with the store open. Raises `Unavailable` when it cannot be opened; the next call tries again."""
        async with self._opening:
            if self._context is None:
                loop = asyncio.get_running_loop()
                self._context = await _in(self._slow, partial(self._open, loop))
                await self._go_live(self._context)
        return self._context

    def _open(self, loop: asyncio.AbstractEventLoop) -> Context:
        from sqlalchemy.exc import SQLAlchemyError

        from jupyter_jobs.actions.context import Context
        from jupyter_jobs.api.kernelspecs import blocking
        from jupyter_jobs.dispatcher.process import make_way
        from jupyter_jobs.store.database import open_store

        data_dir = Path(self.jobs.data_dir).absolute()
        assert self.serverapp is not None
        assert self.serverapp.kernel_spec_manager is not None
        try:
            # opening the store may migrate it, which an older dispatcher must not see happen; `_go_live` starts its successor
            make_way(self.jobs)
            engine = open_store(data_dir, self.jobs.db_url)
        except (OSError, SQLAlchemyError) as error:
            why = getattr(error, "strerror", None) or getattr(error, "orig", None) or type(error).__name__
            mend = "`jupyter jobs doctor` says more; `Jobs.data_dir` names another folder."
            raise Unavailable(f"The store in {data_dir} cannot be opened: {why}.", code="store_unreachable", mend=mend) from error
        return Context(
            engine=engine,
            settings=self.jobs,
            data_dir=data_dir,
            kernel_specs=blocking(self.serverapp.kernel_spec_manager, loop),
            locate=self._locate,
            user="",
            heavy=self._workers.call,
            render=self._renderers.call,
            nudge=lambda: cast(None, loop.call_soon_threadsafe(self._nudged)),
        )

    def _locate(self, path: str) -> Located:
        from jupyter_jobs.api.contents import locate

        assert self.serverapp is not None
        return locate(self.serverapp.contents_manager, path)

    # -- live ------------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Open the store, and see to runs that a former server left."""
        try:
            context = await self.context()
        except JobsError as error:
            self.log.error("jupyter_jobs: %s", error)
        else:
            self.log.info("jupyter_jobs: ready, with the store in %s", context.data_dir)

    async def _go_live(self, context: Context) -> None:
        from jupyter_jobs.api.dispatching import follow_dispatcher
        from jupyter_jobs.store import events
        from jupyter_jobs.store.database import read

        def last_seq() -> int:
            with read(context.engine) as conn:
                return events.last_seq(conn)

        def after(seq: int) -> list[Event]:
            with read(context.engine) as conn:
                return events.after(conn, seq).events

        assert self.serverapp is not None
        assert self.serverapp.event_logger is not None
        last = await self.in_thread(last_seq)
        self._live = Live(self.news, self.serverapp.event_logger, lambda seq: self.in_thread(partial(after, seq)), last)
        self._spawn(follow_dispatcher(self.jobs, self._catch_up, self._dispatcher_gone))
        self._nudged()

    async def _catch_up(self, seq: int | None = None) -> None:
        """Pass on what is new. Called when the dispatcher says so, and after changes of our own."""
        assert self._live is not None
        passed = await self._live.catch_up(seq)
        if seq is None or any(event.kind != "run.progress" for event in passed):
            await self._count_active()

    async def _count_active(self) -> None:
        from jupyter_jobs.store import queue
        from jupyter_jobs.store.database import read

        context = self._context
        assert context is not None

        def count() -> int:
            with read(context.engine) as conn:
                return queue.demand(conn)

        self._active = await self.in_thread(count)
        if self._active and self._beat is None:
            self._report()

    def _report(self) -> None:
        """Active runs are activity, so that no idle culler ends a server that they may end with."""
        self._beat = None
        if self._active:
            assert self.serverapp is not None
            self.serverapp.web_app.settings["last_activity_times"][self.name] = datetime.now(UTC)
            self._beat = asyncio.get_running_loop().call_later(HEARTBEAT_SECONDS, self._report)

    def _nudged(self) -> None:
        """The store changed by our hand: tell the dispatcher, and those who look here without waiting for its answer."""
        self._spawn(self._catch_up())
        self._spawn(self._tell())

    async def _dispatcher_gone(self) -> None:
        from jupyter_jobs.api.dispatching import dispatcher_was_killed

        assert self._context is not None
        if await self.in_thread(partial(dispatcher_was_killed, self._context.engine)):
            await self._tell()

    async def _tell(self) -> None:
        from jupyter_jobs.api.dispatching import tell_dispatcher

        assert self._context is not None
        try:
            await _in(self._telling, partial(tell_dispatcher, self._context.engine, self.jobs))
        except JobsError as error:
            self.log.error("jupyter_jobs: %s", error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("jupyter_jobs failed: %s", describe(error))


async def _in(pool: ThreadPoolExecutor, function: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, function)
