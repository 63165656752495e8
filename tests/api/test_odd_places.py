"""Names and files that nobody should have made are refused in words: no error of ours, no request that waits for ever."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nbformat
import pytest

from tests.api.running import Running, error_of

LONG = "x" * 300


@pytest.fixture
def project(server: Running) -> Path:
    """A project without rules below the server's root."""
    directory = server.root / "p"
    directory.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(1)")]), directory / "a.ipynb")
    (directory / "pyproject.toml").touch()
    return directory


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"inspect?path={LONG}.ipynb", None),
        ("POST", "jobs", {"path": f"{LONG}.ipynb"}),
        ("POST", "preview", {"path": f"p/{LONG}/a.ipynb"}),
        ("POST", "combinations", {"path": "p/a.ipynb", "grid_path": f"{LONG}.json"}),
        ("POST", "preview", {"path": "p/a.ipynb", "project": "~nobody-of-this-name/x"}),
        ("POST", "preview", {"path": "p/a.ipynb", "project": LONG}),
        ("POST", "preview", {"path": "p/a.ipynb", "live": [{"path": "~nobody-of-this-name"}]}),
        ("POST", "preview", {"path": "p/a.ipynb", "live": [{"path": LONG}]}),
    ],
)
async def test_names_that_cannot_be(server: Running, project: Path, method: str, path: str, body: object) -> None:
    response = await server.ask(method, path, body=body)
    assert response.code in (400, 404), response.body
    assert error_of(response)["code"] != "internal_error"


def pipe(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def huge(path: Path) -> None:
    path.write_text("#" * (2 << 20))


def deep(path: Path) -> None:
    path.write_text("live = " + "[" * 5000)


@pytest.mark.parametrize("make", [pipe, loop, Path.mkdir, huge, deep])
async def test_project_rules_that_cannot_be_read(server: Running, project: Path, make: object) -> None:
    make(project / ".jobs.toml")  # type: ignore[operator]
    response = await server.post("preview", {"path": "p/a.ipynb"})
    assert response.code == 400, response.body
    assert error_of(response)["code"] == "bad_project_rules"
    assert str(project / ".jobs.toml") in error_of(response)["message"]


@pytest.mark.parametrize("name", [".jobsignore", ".jobsinclude", ".gitignore"])
@pytest.mark.parametrize("make", [pipe, loop, Path.mkdir])
async def test_ignore_files_that_are_none(server: Running, project: Path, name: str, make: object) -> None:
    make(project / name)  # type: ignore[operator]
    response = await server.post("preview", {"path": "p/a.ipynb"})
    assert response.code == 200, response.body
    assert json.loads(response.body)["files"] >= 2


@pytest.mark.parametrize("make", [pipe, loop, Path.mkdir])
async def test_notebooks_and_grids_that_are_no_files(server: Running, project: Path, make: object) -> None:
    make(project / "odd.ipynb")  # type: ignore[operator]
    make(project / "odd.json")  # type: ignore[operator]
    for method, path, body in [
        ("GET", "inspect?path=p/odd.ipynb", None),
        ("POST", "preview", {"path": "p/odd.ipynb"}),
        ("POST", "jobs", {"path": "p/odd.ipynb"}),
        ("POST", "combinations", {"path": "p/odd.ipynb"}),
        ("POST", "combinations", {"path": "p/a.ipynb", "grid_path": "p/odd.json"}),
    ]:
        response = await server.ask(method, path, body=body)
        assert response.code in (400, 404), (path, response.body)
        assert error_of(response)["code"] != "internal_error"
