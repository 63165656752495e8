"""A context in a world of its own: Jupyter's folders, a store, a small environment with a kernelspec, and a project."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jupyter_jobs.actions.context import Context, local_context
from jupyter_jobs.settings import Jobs
from tests.factories import notebook, write_project


@dataclass
class World:
    """What a test works with. `nudges` counts how often the dispatcher was told."""

    context: Context
    project: Path
    environment: Path
    nudges: list[int]

    @property
    def data_dir(self) -> Path:
        return self.context.data_dir

    @property
    def report(self) -> str:
        return str(self.project / "report.ipynb")


@pytest.fixture(scope="session")
def bare_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real virtual environment, without pip: quick to make and to freeze."""
    place = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    return place


@pytest.fixture
def world(tmp_path: Path, bare_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("data", "config", "runtime"):
        monkeypatch.setenv(f"JUPYTER_{name.upper()}_DIR", str(tmp_path / "jupyter" / name))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    kernel = tmp_path / "jupyter" / "data" / "kernels" / "small"
    kernel.mkdir(parents=True)
    argv = [str(bare_environment / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Small", "language": "python", "env": {"SPEC_VALUE": "value-of-the-spec"}}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    files = {"helper.py": "x = 1\n", "data/in.csv": "a,b\n1,2\n", "report.parameters.json": '{"seed": [1, 2, 3]}'}
    made = notebook(["import helper", "open('data/in.csv').read()"], kernel="small")
    project = write_project(tmp_path / "home" / "churn", files, {"report.ipynb": made})
    nudges: list[int] = []
    context = local_context(Jobs(workspace="copy"), lambda: nudges.append(1))
    yield World(context, project, bare_environment, nudges)
    context.engine.dispose()
