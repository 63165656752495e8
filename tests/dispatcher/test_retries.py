"""Attempts after attempts, what comes between them, and jobs that end with their first failure."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jupyter_jobs.dispatcher import process
from jupyter_jobs.dispatcher.socket import nudge
from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.model import RetryPolicy
from jupyter_jobs.store import attempts, events, jobs, queue, runs
from jupyter_jobs.store.database import read, write
from tests.dispatcher.dispatcher_store import SECONDS, Store, open_gate

HOUR = 3600.0


def tried(store: Store, run: str) -> list[tuple[int, str | None, str]]:
    with read(store.engine) as conn:
        return [(each.number, each.state, each.error.code if each.error else "") for each in attempts.list_of(conn, run)]


async def until_waiting(store: Store, run: str) -> None:
    """Return once a failed attempt has put its run back into the queue."""
    async with asyncio.timeout(SECONDS):
        from jupyter_jobs.dispatcher.socket import subscribe

        async for _ in subscribe(store.settings):
            found = await asyncio.to_thread(store.run, run)
            if found.state is RunState.QUEUED and found.attempt:
                return


async def test_a_run_that_dies_is_tried_once_more_by_default(store: Store) -> None:
    dies, fails = store.job({"do": "die"}, {"do": "fail"}, retries=RetryPolicy(attempts=1, on=["interrupted"]))
    async with store.dispatcher():
        await store.until(dies, fails)
    assert store.states(dies) == ["init", "queued", "init", "failed"]
    assert tried(store, dies) == [(1, "failed", "interrupted"), (2, "failed", "interrupted")]
    assert tried(store, fails) == [(1, "failed", "cell_failed")]
    for attempt in (1, 2):
        assert (store.directory_of(dies, attempt) / "runner.log").read_text() == "the stand-in dies\n"


async def test_attempts_go_on_until_one_succeeds(store: Store) -> None:
    (run,) = store.job({"do": "fail", "times": 2, "cells": 1}, retries=RetryPolicy(attempts=5, delay=0.05, backoff="exponential"))
    async with store.dispatcher():
        await store.until(run)
    found = store.run(run)
    assert (found.state, found.attempt, found.error, found.not_before, found.records) == ("complete", 3, None, None, {"answer": 42})
    assert tried(store, run) == [(1, "failed", "cell_failed"), (2, "failed", "cell_failed"), (3, "complete", "")]
    queued = [event for event in store.events(run) if event.kind == "run.state" and event.state == "queued"]
    assert [event.data["code"] for event in queued] == ["cell_failed", "cell_failed"]
    assert all(event.data["not_before"] for event in queued), "the time is said"


async def test_a_run_that_waits_for_its_time_lets_others_pass_and_can_be_canceled(store: Store) -> None:
    store.settings.max_parallel_runs = 1
    fails, other = store.job({"do": "fail"}, {"do": "complete"}, retries=RetryPolicy(attempts=1, delay=HOUR))
    async with store.dispatcher():
        await store.until(other)
        waiting = store.run(fails)
        assert (waiting.state, waiting.attempt) == ("queued", 1)
        assert waiting.not_before is not None
        assert (await asyncio.to_thread(process.dispatcher_status, store.settings)).queued == 1
        await store.cancel(fails)
        await store.until(fails)
    found = store.run(fails)
    assert (found.state, found.error, found.not_before) == ("canceled", None, None)
    assert tried(store, fails) == [(1, "failed", "cell_failed")]


async def test_a_later_dispatcher_keeps_the_appointment(store: Store) -> None:
    """As after a reboot: what is known of the time is in the store."""
    (run,) = store.job({"do": "fail", "times": 1}, retries=RetryPolicy(attempts=1, delay=HOUR))
    async with store.dispatcher():
        await until_waiting(store, run)
    with write(store.engine) as conn:
        waiting = runs.get(conn, run)
        assert waiting is not None
        assert waiting.not_before is not None
        # an hour has passed while nobody was there
        from sqlalchemy import update

        from jupyter_jobs.store.tables import runs as table

        conn.execute(update(table).where(table.c.id == run).values(not_before=events.now()))
    async with store.dispatcher():
        await store.until(run)
    assert (store.run(run).state, store.run(run).attempt) == ("complete", 2)


async def test_a_job_that_is_deleted_between_attempts_is_gone(store: Store) -> None:
    (run,) = store.job({"do": "fail"}, retries=RetryPolicy(attempts=1, delay=HOUR))
    async with store.dispatcher():
        await until_waiting(store, run)
        with write(store.engine) as conn:
            assert jobs.delete(conn, run.partition("-")[0])
        await asyncio.to_thread(nudge, store.settings)
        (next_one,) = store.job({"do": "complete"})
        await asyncio.to_thread(nudge, store.settings)
        await store.until(next_one)
    with read(store.engine) as conn:
        assert runs.get(conn, run) is None
        assert attempts.list_of(conn, run) == []


async def test_a_run_that_is_being_canceled_is_not_tried_again(store: Store) -> None:
    (run,) = store.job({"do": "stubborn"}, retries=RetryPolicy(attempts=3))
    async with store.dispatcher(grace=0.1):
        await store.until(run, state="running")
        await store.cancel(run)
        await store.until(run)
    assert store.run(run).state == "canceled"
    assert len(tried(store, run)) == 1


async def test_the_first_failure_for_good_ends_a_job_that_fails_fast(store: Store) -> None:
    store.settings.max_parallel_runs = 2
    held, fails, *waiting = store.job(
        {"do": "hold", "gate": store.gate("never")},
        {"do": "fail", "gate": store.gate("one")},
        {"do": "complete"},
        {"do": "complete"},
        fail_fast=True,
    )
    (other,) = store.job({"do": "complete"})
    async with store.dispatcher():
        await store.until(held, fails, state="running")
        await open_gate(store.gate("one"))
        await store.until(held, fails, *waiting, other)
    assert [store.run(run).state for run in (held, fails, *waiting, other)] == ["canceled", "failed", "canceled", "canceled", "complete"]
    for run in (held, *waiting):
        error = store.run(run).error
        assert error is not None
        assert (error.code, error.detail["run"]) == ("fail_fast", fails)
    own = store.run(fails).error
    assert own is not None
    assert own.code == "cell_failed"
    assert (store.directory_of(held) / "result.json").exists(), "it was asked to end, and left its result"


async def test_a_paused_queue_starts_nothing_until_it_is_resumed(store: Store) -> None:
    gate = store.gate("one")
    store.settings.max_parallel_runs = 1
    store.settings.keep_dispatcher_seconds = 0
    running, waiting = store.job({"do": "hold", "gate": gate}, {"do": "complete"})
    async with store.dispatcher():
        await store.until(running, state="running")
        with write(store.engine) as conn:
            queue.set_paused(conn, "u")
        await asyncio.to_thread(nudge, store.settings)
        status = await asyncio.to_thread(process.dispatcher_status, store.settings)
        assert (status.paused, status.queued, status.active) == (True, 1, 1)
        await open_gate(gate)
        await store.until(running)
    # it ended by itself: it had nothing to do
    assert store.run(waiting).state == "queued"
    store.settings.keep_dispatcher_seconds = 600
    async with store.dispatcher():
        with write(store.engine) as conn:
            queue.set_paused(conn, None)
        await asyncio.to_thread(nudge, store.settings)
        await store.until(waiting)
    assert store.run(waiting).state == "complete"


async def test_a_job_runs_no_more_at_a_time_than_it_may(store: Store) -> None:
    store.settings.max_parallel_runs = 3
    limited = store.job(*({"do": "complete"} for _ in range(4)), max_parallel=1)
    free = store.job({"do": "complete"}, {"do": "complete"})
    async with store.dispatcher():
        await store.until(*limited, *free)
    active: set[str] = set()
    for event in store.events():
        if event.kind == "run.state" and event.run in limited:
            if event.state == "init":
                active.add(event.run)
            elif event.state == "complete":
                active.remove(event.run)
            assert len(active) <= 1


@pytest.mark.parametrize("told", ["while it runs", "before it starts"])
async def test_a_run_under_way_is_told_that_it_may_take_longer(store: Store, told: str) -> None:
    gate = store.gate("one")
    (run,) = store.job({"do": "hold", "gate": gate}, time_limit=60.0)
    if told == "before it starts":
        with write(store.engine) as conn:
            (claim,) = queue.take(conn, 1, host="elsewhere", boot_id="b").claims
            assert runs.extend(conn, claim.run, 30)
            assert runs.move(conn, claim.run, RunState.QUEUED)
        assert store.run(run).extended == 0, "another attempt has the limit that was asked for"
    async with store.dispatcher():
        await store.until(run, state="running")
        directory = store.directory_of(run, store.run(run).attempt)
        with write(store.engine) as conn:
            assert runs.extend(conn, run, 30)
            assert runs.extend(conn, run, 30)
        await asyncio.to_thread(nudge, store.settings)
        await _until_file(directory, "told", "120\n")
        await open_gate(gate)
        await store.until(run)
    assert [event.data for event in store.events(run) if event.kind == "run.extended"][-1] == {"seconds": 30, "extended": 60}
    assert store.run(run).state == "complete"


async def test_a_runner_that_does_not_heed_its_limit_is_ended(store: Store) -> None:
    (run,) = store.job({"do": "stubborn"}, time_limit=0.1)
    async with store.dispatcher(grace=0.1, overtime=0.1):
        await store.until(run)
    error = store.run(run).error
    assert error is not None
    assert (store.run(run).state, error.code, error.detail["limit"]) == ("failed", "time_limit_exceeded", 0.1)


async def _until_file(directory: Path, name: str, content: str) -> None:
    from watchfiles import awatch

    async with asyncio.timeout(SECONDS):
        async for _ in awatch(directory, watch_filter=None, rust_timeout=50, yield_on_timeout=True):
            file = directory / name
            if file.exists() and file.read_text().endswith(content):
                return
