"""Homes, projects and environments for the acceptance tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.acceptance.place import ROOT, Place, make_place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One home for a test module, so that an environment is frozen once."""
    runtime = Path(tempfile.mkdtemp(prefix="jj"))
    made = make_place(tmp_path_factory.mktemp("home"), runtime)
    yield made
    made.jobs("dispatcher", "stop")
    shutil.rmtree(runtime)


@pytest.fixture
def project(place: Place, request: pytest.FixtureRequest) -> Path:
    """An empty project, named after the test, that is found as one."""
    directory = place.home / "work" / request.node.name.replace("[", "-").replace("]", "")
    directory.mkdir(parents=True)
    (directory / ".jobs.toml").write_text("")
    return directory


@pytest.fixture(scope="session")
def ipykernel_environment() -> Path:
    """A virtual environment with ipykernel and nothing of ours. Made once and kept in `.cache`; tests take copies of it."""
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    made = cache / f"ipykernel-{sys.version_info.major}.{sys.version_info.minor}"
    with FileLock(cache / "ipykernel.lock"):
        if not (made / "ready").exists():
            shutil.rmtree(made, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(made)], check=True)
            subprocess.run([made / "bin" / "pip", "install", "--quiet", "ipykernel"], check=True)
            (made / "ready").touch()
    return made
