"""The store refuses for a while, the disk is full, clocks jump: nothing is lost, nothing ends too early."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from jupyter_jobs.client import Client
from jupyter_jobs.dispatcher import lease
from jupyter_jobs.dispatcher.ledger import Ledger
from jupyter_jobs.dispatcher.socket import nudge
from jupyter_jobs.errors import Conflict
from jupyter_jobs.local import LocalTransport
from jupyter_jobs.model import Event
from jupyter_jobs.settings import Jobs
from jupyter_jobs.store import database, events
from jupyter_jobs.store import dispatcher as table
from jupyter_jobs.store.database import open_store, write
from tests.dispatcher.dispatcher_store import SECONDS, Store, gone, open_gate
from tests.store.test_trouble import HOLD, fill


class Said(logging.Handler):
    """Lets a test wait until the dispatcher has logged something."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._more = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        self._loop.call_soon_threadsafe(self._more.set)

    async def wait(self, text: str) -> None:
        async with asyncio.timeout(SECONDS):
            while not any(text in each for each in self.texts):
                self._more.clear()
                await self._more.wait()


@pytest.fixture
async def said() -> Iterator[Said]:
    handler = Said()
    log = logging.getLogger("jupyter_jobs.dispatcher")
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


@pytest.fixture
def hold() -> Iterator[Callable[[Store], subprocess.Popen[str]]]:
    """Another process that keeps everybody from writing."""
    started: list[subprocess.Popen[str]] = []

    def begin(store: Store) -> subprocess.Popen[str]:
        file = str(store.directory / "jobs.sqlite")
        child = subprocess.Popen([sys.executable, "-c", HOLD, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        return child

    yield begin
    for child in started:
        child.kill()
        child.communicate()


def beat() -> None:
    """The dispatcher of this process beats at once instead of in half a minute."""
    os.kill(os.getpid(), signal.SIGHUP)


async def test_a_locked_store_costs_no_run_its_start_or_its_end(
    store: Store, said: Said, hold: Callable[[Store], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 2.0)
    gate = store.gate("gate")
    (first,) = store.job({"do": "hold", "gate": gate, "cells": 2})
    async with store.dispatcher():
        await store.until(first, state="running")
        (second,) = store.job({})
        locking = hold(store)
        await asyncio.to_thread(nudge, store.settings)
        await said.wait("the store refused and is asked again")
        await open_gate(gate)
        await said.wait(f"the end of {first} could not be stored and is tried again")
        locking.communicate()
        beat()
        await store.until(first, second)
    assert [store.run(run).state for run in (first, second)] == ["complete", "complete"]
    assert store.states(first) == ["init", "running", "complete"]
    assert store.run(first).records == {"answer": 42}
    assert (store.directory_of(second) / "starts").read_text() == "x"


@pytest.fixture
def small_store(store: Store, tmp_path: Path) -> Iterator[Store]:
    """A store on a file system of 16 MB."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "jobs-test", str(place)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"file systems cannot be mounted here: {made.stderr.strip()}")
    settings = Jobs(data_dir=str(place / "jobs"), max_parallel_runs=2, keep_dispatcher_seconds=600)
    engine = open_store(settings.data_dir)
    yield Store(settings, engine, Path(settings.data_dir))
    engine.dispose()
    subprocess.run(["umount", "-l", str(place)], check=True)


async def test_no_run_starts_on_a_full_disk_and_all_do_when_there_is_room(small_store: Store, said: Said) -> None:
    store = small_store
    wanted = store.job(*({} for _ in range(5)))
    ballast = store.directory.parent / "ballast"
    with ballast.open("wb") as file:
        file.write(b"x" * (11 << 20))
    heard: list[Event] = []
    async with store.dispatcher():
        await said.wait(f"{wanted[0]} waits for room on the disk")
        assert [store.run(run).state for run in wanted] == ["queued"] * 5
        with Client(LocalTransport(store.settings)) as client:
            queue = await asyncio.to_thread(client.queue)
            assert [each.why for each in queue.waiting] == ["disk", "", "", "", ""]
            # whoever waits hears it once, also when it was said before he listened
            following = client.follow(wanted[0].partition("-")[0], after=0, waiting=heard.append)
            assert (await asyncio.to_thread(next, following)).status == "queued"
            waits = asyncio.create_task(asyncio.to_thread(lambda: [job.status for job in following]))
            ballast.unlink()
            beat()
            await store.until(*wanted)
            assert (await waits)[-1] == "complete"
        assert [(event.run, event.data["reason"]) for event in heard] == [(wanted[0], "disk")]
    assert [store.run(run).state for run in wanted] == ["complete"] * 5
    assert [event.data["reason"] for event in store.events() if event.kind == "run.waiting"] == ["disk"]


async def test_a_disk_that_fills_while_runs_go_on_costs_none_its_end(small_store: Store, said: Said) -> None:
    store = small_store
    gate = store.gate("gate")
    (run,) = store.job({"do": "hold", "gate": gate, "cells": 1})
    async with store.dispatcher():
        await store.until(run, state="running")
        # room for the run's result and none for the store's
        kept = store.directory_of(run) / "reserve"
        kept.write_bytes(b"x" * 65536)
        fill(store.directory.parent)
        kept.unlink()
        await open_gate(gate)
        tries = asyncio.create_task(said.wait(f"the end of {run} could not be stored"))
        ended = asyncio.create_task(store.until(run))
        await asyncio.wait({tries, ended}, return_when=asyncio.FIRST_COMPLETED)
        (store.directory.parent / "ballast").unlink()
        beat()
        await ended
        tries.cancel()
    assert store.run(run).state == "complete"
    assert store.states(run) == ["init", "running", "complete"]


async def test_a_run_that_ends_on_a_full_disk_has_its_end_in_the_room_that_was_kept(small_store: Store) -> None:
    store = small_store
    gate = store.gate("gate")
    (run,) = store.job({"do": "hold", "gate": gate, "cells": 1})
    async with store.dispatcher():
        await store.until(run, state="running")
        # what SQLite could write over would be room as well
        with store.engine.connect() as conn:
            conn.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        kept = store.directory_of(run) / "reserve"
        kept.write_bytes(b"x" * 65536)
        fill(store.directory.parent)
        kept.unlink()
        await open_gate(gate)
        await gone(store.runner(run))
        fill(store.directory.parent)
        await store.until(run)
    assert store.run(run).state == "complete"


@pytest.mark.parametrize("hours", [-5, 5])
async def test_a_clock_that_jumps_takes_no_lease_from_the_living_and_keeps_none_for_the_dead(store: Store, hours: int) -> None:
    theirs = msgspec.structs.replace(lease.my_lease(), host="elsewhere", heartbeat_at=events.now() - timedelta(hours=hours))
    with write(store.engine) as conn:
        assert table.acquire(conn, theirs) is None
    ledger = Ledger(store.engine, lambda seq: None)
    looked: list[float] = []

    async def it_beats(seconds: float) -> None:
        looked.append(seconds)
        # by its own clock, which still goes wrong
        with write(store.engine) as conn:
            assert table.heartbeat(conn, theirs, at=theirs.heartbeat_at + timedelta(seconds=30))

    async def it_is_silent(seconds: float) -> None:
        looked.append(seconds)

    try:
        assert await lease.watch(ledger, it_beats) is None
        with pytest.raises(Conflict):
            await ledger.write(lease.acquire, lease.my_lease(), None)
        dead = await lease.watch(ledger, it_is_silent)
        assert dead is not None
        mine = lease.my_lease()
        await ledger.write(lease.acquire, mine, dead)
        assert await ledger.read(table.current) == mine
    finally:
        await asyncio.to_thread(ledger.close)
    assert looked == [lease.WATCH_SECONDS] * 2
    assert lease.WATCH_SECONDS > lease.HEARTBEAT_SECONDS


async def test_one_that_beats_just_after_it_was_found_dead_keeps_its_lease(store: Store) -> None:
    theirs = msgspec.structs.replace(lease.my_lease(), host="elsewhere", heartbeat_at=events.now() - timedelta(hours=5))
    with write(store.engine) as conn:
        assert table.acquire(conn, theirs) is None
        assert table.heartbeat(conn, theirs)
        with pytest.raises(Conflict):
            lease.acquire(conn, lease.my_lease(), theirs)
