"""Starting what comes next in the queue, within the limit of parallel runs and the memory that is free."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

from jupyter_jobs.backends import processes
from jupyter_jobs.dispatcher.admission import gate_for, say_waiting
from jupyter_jobs.dispatcher.state import Active, Dispatch, log
from jupyter_jobs.store import events, queue
from jupyter_jobs.store.queue import Claim

LEAST_FREE = 4 << 20
"""Bytes that must be free where the store lies before a run starts."""

Carry = Callable[[Dispatch, Active], Coroutine[None, None, None]]


async def start_what_fits(dispatch: Dispatch, carry: Carry) -> bool:
    """Claim and start queued runs until nothing more fits; whether some stay queued that could start some time. `carry` takes a run to its end."""
    exact = False
    while not dispatch.draining.is_set():
        places = dispatch.parallel - len(dispatch.active)
        if places <= 0:
            return True
        try:
            present, disk = await asyncio.to_thread(_look_around, dispatch)
        except FileNotFoundError:
            dispatch.drain_without_store()
            return True
        if not present:
            dispatch.drain(f"{sys.prefix}, where this dispatcher lives, has been removed; another environment's can go on")
            return True
        if disk < LEAST_FREE:
            return await _say_no_room(dispatch, disk)
        gate = await gate_for(dispatch, exact=exact)
        taken = await dispatch.ledger.write(queue.take, places, host=processes.here(), boot_id=processes.boot_id(), fits=gate.fits)
        for claim in taken.claims:
            dispatch.peaks[claim.job] = max(claim.peak, dispatch.peaks.get(claim.job, 0))
            begin(dispatch, _claimed(dispatch, claim), carry)
        dispatch.wake_at(taken.not_before)
        if taken.short is None and len(taken.claims) < places:
            return taken.not_before is not None
        if taken.short is not None:
            if exact:
                await say_waiting(dispatch, taken.short, gate.short)
                return True
            # what the active runs hold already is found out only now, since that takes long
            exact = True
    return True


def _claimed(dispatch: Dispatch, claim: Claim) -> Active:
    directory = dispatch.directory_of(claim.run, claim.attempt)
    return Active(run=claim.run, job=claim.job, attempt=claim.attempt, directory=directory, parameters=claim.parameters, label=claim.label)


def begin(dispatch: Dispatch, active: Active, carry: Carry) -> None:
    """Carry a run in a task of its own; when that ends, the queue goes on."""
    dispatch.active[active.run] = active
    dispatch.said.pop(active.run, None)
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


def _look_around(dispatch: Dispatch) -> tuple[bool, int]:
    """Whether our environment is present, and the bytes that are free on the disk. Raises FileNotFoundError when the store is gone."""
    return environment_present(), shutil.disk_usage(dispatch.settings.data_dir).free


async def _say_no_room(dispatch: Dispatch, free: int) -> bool:
    """Say once that the disk has no room for the run whose turn it is, which is looked at again at each heartbeat; whether there is one."""
    first = await dispatch.ledger.read(queue.first)
    if first is None:
        return False
    if dispatch.said.get(first.run) != "disk":
        dispatch.said[first.run] = "disk"
        log.error("%s waits for room on the disk: free %d, needed %d", first.run, free, LEAST_FREE)
        data = {"reason": "disk", "needed": LEAST_FREE, "free": free}
        await dispatch.ledger.write(events.append, "run.waiting", first.job, run=first.run, state="queued", data=data)
    return True
