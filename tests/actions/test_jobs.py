"""Showing, canceling and deleting, and what deleting leaves on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_jobs.actions import create, jobs, runs
from jupyter_jobs.actions.places import job_dir, run_dir, runs_dir
from jupyter_jobs.actions.prune import delete_requested, freezing, prune, remove_tree
from jupyter_jobs.errors import BadInput, Conflict, NotFound
from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.model import Job
from jupyter_jobs.requests import CreateJob
from jupyter_jobs.store import runs as runs_store
from jupyter_jobs.store.database import write
from tests.actions.conftest import World
from tests.factories import bring_to, tree_of


@pytest.fixture
def job(world: World) -> Job:
    return create.create_job(world.context, CreateJob(path=world.report))


def bring(world: World, run: str, state: RunState) -> None:
    with write(world.context.engine) as conn:
        bring_to(conn, run, state)
    directory = run_dir(world.data_dir, run, 1)
    (directory / "work" / "overlay" / "work").mkdir(parents=True)
    # what an overlay leaves behind
    (directory / "work" / "overlay" / "work").chmod(0)


def test_ids_may_be_shortened(world: World, job: Job) -> None:
    assert jobs.show_job(world.context, job.id[:5]).id == job.id
    assert runs.show_run(world.context, f"{job.id[:5]}-2").id == f"{job.id}-2"
    assert [found.id for found in jobs.list_jobs(world.context, notebook=world.report).jobs] == [job.id]
    for wrong in ("", "zzzz", "%", f"{job.id}x"):
        with pytest.raises(NotFound):
            jobs.show_job(world.context, wrong)
    for wrong in ("", job.id, f"{job.id}-0", f"{job.id}-99", f"{job.id}-x", f"{job.id}-²", "-", f"zzzz-{1}"):
        with pytest.raises(NotFound):
            runs.show_run(world.context, wrong)


def test_an_ambiguous_id_names_the_candidates(world: World, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda size: job.id[:4] + "ffff" if size == 4 else "0" * 2 * size)
    other = create.create_job(world.context, CreateJob(path=world.report))
    with pytest.raises(BadInput, match=f"{other.id}.*{job.id}") as caught:
        jobs.show_job(world.context, job.id[:4])
    assert caught.value.code == "ambiguous_id"


def test_canceling_a_run_and_a_job(world: World, job: Job) -> None:
    bring(world, f"{job.id}-1", RunState.RUNNING)
    world.nudges.clear()
    assert runs.cancel_run(world.context, f"{job.id}-2").status == "canceled"
    assert runs.cancel_run(world.context, f"{job.id}-2").status == "canceled"
    assert world.nudges == [1], "nothing changed the second time"
    assert jobs.cancel_job(world.context, job.id).counts == {"running": 1, "canceled": 2}
    assert runs.show_run(world.context, f"{job.id}-1").status == "canceling"
    kinds = [event.kind for event in jobs.job_events(world.context, job.id).events]
    assert kinds[0] == "job.created"
    assert kinds.count("run.cancel") == 1
    assert jobs.events_after(world.context, after=0).last == runs.run_events(world.context, f"{job.id}-1").last


def test_deleting_takes_everything_along(world: World, job: Job) -> None:
    bring(world, f"{job.id}-1", RunState.COMPLETE)
    jobs.delete_job(world.context, job.id)
    assert jobs.list_jobs(world.context).jobs == []
    assert not job_dir(world.data_dir, job.id).exists()
    assert not runs_dir(world.data_dir, job.id).exists()
    assert list((world.data_dir / "snapshots").iterdir()) == []
    assert [path.name for path in (world.data_dir / "environments").iterdir()] == ["index"]
    assert [path for path in (world.data_dir / "objects").rglob("*") if path.is_file()] == []
    with pytest.raises(NotFound):
        jobs.delete_job(world.context, job.id)
    again = create.create_job(world.context, CreateJob(path=world.report))
    assert (world.data_dir / "snapshots" / again.snapshot / "tree" / "helper.py").read_text() == "x = 1\n"


def test_deleting_leaves_what_another_job_needs(world: World, job: Job) -> None:
    other = create.create_job(world.context, CreateJob(path=world.report))
    before = tree_of(world.data_dir / "snapshots")
    jobs.delete_job(world.context, job.id)
    assert tree_of(world.data_dir / "snapshots") == before
    assert jobs.show_job(world.context, other.id).total == 3
    assert (job_dir(world.data_dir, other.id) / "notebook.ipynb").exists()


def test_an_active_job_is_deleted_when_its_runs_have_ended(world: World, job: Job) -> None:
    bring(world, f"{job.id}-1", RunState.RUNNING)
    with pytest.raises(Conflict) as caught:
        jobs.delete_job(world.context, job.id)
    assert caught.value.detail["runs"] == [f"{job.id}-1"]
    jobs.delete_job(world.context, job.id, cancel=True)
    assert jobs.show_job(world.context, job.id).counts == {"running": 1, "canceled": 2}
    assert delete_requested(world.context.engine, world.data_dir) == []
    with write(world.context.engine) as conn:
        runs_store.move(conn, f"{job.id}-1", RunState.CANCELED)
    assert delete_requested(world.context.engine, world.data_dir) == [job.id]
    assert not runs_dir(world.data_dir, job.id).exists()
    with pytest.raises(NotFound):
        jobs.show_job(world.context, job.id)


def test_nothing_is_pruned_while_a_job_is_made(world: World, job: Job) -> None:
    with freezing(world.data_dir):
        jobs.delete_job(world.context, job.id)
        assert (world.data_dir / "snapshots" / job.snapshot).exists()
    prune(world.context.engine, world.data_dir)
    assert not (world.data_dir / "snapshots" / job.snapshot).exists()


def test_left_overs_of_a_crash_are_pruned(world: World, job: Job) -> None:
    for place in ("jobs/.new-0123", "runs/00000000/1/1/work", f"snapshots/{'0' * 64}/tree", f"environments/{'0' * 64}/tree"):
        (world.data_dir / place).mkdir(parents=True)
    prune(world.context.engine, world.data_dir)
    assert [path.name for path in (world.data_dir / "jobs").iterdir()] == [job.id]
    assert [path.name for path in (world.data_dir / "snapshots").iterdir()] == [job.snapshot]
    assert sorted(path.name for path in (world.data_dir / "environments").iterdir()) == sorted([job.environment, "index"])
    assert list((world.data_dir / "runs").iterdir()) == []


def test_a_tree_goes_whatever_its_modes(tmp_path: Path) -> None:
    victim, kept = tmp_path / "tree", tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (victim / "a" / "b").mkdir(parents=True)
    (victim / "a" / "b" / "file").touch()
    (victim / "link").symlink_to(kept)
    (victim / "a" / "b").chmod(0)
    (victim / "a").chmod(0o500)
    remove_tree(victim)
    assert not victim.exists()
    assert (kept / "file").exists()
