"""Making a job: everything is checked, then project and environment are frozen, then job and runs are stored in one transaction."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from jupyter_jobs import variables
from jupyter_jobs.actions.context import Context, Located
from jupyter_jobs.actions.inspect import grid_points
from jupyter_jobs.actions.jobs import NAME_LENGTH
from jupyter_jobs.actions.output_dir import output_dir
from jupyter_jobs.actions.places import job_dir, jobs_dir
from jupyter_jobs.actions.prune import STAGING, freezing, remove_tree
from jupyter_jobs.actions.survey import ProjectArguments, Survey, survey_and_freeze, survey_project
from jupyter_jobs.actions.usage import check_resources
from jupyter_jobs.errors import BadInput, JobsError, Unavailable
from jupyter_jobs.grid import GridPoints, select
from jupyter_jobs.model import (
    Combination,
    Environment,
    EnvironmentPreview,
    Finding,
    Job,
    KernelInfo,
    LivePath,
    Preview,
    ProjectChoice,
    RetryPolicy,
    Snapshot,
)
from jupyter_jobs.requests import CreateJob, PreviewRequest
from jupyter_jobs.retries import check_policy
from jupyter_jobs.snapshot.environment import freeze_environment, preview_environment
from jupyter_jobs.snapshot.kernels import kernel_for, resolve_kernel
from jupyter_jobs.snapshot.names import os_name, safe_text
from jupyter_jobs.snapshot.nodes import Node, notebook_text
from jupyter_jobs.snapshot.notebook import check_parameters, read_notebook
from jupyter_jobs.snapshot.project import choose_project, read_project_rules
from jupyter_jobs.snapshot.roots import ask_python
from jupyter_jobs.snapshot.workspace import Mode, expected_workspace, workspace_findings
from jupyter_jobs.store import jobs, runs, snapshots
from jupyter_jobs.store.database import write
from jupyter_jobs.store.jobs import JobSpec, NewJob
from jupyter_jobs.version import __version__


@dataclass(frozen=True)
class Plan:
    """What a request for a job means, checked."""

    located: Located
    notebook: Node
    kernel: KernelInfo
    choice: ProjectChoice
    points: GridPoints
    chosen: list[Combination]
    live: list[LivePath]
    output_dir: str
    findings: list[Finding]

    @property
    def directory(self) -> Path:
        return Path(os_name(self.choice.directory))

    @property
    def notebook_path(self) -> str:
        """The notebook relative to the project."""
        return _relative(self.located.file, self.directory)


def create_job(context: Context, request: CreateJob) -> Job:
    """Make a job and queue its runs. After an error nothing is queued and nothing half-made is left.

    Raises `BadInput` naming `field`, file or parameter; `NotFound` (`notebook_not_found`); `TooLarge`; `Unavailable`.
    """
    plan = _plan(context, request)
    with freezing(context.data_dir):
        with ThreadPoolExecutor(1) as beside:
            # its Python starts and answers meanwhile
            asking = beside.submit(ask_python, plan.kernel)
            survey, snapshot = context.heavy(
                survey_and_freeze, context.data_dir, plan.choice, **_project_arguments(context, request), notebook=plan.located.file
            )
            answer = asking.result()
        environment = context.heavy(
            freeze_environment,
            context.data_dir,
            plan.kernel,
            copy_max_bytes=context.settings.environment_copy_max_bytes,
            freeze=context.settings.freeze_environment,
            project=plan.directory,
            answer=answer,
        )
        job = _store(context, request, plan, survey, snapshot, environment)
    return _nudged(context, job)


def preview(context: Context, request: PreviewRequest) -> Preview:
    """What a job made now would freeze. What would keep it from being made is an `error` finding. Raises `BadInput`, `NotFound`."""
    located = context.locate(request.path)
    notebook = context.heavy(read_notebook, located.file)
    choice = _choose(context, located, request.project)
    survey = context.heavy(survey_project, context.data_dir, choice, **_project_arguments(context, request), notebook=located.file)
    directory = Path(os_name(choice.directory))
    findings = list(survey.findings)
    environment = EnvironmentPreview(prefix="", python="", mode="none", distributions=0)
    try:
        kernel, replaced = _kernel(context, notebook, request.kernel)
        findings += replaced
        environment = context.heavy(
            preview_environment,
            context.data_dir,
            kernel,
            copy_max_bytes=context.settings.environment_copy_max_bytes,
            freeze=context.settings.freeze_environment,
            project=directory,
        )
    except BadInput as error:
        findings.append(Finding(code=error.code, level="error", message=error.message, mend=error.mend, field="kernel"))
    mode, note = expected_workspace(context.data_dir, context.settings.workspace)
    return Preview(
        project=choice,
        files=survey.files,
        bytes=survey.bytes,
        folders=survey.folders,
        largest=survey.largest,
        ignored=survey.ignored,
        inputs=survey.inputs,
        live=_live(directory, request.live),
        environment=environment,
        workspace=mode,
        copied_bytes=survey.bytes if mode == "copy" else 0,
        findings=[*findings, *_workspace_findings(mode, note, survey)],
    )


# -- checks ------------------------------------------------------------------------------------------------------------


def _plan(context: Context, request: CreateJob) -> Plan:
    _check_limits(request)
    check_resources(request.resources)
    _check_preload(request.preload)
    located = context.locate(request.path)
    notebook = context.heavy(read_notebook, located.file)
    kernel, findings = _kernel(context, notebook, request.kernel)
    points = grid_points(context, request)
    chosen = select(points, request.only)
    _check_record(request.record, kernel)
    choice = _choose(context, located, request.project)
    directory = Path(os_name(choice.directory))
    return Plan(
        located=located,
        notebook=notebook,
        kernel=kernel,
        choice=choice,
        points=points,
        chosen=chosen,
        live=_live(directory, request.live),
        output_dir=output_dir(directory, request.output_dir, context.data_dir),
        findings=[*findings, *check_parameters(notebook, points.names)],
    )


def _check_limits(request: CreateJob) -> None:
    for field in ("time_limit", "cell_timeout"):
        seconds = getattr(request, field)
        if seconds is not None and not 0 < seconds < float("inf"):
            raise BadInput(f"`{field}` is {seconds}.", code="bad_limit", mend="Give seconds above 0, or leave it out.", field=field)
    if len(request.name) > NAME_LENGTH:
        raise BadInput(f"The name has {len(request.name)} characters.", code="bad_name", mend=f"At most {NAME_LENGTH} are kept.", field="name")
    if request.retries is not None:
        check_policy(request.retries)


def _check_preload(names: list[str]) -> None:
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            mend = "A module is named as in an import: `pandas`, `matplotlib.pyplot`."
            raise BadInput(f"`{name[:80]}` names no module.", code="bad_name", mend=mend, field="preload")


def _check_record(names: list[str], kernel: KernelInfo) -> None:
    for name in names:
        if not name.strip() or (kernel.language == "python" and not name.isidentifier()):
            raise BadInput(f"{name!r} is no name of a variable.", code="bad_name", mend="Name variables of the notebook.", field="record")


def _kernel(context: Context, notebook: Node, asked: str) -> tuple[KernelInfo, list[Finding]]:
    if asked:
        return resolve_kernel(context.kernel_specs, asked), []
    return kernel_for(context.kernel_specs, notebook.metadata)


def _choose(context: Context, located: Located, asked: str) -> ProjectChoice:
    return choose_project(located.file, root=located.root, data_dir=context.data_dir, asked=asked)


def _project_arguments(context: Context, request: CreateJob | PreviewRequest) -> ProjectArguments:
    return {
        "exclude": request.exclude,
        "include": request.include,
        "live": request.live,
        "max_bytes": context.settings.snapshot_max_bytes,
        "max_files": context.settings.snapshot_max_files,
    }


def _live(directory: Path, asked: list[LivePath]) -> list[LivePath]:
    """The paths that are read live: those of the project's own rules, and those asked for, which win."""
    found = {os.path.normpath(live.path): live for live in (*read_project_rules(directory).live, *asked)}
    for live in asked:
        if not os.path.lexists(directory / os.path.expanduser(os_name(live.path))):  # noqa: PTH111 - Path's own refuses an unknown user by RuntimeError
            raise BadInput(
                f"There is nothing at {live.path} to be read live.", code="live_not_found", mend="Check the path.", field="live", path=live.path
            )
    return list(found.values())


