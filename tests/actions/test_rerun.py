"""Running again, and adding combinations, on what was frozen."""

from __future__ import annotations

import pytest

from jupyter_jobs.actions import create, jobs, rerun, runs
from jupyter_jobs.actions.places import job_dir
from jupyter_jobs.errors import BadInput, Conflict, JobsError, NotFound, Unavailable
from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.model import Job, RunError
from jupyter_jobs.requests import AddRuns, AskRetries, ChangeJob, CreateJob
from jupyter_jobs.store import ending
from jupyter_jobs.store import jobs as jobs_store
from jupyter_jobs.store.database import write
from tests.actions.conftest import World
from tests.factories import bring_to


@pytest.fixture
def job(world: World) -> Job:
    """Three combinations: complete, failed, canceled."""
    made = create.create_job(world.context, CreateJob(path=world.report))
    for number, state in ((1, RunState.COMPLETE), (2, RunState.FAILED), (3, RunState.CANCELED)):
        bring(world, f"{made.id}-{number}", state)
    world.nudges.clear()
    return jobs.show_job(world.context, made.id)


def bring(world: World, run: str, state: RunState) -> None:
    with write(world.context.engine) as conn:
        bring_to(conn, run, state)


def again(world: World, job: Job) -> list[tuple[int, int, str, bool]]:
    """Number, combination, what is repeated, and whether another stands for it."""
    return [(run.number, run.combination, run.rerun_of, run.superseded) for run in runs.list_runs(world.context, job.id).runs]


def test_what_failed_runs_again_as_new_runs_of_the_same_job(world: World, job: Job) -> None:
    shown = rerun.rerun_job(world.context, job.id, "failed")
    assert (shown.snapshot, shown.environment) == (job.snapshot, job.environment)
    assert (shown.counts, shown.total, shown.strip, shown.status) == ({"complete": 1, "queued": 1, "canceled": 1}, 3, "cfxq", "running")
    assert again(world, job) == [(1, 1, "", False), (2, 2, "", True), (3, 3, "", False), (4, 2, f"{job.id}-2", False)]
    made, old = runs.show_run(world.context, f"{job.id}-4"), runs.show_run(world.context, f"{job.id}-2")
    assert (made.parameters, made.label, made.state, made.attempt) == (old.parameters, old.label, "queued", 0)
    assert (old.state, old.error is not None) == ("failed", True)
    assert world.nudges == [1]
    # it is under way: nothing has failed now
    assert_refused("nothing_to_rerun", lambda: rerun.rerun_job(world.context, job.id, "failed"))
    bring(world, f"{job.id}-4", RunState.FAILED)
    rerun.rerun_job(world.context, job.id, "failed")
    assert again(world, job)[-2:] == [(4, 2, f"{job.id}-2", True), (5, 2, f"{job.id}-4", False)]
    bring(world, f"{job.id}-5", RunState.COMPLETE)
    shown = jobs.show_job(world.context, job.id)
    assert (shown.counts, shown.strip) == ({"complete": 2, "canceled": 1}, "cfxfc")
    assert [each.id for each in jobs.list_jobs(world.context, status=["canceled"]).jobs] == [job.id], "its failures were made good"


def test_all_that_has_ended_or_some_by_number(world: World, job: Job) -> None:
    rerun.rerun_job(world.context, job.id, [3, 1])
    assert again(world, job)[3:] == [(4, 3, f"{job.id}-3", False), (5, 1, f"{job.id}-1", False)]
    rerun.rerun_job(world.context, job.id, "all")
    assert again(world, job)[5:] == [(6, 2, f"{job.id}-2", False)], "what is under way is not doubled"
    assert_refused("run_not_ended", lambda: rerun.rerun_job(world.context, job.id, [1]))
    assert_refused("run_not_found", lambda: rerun.rerun_job(world.context, job.id, [99]))
    assert_refused("nothing_to_rerun", lambda: rerun.rerun_job(world.context, job.id, []))


def test_what_failing_fast_canceled_runs_again_with_what_failed(world: World) -> None:
    made = create.create_job(world.context, CreateJob(path=world.report, fail_fast=True, retries=AskRetries(attempts=0)))
    fails, by_hand, waits = (f"{made.id}-{number}" for number in (1, 2, 3))
    runs.cancel_run(world.context, by_hand)
    bring(world, fails, RunState.RUNNING)
    with write(world.context.engine) as conn:
        ending.end(conn, fails, 1, RunState.FAILED, error=RunError(code="cell_error", message="no"))
    stopped = runs.show_run(world.context, waits).error
    assert stopped is not None
    assert "new job" in stopped.mend, "a re-run has the same cell again"
    rerun.rerun_job(world.context, made.id, "failed")
    assert [run.rerun_of for run in runs.list_runs(world.context, made.id).runs[3:]] == [fails, waits]


