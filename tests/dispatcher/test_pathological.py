"""Backends that misbehave: the dispatcher says so and goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from jupyter_jobs.backends.base import Capabilities, Exit, Handle, Submission
from jupyter_jobs.errors import Unavailable
from jupyter_jobs.runner import rundir
from tests.dispatcher.dispatcher_store import Store


class Fake:
    """A backend without processes. What a test wants otherwise, its subclass says."""

    name = "fake"
    capabilities = Capabilities(survives=True, shares_memory=True)

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass

    async def submit(self, submission: Submission) -> Handle:
        return Handle(backend=self.name, run=submission.run)

    async def find(self, submission: Submission) -> Handle | None:
        return None

    async def poll(self, handles: Sequence[Handle]) -> list[Exit | None]:
        return [None for _ in handles]

    async def wait(self, handle: Handle) -> Exit:
        await asyncio.Event().wait()
        raise AssertionError

    async def cancel(self, handle: Handle, *, force: bool = False) -> None: ...

    async def notify(self, handle: Handle) -> None: ...

    async def memory(self, handle: Handle) -> int:
        return 0

    def logs(self, directory: Path) -> Path:
        return directory / "runner.log"


class FailsToStart(Fake):
    async def submit(self, submission: Submission) -> Handle:
        raise Unavailable("The fake is out of order.", code="fake_broken", mend="Mend it.", place=Path("/x"))


class Faulty(Fake):
    async def submit(self, submission: Submission) -> Handle:
        raise RuntimeError("a fault, and its password")


class DiesAtOnce(Fake):
    async def wait(self, handle: Handle) -> Exit:
        return Exit(signal=9)


class LosesIt(Fake):
    async def wait(self, handle: Handle) -> Exit:
        raise Unavailable("The fake has gone.")


class SilentAtStart(Fake):
    async def submit(self, submission: Submission) -> Handle:
        await asyncio.Event().wait()
        raise AssertionError


class LateToSay(SilentAtStart):
    """It starts the run, and never says so."""

    async def find(self, submission: Submission) -> Handle | None:
        result = {"state": "complete", "started_at": 1, "ended_at": 2, "cells": {"done": 0, "total": 0}}
        (submission.directory / rundir.RESULT).write_text(json.dumps(result))
        return Handle(backend=self.name, run=submission.run)

    async def wait(self, handle: Handle) -> Exit:
        return Exit(code=0)


class NeverEnds(Fake):
    async def cancel(self, handle: Handle, *, force: bool = False) -> None:
        await asyncio.Event().wait()

    async def memory(self, handle: Handle) -> int:
        await asyncio.Event().wait()
        raise AssertionError


class WritesNonsense(Fake):
    def __init__(self) -> None:
        self.directory = Path()

    async def submit(self, submission: Submission) -> Handle:
        (submission.directory / rundir.EVENTS).write_text("{not json\n")
        (submission.directory / rundir.RESULT).write_text('{"state": "splendid"}')
        return await super().submit(submission)

    async def wait(self, handle: Handle) -> Exit:
        return Exit(code=0)


@pytest.mark.parametrize(
    ("backend", "code", "words"),
    [
        (FailsToStart(), "fake_broken", "out of order"),
        (Faulty(), "internal_error", "RuntimeError"),
        (DiesAtOnce(), "interrupted", "signal 9"),
        (LosesIt(), "interrupted", "without a result"),
        (SilentAtStart(), "backend_silent", "fake"),
        (WritesNonsense(), "interrupted", "exit code 0"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Fake) else "",
)
async def test_the_run_fails_with_the_reason_and_the_next_one_starts(store: Store, backend: Fake, code: str, words: str) -> None:
    store.settings.max_parallel_runs = 1
    found = store.job({}, {})
    async with store.dispatcher(backend=backend, submit=0.2, answer=0.1, grace=0.1):
        await store.until(*found)
    for run in found:
        error = store.run(run).error
        assert error is not None
        assert error.code == code
        assert words in error.message
        assert "password" not in error.message
        assert store.states(run) == ["init", "failed"]


async def test_what_was_started_unheard_is_followed(store: Store) -> None:
    (run,) = store.job({})
    async with store.dispatcher(backend=LateToSay(), submit=0.1):
        await store.until(run)
    assert store.run(run).state == "complete"


async def test_what_never_ends_can_be_canceled(store: Store) -> None:
    first, second = store.job({}, {})
    store.settings.max_parallel_runs = 1
    async with store.dispatcher(backend=NeverEnds(), answer=0.1, grace=0.1):
        await store.until(first, state="init")
        await store.cancel(first)
        await store.until(first)
        await store.until(second, state="init")
        await store.cancel(second)
        await store.until(second)
    assert store.states(first) == ["init", "canceled"]
