"""A store with jobs whose runs do what their parameters say (`stand_in.py`), and dispatchers for it, in this process or another."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from jupyter_jobs.backends import processes
from jupyter_jobs.backends.base import Backend
from jupyter_jobs.dispatcher import process
from jupyter_jobs.dispatcher.service import serve
from jupyter_jobs.dispatcher.socket import dispatcher_appeared, nudge, subscribe
from jupyter_jobs.dispatcher.state import Limits
from jupyter_jobs.model import Combination, Event, KernelInfo, ProjectChoice, Resources, RetryPolicy, Run, Snapshot
from jupyter_jobs.requests import CreateJob
from jupyter_jobs.settings import Jobs
from jupyter_jobs.store import events, jobs, runs, snapshots
from jupyter_jobs.store.database import read, write
from jupyter_jobs.store.jobs import JobSpec, NewJob
from tests.dispatcher import dispatcher_driver

SECONDS = 90.0
"""The most that a test waits for anything; none waits for time to pass."""
FINAL = ("complete", "failed", "canceled")


@dataclass
class Store:
    """A store and what tests do with it."""

    settings: Jobs
    engine: Engine
    directory: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def job(
        self,
        *does: dict[str, object],
        environment: str = "",
        accept_drift: bool = False,
        retries: int | RetryPolicy = 0,
        resources: Resources | None = None,
        output_dir: str = "",
        **more: Any,
    ) -> list[str]:
        """A job with one queued run for each of `does`; the runs' ids. `more` are fields of `NewJob`."""
        kernel = KernelInfo(name="none", display_name="none", language="python", argv=["none"])
        request = CreateJob(path="test.ipynb", resources=resources or Resources())
        choice = ProjectChoice(directory=str(self.directory), mode="directory", why="test")
        with write(self.engine) as conn:
            snapshots.insert_snapshot(conn, Snapshot(digest="0" * 64, directory=str(self.directory), files=0, bytes=0, created_at=datetime.now(UTC)))
            new = NewJob(
                name="test",
                notebook="test.ipynb",
                source="test.ipynb",
                file=str(self.directory / "test.ipynb"),
                project=str(self.directory),
                snapshot="0" * 64,
                kernel=kernel,
                spec=JobSpec(kernel=kernel, project=choice, request=request, accept_drift=accept_drift, output_dir=output_dir),
                environment=environment,
                created_by="test",
                retries=RetryPolicy(attempts=retries) if isinstance(retries, int) else retries,
                **more,
            )
            job = jobs.insert(conn, new, total=len(does))
            return runs.insert_many(conn, job, [Combination(number=n, parameters=each) for n, each in enumerate(does, 1)])

    def run(self, run: str) -> Run:
        with read(self.engine) as conn:
            found = runs.get(conn, run)
        assert found is not None
        return found

    def events(self, run: str | None = None) -> list[Event]:
        with read(self.engine) as conn:
            return events.after(conn, 0, 10_000, run=run).events

    def states(self, run: str) -> list[str]:
        """The states that a run went through, in order."""
        return [event.state for event in self.events(run) if event.kind == "run.state"]

    async def cancel(self, run: str) -> None:
        with write(self.engine) as conn:
            assert runs.request_cancel(conn, run)
        await asyncio.to_thread(nudge, self.settings)

    def directory_of(self, run: str, attempt: int = 1) -> Path:
        job, _, number = run.rpartition("-")
        return self.directory / "runs" / job / number / str(attempt)

    def gate(self, name: str) -> str:
        """A pipe at which a run with `{"do": "hold", "gate": …}` waits until `open_gate`."""
        path = self.directory / name
        if not path.exists():
            os.mkfifo(path)
        return str(path)

    async def until(self, *wanted: str, state: str = "") -> None:
        """Return once all these runs are in `state`, or have ended if that is empty. Woken by the dispatcher, bounded by `SECONDS`."""

        def there() -> bool:
            found = [self.run(run).state for run in wanted]
            return all(each == state if state else each in FINAL for each in found)

        async with asyncio.timeout(SECONDS):
            while not await asyncio.to_thread(there):
                await dispatcher_appeared(self.settings)
                async for _ in subscribe(self.settings):
                    if await asyncio.to_thread(there):
                        return

    @contextlib.asynccontextmanager
    async def dispatcher(self, *, backend: Backend | None = None, **limits: float) -> AsyncIterator[None]:
        """A dispatcher in this process, ended afterwards."""
        ready = asyncio.Event()
        serving = asyncio.create_task(
            serve(
                self.settings,
                backend=backend or dispatcher_driver.stand_in_backend(),
                limits=Limits(**limits),
                prepare=dispatcher_driver.prepare,
                ready=ready.set,
            )
        )
        first = asyncio.create_task(ready.wait())
        try:
            async with asyncio.timeout(SECONDS):
                await asyncio.wait({serving, first}, return_when=asyncio.FIRST_COMPLETED)
            yield
        finally:
            first.cancel()
            if not serving.done():
                await asyncio.to_thread(process.stop_dispatcher, self.settings)
            await serving

    def spawn(self, **given: object) -> subprocess.Popen[str]:
        """A dispatcher in a process of its own; returns when it is ready."""
        values = {"data_dir": self.settings.data_dir, "max_parallel_runs": self.settings.max_parallel_runs, "keep_dispatcher_seconds": 600}
        text = json.dumps({"settings": values, **given})
        driver = subprocess.Popen([sys.executable, dispatcher_driver.__file__, text], stdout=subprocess.PIPE, text=True)
        self.started.append(driver)
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n"
        return driver

    def runner(self, run: str) -> processes.Process:
        """The process that carries the run."""
        with read(self.engine) as conn:
            found = next(each for each in runs.active(conn) if each.run == run)
        assert found.pid is not None
        assert found.pid_started is not None
        return processes.Process(host=found.host, boot=found.boot_id, pid=found.pid, started=found.pid_started)


async def open_gate(path: str) -> None:
    """Let one run through; returns once it has come to the gate."""
    async with asyncio.timeout(SECONDS):
        await asyncio.to_thread(lambda: Path(path).open("wb").close())


async def gone(found: processes.Process) -> None:
    async with asyncio.timeout(SECONDS):
        await processes.ended(found)
