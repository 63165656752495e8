"""Packages upgraded, removed or overwritten after a job was made: its runs see what was there, or say beforehand what is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.place import Place, write_notebook


def wheel(folder: Path, name: str, version: str, source: str) -> Path:
    """A wheel of one module."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path


class Environment:
    """A virtual environment of the user's, with a kernel named `theirs`."""

    def __init__(self, place: Place, original: Path, wheels: Path) -> None:
        self.path = place.home / "theirs"
        self.wheels = wheels
        shutil.copytree(original, self.path, symlinks=True)
        self.pip("install", wheel(wheels, "xx", "1.0", "version = 1"), wheel(wheels, "other", "1.0", "version = 1"))
        spec = place.home / "data" / "kernels" / "theirs" / "kernel.json"
        spec.parent.mkdir(parents=True, exist_ok=True)
        argv = [str(self.path / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec.write_text(json.dumps({"argv": argv, "display_name": "Theirs", "language": "python"}))

    def pip(self, *words: str | Path) -> str:
        command = [self.path / "bin" / "python", "-m", "pip", "--quiet", "--no-input", *words]
        if words[0] == "install":
            command += ["--no-index", "--no-deps"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def module(self, name: str) -> Path:
        (found,) = self.path.glob(f"lib/python*/site-packages/{name}.py")
        return found


@pytest.fixture
def environment(place: Place, ipykernel_environment: Path, tmp_path: Path) -> Iterator[Environment]:
    made = Environment(place, ipykernel_environment, tmp_path)
    yield made
    shutil.rmtree(made.path)


@pytest.fixture
def gate(place: Place) -> Iterator[Path]:
    """One run at a time, and that one waits for whoever writes to this pipe: what is submitted meanwhile waits in the queue."""
    (place.home / "config").mkdir(exist_ok=True)
    (place.home / "config" / "jupyter_jobs_config.json").write_text('{"Jobs": {"max_parallel_runs": 1}}')
    path = place.home / "gate"
    os.mkfifo(path)
    blocker = write_notebook(place.home / "work" / "blocker" / "blocker.ipynb", f"open({str(path)!r}).read()")
    (blocker.parent / ".jobs.toml").touch()
    place.json("run", blocker)
    yield path
    path.unlink()


def test_runs_see_the_environment_as_it_was(place: Place, project: Path, gate: Path, environment: Environment) -> None:
    cells = [
        "import sys, xx, other\nfrom importlib.metadata import version\nseen = [xx.version, version('xx'), other.version, sys.prefix]",
        "%pip --quiet uninstall -y other\n!echo 'version = 3' > {other.__file__.replace('other.py', 'xx.py')}",
        "import importlib.machinery\nimportlib.invalidate_caches()",
        "gone = importlib.machinery.PathFinder.find_spec('other') is None\nchanged = importlib.reload(xx).version",
    ]
    write_notebook(project / "versions.ipynb", *cells, parameters="n = 0", kernel="theirs")
    job = str(place.json("run", project / "versions.ipynb", "-p", "n", "1", "-p", "n", "2", "--record", "seen,gone,changed")["id"])

    environment.pip("install", "--upgrade", wheel(environment.wheels, "xx", "2.0", "version = 2"))
    environment.pip("uninstall", "-y", "other")
    gate.write_text("go")
    place.jobs("logs", job, "--follow")

    for run in place.runs(job):
        # the second run sees what the first one removed and overwrote
        assert run["error"] is None
        assert run["records"] == {"seen": [1, "1.0", 1, str(environment.path)], "gone": True, "changed": 3}
    assert environment.module("xx").read_text() == "version = 2"
    assert not list(environment.path.glob("lib/python*/site-packages/other*"))


def test_a_module_overwritten_in_place_is_seen_as_it_was_or_named_before_the_run(
    place: Place, project: Path, gate: Path, environment: Environment
) -> None:
    write_notebook(project / "versions.ipynb", "import xx\nseen = xx.version", kernel="theirs")
    job = str(place.json("run", project / "versions.ipynb", "--record", "seen")["id"])
    module = environment.module("xx")

    with module.open("w") as file:
        file.write("version = 99")
    gate.write_text("go")
    place.jobs("logs", job, "--follow")

    (run,) = place.runs(job)
    if run["state"] == "complete":
        assert run["records"] == {"seen": 1}
    else:
        assert run["error"]["code"] == "environment_drifted"  # type: ignore[index]
        assert str(module) in json.dumps(run["error"])
        assert run["started_at"] is None or run["records"] == {}
    module.unlink()


def test_a_kernel_that_is_not_there_is_named_before_anything_is_made(place: Place, project: Path) -> None:
    write_notebook(project / "report.ipynb", "1")
    error = json.loads(place.jobs("run", project / "report.ipynb", "--kernel", "nowhere", "--json", code=2))
    assert error["code"] == "kernel_not_found"
    assert "nowhere" in error["message"]
