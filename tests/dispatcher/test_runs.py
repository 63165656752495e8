"""Runs from the queue to their end."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from sqlalchemy import select

from jupyter_jobs.backends import processes
from jupyter_jobs.backends.processes import Process
from jupyter_jobs.dispatcher import process
from jupyter_jobs.dispatcher.socket import nudge, subscribe
from jupyter_jobs.model import Resources
from jupyter_jobs.resources import core_share, usable_memory
from jupyter_jobs.store import artifacts, jobs
from jupyter_jobs.store.database import read, write
from jupyter_jobs.store.tables import attempts
from tests.dispatcher.dispatcher_store import SECONDS, Store, gone, open_gate


async def test_runs_end_with_what_their_results_say(store: Store) -> None:
    good, bad = store.job({"cells": 3}, {"do": "fail", "cells": 2})
    async with store.dispatcher():
        await store.until(good, bad)
    run = store.run(good)
    assert (run.state, run.records, run.peak_memory, run.progress.done, run.progress.total) == ("complete", {"answer": 42}, 1000, 3, 3)
    assert run.workspace == "copy"
    assert run.duration is not None
    with read(store.engine) as conn:
        assert [file.path for file in artifacts.list_of(conn, good)] == ["plot.png"]
        assert artifacts.list_of(conn, good)[0].media_type == "image/png"
        attempt = conn.execute(select(attempts).where(attempts.c.run == good)).one()
    assert (attempt.state, attempt.exit_code) == ("complete", 0)
    assert attempt.pid is not None
    failed = store.run(bad)
    assert failed.state == "failed"
    assert failed.error is not None
    assert (failed.error.code, failed.error.ename, failed.error.cell.number if failed.error.cell else 0) == ("cell_failed", "ValueError", 1)


async def test_states_come_in_order_and_the_last_progress_always_lands(store: Store) -> None:
    (run,) = store.job({"cells": 500})
    async with store.dispatcher():
        await store.until(run)
    assert store.states(run) == ["init", "running", "complete"]
    assert store.run(run).progress.done == 500
    assert [event.seq for event in store.events()] == sorted(event.seq for event in store.events())


async def test_progress_is_seen_while_the_run_goes_on(store: Store) -> None:
    (run,) = store.job({"do": "orphan"})
    async with store.dispatcher():
        await store.until(run, state="running")
        async with asyncio.timeout(SECONDS):
            async for _ in subscribe(store.settings):
                cell = store.run(run).progress.cell
                if cell is not None:
                    break
        assert (cell.id, cell.number) == ("a", 1)
        await store.cancel(run)
        await store.until(run)


async def test_no_more_runs_than_the_limit_and_first_in_first_out(store: Store) -> None:
    found = store.job(*({"do": "complete"} for _ in range(9)))
    async with store.dispatcher():
        await store.until(*found)
    active, most, order = set(), 0, []
    for event in store.events():
        if event.kind == "run.state" and event.state == "init":
            active.add(event.run)
            order.append(event.run)
        elif event.kind == "run.state" and event.state == "complete":
            active.remove(event.run)
        most = max(most, len(active))
    assert most == 2
    assert order == found


async def test_a_run_that_dies_is_interrupted_with_its_exit_code_and_words(store: Store) -> None:
    (run,) = store.job({"do": "die"})
    async with store.dispatcher():
        await store.until(run)
    error = store.run(run).error
    assert error is not None
    assert error.code == "interrupted"
    assert "exit code 7" in error.message
    assert error.detail["log"] == "the stand-in dies"
    assert (store.directory_of(run) / "exit.json").exists()


async def test_a_killed_runner_is_interrupted_and_leaves_no_process(store: Store) -> None:
    (run,) = store.job({"do": "orphan"})
    async with store.dispatcher():
        await store.until(run, state="running")
        child = await _child(store, run)
        os.kill(store.runner(run).pid, signal.SIGKILL)
        await store.until(run)
        await gone(child)
    error = store.run(run).error
    assert error is not None
    assert error.code == "interrupted"
    assert error.detail["signal"] == 9
    assert not processes.of_run(run)


async def test_cancel_of_a_queued_run_starts_nothing(store: Store) -> None:
    gate = store.gate("one")
    first, second, third = store.job({"do": "hold", "gate": gate}, {"do": "hold", "gate": store.gate("two")}, {"do": "complete"})
    async with store.dispatcher():
        await store.until(first, second, state="running")
        await store.cancel(third)
        await open_gate(gate)
        await open_gate(store.gate("two"))
        await store.until(first, second, third)
    assert store.states(third) == ["canceled"]
    assert not store.directory_of(third).exists()


async def test_cancel_of_a_running_run_lets_it_write_its_result(store: Store) -> None:
    (run,) = store.job({"do": "hold", "gate": store.gate("never")})
    async with store.dispatcher():
        await store.until(run, state="running")
        await store.cancel(run)
        await store.until(run)
    assert store.run(run).state == "canceled"
    assert (store.directory_of(run) / "result.json").exists()


async def test_a_stubborn_run_is_killed_with_all_its_processes(store: Store) -> None:
    (run,) = store.job({"do": "stubborn"})
    async with store.dispatcher(grace=0.1):
        await store.until(run, state="running")
        child = await _child(store, run)
        await store.cancel(run)
        await store.until(run)
        await gone(child)
    assert store.run(run).state == "canceled"
    assert not (store.directory_of(run) / "result.json").exists()


async def test_a_deleted_job_s_process_ends(store: Store) -> None:
    (run,) = store.job({"do": "orphan"})
    async with store.dispatcher():
        await store.until(run, state="running")
        child, runner = await _child(store, run), store.runner(run)
        with write(store.engine) as conn:
            jobs.delete(conn, run.partition("-")[0])
        await asyncio.to_thread(nudge, store.settings)
        await gone(child)
        await gone(runner)


async def test_a_run_that_would_not_fit_in_memory_waits_for_the_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 10_000_000
    monkeypatch.setattr("jupyter_jobs.resources.free_memory", lambda: free)
    store.settings.max_parallel_runs = 3
    does = [*({"do": "complete", "peak": 6_000_000_000} for _ in range(3)), {"do": "complete"}, {"do": "complete"}]
    found = store.job(*does)
    async with store.dispatcher():
        await store.until(*found)
    waiting = [event for event in store.events() if event.kind == "run.waiting"]
    assert waiting
    assert waiting[0].data["needed"] == 6_000_000_000
    assert waiting[0].data["free"] == free
    assert len({event.run for event in waiting}) == len(waiting), "said once for each run"
    # the first three started before any peak was known; the others one at a time
    active: set[str] = set()
    for event in store.events():
        if event.kind == "run.state" and event.state == "init":
            assert event.run in found[:3] or not active
            active.add(event.run)
        elif event.kind == "run.state" and event.state == "complete":
            active.remove(event.run)


async def test_memory_that_started_runs_will_still_take_is_not_free(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jupyter_jobs.resources.free_memory", lambda: 10 << 30)
    (probe, *others) = store.job({"do": "complete", "peak": 6 << 30})
    async with store.dispatcher():
        await store.until(probe)
        with write(store.engine) as conn:
            from jupyter_jobs.model import Combination
            from jupyter_jobs.store import runs

            does = [{"do": "hold", "gate": store.gate("one")}, {"do": "complete"}]
            others = runs.insert_many(
                conn, probe.partition("-")[0], [Combination(number=n, parameters=each) for n, each in enumerate(does, 2)], first=2
            )
        await asyncio.to_thread(nudge, store.settings)
        await store.until(others[0], state="running")
        await _until_event(store, others[1], "run.waiting")
        assert store.run(others[1]).state == "queued"
        await open_gate(store.gate("one"))
        await store.until(*others)


@pytest.mark.parametrize("reason", ["cpu", "memory"])
async def test_what_an_active_run_asked_for_is_kept_free(store: Store, reason: str) -> None:
    most = {"cpu": core_share(), "memory": usable_memory()}[reason]
    asked = Resources(cpu=most * 0.6) if reason == "cpu" else Resources(memory=int(most * 0.6))
    (holds,) = store.job({"do": "hold", "gate": store.gate("one")}, resources=asked)
    (waits,) = store.job({"do": "complete"}, resources=asked)
    async with store.dispatcher():
        await _until_event(store, waits, "run.waiting")
        assert (store.run(holds).ended_at, store.run(waits).state) == (None, "queued")
        await open_gate(store.gate("one"))
        await store.until(holds, waits)
    (said,) = [event for event in store.events(waits) if event.kind == "run.waiting"]
    wanted = asked.cpu if reason == "cpu" else asked.memory
    assert said.data == {"reason": reason, "needed": wanted, "free": most, "reserved": wanted}
    assert [store.run(run).state for run in (holds, waits)] == ["complete", "complete"]


async def test_it_ends_when_there_is_nothing_to_do(store: Store) -> None:
    store.settings.keep_dispatcher_seconds = 0
    (run,) = store.job({"do": "complete"})
    async with store.dispatcher():
        async with asyncio.timeout(SECONDS):
            # the subscription keeps it, and ends with it
            async for _ in subscribe(store.settings):
                if store.run(run).state == "complete":
                    break
    assert store.run(run).state == "complete"
    assert not process.dispatcher_status(store.settings).running


async def test_a_removed_environment_starts_nothing_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/bin/python")
    (run,) = store.job({"do": "complete"})
    async with store.dispatcher():
        pass
    assert store.states(run) == []


async def _child(store: Store, run: str) -> Process:
    await _until_event(store, run, "run.progress")
    return processes.identify(int((store.directory_of(run) / "child").read_text()))


async def _until_event(store: Store, run: str, kind: str) -> None:
    async with asyncio.timeout(SECONDS):
        async for _ in subscribe(store.settings):
            if any(event.kind == kind for event in await asyncio.to_thread(store.events, run)):
                return
