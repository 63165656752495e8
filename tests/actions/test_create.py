"""Making a job of a real notebook in a real project with a real environment; what is refused leaves nothing."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import msgspec
import nbformat
import pytest
from sqlalchemy import event

from jupyter_jobs.actions import create, jobs, results, runs
from jupyter_jobs.actions.places import job_dir
from jupyter_jobs.actions.run_spec import RunFacts, make_run
from jupyter_jobs.errors import BadInput, JobsError, NotFound, TooLarge, Unavailable
from jupyter_jobs.model import LivePath, RetryPolicy
from jupyter_jobs.requests import AskRetries, CreateJob, PreviewRequest
from jupyter_jobs.runner import rundir
from jupyter_jobs.settings import Jobs
from jupyter_jobs.store import jobs as jobs_store
from jupyter_jobs.store import queue
from jupyter_jobs.store.database import read
from tests.actions.conftest import World
from tests.factories import notebook, tree_of


def left_behind(world: World) -> list[str]:
    """What lies in the store's folders of jobs, snapshots and environments, finished or not."""
    return sorted(
        str(path.relative_to(world.data_dir))
        for folder in ("jobs", "snapshots", "environments")
        for path in (world.data_dir / folder).glob("*")
        if path.name != "index"
    )


def test_a_real_job(world: World) -> None:
    before = tree_of(world.project)
    job = create.create_job(world.context, CreateJob(path=world.report, record=["auc"], description="first"))
    assert (job.name, job.notebook, job.source, job.project) == ("report", "report.ipynb", world.report, str(world.project))
    assert (job.total, job.strip, job.status, job.counts) == (3, "qqq", "queued", {"queued": 3})
    assert (job.parameter_names, job.record, job.kernel.name) == (["seed"], ["auc"], "small")
    assert job.snapshot
    assert job.environment
    page = runs.list_runs(world.context, job.id)
    assert [(run.id, run.parameters, run.label, run.state) for run in page.runs] == [
        (f"{job.id}-{number}", {"seed": number}, f"seed={number}", "queued") for number in (1, 2, 3)
    ]
    view = results.snapshot_view(world.context, job.id)
    assert {entry.path for entry in view.entries} == {"pyproject.toml", "helper.py", "data/in.csv", "report.ipynb", "report.parameters.json"}
    assert view.environment is not None
    assert view.environment.prefix == str(world.environment)
    folder = job_dir(world.data_dir, job.id)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == dict.fromkeys(
        ("variables.json", "notebook.ipynb", "job.json"), 0o600
    )
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert json.loads((folder / "job.json").read_text())["id"] == job.id
    kept = nbformat.read(folder / "notebook.ipynb", as_version=4)
    nbformat.validate(kept)
    assert [cell.source for cell in kept.cells] == ["seed = 0", "import helper", "open('data/in.csv').read()"]
    assert tree_of(world.project) == before
    assert world.nudges == [1]


def test_the_same_again_shares_what_is_frozen(world: World) -> None:
    first, second = (create.create_job(world.context, CreateJob(path=world.report)) for _ in range(2))
    assert first.id != second.id
    assert (first.snapshot, first.environment) == (second.snapshot, second.environment)
    assert len(list((world.data_dir / "snapshots").iterdir())) == 1


@pytest.mark.parametrize(
    ("request_", "parameters"),
    [
        (CreateJob(path="", only=[3, 1]), [{"seed": 1}, {"seed": 3}]),
        (CreateJob(path="", no_grid=True), [{}]),
        (CreateJob(path="", grid_text='{"seed": [7]}'), [{"seed": 7}]),
        (CreateJob(path="", parameters={"seed": [5], "lr": [0.1, 0.2]}), [{"seed": 5, "lr": 0.1}, {"seed": 5, "lr": 0.2}]),
    ],
)
def test_which_runs_are_made(world: World, request_: CreateJob, parameters: list[dict[str, object]]) -> None:
    job = create.create_job(world.context, msgspec.structs.replace(request_, path=world.report))
    assert [run.parameters for run in runs.list_runs(world.context, job.id).runs] == parameters


def test_a_chosen_grid_file(world: World) -> None:
    grid = world.project / "other.json"
    grid.write_text('{"seed": [8, 9]}')
    job = create.create_job(world.context, CreateJob(path=world.report, grid_path=str(grid)))
    assert [run.label for run in runs.list_runs(world.context, job.id).runs] == ["seed=8", "seed=9"]


