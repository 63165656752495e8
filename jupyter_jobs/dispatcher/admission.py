"""Whether a queued run may start now: what was asked for it, and what it is known to need, has to fit beside what is under way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from typing import Literal

import msgspec

from jupyter_jobs import resources
from jupyter_jobs.dispatcher.state import Active, Dispatch, log
from jupyter_jobs.errors import JobsError
from jupyter_jobs.model import Resources
from jupyter_jobs.store import events
from jupyter_jobs.store.queue import Head


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is expected to take. `asked`: the job's request. `peak`: the most memory that a run of its job ever held; 0 where none has ended.
    `held`: the memory that this run holds now."""

    asked: Resources
    peak: int = 0
    held: int = 0

    @property
    def memory(self) -> int:
        """Bytes that it may come to hold; 0 where nobody knows."""
        return self.peak if self.asked.memory is None else self.asked.memory


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What there is: cores and bytes of memory that we may use at all, bytes that are free now, and how many runs may go at a time."""

    cores: float
    memory: int
    free: int
    parallel: int


class Shortage(msgspec.Struct, frozen=True, kw_only=True):
    """Why a run waits: of `reason` it needs `needed`; there are `free`, of which `reserved` are for active runs. Cores, or bytes."""

    reason: Literal["cpu", "memory"]
    needed: float
    free: float
    reserved: float


def shortage(needed: Need, active: Collection[Need], machine: Machine) -> Shortage | None:
    """What a run has to wait for; None if it may start. It always may when nothing else runs: what can never fit was refused with its job.

    What was asked for is kept free of others' requests, whether they use it or not. What is only known from earlier runs has to be free now.
    """
    if not active:
        return None
    if needed.asked.cpu is not None:
        # who asked for nothing has the share that parallel runs have of the machine
        share = min(1.0, machine.cores / max(1, machine.parallel))
        taken = sum(share if each.asked.cpu is None else each.asked.cpu for each in active)
        if needed.asked.cpu + taken > machine.cores:
            return Shortage(reason="cpu", needed=needed.asked.cpu, free=machine.cores, reserved=taken)
    if not needed.memory:
        return None
    if needed.asked.memory is not None:
        promised = sum(each.memory for each in active)
        if needed.memory + promised > machine.memory:
            return Shortage(reason="memory", needed=needed.memory, free=machine.memory, reserved=promised)
    reserved = sum(max(0, each.memory - each.held) for each in active)
    if needed.memory > machine.free - reserved:
        return Shortage(reason="memory", needed=needed.memory, free=machine.free, reserved=reserved)
    return None


class Gate:
    """Lets runs in, one by one, as long as they fit beside what is under way and was let in before. `short`: why the last one waits."""

    def __init__(self, active: Collection[Need], machine: Machine | None) -> None:
        self.short: Shortage | None = None
        self._taken = list(active)
        self._machine = machine

    def fits(self, head: Head) -> bool:
        """Whether this run may start, too. Called with the store's transaction open: it looks at nothing."""
        if self._machine is None:
            return True
        need = Need(asked=head.asked, peak=head.peak)
        self.short = shortage(need, self._taken, self._machine)
        if self.short is None:
            self._taken.append(need)
        return self.short is None


async def gate_for(dispatch: Dispatch, *, exact: bool) -> Gate:
    """What may start beside the active runs. `exact`: with what they hold now, which takes long to find out; else as if they held nothing yet."""
    if not dispatch.backend.capabilities.shares_memory:
        return Gate([], None)
    active = list(dispatch.active.values())
    needs = [await _need_of(dispatch, each) for each in active]
    if exact:
        held = await asyncio.gather(*(_held(dispatch, each) if need.memory else _nothing() for each, need in zip(active, needs, strict=True)))
        needs = [msgspec.structs.replace(need, held=now) for need, now in zip(needs, held, strict=True)]
    return Gate(needs, await asyncio.to_thread(_machine, dispatch.parallel))


async def say_waiting(dispatch: Dispatch, head: Head, short: Shortage | None) -> None:
    """Say once, by event `run.waiting`, what a run waits for."""
    if short is not None and dispatch.said.get(head.run) != short.reason:
        dispatch.said[head.run] = short.reason
        log.info("%s waits: %s", head.run, short)
        await dispatch.ledger.write(events.append, "run.waiting", head.job, run=head.run, state="queued", data=msgspec.to_builtins(short))


async def _need_of(dispatch: Dispatch, active: Active) -> Need:
    frozen = await dispatch.frozen_of(active.job)
    return Need(asked=frozen.spec.request.resources if frozen else Resources(), peak=dispatch.peaks.get(active.job, 0))


def _machine(parallel: int) -> Machine:
    return Machine(cores=resources.core_share(), memory=resources.usable_memory(), free=resources.free_memory(), parallel=parallel)


async def _held(dispatch: Dispatch, active: Active) -> int:
    if active.handle is None:
        return 0
    with contextlib.suppress(TimeoutError, JobsError):
        async with asyncio.timeout(dispatch.limits.answer):
            return await dispatch.backend.memory(active.handle)
    return 0


async def _nothing() -> int:
    return 0
