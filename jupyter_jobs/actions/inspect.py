"""What is known about a notebook before a job is made of it: kernel, parameters, grid, project."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from jupyter_jobs import grid
from jupyter_jobs.errors import BadInput
from jupyter_jobs.model import Combinations, Finding, GridFile, Inspection, KernelInfo
from jupyter_jobs.requests import CombinationsRequest, CreateJob
from jupyter_jobs.snapshot import notebook as notebooks
from jupyter_jobs.snapshot.kernels import kernel_for, list_kernels
from jupyter_jobs.snapshot.project import choose_project

if TYPE_CHECKING:
    from jupyter_jobs.actions.context import Context
    from jupyter_jobs.snapshot.nodes import Node

SHOWN_COMBINATIONS = 1000


def inspect_notebook(context: Context, path: str) -> Inspection:
    """Kernel, parameters, grid beside it, project and findings of the notebook at a contents path.

    What would keep a job from being made (no such kernel, a malformed grid) is a finding of level `error`, so that the form can show it in its place.
    Raises `NotFound` and `BadInput` for what is no notebook.
    """
    located = context.locate(path)
    source = notebooks.read_notebook(located.file)
    kernel, kernel_findings = _kernel(context, source)
    grid_file, names, grid_findings = _grid_beside(located.file, path, notebooks.language_of(source))
    parameters = notebooks.parameters_of(source)
    known = [parameter.name for parameter in parameters]
    tagged = notebooks.parameters_cell(source)
    return Inspection(
        path=path,
        name=located.file.stem,
        kernel=kernel,
        kernels=list_kernels(context.kernel_specs),
        parameters=parameters,
        has_parameters_cell=tagged is not None,
        candidates=[] if tagged else notebooks.candidate_cells(source),
        grid=grid_file,
        project=choose_project(located.file, root=located.root, data_dir=context.data_dir),
        findings=[
            *kernel_findings,
            *grid_findings,
            *notebooks.parameters_cell_findings(source),
            *notebooks.check_parameters(source, list(dict.fromkeys([*known, *names]))),
        ],
    )


def expand_combinations(context: Context, request: CombinationsRequest) -> Combinations:
    """The combinations that a job with these fields would run; the first 1000. `BadInput` names the field, and line and key in a grid's text."""
    points = grid_points(context, request)
    return Combinations(names=points.names, total=len(points), combinations=points[:SHOWN_COMBINATIONS])


def grid_points(context: Context, request: CombinationsRequest | CreateJob) -> grid.GridPoints:
    """All combinations of a request's grid fields: the text, else the chosen file, else the one beside it, with single parameters on top."""
    file = context.locate(request.path).file
    language = notebooks.language_of(notebooks.read_notebook(file))
    base, field = grid.EMPTY, "grid_text"
    try:
        if request.grid_text.strip():
            base = grid.parse_grid(request.grid_text, file=f"{file.stem}.parameters.json", language=language)
        elif request.grid_path:
            field = "grid_path"
            base = _read(context.locate(request.grid_path).file, language)
        elif not request.no_grid and (beside := grid.grid_beside(file)):
            base = _read(beside, language)
        return grid.combinations(grid.merge(base, request.parameters, language=language))
    except BadInput as error:
        error.detail.setdefault("field", field)
        raise


def _read(file: Path, language: str) -> grid.Grid:
    return grid.parse_grid(grid.read_grid_file(file), file=file.name, language=language)


def _kernel(context: Context, source: Node) -> tuple[KernelInfo, list[Finding]]:
    try:
        return kernel_for(context.kernel_specs, source.metadata)
    except BadInput as error:
        named = source.metadata.get("kernelspec")
        spec = named if isinstance(named, dict) else {}
        name = str(spec.get("name", ""))
        absent = KernelInfo(name=name, display_name=str(spec.get("display_name", name)), language=notebooks.language_of(source))
        return absent, [_finding(error, "kernel")]


def _grid_beside(file: Path, path: str, language: str) -> tuple[GridFile | None, list[str], list[Finding]]:
    beside = grid.grid_beside(file)
    if beside is None:
        return None, [], []
    shown = str(PurePosixPath(path).with_name(beside.name))
    try:
        text = grid.read_grid_file(beside)
    except BadInput as error:
        return None, [], [_finding(error, "grid_path", shown)]
    try:
        points = grid.combinations(grid.parse_grid(text, file=beside.name, language=language))
    except BadInput as error:
        return GridFile(path=shown, text=text), [], [_finding(error, "grid_text", shown)]
    return GridFile(path=shown, text=text), points.names, []


def _finding(error: BadInput, field: str, path: str = "") -> Finding:
    return Finding(code=error.code, level="error", message=error.message, mend=error.mend, field=field, path=path)