def test_unknown_parameters_are_said_and_run(world: World) -> None:
    job = create.create_job(world.context, CreateJob(path=world.report, parameters={"sede": [1]}))
    assert ("parameter_unknown", "warning") in [(note.code, note.level) for note in job.notes]


BROKEN = [
    (CreateJob(path="nowhere.ipynb"), NotFound, "notebook_not_found"),
    (CreateJob(path="helper.py"), BadInput, "notebook_invalid"),
    (CreateJob(path="data"), BadInput, "notebook_invalid"),
    (CreateJob(path="report.ipynb", kernel="fortran"), BadInput, "kernel_not_found"),
    (CreateJob(path="report.ipynb", grid_text="{"), BadInput, "grid_invalid"),
    (CreateJob(path="report.ipynb", grid_path="nowhere.json"), BadInput, "grid_invalid"),
    (CreateJob(path="report.ipynb", parameters={"a b": [1]}), BadInput, None),
    (CreateJob(path="report.ipynb", parameters={"a": []}), BadInput, None),
    (CreateJob(path="report.ipynb", parameters={name: list(range(1000)) for name in "abc"}), BadInput, "grid_too_large"),
    (CreateJob(path="report.ipynb", only=[4]), BadInput, "no_such_combination"),
    (CreateJob(path="report.ipynb", only=[0]), BadInput, "no_such_combination"),
    (CreateJob(path="report.ipynb", project="/nowhere"), BadInput, None),
    (CreateJob(path="report.ipynb", live=[LivePath(path="nothing-here")]), BadInput, "live_not_found"),
    (CreateJob(path="report.ipynb", exclude=["../.."]), BadInput, None),
    (CreateJob(path="report.ipynb", record=["not a name"]), BadInput, "bad_name"),
    (CreateJob(path="report.ipynb", output_dir="helper.py"), BadInput, "bad_output_dir"),
    (CreateJob(path="report.ipynb", time_limit=0), BadInput, "bad_limit"),
    (CreateJob(path="report.ipynb", cell_timeout=-1.0), BadInput, "bad_limit"),
    (CreateJob(path="report.ipynb", time_limit=float("nan")), BadInput, "bad_limit"),
    (CreateJob(path="report.ipynb", name="x" * 300), BadInput, "bad_name"),
]


