"""Inspecting a notebook and expanding its grid, on real files and this environment's kernels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from nbformat import v4, write
from sqlalchemy import create_engine

from jupyter_jobs.actions.context import Context, Located, in_place
from jupyter_jobs.actions.inspect import expand_combinations, grid_points, inspect_notebook
from jupyter_jobs.errors import BadInput, NotFound
from jupyter_jobs.requests import CombinationsRequest
from jupyter_jobs.settings import Jobs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    project = tmp_path / "root" / "churn"
    project.mkdir(parents=True)
    (project / "pyproject.toml").touch()
    notebook(project / "report.ipynb", "lr = 0.1  # learning rate\nmodel = 'gbm'", "lr = 2")
    (project / "report.parameters.json").write_text('{"lr": [0.1, 1],\n "model": ["gbm", "mlp", "svm"]}')
    return tmp_path / "root"


def notebook(path: Path, *cells: str, kernel: str = "python3", tagged: bool = True, language: str = "python") -> None:
    made = v4.new_notebook(cells=[v4.new_code_cell(source) for source in cells])
    made.metadata["kernelspec"] = {"name": kernel, "display_name": kernel, "language": language}
    if tagged:
        made.cells[0].metadata["tags"] = ["parameters"]
    write(made, path)


@pytest.fixture
def context(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    return Context(
        engine=create_engine("sqlite://"),
        settings=Jobs(data_dir=str(tmp_path / "data")),
        data_dir=tmp_path / "data",
        kernel_specs=KernelSpecManager(),
        locate=lambda path: Located(root / path, root),
        user="ada",
        heavy=in_place,
        render=in_place,
        nudge=lambda: None,
    )


def test_everything_about_a_notebook_with_a_grid(context: Context, root: Path) -> None:
    found = inspect_notebook(context, "churn/report.ipynb")
    assert (found.path, found.name) == ("churn/report.ipynb", "report")
    assert found.kernel.name == "python3"
    assert found.kernel.name in [kernel.name for kernel in found.kernels]
    assert [(one.name, one.default, one.help) for one in found.parameters] == [("lr", "0.1", "learning rate"), ("model", '"gbm"', "")]
    assert found.has_parameters_cell
    assert found.candidates == []
    assert found.grid is not None
    assert found.grid.path == "churn/report.parameters.json"
    assert found.project.directory == str(root / "churn")
    assert [(one.code, one.field, one.cell) for one in found.findings] == [("parameter_reassigned", "parameters.lr", 2)]


def test_a_notebook_without_parameters_offers_its_assignments(context: Context, root: Path) -> None:
    notebook(root / "plain.ipynb", "import os", "seed = 3", tagged=False)
    found = inspect_notebook(context, "plain.ipynb")
    assert (found.parameters, found.has_parameters_cell, found.grid, found.findings) == ([], False, None, [])
    assert [(one.cell.number, one.parameters[0].name) for one in found.candidates] == [(2, "seed")]


def test_what_would_stop_a_job_is_a_finding_in_its_place(context: Context, root: Path) -> None:
    notebook(root / "odd.ipynb", "a = 1", kernel="no-such", language="cobol")
    (root / "odd.parameters.json").write_text('{\n"a": []}')
    found = inspect_notebook(context, "odd.ipynb")
    assert [(one.code, one.level, one.field) for one in found.findings] == [
        ("kernel_not_found", "error", "kernel"),
        ("grid_invalid", "error", "grid_text"),
    ]
    assert found.kernel.name == "no-such"
    assert found.grid is not None
    assert "line 2" in found.findings[1].message
    (root / "odd.parameters.json").write_bytes(b"\xff")
    assert [(one.code, one.field) for one in inspect_notebook(context, "odd.ipynb").findings][1] == ("grid_invalid", "grid_path")


def test_a_name_that_the_notebook_does_not_assign_is_a_warning(context: Context, root: Path) -> None:
    (root / "churn" / "report.parameters.json").write_text('{"learning_rate": [1]}')
    codes = {(one.code, one.field) for one in inspect_notebook(context, "churn/report.ipynb").findings}
    assert ("parameter_unknown", "parameters.learning_rate") in codes


def test_no_notebook_at_all(context: Context, root: Path) -> None:
    with pytest.raises(NotFound):
        inspect_notebook(context, "none.ipynb")
    (root / "text.ipynb").write_text("hello")
    with pytest.raises(BadInput, match=r"text\.ipynb is not JSON"):
        inspect_notebook(context, "text.ipynb")


def test_the_grid_comes_from_text_then_file_then_beside(context: Context, root: Path) -> None:
    path = "churn/report.ipynb"
    (root / "other.json").write_text('{"lr": [7]}')
    beside = expand_combinations(context, CombinationsRequest(path=path))
    assert (beside.total, beside.names, beside.combinations[-1].label) == (6, ["lr", "model"], "lr=1, model=svm")
    assert expand_combinations(context, CombinationsRequest(path=path, grid_path="other.json")).combinations[0].parameters == {"lr": 7}
    text = CombinationsRequest(path=path, grid_text='{"lr": [1, 2]}', grid_path="other.json", parameters={"seed": [1, 2, 3], "lr": [5]})
    assert [one.parameters for one in expand_combinations(context, text).combinations] == [{"lr": 5, "seed": seed} for seed in (1, 2, 3)]
    without = expand_combinations(context, CombinationsRequest(path=path, no_grid=True))
    assert (without.total, without.names, without.combinations[0].parameters) == (1, [], {})


def test_many_combinations_are_counted_but_not_all_sent(context: Context) -> None:
    request = CombinationsRequest(path="churn/report.ipynb", grid_text=json.dumps({"lr": list(range(300)), "model": list(range(300))}))
    found = expand_combinations(context, request)
    assert (found.total, len(found.combinations)) == (90_000, 1000)
    assert grid_points(context, request)[-1].number == 90_000


@pytest.mark.parametrize(
    ("request_fields", "field", "line"),
    [
        ({"grid_text": '{\n"lr": 1}'}, "grid_text", 2),
        ({"grid_path": "bad.json"}, "grid_path", 1),
        ({"grid_path": "none.json"}, "grid_path", None),
        ({"parameters": {"lr": []}}, "parameters.lr", None),
        ({"grid_text": json.dumps({"lr": list(range(1000)), "model": list(range(1000))})}, "grid_text", None),
    ],
)
def test_a_bad_grid_names_the_field(context: Context, root: Path, request_fields: dict[str, object], field: str, line: int | None) -> None:
    (root / "bad.json").write_text("[]")
    with pytest.raises(BadInput) as raised:
        expand_combinations(context, CombinationsRequest(path="churn/report.ipynb", **request_fields))  # type: ignore[arg-type]
    assert (raised.value.detail["field"], raised.value.detail.get("line")) == (field, line)