def _relative(file: Path, directory: Path) -> str:
    if file.is_relative_to(directory):
        return safe_text(str(file.relative_to(directory)))
    # one of them was reached through a link
    return safe_text(os.path.relpath(file.parent.resolve() / file.name, directory.resolve()))


def _workspace_findings(mode: Mode, note: str, survey: Survey) -> list[Finding]:
    return [] if mode == "overlay" else [*workspace_findings(mode, note), *survey.escaping]


# -- storing -----------------------------------------------------------------------------------------------------------


def _store(context: Context, request: CreateJob, plan: Plan, survey: Survey, snapshot: Snapshot, environment: Environment) -> Job:
    kept = variables.submitted(os.environ)
    mode, note = expected_workspace(context.data_dir, context.settings.workspace)
    notes = [
        *plan.findings,
        *snapshot.notes,
        *environment.notes,
        *survey.left_out,
        *_workspace_findings(mode, note, survey),
        *_variable_findings(),
    ]
    new = NewJob(
        name=request.name.strip() or plan.located.file.stem,
        description=request.description,
        notebook=plan.notebook_path,
        source=request.path,
        file=safe_text(str(plan.located.file)),
        project=plan.choice.directory,
        snapshot=snapshot.digest,
        environment=environment.digest,
        kernel=plan.kernel,
        parameter_names=plan.points.names,
        record=request.record,
        variables=list(kept),
        live=plan.live,
        notes=notes,
        created_by=context.user,
        spec=JobSpec(
            kernel=plan.kernel,
            project=plan.choice,
            request=request,
            ignored=survey.ignored,
            output_dir=plan.output_dir,
            accept_drift=request.accept_drift,
        ),
        retries=None if request.retries is None else msgspec.convert(msgspec.to_builtins(request.retries), RetryPolicy),
        priority=request.priority,
        max_parallel=request.max_parallel,
        fail_fast=request.fail_fast,
        time_limit=request.time_limit,
        cell_timeout=request.cell_timeout,
    )
    with _staged(context.data_dir) as staging:
        _write_private(staging / "variables.json", json.dumps(kept).encode())
        _write_private(staging / "notebook.ipynb", notebook_text(plan.notebook).encode())
        placed: Path | None = None
        try:
            with write(context.engine) as conn:
                snapshots.insert_snapshot(conn, snapshot)
                snapshots.insert_environment(conn, environment)
                job = jobs.insert(conn, new, total=len(plan.chosen))
                runs.insert_many(conn, job, plan.chosen)
                shown = jobs.get(conn, job)
                assert shown is not None
                _write_private(staging / "job.json", msgspec.json.encode(_described(shown)))
                # last before the commit: a job in the store has its files
                placed = staging.rename(job_dir(context.data_dir, job))
        except BaseException:
            if placed is not None:
                placed.rename(staging)
            raise
    return shown