@pytest.mark.parametrize(("request_", "error", "code"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_bad_input_queues_nothing(world: World, request_: CreateJob, error: type[JobsError], code: str | None) -> None:
    path = str(world.project / request_.path)
    with pytest.raises(error) as caught:
        create.create_job(world.context, msgspec.structs.replace(request_, path=path))
    assert code is None or caught.value.code == code
    assert caught.value.message
    assert jobs.list_jobs(world.context).page.total == 0
    assert left_behind(world) == []
    assert world.nudges == []


def test_a_project_that_is_too_large_queues_nothing(world: World) -> None:
    world.context.settings.snapshot_max_bytes = 10
    with pytest.raises(TooLarge):
        create.create_job(world.context, CreateJob(path=world.report))
    assert jobs.list_jobs(world.context).page.total == 0


def test_a_store_that_fails_at_the_last_moment_leaves_no_files(world: World) -> None:
    def fail(conn: object) -> None:
        raise RuntimeError("the disk is full")

    event.listen(world.context.engine, "commit", fail)
    with pytest.raises(RuntimeError):
        create.create_job(world.context, CreateJob(path=world.report))
    event.remove(world.context.engine, "commit", fail)
    assert list((world.data_dir / "jobs").iterdir()) == []
    assert jobs.list_jobs(world.context).page.total == 0
    # what was frozen is there for the next job, or for pruning
    assert create.create_job(world.context, CreateJob(path=world.report)).total == 3


def test_a_dispatcher_that_does_not_start_is_a_note(world: World) -> None:
    def refuse() -> None:
        raise Unavailable("No dispatcher could be started.", code="no_dispatcher", mend="Look at its log.")

    job = create.create_job(msgspec_replace(world, nudge=refuse).context, CreateJob(path=world.report))
    assert job.notes[-1].code == "no_dispatcher"
    assert jobs.show_job(world.context, job.id).counts == {"queued": 3}


def msgspec_replace(world: World, **changes: object) -> World:
    from dataclasses import replace

    return World(replace(world.context, **changes), world.project, world.environment, world.nudges)  # type: ignore[arg-type]


def test_variables_are_the_submitters_and_shown_by_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "hub-secret")
    monkeypatch.setenv("JUPYTER_TOKEN", "server-secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "my-own-secret")
    monkeypatch.setitem(os.environ, "ODD", "\udce9")
    job = create.create_job(world.context, CreateJob(path=world.report))
    file = job_dir(world.data_dir, job.id) / "variables.json"
    kept = json.loads(file.read_text())
    assert kept["AWS_SECRET_ACCESS_KEY"] == "my-own-secret"
    assert not {"JPY_PARENT_PID", "JUPYTERHUB_API_TOKEN", "JUPYTER_TOKEN", "ODD"} & set(kept)
    assert job.variables == sorted(kept)
    assert "ODD" in next(note.message for note in job.notes if note.code == "variables_left_out")
    shown = msgspec.json.encode([job, jobs.job_events(world.context, job.id), runs.list_runs(world.context, job.id)])
    for secret in (b"my-own-secret", b"server-secret", b"hub-secret", b"value-of-the-spec"):
        assert secret not in shown
    assert all(b"secret" not in path.read_bytes() for path in (world.data_dir / "jobs.sqlite", world.data_dir / "jobs.sqlite-wal"))


def test_ignored_inputs_are_said_and_kept_for_the_run(world: World) -> None:
    (world.project / ".jobsignore").write_text("data/\n")
    job = create.create_job(world.context, CreateJob(path=world.report))
    (note,) = [note for note in job.notes if note.code == "input_ignored"]
    assert "data" in note.path
    with read(world.context.engine) as conn:
        spec = jobs_store.get_spec(conn, job.id)
    assert spec is not None
    assert [ignored.path for ignored in spec.ignored] == ["data"]


def test_live_paths_come_from_the_request_and_the_rules(world: World) -> None:
    (world.project / ".jobs.toml").write_text('live = ["data/"]\n')
    (world.project / "more").mkdir()
    job = create.create_job(world.context, CreateJob(path=world.report, live=[LivePath(path="more", writable=True)]))
    assert [(live.path, live.writable) for live in job.live] == [("data/", False), ("more", True)]
    assert "data/in.csv" not in {entry.path for entry in results.snapshot_view(world.context, job.id).entries}


def test_preview_tells_what_a_job_would_freeze(world: World) -> None:
    (world.project / ".jobsignore").write_text("data/\n")
    found = create.preview(world.context, PreviewRequest(path=world.report))
    assert (found.project.directory, found.project.mode) == (str(world.project), "directory")
    assert found.files == len(tree_of(world.project)) - 1
    assert [(ignored.path, ignored.rule) for ignored in found.ignored] == [("data", ".jobsignore:1: data/")]
    assert found.environment.prefix == str(world.environment)
    assert (found.workspace, found.copied_bytes) == ("copy", found.bytes)
    assert {"input_ignored", "workspace_copy"} <= {finding.code for finding in found.findings}
    assert left_behind(world) == []


def test_preview_shows_what_would_stop_the_job(world: World) -> None:
    world.context.settings.snapshot_max_files = 2
    found = create.preview(world.context, PreviewRequest(path=world.report, kernel="fortran"))
    assert {"kernel_not_found", "project_too_large"} <= {finding.code for finding in found.findings if finding.level == "error"}


def facts_of(world: World, job: str) -> RunFacts:
    """What the dispatcher knows of the first attempt of the job's first run."""
    with read(world.context.engine) as conn:
        (claim,) = queue.take(conn, 1, host="h", boot_id="b").claims
        frozen = jobs_store.frozen(conn, job)
    assert frozen is not None
    return RunFacts(run=claim.run, attempt=claim.attempt, parameters=claim.parameters, label=claim.label, job=frozen)


def test_run_json_has_what_the_runner_needs(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    (world.project / "deep").mkdir()
    nbformat.write(notebook(kernel="small"), world.project / "deep" / "n.ipynb")
    asked = CreateJob(
        path=str(world.project / "deep" / "n.ipynb"), parameters={"seed": [4]}, time_limit=60, record=["auc"], live=[LivePath(path="data")]
    )
    job = create.create_job(world.context, asked)
    facts = facts_of(world, job.id)
    spec = make_run(facts, world.context.settings, parallel=1)
    rundir.write_spec(tmp_path, spec)
    assert rundir.read_spec(tmp_path) == spec
    assert (spec.run, spec.job, spec.attempt, spec.parameters, spec.label) == (f"{job.id}-1", job.id, 1, {"seed": 4}, "seed=4")
    assert Path(spec.notebook) == job_dir(world.data_dir, job.id) / "notebook.ipynb"
    assert (spec.notebook_path, spec.workspace.cwd, spec.workspace.project) == ("deep/n.ipynb", "deep", str(world.project))
    assert (Path(spec.workspace.tree) / "helper.py").read_text() == "x = 1\n"
    assert spec.workspace.environment[0].target == str(world.environment)
    assert [(bind.target, bind.writable) for bind in spec.workspace.binds] == [(str(world.project / "data"), False)]
    assert spec.kernel.env == {"SPEC_VALUE": "value-of-the-spec"}
    assert "{connection_file}" in spec.kernel.argv
    assert (spec.record, spec.time_limit, spec.cell_timeout) == (["auc"], 60, None)
    assert spec.extra_env["JUPYTER_JOBS_DATA"] == str(world.data_dir)
    assert int(spec.extra_env["OMP_NUM_THREADS"]) >= 1
    assert "MKL_NUM_THREADS" not in spec.extra_env, "the submitter's own choice stands"


def test_a_job_whose_files_are_gone_is_said(world: World) -> None:
    job = create.create_job(world.context, CreateJob(path=world.report))
    (job_dir(world.data_dir, job.id) / "variables.json").unlink()
    facts = facts_of(world, job.id)
    with pytest.raises(Unavailable) as caught:
        make_run(facts, world.context.settings, parallel=1)
    assert caught.value.code == "job_files_missing"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("/", "/ is the root of the file system"),
        ("../..//../../../../../../../..", "/ is the root of the file system"),
        ("/proc/self", "/proc/self is a place of the system"),
        ("/dev", "/dev is a place of the system"),
        ("{store}", "{store} is the store"),
        ("{store}/runs/mine", "{store}/runs/mine is in the store"),
        ("link-to-store/mine", "{project}/link-to-store/mine is in the store"),
        (".git/hooks", "{project}/.git/hooks is git's own"),
        ("report.ipynb", "{project}/report.ipynb is no folder"),
        ("report.ipynb/out", "{project}/report.ipynb is no folder"),
        ("out/report-done.ipynb", "{project}/out/report-done.ipynb is a notebook's name"),
        ("a\0b", "holds a NUL"),
        ("n" * 300, "File name too long"),
    ],
)
def test_an_output_folder_that_can_only_be_a_mistake(world: World, asked: str, said: str) -> None:
    (world.project / "link-to-store").symlink_to(world.data_dir)
    places = {"store": str(world.data_dir), "project": str(world.project)}
    with pytest.raises(BadInput) as caught:
        create.create_job(world.context, CreateJob(path=world.report, output_dir=asked.format(**places)))
    assert (caught.value.code, caught.value.detail) == ("bad_output_dir", {"field": "output_dir"})
    assert said.format(**places) in caught.value.message
    assert jobs.list_jobs(world.context).page.total == 0


@pytest.mark.parametrize("asked", [".", "..", "results.ipynb", "~", "/dev/shm/of-a-test", "store-of-mine"])
def test_an_output_folder_that_may_be_meant(world: World, asked: str) -> None:
    (world.project / "results.ipynb").mkdir()
    assert create.create_job(world.context, CreateJob(path=world.report, only=[1], output_dir=asked)).total == 1


def test_an_output_folder_is_kept_absolute(world: World) -> None:
    job = create.create_job(world.context, CreateJob(path=world.report, output_dir="out/new"))
    with read(world.context.engine) as conn:
        spec = jobs_store.get_spec(conn, job.id)
    assert spec is not None
    assert spec.output_dir == str(world.project / "out" / "new")
    assert not (world.project / "out").exists()


def test_a_job_keeps_what_was_asked_of_the_queue(world: World) -> None:
    asked = CreateJob(path=world.report, retries=AskRetries(attempts=3, delay=5), priority=-3, max_parallel=2, fail_fast=True, time_limit=9)
    job = create.create_job(world.context, asked)
    assert (job.retries, job.priority, job.max_parallel, job.fail_fast, job.time_limit) == (RetryPolicy(attempts=3, delay=5), -3, 2, True, 9)
    plain = create.create_job(world.context, CreateJob(path=world.report))
    assert (plain.retries.attempts, plain.retries.on, plain.fail_fast, plain.time_limit) == (1, ["interrupted"], False, None)


def test_a_data_directory_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Server, dispatcher and command line mean the same folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Jobs(data_dir="~/jobs").data_dir == str(tmp_path / "jobs")
    assert Jobs(data_dir="~nobody-of-this-name/jobs").data_dir == "~nobody-of-this-name/jobs"
