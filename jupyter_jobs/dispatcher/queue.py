"""What starts next: first in, first out, within the limit of parallel runs and the memory that is free."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

from sqlalchemy import Connection

from jupyter_jobs import resources
from jupyter_jobs.backends import processes
from jupyter_jobs.dispatcher.state import Active, Dispatch, log
from jupyter_jobs.errors import JobsError
from jupyter_jobs.store import events, runs
from jupyter_jobs.store.runs import QueuedRun

Carry = Callable[[Dispatch, Active], Coroutine[None, None, None]]


async def start_what_fits(dispatch: Dispatch, carry: Carry) -> int:
    """Claim and start queued runs until nothing more fits; how many stay queued that could start some time. `carry` takes a run to its end."""
    while True:
        queued = await dispatch.ledger.read(runs.next_queued, 1)
        if not queued or dispatch.draining.is_set():
            return len(queued)
        first = queued[0]
        if len(dispatch.active) >= dispatch.parallel:
            return 1
        if not await asyncio.to_thread(environment_present):
            dispatch.drain(f"{sys.prefix}, where this dispatcher lives, has been removed; another environment's can go on")
            return 1
        if not await _memory_admits(dispatch, first):
            return 1
        me = (processes.here(), processes.boot_id())
        if await dispatch.ledger.write(_claim, first, *me):
            begin(
                dispatch,
                Active(run=first.run, job=first.job, attempt=first.attempt, directory=dispatch.directory_of(first.run, first.attempt)),
                carry,
            )


def begin(dispatch: Dispatch, active: Active, carry: Carry) -> None:
    """Carry a run in a task of its own; when that ends, the queue goes on."""
    dispatch.active[active.run] = active
    dispatch.said.discard(active.run)
    active.task = asyncio.create_task(carry(dispatch, active), name=active.run)

    def over(task: asyncio.Task[None]) -> None:
        if dispatch.active.get(active.run) is active:
            del dispatch.active[active.run]
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("following %s failed", active.run, exc_info=failure)
        dispatch.wake.set()

    active.task.add_done_callback(over)


def environment_present() -> bool:
    """Whether the environment that would run the runner is still on disk."""
    return Path(sys.executable).exists() and Path(__file__).exists()


async def _memory_admits(dispatch: Dispatch, queued: QueuedRun) -> bool:
    """Whether the job's largest peak so far fits in free memory, less what the active runs may still take; yes when nothing else runs."""
    if not dispatch.active or not dispatch.backend.capabilities.shares_memory:
        return True
    peaks = await dispatch.ledger.read(runs.largest_peaks, {queued.job, *(active.job for active in dispatch.active.values())})
    needed = peaks.get(queued.job, 0)
    if not needed:
        return True
    free = await asyncio.to_thread(resources.free_memory)
    others = [active for active in dispatch.active.values() if active.job in peaks]
    held = await asyncio.gather(*(_held(dispatch, active) for active in others))
    reserved = sum(max(0, peaks[active.job] - now) for active, now in zip(others, held, strict=True))
    if needed <= free - reserved:
        return True
    if queued.run not in dispatch.said:
        dispatch.said.add(queued.run)
        log.info("%s waits for memory: needs %d, free %d, of which %d are for active runs", queued.run, needed, free, reserved)
        await dispatch.ledger.write(_say_waiting, queued, needed, free, reserved)
    return False


async def _held(dispatch: Dispatch, active: Active) -> int:
    if active.handle is None:
        return 0
    with contextlib.suppress(TimeoutError, JobsError):
        async with asyncio.timeout(dispatch.limits.answer):
            return await dispatch.backend.memory(active.handle)
    return 0


def _claim(conn: Connection, queued: QueuedRun, host: str, boot_id: str) -> bool:
    return runs.claim(conn, queued.run, queued.attempt, host=host, boot_id=boot_id)


def _say_waiting(conn: Connection, queued: QueuedRun, needed: int, free: int, reserved: int) -> None:
    data = {"reason": "memory", "needed": needed, "free": free, "reserved": reserved}
    events.append(conn, "run.waiting", queued.job, run=queued.run, state="queued", data=data)