def test_one_run(world: World, job: Job) -> None:
    made = rerun.rerun_run(world.context, f"{job.id[:6]}-1")
    assert (made.id, made.rerun_of, made.combination) == (f"{job.id}-4", f"{job.id}-1", 1)
    assert_refused("run_not_ended", lambda: rerun.rerun_run(world.context, f"{job.id}-1"))
    assert_refused("run_not_ended", lambda: rerun.rerun_run(world.context, made.id))
    with write(world.context.engine) as conn:
        jobs_store.request_delete(conn, job.id)
    assert_refused("job_deleting", lambda: rerun.rerun_run(world.context, f"{job.id}-2"))


def test_combinations_are_added_to_what_was_frozen(world: World, job: Job) -> None:
    (world.project / "report.ipynb").unlink()
    shown = rerun.add_runs(world.context, job.id, AddRuns(parameters={"seed": [7, 8, 9]}, only=[1, 3]))
    assert (shown.total, shown.snapshot) == (5, job.snapshot)
    added = runs.list_runs(world.context, job.id).runs[3:]
    assert [(run.number, run.combination, run.parameters, run.rerun_of) for run in added] == [(4, 4, {"seed": 7}, ""), (5, 5, {"seed": 9}, "")]
    shown = rerun.add_runs(world.context, job.id, AddRuns(grid_text='{"sede": [1]}'))
    assert [note.code for note in shown.notes if note not in job.notes] == ["parameter_unknown"]
    assert shown.parameter_names == ["seed", "sede"]


def test_what_cannot_be_added(world: World, job: Job) -> None:
    refused = assert_refused("combination_exists", lambda: rerun.add_runs(world.context, job.id, AddRuns(parameters={"seed": [4, 2]})))
    assert refused.detail["run"] == f"{job.id}-2"
    assert len(again(world, job)) == 3, "none of them was added"
    rerun.add_runs(world.context, job.id, AddRuns(parameters={"seed": [2.0, True]}))
    rerun.add_runs(world.context, job.id, AddRuns(parameters={"seed": [2]}, duplicates=True))
    assert len(again(world, job)) == 6
    for wrong in (AddRuns(), AddRuns(grid_text="{}"), AddRuns(parameters={"no name": [1]}), AddRuns(grid_text="[")):
        with pytest.raises(BadInput):
            rerun.add_runs(world.context, job.id, wrong)
    assert_refused("no_such_combination", lambda: rerun.add_runs(world.context, job.id, AddRuns(parameters={"seed": [5]}, only=[2])))
    (job_dir(world.data_dir, job.id) / "notebook.ipynb").unlink()
    with pytest.raises(Unavailable):
        rerun.add_runs(world.context, job.id, AddRuns(parameters={"seed": [6]}))


def test_a_job_is_changed(world: World, job: Job) -> None:
    shown = jobs.change_job(world.context, job.id, ChangeJob(name=" churn ", priority=3, max_parallel=1))
    assert (shown.name, shown.priority, shown.max_parallel, shown.description) == ("churn", 3, 1, "")
    assert [each.id for each in jobs.list_jobs(world.context, search="churn").jobs] == [job.id], "it is found by its new name"
    assert world.nudges == [1]
    jobs.change_job(world.context, job.id, ChangeJob(priority=3))
    assert world.nudges == [1], "nothing changed"
    for name in ("", "  ", "x" * 201):
        assert_refused("bad_name", lambda name=name: jobs.change_job(world.context, job.id, ChangeJob(name=name)))


def test_a_run_is_extended(world: World) -> None:
    job = create.create_job(world.context, CreateJob(path=world.report, time_limit=60))
    assert_refused("run_not_active", lambda: runs.extend_run(world.context, f"{job.id}-1", 5))
    bring(world, f"{job.id}-1", RunState.RUNNING)
    runs.extend_run(world.context, f"{job.id}-1", 5)
    assert runs.extend_run(world.context, f"{job.id}-1", 7.5).extended == 12.5
    runs.cancel_run(world.context, f"{job.id}-1")
    assert_refused("run_not_active", lambda: runs.extend_run(world.context, f"{job.id}-1", 5))
    other = create.create_job(world.context, CreateJob(path=world.report))
    assert_refused("no_time_limit", lambda: runs.extend_run(world.context, f"{other.id}-1", 5))


def assert_refused(code: str, what) -> JobsError:  # type: ignore[no-untyped-def]
    with pytest.raises((Conflict, NotFound, BadInput)) as caught:
        what()
    assert caught.value.code == code
    assert caught.value.message
    return caught.value
