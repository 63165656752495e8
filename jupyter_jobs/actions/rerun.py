"""More runs for a job that exists, on what was frozen for it: re-runs, and new combinations."""

from __future__ import annotations

import json
from typing import Literal

import msgspec
from sqlalchemy import Connection

from jupyter_jobs import grid
from jupyter_jobs.actions.context import Context
from jupyter_jobs.actions.jobs import job_id, tell_dispatcher
from jupyter_jobs.actions.places import job_dir
from jupyter_jobs.actions.runs import find_run
from jupyter_jobs.errors import BadInput, Conflict, NotFound, Unavailable
from jupyter_jobs.lifecycle import FINAL, RunState
from jupyter_jobs.model import Combination, Finding, Job, Run
from jupyter_jobs.requests import AddRuns
from jupyter_jobs.snapshot.nodes import Node
from jupyter_jobs.snapshot.notebook import check_parameters, read_notebook
from jupyter_jobs.store import jobs as store
from jupyter_jobs.store import runs as runs_store
from jupyter_jobs.store.database import read, write


def rerun_run(context: Context, run: str) -> Run:
    """Run a run's combination again, as a new run of the same job. Returns the new one.

    Raises `NotFound`, `Conflict` (`run_not_ended`: its combination waits or is under way; `job_deleting`).
    """
    with write(context.engine) as conn:
        found = find_run(conn, run)
        _check_kept(conn, found.job)
        under_way = [other for other in runs_store.newest(conn, found.job) if other.combination == found.combination and other.state not in FINAL]
        if under_way:
            raise _not_ended([under_way[0].id])
        (made,) = _repeat(conn, found.job, [found])
        again = find_run(conn, made)
    tell_dispatcher(context)
    return again


def rerun_job(context: Context, job: str, which: Literal["failed", "all"] | list[int]) -> Job:
    """Run combinations of a job again: those whose newest run has failed or was canceled because another had, all that have ended, or those of
    these run numbers.

    Raises `NotFound`, `Conflict` (`nothing_to_rerun`, `run_not_ended`, `job_deleting`).
    """
    with write(context.engine) as conn:
        job = job_id(conn, job)
        _check_kept(conn, job)
        newest = runs_store.newest(conn, job)
        if which == "failed":
            chosen = [run for run in newest if _has_failed(run)]
        elif which == "all":
            chosen = [run for run in newest if run.state in FINAL]
        else:
            chosen = _numbered(conn, job, which, newest)
        if not chosen:
            what = "has failed" if which == "failed" else "has ended"
            raise Conflict(f"No run of job {job} {what}.", code="nothing_to_rerun", mend="`jupyter jobs runs JOB` shows them.", job=job)
        _repeat(conn, job, chosen)
        shown = _shown(conn, job)
    tell_dispatcher(context)
    return shown


def add_runs(context: Context, job: str, request: AddRuns) -> Job:
    """Add combinations to a job. What is to be known about their parameters is among the `notes` of the answer.

    Raises `NotFound`, `BadInput` as `create_job` does for its grid, `Conflict` (`combination_exists`, `job_deleting`), `Unavailable`.
    """
    with read(context.engine) as conn:
        job = job_id(conn, job)
        frozen = store.frozen(conn, job)
    assert frozen is not None
    language = frozen.spec.kernel.language
    base = grid.parse_grid(request.grid_text, file="the parameters", language=language) if request.grid_text.strip() else grid.EMPTY
    points = grid.combinations(grid.merge(base, request.parameters, language=language))
    if not points.names:
        raise BadInput("No parameters are given.", code="grid_invalid", mend="Give values of at least one.", field="parameters")
    chosen = grid.select(points, request.only)
    findings = check_parameters(_notebook(context, job), points.names)
    with write(context.engine) as conn:
        _check_kept(conn, job)
        known = runs_store.newest(conn, job)
        if not request.duplicates:
            _check_new(job, known, chosen)
        first = max((run.combination for run in known), default=0) + 1
        runs_store.append(conn, job, [msgspec.structs.replace(each, number=number) for number, each in enumerate(chosen, first)])
        store.add_parameter_names(conn, job, points.names)
        shown = _shown(conn, job)
    tell_dispatcher(context)
    return msgspec.structs.replace(shown, notes=[*shown.notes, *_new(findings, shown.notes)])


def _has_failed(run: Run) -> bool:
    """Whether it failed, or another's failure ended it."""
    return run.state is RunState.FAILED or (run.state is RunState.CANCELED and run.error is not None and run.error.code == "fail_fast")


def _repeat(conn: Connection, job: str, chosen: list[Run]) -> list[str]:
    again = [Combination(number=run.combination, parameters=run.parameters, label=run.label) for run in chosen]
    return runs_store.append(conn, job, again, rerun_of=[run.id for run in chosen])


def _numbered(conn: Connection, job: str, numbers: list[int], newest: list[Run]) -> list[Run]:
    """The runs of these numbers, one of each combination. Raises `NotFound`, `Conflict` (`run_not_ended`)."""
    found = {run.combination: run for number in numbers if (run := find_run(conn, f"{job}-{number}"))}
    under_way = [run.id for run in newest if run.combination in found and run.state not in FINAL]
    if under_way:
        raise _not_ended(under_way)
    return list(found.values())


def _check_kept(conn: Connection, job: str) -> None:
    if store.is_deleting(conn, job):
        raise Conflict(f"Job {job} is being deleted.", code="job_deleting", mend="Make a new job.", job=job)


def _check_new(job: str, known: list[Run], chosen: list[Combination]) -> None:
    seen = {_key(run.parameters): run for run in known}
    for combination in chosen:
        if (run := seen.get(_key(combination.parameters))) is not None:
            raise Conflict(
                f"Job {job} has the combination {combination.label or 'without parameters'} already: run {run.id}.",
                code="combination_exists",
                mend="Leave it out, run it again with `jupyter jobs rerun`, or ask for duplicates.",
                run=run.id,
            )


def _key(parameters: dict[str, object]) -> str:
    # not as Python compares: 1, 1.0 and true are different values to a notebook
    return json.dumps(parameters, sort_keys=True)


def _notebook(context: Context, job: str) -> Node:
    file = job_dir(context.data_dir, job) / "notebook.ipynb"
    try:
        return context.heavy(read_notebook, file)
    except NotFound as error:
        raise Unavailable(f"The files of job {job} are no longer in {file.parent}.", code="job_files_missing", mend="Make the job again.") from error


def _new(findings: list[Finding], known: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding not in known]


def _not_ended(runs: list[str]) -> Conflict:
    more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
    return Conflict(f"Run {runs[0]}{more} has not ended yet.", code="run_not_ended", mend="Wait for its end, or cancel it.", runs=runs[:100])


def _shown(conn: Connection, job: str) -> Job:
    found = store.get(conn, job)
    assert found is not None
    return found
