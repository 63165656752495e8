"""The notebook that a run executes: the job's own, with the frozen kernel's name and the run's parameters."""

from __future__ import annotations

import json
from collections.abc import Container
from typing import Any

import nbformat
from papermill.exceptions import PapermillException
from papermill.execute import prepare_notebook_metadata, remove_error_markers
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from jupyter_jobs.runner import rundir
from jupyter_jobs.runner.failures import RunFailed
from jupyter_jobs.runner.rundir import CellRef, RunError, RunSpec


def load(spec: RunSpec) -> tuple[Any, list[CellRef]]:
    """The notebook to execute, and what each of its cells is in the source (number 0: the cell with the run's parameters).

    Raises RunFailed (`notebook_invalid`, `parameters_not_possible`).
    """
    try:
        nb = remove_error_markers(load_notebook_node(spec.notebook))
    except (ValueError, KeyError, AttributeError, TypeError, nbformat.ValidationError) as error:
        message = f"{spec.notebook_path or spec.notebook} is not a notebook: {str(error).splitlines()[0][:300]}"
        raise RunFailed(RunError(code="notebook_invalid", message=message, mend="Open it in JupyterLab and save it again.")) from error
    numbers = {cell.get("id", ""): number for number, cell in enumerate(nb.cells, 1)}
    nb.metadata["kernelspec"] = {"name": spec.kernel.name, "display_name": spec.kernel.display_name, "language": spec.kernel.language}
    if spec.parameters:
        nb = _parameterized(nb, spec)
        injected = next(cell for cell in nb.cells if "injected-parameters" in cell.metadata.tags)
        # an executed notebook that runs again has such a cell, which has just been replaced
        injected["id"] = _unique_id("injected-parameters", {cell.get("id", "") for cell in nb.cells if cell is not injected})
        numbers[injected["id"]] = 0
    cells = [CellRef(id=cell.get("id", ""), number=numbers[cell.get("id", "")]) for cell in nb.cells]
    return prepare_notebook_metadata(nb, spec.notebook_path, rundir.NOTEBOOK), cells


def _parameterized(nb: Any, spec: RunSpec) -> Any:
    try:
        json.dumps(spec.parameters, allow_nan=False)
        return parameterize_notebook(nb, spec.parameters, kernel_name=spec.kernel.name or "kernel", language=spec.kernel.language)
    except (PapermillException, ValueError, TypeError, NotImplementedError) as error:
        message = f"The parameters cannot be written in the kernel's language, {spec.kernel.language}: {error}"
        raise RunFailed(RunError(code="parameters_not_possible", message=message)) from error


def _unique_id(wanted: str, taken: Container[str]) -> str:
    """A cell id that no other cell has."""
    while wanted in taken:
        wanted += "-"
    return wanted
