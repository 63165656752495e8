"""`run.json` for an attempt: what the store knows about a run, put together for its runner."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import msgspec
from jupyter_core.paths import jupyter_runtime_dir

from jupyter_jobs.actions.places import job_dir
from jupyter_jobs.errors import Unavailable
from jupyter_jobs.model import Json
from jupyter_jobs.resources import delegated_group, threads_per_run, usable_cores
from jupyter_jobs.runner.rundir import Kernel, Resources, RunSpec
from jupyter_jobs.settings import Jobs
from jupyter_jobs.snapshot.freeze import tree_path
from jupyter_jobs.snapshot.names import os_name
from jupyter_jobs.snapshot.workspace import probe_workspace, workspace_spec
from jupyter_jobs.sockets import HINTS_SOCKET, KERNEL_SOCKETS, socket_directory
from jupyter_jobs.store.jobs import Frozen

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
DATA_VARIABLE = "JUPYTER_JOBS_DATA"


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows about an attempt of a run, and about its job."""

    run: str
    attempt: int
    parameters: dict[str, Json]
    label: str
    job: Frozen


def make_run(facts: RunFacts, settings: Jobs, *, parallel: int) -> RunSpec:
    """The run directory's `run.json`; `parallel` is how many runs share this machine. Looks at disks: call it off the event loop.

    Raises `NotFound`, `Unavailable` (`job_files_missing`), and what `probe_workspace` and `workspace_spec` raise.
    """
    data_dir = Path(settings.data_dir).absolute()
    job, spec = facts.job, facts.job.spec
    files = job_dir(data_dir, job.id)
    try:
        submitted: dict[str, str] = json.loads((files / "variables.json").read_bytes())
    except FileNotFoundError as error:
        raise Unavailable(f"The files of job {job.id} are no longer in {files}.", code="job_files_missing", mend="Make the job again.") from error
    mode, _ = probe_workspace(data_dir, settings.workspace)
    sockets = socket_directory(data_dir)
    asked = spec.request.resources
    threads = threads_per_run(settings.threads_per_run, usable_cores(), parallel, asked.cpu)
    return RunSpec(
        run=facts.run,
        job=job.id,
        attempt=facts.attempt,
        notebook=str(files / "notebook.ipynb"),
        notebook_path=job.notebook,
        parameters=facts.parameters,
        label=facts.label,
        kernel=msgspec.convert(msgspec.to_builtins(spec.kernel), Kernel),
        variables_file=str(files / "variables.json"),
        extra_env=extra_variables(submitted | spec.kernel.env, data_dir, threads),
        record=job.record,
        time_limit=job.time_limit,
        cell_timeout=job.cell_timeout,
        workspace=workspace_spec(
            data_dir,
            mode=mode,
            project=Path(os_name(job.project)),
            tree=tree_path(data_dir, job.snapshot),
            cwd=_folder(job.notebook),
            environment=job.environment,
            kernel=spec.kernel,
            live=job.live,
            ignored=spec.ignored,
            keep=[sockets, Path(jupyter_runtime_dir())],
            partial=spec.project.mode == "files",
        ),
        resources=Resources(cpu=asked.cpu, memory=asked.memory, storage=asked.storage),
        cgroup="" if asked.cpu is None and asked.memory is None else str(delegated_group() or ""),
        socket_dir=str(sockets / KERNEL_SOCKETS),
        hints=str(sockets / HINTS_SOCKET),
        max_log_bytes=settings.max_log_bytes,
        max_stream_bytes=settings.max_stream_bytes,
    )


def extra_variables(submitted: Mapping[str, str], data_dir: Path, threads: int) -> dict[str, str]:
    """Variables that a run gets besides the submitter's: numeric libraries' threads, unless the submitter set them, and where the store is."""
    return {name: str(threads) for name in THREAD_VARIABLES if name not in submitted} | {DATA_VARIABLE: os.fspath(data_dir)}


def _folder(notebook: str) -> str:
    """The folder of a path relative to the project; empty for the project itself."""
    folder = str(PurePosixPath(notebook).parent)
    return "" if folder == "." else folder
