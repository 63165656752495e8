"""What a run costs the dispatcher: one job of many runs on a backend that ends each at once.

    python -m benchmarks.dispatching [--runs 2000] [--parallel 2]

The store, the run directories and everything else of the dispatcher are real; the runner is not: its files are written by the backend. Prints
CPU milliseconds of the process for each run, over all runs and for each tenth of them: the last should cost what the first does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from jupyter_jobs.actions.places import job_dir
from jupyter_jobs.backends.base import Capabilities, Exit, Handle, Submission
from jupyter_jobs.dispatcher.service import serve
from jupyter_jobs.model import Combination, KernelInfo, ProjectChoice, Snapshot
from jupyter_jobs.requests import CreateJob
from jupyter_jobs.runner import rundir
from jupyter_jobs.runner.rundir import CellCount, RunEvent, RunResult
from jupyter_jobs.settings import Jobs
from jupyter_jobs.store import jobs, runs, snapshots
from jupyter_jobs.store.database import open_store, write
from jupyter_jobs.store.jobs import JobSpec, NewJob


class AtOnce:
    """A backend whose runs have ended when they start. `cpu` holds the process's CPU seconds at each start; `left` is set after the last."""

    name = "at once"
    capabilities = Capabilities(survives=True, shares_memory=True)

    def __init__(self, total: int) -> None:
        self.cpu: list[float] = []
        self.own = 0.0
        self._total = total
        self.over = asyncio.Event()

    async def submit(self, submission: Submission) -> Handle:
        self.cpu.append(time.process_time() - self.own)
        before = time.process_time()
        now = time.time()
        lines = [RunEvent(at=now, kind="state", state="running"), RunEvent(at=now, kind="progress", done=3, total=3)]
        (submission.directory / rundir.EVENTS).write_bytes(b"".join(rundir.encode(line) + b"\n" for line in lines))
        result = RunResult(state="complete", started_at=now, ended_at=now, cells=CellCount(done=3, total=3), peak_memory=1 << 20)
        (submission.directory / rundir.RESULT).write_bytes(rundir.encode(result))
        self.own += time.process_time() - before
        return Handle(backend=self.name, run=submission.run, data={"pid": len(self.cpu), "started": 1})

    async def wait(self, handle: Handle) -> Exit:
        if len(self.cpu) == self._total:
            self.over.set()
        return Exit(code=0)

    async def find(self, submission: Submission) -> Handle | None:
        return None

    async def poll(self, handles: Sequence[Handle]) -> list[Exit | None]:
        return [None for _ in handles]

    async def cancel(self, handle: Handle, *, force: bool = False) -> None: ...

    async def notify(self, handle: Handle) -> None: ...

    async def memory(self, handle: Handle) -> int:
        return 1 << 20

    def logs(self, directory: Path) -> Path:
        return directory / "runner.log"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--parallel", type=int, default=2)
    arguments = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="jjb"))
    os.environ["XDG_RUNTIME_DIR"] = str(place)
    try:
        asyncio.run(measure(place, arguments.runs, arguments.parallel))
    finally:
        shutil.rmtree(place)


async def measure(place: Path, total: int, parallel: int) -> None:
    settings = Jobs(data_dir=str(place / "jobs"), max_parallel_runs=parallel, keep_dispatcher_seconds=0, workspace="copy")
    make_job(settings, total)
    backend = AtOnce(total)
    began, wall = time.process_time(), time.monotonic()
    await serve(settings, backend=backend)
    assert len(backend.cpu) == total
    spent, wall = time.process_time() - backend.own - began, time.monotonic() - wall
    tenth = total // 10
    marks = [backend.cpu[index * tenth] for index in range(10)] + [backend.cpu[-1]]
    each = [(after - before) / tenth * 1000 for before, after in pairwise(marks)]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; {total} runs, {parallel} at a time")
    print(f"CPU per run {spent / total * 1000:.2f} ms; wall {wall / total * 1000:.2f} ms")
    print(f"each tenth: {' '.join(f'{value:.2f}' for value in each)} ms; last / first {each[-1] / each[0]:.2f}")


def make_job(settings: Jobs, total: int) -> None:
    data_dir = Path(settings.data_dir)
    engine = open_store(data_dir)
    kernel = KernelInfo(name="none", display_name="none", language="python", argv=["none"])
    choice = ProjectChoice(directory=str(data_dir), mode="directory", why="benchmark")
    new = NewJob(
        name="benchmark",
        notebook="benchmark.ipynb",
        source="benchmark.ipynb",
        file=str(data_dir / "benchmark.ipynb"),
        project=str(data_dir),
        snapshot="0" * 64,
        kernel=kernel,
        spec=JobSpec(kernel=kernel, project=choice, request=CreateJob(path="benchmark.ipynb")),
        created_by="benchmark",
    )
    with write(engine) as conn:
        snapshots.insert_snapshot(conn, Snapshot(digest="0" * 64, directory=str(data_dir), files=0, bytes=0, created_at=datetime.now(UTC)))
        job = jobs.insert(conn, new, total=total)
        runs.insert_many(conn, job, [Combination(number=n, parameters={"seed": n}, label=f"seed={n}") for n in range(1, total + 1)])
    engine.dispose()
    job_dir(data_dir, job).mkdir(parents=True)
    (job_dir(data_dir, job) / "variables.json").write_text(json.dumps({}))


if __name__ == "__main__":
    main()
