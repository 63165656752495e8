"""What would be frozen of a project, and which of the notebook's inputs would be missing then. Runs where it does not hold up a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import msgspec

from jupyter_jobs.model import Finding, FolderSize, IgnoredPath, LivePath, NamedInput, ProjectChoice, Snapshot
from jupyter_jobs.snapshot.freeze import ProjectPreview, freeze_listed, preview_project
from jupyter_jobs.snapshot.inputs import escaping_paths, named_inputs
from jupyter_jobs.snapshot.notebook import read_notebook


class ProjectArguments(TypedDict):
    """What a person says about a project, and the limits."""

    exclude: Sequence[str]
    include: Sequence[str]
    live: Sequence[LivePath]
    max_bytes: int
    max_files: int


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """Totals and parts as in `Preview`. `left_out`: inputs that the run would not find; `escaping`: paths that leave a run's copy of the project."""

    files: int
    bytes: int
    folders: list[FolderSize]
    largest: list[FolderSize]
    ignored: list[IgnoredPath]
    inputs: list[NamedInput]
    findings: list[Finding]
    left_out: list[Finding]
    escaping: list[Finding]


def survey_project(data_dir: Path, choice: ProjectChoice, *, notebook: Path, **rules: Unpack[ProjectArguments]) -> Survey:
    """Look at a project without freezing it. Raises what `preview_project` raises."""
    found = preview_project(data_dir, choice, **rules)
    return _survey(found, choice, notebook, rules["live"])


def survey_and_freeze(data_dir: Path, choice: ProjectChoice, *, notebook: Path, **rules: Unpack[ProjectArguments]) -> tuple[Survey, Snapshot]:
    """Look at a project and freeze just what was looked at. Raises what `preview_project` and `freeze_project` raise."""
    found = preview_project(data_dir, choice, **rules)
    survey = _survey(found, choice, notebook, rules["live"])
    return survey, freeze_listed(data_dir, found.listing, max_bytes=rules["max_bytes"], max_files=rules["max_files"])


def _survey(found: ProjectPreview, choice: ProjectChoice, notebook: Path, live: Sequence[LivePath]) -> Survey:
    cells = [(number, str(cell.source)) for number, cell in enumerate(read_notebook(notebook).cells, 1) if cell.cell_type == "code"]
    inputs = named_inputs(cells, notebook.parent, choice, found.listing, live=live)
    left_out = [_left_out(each) for each in inputs if each.state == "ignored"]
    return Survey(
        files=found.files,
        bytes=found.bytes,
        folders=found.folders,
        largest=found.largest,
        ignored=found.ignored,
        inputs=inputs,
        findings=[*found.findings, *left_out],
        left_out=left_out,
        escaping=escaping_paths(cells, notebook.parent, choice, live=live),
    )


def _left_out(named: NamedInput) -> Finding:
    rule = f" ({named.rule})" if named.rule else ""
    return Finding(
        code="input_ignored",
        level="warning",
        message=f"Cell {named.cell} names {named.path}, which is left out of the snapshot{rule}.",
        mend="Include it, or read it live.",
        cell=named.cell,
        path=named.path,
    )
