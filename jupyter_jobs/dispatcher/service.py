"""The dispatcher itself: one event loop that waits for nudges, hints, ended processes and a heartbeat, and for nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from jupyter_jobs import resources
from jupyter_jobs.backends.base import Backend
from jupyter_jobs.backends.registry import make_backend
from jupyter_jobs.dispatcher import lease
from jupyter_jobs.dispatcher.aftermath import clear_up, deliver_what_is_due
from jupyter_jobs.dispatcher.ledger import Ledger
from jupyter_jobs.dispatcher.listening import Listening
from jupyter_jobs.dispatcher.queue import start_what_fits
from jupyter_jobs.dispatcher.reconcile import ended_are_settled, reconcile
from jupyter_jobs.dispatcher.socket import Hello, Server, hello
from jupyter_jobs.dispatcher.spec import write_run
from jupyter_jobs.dispatcher.start import carry, requeue
from jupyter_jobs.dispatcher.state import Dispatch, Limits, Prepare, log
from jupyter_jobs.model import DispatcherStatus
from jupyter_jobs.settings import Jobs
from jupyter_jobs.store import dispatcher as table
from jupyter_jobs.store import queue, reserve, runs
from jupyter_jobs.store.database import SCHEMA_VERSION, open_store, shown
from jupyter_jobs.store.dispatcher import Lease
from jupyter_jobs.store.refusal import refusal
from jupyter_jobs.version import __version__


async def serve(
    settings: Jobs,
    *,
    backend: Backend | None = None,
    limits: Limits | None = None,
    prepare: Prepare = write_run,
    note: str = "",
    introduction: Hello | None = None,
    ready: Callable[[], None] = lambda: None,
) -> str:
    """Be the dispatcher until it is asked to end or has had nothing to do for long; returns why it ended. Runs go on.

    `prepare` makes the run directory with `run.json`, in a thread, and returns the kind of workspace.
    Raises `Conflict` when another dispatcher serves the store, `Unavailable` when store or sockets cannot be used.
    """
    listening = await Listening.alone(settings.data_dir)
    try:
        engine = await asyncio.to_thread(open_store, settings.data_dir, settings.db_url)
        dispatch = Dispatch(
            settings=settings,
            ledger=Ledger(engine, lambda seq: server.announce(seq)),
            backend=backend or make_backend("local", settings),
            sockets=listening.directory,
            parallel=settings.max_parallel_runs or resources.usable_cores(),
            prepare=prepare,
            limits=limits or Limits(),
        )
        mine = lease.my_lease()

        async def status() -> DispatcherStatus:
            return await _status(dispatch, mine, note)

        server = Server(introduction or hello(SCHEMA_VERSION), wake=dispatch.nudge, draining=dispatch.draining, drain=dispatch.drain, status=status)
        try:
            try:
                await dispatch.ledger.write(lease.acquire, mine, await lease.watch(dispatch.ledger))
                await _run(dispatch, server, listening, mine, ready)
            except DBAPIError as failure:
                raise refusal(shown(engine), failure) from failure
            try:
                await dispatch.ledger.write(table.release, mine)
            except DBAPIError as failure:
                # whoever comes next sees that this process has ended
                log.error("the store refused to take the lease back: %s", refusal(shown(engine), failure).message)
        finally:
            await asyncio.to_thread(dispatch.ledger.close)
    finally:
        listening.close()
    # last: to whoever asked us to end, this says that lock and lease are free
    await server.hang_up()
    log.info("ended: %s", dispatch.why)
    return dispatch.why


async def _run(dispatch: Dispatch, server: Server, listening: Listening, mine: Lease, ready: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    again = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, dispatch.drain, f"signal {number.name}")
    loop.add_signal_handler(signal.SIGHUP, again.set)
    tasks: list[asyncio.Task[object]] = []
    try:
        await listening.open(server, dispatch.active)
        dispatch.backend.start()
        await reconcile(dispatch, carry)
        await ended_are_settled(dispatch)
        await deliver_what_is_due(dispatch)
        await clear_up(dispatch)
        log.info("dispatcher %s of %s, pid %d, %d runs at a time", __version__, dispatch.settings.data_dir, os.getpid(), dispatch.parallel)
        dispatch.nudge()
        tasks = [
            asyncio.create_task(_heartbeat(dispatch, server, listening, mine, again)),
            asyncio.create_task(_pump(dispatch, server)),
            asyncio.create_task(dispatch.draining.wait()),
        ]
        ready()
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        dispatch.wake_at(None)
        listening.stop(server)
        await _let_go(dispatch)
        dispatch.backend.close()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
    for task in done:
        task.result()


async def _pump(dispatch: Dispatch, server: Server) -> None:
    """After each change: heed what others asked for, start what fits; with nothing left to do, set the time to end."""
    loop = asyncio.get_running_loop()
    idle: asyncio.TimerHandle | None = None

    def end() -> None:
        # a nudge that was promised to be looked at may have come just now
        if not dispatch.wake.is_set():
            dispatch.drain("nothing to do")

    while not dispatch.draining.is_set():
        await dispatch.wake.wait()
        dispatch.wake.clear()
        if idle is not None:
            idle.cancel()
        try:
            if dispatch.nudged:
                dispatch.nudged = False
                await _heed(dispatch)
            waiting = await start_what_fits(dispatch, carry)
        except SQLAlchemyError as failure:
            log.error("the store refused and is asked again: %s", type(failure).__name__)
            await dispatch.next_beat()
            dispatch.nudge()
            continue
        if not (waiting or dispatch.active or dispatch.foreign or server.subscribers):
            idle = loop.call_later(dispatch.settings.keep_dispatcher_seconds, end)


async def _heed(dispatch: Dispatch) -> None:
    """Cancel runs of which that was asked, extend those that may take longer, and end those that the store does not know any more."""
    here = dict(dispatch.active)
    known = {found.run: found for found in await dispatch.ledger.read(runs.active)}
    for run, active in here.items():
        found = known.get(run)
        if found is not None and found.attempt == active.attempt:
            if found.cancel_requested:
                active.cancel.set()
            if found.extended != active.extended:
                active.extended = found.extended
                active.relimit.set()
        elif not await dispatch.ledger.read(_exists, run):
            active.abandoned = True
            active.cancel.set()


async def _heartbeat(dispatch: Dispatch, server: Server, listening: Listening, mine: Lease, again: asyncio.Event) -> None:
    """The only thing that happens by the clock: keep the lease and the sockets, look at what can only be looked at."""
    while True:
        try:
            async with asyncio.timeout(lease.HEARTBEAT_SECONDS):
                await again.wait()
        except TimeoutError:
            pass
        again.clear()
        if not await asyncio.to_thread(Path(dispatch.settings.data_dir).is_dir):
            return dispatch.drain_without_store()
        await asyncio.to_thread(reserve.keep, dispatch.ledger.engine)
        if not await listening.mend(server, dispatch.active):
            return dispatch.drain("another dispatcher has the lock")
        try:
            if not await dispatch.ledger.write(table.heartbeat, mine):
                return dispatch.drain("another dispatcher has the lease")
            dispatch.beat()
            if dispatch.foreign:
                await reconcile(dispatch, carry)
            if dispatch.foreign or dispatch.said:
                dispatch.nudge()
        except SQLAlchemyError as failure:
            log.error("the store refused a heartbeat: %s", type(failure).__name__)


async def _let_go(dispatch: Dispatch) -> None:
    """Leave the runs to themselves; those of which nothing was started yet go back into the queue."""
    leaving = list(dispatch.active.values())
    starting = [asyncio.create_task(active.submitted.wait()) for active in leaving if active.submitting]
    if starting:
        await asyncio.wait(starting, timeout=dispatch.limits.submit)
    tasks = [active.task for active in leaving if active.task is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for active in leaving:
        if active.handle is None and not active.submitting:
            await requeue(dispatch, active)


async def _status(dispatch: Dispatch, mine: Lease, note: str) -> DispatcherStatus:
    queued, paused = await dispatch.ledger.read(_queue)
    return DispatcherStatus(
        running=True,
        pid=mine.pid,
        host=mine.host,
        since=mine.since,
        version=mine.version,
        active=len(dispatch.active),
        queued=queued,
        parallel=dispatch.parallel,
        note=note,
        paused=paused,
    )


def _queue(conn: Connection) -> tuple[int, bool]:
    return queue.count(conn), queue.is_paused(conn)


def _exists(conn: Connection, run: str) -> bool:
    return runs.get(conn, run) is not None
