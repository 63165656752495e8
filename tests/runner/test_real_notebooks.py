"""Notebooks that were not written for this: public packages' own examples and tests, out of their source distributions."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import pytest

from jupyter_jobs.runner import rundir

CACHE = Path(__file__).parents[2] / ".cache" / "sdists"
PARAMETERS = {"added": "by the test", "numbers": [1, 2.5, None]}

NBCLIENT, PAPERMILL, TQDM, SEABORN, NBCONVERT = "nbclient==0.11.0", "papermill==2.7.0", "tqdm==4.70.1", "seaborn==0.13.2", "nbconvert==7.17.2"

COMPLETE = [
    (NBCLIENT, "tests/files/Factorials.ipynb"),
    (NBCLIENT, "tests/files/Inline Image.ipynb"),
    (NBCLIENT, "tests/files/JupyterWidgets.ipynb"),
    (NBCLIENT, "tests/files/Output.ipynb"),
    (NBCLIENT, "tests/files/Skip Exceptions with Cell Tags.ipynb"),
    (NBCLIENT, "tests/files/update-display-id.ipynb"),
    (PAPERMILL, "papermill/tests/notebooks/nb_version_4.4.ipynb"),
    (PAPERMILL, "papermill/tests/notebooks/simple_execute.ipynb"),
    (PAPERMILL, "papermill/tests/notebooks/systemexit.ipynb"),
    (TQDM, "tests_notebook.ipynb"),
    (SEABORN, "doc/_docstrings/color_palette.ipynb"),
    (SEABORN, "doc/_docstrings/axes_style.ipynb"),
    (NBCONVERT, "tests/files/Widget_List.ipynb"),
]
FAILED = [
    (NBCLIENT, "tests/files/Autokill.ipynb", "kernel_died"),
    (NBCLIENT, "tests/files/Disable Stdin.ipynb", "input_requested"),
    (PAPERMILL, "papermill/tests/notebooks/broken.ipynb", "syntax_error"),
    (PAPERMILL, "papermill/tests/notebooks/sysexit1.ipynb", "exit_code"),
    (PAPERMILL, "papermill/tests/notebooks/line_magic_error.ipynb", "cell_error"),
    (NBCONVERT, "tests/files/notebook3_with_errors.ipynb", "cell_error"),
]

pytestmark = pytest.mark.real_notebooks


def source_of(requirement: str) -> Path:
    """The unpacked source distribution, fetched once."""
    place = CACHE / requirement
    if not place.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as here:
            name = requirement.partition("==")[0]
            command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--no-binary", name, "-d", here]
            subprocess.run([*command, requirement], check=True)
            (archive,) = Path(here).glob("*.tar.gz")
            with tarfile.open(archive) as packed:
                # Python has filters since 3.11.4
                packed.extractall(here, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
            (folder,) = (path for path in Path(here).iterdir() if path.is_dir())
            # another worker of the same session may have been quicker
            if not place.exists():
                folder.rename(place)
    return place


def run_both(prepare: Any, requirement: str, path: str) -> list[tuple[Any, rundir.RunResult, dict[str, Any]]]:
    """The notebook's runs without and with parameters, side by side."""
    source = source_of(requirement)
    home = os.environ.get("TMPDIR", "/tmp")
    runs = [
        prepare(
            source / path,
            parameters=parameters,
            variables={"PATH": os.environ["PATH"], "HOME": home, "IPYTHONDIR": f"{home}/no-such-profile", "PYTHONPATH": str(source)},
            workspace={"project": str(source), "tree": str(source), "cwd": str(Path(path).parent)},
        ).start()
        for parameters in ({}, PARAMETERS)
    ]
    return [(run, run.wait(), run.spec.parameters) for run in runs]


@pytest.mark.parametrize(("requirement", "path"), COMPLETE)
def test_real_notebooks_complete(prepare, requirement, path):
    before = (source_of(requirement) / path).read_bytes()
    for run, result, parameters in run_both(prepare, requirement, path):
        assert result.state == "complete", (result.error, run.said())
        written = nbformat.read(run.path / rundir.NOTEBOOK, as_version=4)
        nbformat.validate(written)
        injected = [cell for cell in written.cells if cell.id == "injected-parameters"]
        assert len(injected) == bool(parameters)
        assert all("added = " in cell.source for cell in injected)
    assert (source_of(requirement) / path).read_bytes() == before


@pytest.mark.parametrize(("requirement", "path", "code"), FAILED)
def test_real_notebooks_fail_for_the_right_reason(prepare, requirement, path, code):
    cells = []
    for run, result, _ in run_both(prepare, requirement, path):
        assert (result.state, result.error.code) == ("failed", code), run.said()
        assert [output for cell in run.cells for output in cell.get("outputs", []) if output.output_type == "error"]
        cells.append(result.error.cell.number)
    # the injected cell shifts no number
    assert cells[0] == cells[1]