@contextmanager
def _staged(data_dir: Path) -> Iterator[Path]:
    """A folder to put a job's files together in; gone afterwards unless it was renamed."""
    jobs_dir(data_dir).mkdir(mode=0o700, exist_ok=True)
    staging = jobs_dir(data_dir) / f"{STAGING}{secrets.token_hex(8)}"
    try:
        staging.mkdir(mode=0o700)
        yield staging
    except OSError as error:
        raise Unavailable(
            f"The job's files cannot be written: {error.strerror}.", code="not_stored", mend="Check the disk of `Jobs.data_dir`."
        ) from error
    finally:
        if staging.exists():
            remove_tree(staging)


def _write_private(file: Path, content: bytes) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def _described(job: Job) -> dict[str, object]:
    """What `job.json` says to people who look into the folder; nothing reads it."""
    return {
        "id": job.id,
        "name": job.name,
        "made_by": job.created_by,
        "made_at": job.created_at,
        "with": f"jupyter_jobs {__version__}",
        "notebook": job.notebook,
        "project": job.project,
        "snapshot": job.snapshot,
        "environment": job.environment,
        "kernel": job.kernel.name,
        "runs": job.total,
    }


def _variable_findings() -> list[Finding]:
    names = variables.not_text(os.environ)
    if not names:
        return []
    message = f"Environment variables that are no UTF-8 text are left out: {', '.join(safe_text(name) for name in names)}."
    return [Finding(code="variables_left_out", level="note", message=message)]


def _nudged(context: Context, job: Job) -> Job:
    try:
        context.nudge()
    except JobsError as error:
        # the job is stored: it starts with the next dispatcher
        note = Finding(code=error.code, level="warning", message=f"The job is queued, but nothing starts it now: {error.message}", mend=error.mend)
        return msgspec.structs.replace(job, notes=[*job.notes, note])
    return job
