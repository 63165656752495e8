"""What a run used, from its run directory, over HTTP and in this process."""

from __future__ import annotations

from pathlib import Path

from jupyter_jobs.actions.places import run_dir
from jupyter_jobs.client import Client
from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.model import CellRef, CellTime, UsageSample
from jupyter_jobs.runner import rundir
from jupyter_jobs.settings import Jobs
from jupyter_jobs.store import runs
from tests.api.running import Dispatcher
from tests.api.test_client import ask, client, error_from
from tests.factories import bring_to, make_job

__all__ = ["client"]

EVENTS = """
{"at":1.0,"kind":"state","state":"running"}
{"at":1.0,"kind":"progress","done":0,"total":2,"cell":{"id":"a","number":1}}
{"at":2.5,"kind":"progress","done":1,"total":2,"cell":{"id":"b","number":2}}
"""


async def test_samples_and_cells(client: Client, dispatcher: Dispatcher, settings: Jobs) -> None:
    run = f"{dispatcher.write(make_job, runs_count=1)}-1"
    nothing = await ask(lambda: client.usage(run))
    assert (nothing.samples, nothing.cells, nothing.peak_memory, nothing.cpu_seconds) == ([], [], None, None)
    folder = run_dir(Path(settings.data_dir), run, 1)
    folder.mkdir(parents=True)
    (folder / rundir.EVENTS).write_text(EVENTS.lstrip())
    (folder / rundir.USAGE).write_text('[1.5,0.5,100,1,null,"rss"]\n[2.5,1.25,200,3,7,"pss"]\n[3.5,1.')
    dispatcher.write(bring_to, run, RunState.RUNNING)
    first, second = CellRef(id="a", number=1), CellRef(id="b", number=2)

    used = await ask(lambda: client.usage(run))
    assert (used.run, used.attempt) == (run, 1)
    assert used.samples == [
        UsageSample(at=1.5, cpu=0.5, memory=100, processes=1, storage=None, measure="rss"),
        UsageSample(at=2.5, cpu=1.25, memory=200, processes=3, storage=7, measure="pss"),
    ]
    assert used.cells == [CellTime(cell=first, started_at=1.0, ended_at=2.5), CellTime(cell=second, started_at=2.5, ended_at=None)]

    done = rundir.CellCount(done=2, total=2)
    rundir.write_result(folder, rundir.RunResult(state="complete", started_at=0.5, ended_at=4.0, cells=done, peak_memory=250, cpu_seconds=1.5))
    dispatcher.write(runs.move, run, RunState.COMPLETE, attempt=1, facts=runs.Facts(peak_memory=250))
    used = await ask(lambda: client.usage(run))
    assert (used.peak_memory, used.cpu_seconds) == (250, 1.5)
    assert used.cells[-1] == CellTime(cell=second, started_at=2.5, ended_at=4.0)


async def test_of_a_run_that_is_not_there(client: Client, dispatcher: Dispatcher) -> None:
    assert (await error_from(lambda: client.usage("ffffffff-1"))).code == "job_not_found"


async def test_files_that_are_no_json_hide_nothing_else(client: Client, dispatcher: Dispatcher, settings: Jobs) -> None:
    run = f"{dispatcher.write(make_job, runs_count=1)}-1"
    folder = run_dir(Path(settings.data_dir), run, 1)
    folder.mkdir(parents=True)
    (folder / rundir.USAGE).write_text("torn\n")
    (folder / rundir.EVENTS).write_text(EVENTS.lstrip())
    dispatcher.write(bring_to, run, RunState.RUNNING)
    used = await ask(lambda: client.usage(run))
    assert (used.samples, len(used.cells)) == ([], 2)
