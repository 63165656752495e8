"""Builders of what tests need: rows of the store, notebooks, projects. Each gives something valid; tests name only what they are about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nbformat
from sqlalchemy import Connection

from jupyter_jobs.lifecycle import FINAL, RunState
from jupyter_jobs.model import Combination, Environment, KernelInfo, Progress, ProjectChoice, RunError, Snapshot
from jupyter_jobs.requests import CreateJob
from jupyter_jobs.store import jobs, runs, snapshots
from jupyter_jobs.store.jobs import JobSpec, NewJob

START = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
KERNEL = KernelInfo(name="python3", display_name="Python 3", language="python", argv=["python", "-m", "ipykernel"], env={"SECRET_OF_SPEC": "hidden"})
ERROR = RunError(code="cell_failed", message="Cell 4 raised ValueError.", mend="See its traceback.")


def at(seconds: float) -> datetime:
    """`seconds` after the time at which tests begin."""
    return START + timedelta(seconds=seconds)


def snapshot(digest: str = "a" * 64) -> Snapshot:
    return Snapshot(digest=digest, directory="/home/u/churn", files=3, bytes=1234, created_at=START)


def environment(digest: str = "e" * 64) -> Environment:
    return Environment(digest=digest, prefix="/home/u/.venv", python="3.11.9", mode="hardlink", distributions=[], created_at=START)


def combinations(count: int) -> list[Combination]:
    return [Combination(number=number, parameters={"seed": number}, label=f"seed={number}") for number in range(1, count + 1)]


def new_job(name: str = "report", *, snapshot_digest: str = "a" * 64, environment_digest: str = "", notebook: str = "report.ipynb") -> NewJob:
    file = f"/home/u/churn/{notebook}"
    return NewJob(
        name=name,
        notebook=notebook,
        source=notebook,
        file=file,
        project="/home/u/churn",
        snapshot=snapshot_digest,
        environment=environment_digest,
        kernel=KERNEL,
        parameter_names=["seed"],
        spec=JobSpec(kernel=KERNEL, project=ProjectChoice(directory="/home/u/churn", mode="directory", why=".git"), request=CreateJob(path=notebook)),
        created_by="u",
    )


def make_job(conn: Connection, new: NewJob | None = None, *, runs_count: int = 2, seconds: float = 0, state: RunState = RunState.QUEUED) -> str:
    """A job with queued runs, made `seconds` after `START`."""
    new = new or new_job()
    snapshots.insert_snapshot(conn, snapshot(new.snapshot))
    if new.environment:
        snapshots.insert_environment(conn, environment(new.environment))
    job = jobs.insert(conn, new, at=at(seconds), total=runs_count)
    runs.insert_many(conn, job, combinations(runs_count), at=at(seconds), state=state)
    return job


def bring_to(conn: Connection, run: str, state: RunState, *, seconds: float = 1) -> None:
    """Take a queued run to `state` the way a dispatcher does."""
    if state is RunState.QUEUED:
        return
    attempt = (runs.get(conn, run) or _missing(run)).attempt + 1
    if state is not RunState.CANCELED:
        assert runs.claim(conn, run, attempt, host="here", boot_id="boot", at=at(seconds))
    if state in (RunState.RUNNING, RunState.COMPLETE, RunState.FAILED):
        assert runs.move(conn, run, RunState.RUNNING, attempt=attempt, at=at(seconds + 1))
        assert runs.set_progress(conn, run, attempt, Progress(done=1, total=2))
    if state in FINAL:
        assert runs.move(conn, run, state, error=ERROR if state is RunState.FAILED else None, at=at(seconds + 3))


def notebook(cells: Sequence[str] = ("print(seed)",), *, parameters: str = "seed = 0", kernel: str = "python3") -> nbformat.NotebookNode:
    """A notebook with a `parameters` cell (none where `parameters` is empty) and code cells."""
    made = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}})
    if parameters:
        made.cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    made.cells.extend(nbformat.v4.new_code_cell(cell) for cell in cells)
    return made


def write_project(folder: Path, files: Mapping[str, str | bytes], notebooks: Mapping[str, nbformat.NotebookNode] | None = None) -> Path:
    """A project folder with a `pyproject.toml` and these files and notebooks."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {"pyproject.toml": "[project]\nname = 'churn'\n", **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    for name, made in (notebooks or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(made, folder / name)
    return folder


def tree_of(folder: Path, ignore: Iterable[str] = ()) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    left_out = set(ignore)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not left_out & set(path.relative_to(folder).parts)
    }


def _missing(run: str) -> runs.Run:
    raise AssertionError(f"no run {run}")
