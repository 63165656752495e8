"""The queue, retries and re-runs as a client meets them, over HTTP and in this process."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from jupyter_jobs.actions.places import run_dir
from jupyter_jobs.client import Client
from jupyter_jobs.errors import BadInput, Conflict, NotFound
from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.model import RetryPolicy
from jupyter_jobs.runner import rundir
from jupyter_jobs.settings import Jobs
from jupyter_jobs.store import ending, runs
from tests.api.running import Dispatcher, Running, error_of
from tests.api.test_client import ask, client, error_from  # noqa: F401
from tests.factories import ERROR, bring_to, make_job, new_job, notebook, write_project


async def test_the_queue(client: Client, dispatcher: Dispatcher) -> None:  # noqa: F811
    first, second = dispatcher.write(make_job, runs_count=2), dispatcher.write(make_job, runs_count=1)
    assert [each.run.id for each in (await ask(client.queue)).waiting] == [f"{first}-1", f"{first}-2", f"{second}-1"]
    found = await ask(client.pause_queue)
    assert (found.paused, found.paused_by != "", found.paused_at is not None, found.parallel >= 1) == (True, True, True, True)
    assert not (await ask(client.resume_queue)).paused
    found = await ask(lambda: client.move_run(f"{first}-2", before=f"{first}-1"))
    assert [each.run.number for each in found.waiting] == [2, 1, 1]
    assert (await ask(lambda: client.change_job(second, priority=5, name="new"))).name == "new"
    dispatcher.write(bring_to, f"{first}-2", RunState.RUNNING)
    found = await ask(lambda: client.queue(limit=1))
    assert ([each.id for each in found.active], [(each.run.id, each.position, each.priority) for each in found.waiting]) == (
        [f"{first}-2"],
        [(f"{second}-1", 1, 5)],
    )
    rest = await ask(lambda: client.queue(limit=1, after=found.page.next))
    assert [(each.run.id, each.position) for each in rest.waiting] == [(f"{first}-1", 2)]
    for wrong, kind, field in (
        (lambda: client.change_job(second, priority=101), BadInput, "priority"),
        (lambda: client.change_job(second, max_parallel=-1), BadInput, "max_parallel"),
        (lambda: client.move_run(f"{first}-2", to="first"), Conflict, None),
        (lambda: client.move_run(f"{first}-1"), BadInput, "to"),
        (lambda: client.move_run("ffffffff-1", to="first"), NotFound, None),
        (lambda: client.extend_run(f"{first}-2", 0), BadInput, "seconds"),
        (lambda: client.extend_run(f"{first}-2", 10), Conflict, None),
    ):
        error = await error_from(wrong)
        assert isinstance(error, kind), error
        assert error.detail.get("field") == field


async def test_earlier_attempts_keep_what_they_left(client: Client, dispatcher: Dispatcher, settings: Jobs) -> None:  # noqa: F811
    job = dispatcher.write(make_job, msgspec.structs.replace(new_job(), retries=RetryPolicy(attempts=1)), runs_count=1)
    run = f"{job}-1"
    for attempt in (1, 2):
        dispatcher.write(runs.claim, run, attempt, host="h", boot_id="b")
        leave(run_dir(Path(settings.data_dir), run, attempt), attempt)
        dispatcher.write(ending.end, run, attempt, RunState.FAILED, error=ERROR)
    found = (await ask(lambda: client.attempts(run))).attempts
    assert [(each.number, each.state, each.error) for each in found] == [(1, "failed", ERROR), (2, "failed", ERROR)]
    assert [line.text for line in await ask(lambda: list(client.logs(run)))] == ["attempt 1", "attempt 2"]
    for attempt in (1, 2):
        assert [line.text for line in await ask(lambda: list(client.logs(run, attempt=attempt)))] == [f"attempt {attempt}"]  # noqa: B023
        assert f"attempt {attempt}".encode() in await ask(lambda: client.notebook(run, attempt=attempt))  # noqa: B023
        assert f"attempt {attempt}" in await ask(lambda: client.html(run, attempt=attempt, inline=True))  # noqa: B023
    assert [file.path for file in (await ask(lambda: client.files(run, attempt=1))).files] == ["out.txt"]
    assert await ask(lambda: client.file(run, "out.txt", attempt=1)) == b"1"
    for wrong in (
        lambda: client.notebook(run, attempt=3),
        lambda: client.files(run, attempt=3),
        lambda: list(client.logs(run, attempt=3)),
        lambda: client.html(run, attempt=3),
    ):
        assert (await error_from(wrong)).code == "attempt_not_found"


async def test_a_later_run_stands_for_the_first(client: Client, dispatcher: Dispatcher) -> None:  # noqa: F811
    job = dispatcher.write(make_job, runs_count=2)
    dispatcher.write(bring_to, f"{job}-1", RunState.FAILED)
    assert (await ask(lambda: client.rerun_job(job))).counts == {"queued": 2}
    assert (await error_from(lambda: client.rerun_run(f"{job}-1"))).code == "run_not_ended"
    dispatcher.write(bring_to, f"{job}-3", RunState.COMPLETE)
    assert (await ask(lambda: client.rerun_run(f"{job}-3"))).rerun_of == f"{job}-3"
    dispatcher.write(bring_to, f"{job}-2", RunState.COMPLETE)
    assert (await ask(lambda: client.rerun_job(job, [2]))).strip == "fccqq"


async def test_a_policy_that_means_nothing_is_refused(server: Running) -> None:
    write_project(server.root / "churn", {}, {"report.ipynb": notebook()})
    for retries, field in (
        ({"attempts": 21}, "retries.attempts"),
        ({"jitter": 1.5}, "retries.jitter"),
        ({"delay": -1}, "retries.delay"),
        ({"backoff": "slow"}, "retries.backoff"),
        ({"atempts": 1}, "retries.atempts"),
        ({"on": ["kernel_dies"]}, "retries.on"),
    ):
        response = await server.post("jobs", {"path": "churn/report.ipynb", "retries": retries})
        assert (response.code, error_of(response)["detail"]["field"]) == (400, field), retries


def leave(directory: Path, attempt: int) -> None:
    """What a runner leaves."""
    import nbformat

    (directory / "work" / "files").mkdir(parents=True)
    (directory / "work" / "files" / "out.txt").write_text(str(attempt))
    made = notebook([f"'attempt {attempt}'"])
    nbformat.write(made, directory / rundir.NOTEBOOK)
    (directory / rundir.LOG).write_bytes(rundir.encode(rundir.LogRecord(at=1, stream="stdout", text=f"attempt {attempt}")) + b"\n")
    result = rundir.RunResult(
        state="failed",
        started_at=1,
        ended_at=2,
        cells=rundir.CellCount(done=0, total=1),
        artifacts=[rundir.Artifact(path="out.txt", bytes=1, kind="created")],
    )
    rundir.write_result(directory, result)


@pytest.fixture(autouse=True)
def _no_dispatcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests say themselves what happens to runs."""
    monkeypatch.setattr("jupyter_jobs.api.dispatching.ensure_dispatcher", lambda settings: None)
