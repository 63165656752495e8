"""What can be asked of us, as frozen structs: the bodies of REST requests, which the CLI and the Python client fill in too.

An unknown field is an error.

Wire types like those of `model.py`: the OpenAPI document and the TypeScript types are generated from both.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from jupyter_jobs.model import MONTH, Json, LivePath, Request, Resources, RetryPolicy

Priority = Annotated[int, msgspec.Meta(ge=-100, le=100)]
MaxParallel = Annotated[int, msgspec.Meta(ge=0, le=10_000)]


class CombinationsRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for the combinations that `CreateJob` with the same fields would make."""

    path: str
    grid_text: str = ""
    grid_path: str = ""
    no_grid: bool = False
    parameters: dict[str, list[Json]] = {}


class PreviewRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What would be frozen? Fields as in `CreateJob`."""

    path: str
    kernel: str = ""
    project: str = ""
    exclude: list[str] = []
    include: list[str] = []
    live: list[LivePath] = []


class AskRetries(RetryPolicy, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A `RetryPolicy` that is asked for."""


class CreateJob(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Freeze a notebook's project and environment and queue one run per combination.

    The grid comes from, in this order: `grid_text` (the text of a parameters file, as the form has it), `grid_path`, the file
    `<name>.parameters.json` beside the notebook unless `no_grid`. `parameters` (`{name: [values]}`) replace or add single keys.
    `only` are combination numbers; empty means all. `time_limit` bounds a run, `cell_timeout` each cell, in seconds. `retries`: none given means one
    more attempt, at once, of a run that was interrupted. `max_parallel` runs of the job at a time, 0: no limit of its own. `fail_fast`: the first
    run that has failed for good ends the job.

    `fork`: kernels may be forked from a warm process, where `preload` modules are imported beforehand and, if `learn_preload`, what the notebook
    imports.
    """

    path: str
    name: str = ""
    description: str = ""
    kernel: str = ""
    project: str = ""
    exclude: list[str] = []
    include: list[str] = []
    live: list[LivePath] = []
    grid_text: str = ""
    grid_path: str = ""
    no_grid: bool = False
    parameters: dict[str, list[Json]] = {}
    only: list[int] = []
    record: list[str] = []
    output_dir: str = ""
    time_limit: float | None = None
    cell_timeout: float | None = None
    accept_drift: bool = False
    retries: AskRetries | None = None
    priority: Priority = 0
    max_parallel: MaxParallel = 0
    fail_fast: bool = False
    resources: Resources = Resources()
    fork: bool = True
    preload: list[str] = []
    learn_preload: bool = True


class ChangeJob(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be changed of a job that exists; null leaves it as it is. Jobs of a higher `priority` start first."""

    name: str | None = None
    description: str | None = None
    priority: Priority | None = None
    max_parallel: MaxParallel | None = None


class AddRuns(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """More combinations for a job, on what was frozen for it. `parameters` and `only` as in `CreateJob`. A combination that the job has already is
    refused, unless `duplicates`."""

    grid_text: str = ""
    parameters: dict[str, list[Json]] = {}
    only: list[int] = []
    duplicates: bool = False


class Rerun(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which combinations of a job run again: those whose newest run has `failed` or was canceled because another had (code `fail_fast`), `all` that
    have ended, or those of these run numbers."""

    which: Literal["failed", "all"] | list[int] = "failed"


class Extend(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds that a run may take longer than its time limit, in addition to what it was given before."""

    seconds: Annotated[float, msgspec.Meta(gt=0, le=MONTH)]


class MoveRun(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Move a waiting run among those of the same priority: `before` another, or `to` the first or last place."""

    run: str
    before: str = ""
    to: Literal["", "first", "last"] = ""


class CopyFiles(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Copy files of a run into the project, or into the folder `to`. Existing files are refused unless `overwrite`."""

    paths: list[str]
    to: str = ""
    overwrite: bool = False
