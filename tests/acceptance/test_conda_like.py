"""A prefix as conda makes them: an interpreter, a standard library and packages of its own, and `conda-meta`; run through the overlay.

No channel of conda can be reached from the machines that these tests run on, so the prefix is put together from the Python that runs them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.acceptance.place import Place, write_notebook
from tests.venvs import why_no_overlays

LEFT_OUT = shutil.ignore_patterns("site-packages", "__pycache__", "test", "idlelib", "tkinter", "ensurepip", "lib2to3", "config-*")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def needed_by(name: str, found: set[str]) -> set[str]:
    """A distribution and what it needs, by name."""
    if name not in found:
        found.add(name)
        for text in distribution(name).requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed_by(requirement.name, found)
    return found


@pytest.fixture
def prefix(place: Place) -> Path:
    """The prefix, with ipykernel, two modules of a package that conda has a record of, and a kernel named `conda`."""
    made = place.home / "envs" / "theirs"
    library = made / "lib" / f"python{VERSION}"
    shutil.copytree(sysconfig.get_path("stdlib"), library, symlinks=True, ignore=LEFT_OUT)
    (made / "bin").mkdir()
    shutil.copy2(os.path.realpath(sys.executable), made / "bin" / "python")
    for shared in Path(sysconfig.get_config_var("LIBDIR")).glob("libpython*.so*"):
        shutil.copy2(shared, made / "lib", follow_symlinks=False)
    site = library / "site-packages"
    for name in needed_by("ipykernel", set()):
        for file in distribution(name).files or []:
            source = Path(str(file.locate()))
            if ".." not in file.parts and source.is_file() and "__pycache__" not in file.parts:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, site / file)
    (site / "xx.py").write_text("version = 1")
    (site / "other.py").write_text("version = 1")
    (made / "conda-meta").mkdir()
    (made / "conda-meta" / "history").write_text("==> 2026-11-24 12:00:00 <==\n# cmd: conda create -n theirs xx\n")
    record = {"name": "xx", "version": "1.0", "files": [f"lib/python{VERSION}/site-packages/{name}.py" for name in ("xx", "other")]}
    (made / "conda-meta" / "xx-1.0-0.json").write_text(json.dumps(record))
    asked = subprocess.run(
        [made / "bin" / "python", "-c", "import sys, ipykernel, zmq; print(sys.prefix, sys.base_prefix, ipykernel.__file__)"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(made / "lib")},
    )
    if asked.stdout.split() != [str(made), str(made), str(site / "ipykernel" / "__init__.py")]:
        pytest.skip(f"this Python cannot be copied to another prefix: {asked.stdout} {asked.stderr[-300:]}")
    spec = place.home / "data" / "kernels" / "conda" / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = [str(made / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    env = {"LD_LIBRARY_PATH": str(made / "lib")}
    spec.write_text(json.dumps({"argv": argv, "display_name": "Conda", "language": "python", "env": env}))
    return made


CELLS = [
    "import os, sys, xx, other\nfrom pathlib import Path",
    "seen = [xx.version, other.version, xx.__file__, sys.prefix, sys.base_prefix, sys.executable, os.__file__]",
    "meta = sorted(path.name for path in Path(sys.prefix, 'conda-meta').iterdir())",
    # as `conda install` in a notebook would: into the run's own, never into the person's
    "Path(xx.__file__).write_text('version = 3')\nPath(sys.prefix, 'conda-meta', 'new-1.0-0.json').write_text('{}')",
]


def test_runs_see_a_conda_prefix_as_it_was_where_it_was(place: Place, project: Path, prefix: Path) -> None:
    if why := why_no_overlays(place.home):
        pytest.skip(f"no overlays here: {why}")
    site = prefix / "lib" / f"python{VERSION}" / "site-packages"
    gate = place.home / "gate"
    os.mkfifo(gate)
    (place.home / "config").mkdir(exist_ok=True)
    (place.home / "config" / "jupyter_jobs_config.json").write_text('{"Jobs": {"max_parallel_runs": 1, "workspace": "overlay"}}')
    blocker = write_notebook(project / "blocker.ipynb", f"open({str(gate)!r}).read()")
    place.json("run", blocker)
    notebook = write_notebook(project / "conda.ipynb", *CELLS, parameters="n = 0", kernel="conda")
    job = place.json("run", notebook, "-p", "n", "1", "-p", "n", "2", "--record", "seen,meta")
    assert [note for note in job["notes"] if note["level"] != "note"] == []  # type: ignore[attr-defined, index]

    # as `conda update xx` and `conda remove other` do: files are replaced, records too
    (site / "new").write_text("version = 2")
    (site / "new").replace(site / "xx.py")
    (site / "other.py").unlink()
    (prefix / "conda-meta" / "xx-1.0-0.json").rename(prefix / "conda-meta" / "xx-2.0-0.json")
    gate.write_text("go")
    place.jobs("logs", str(job["id"]), "--follow")

    python = [str(prefix), str(prefix), str(prefix / "bin" / "python"), str(prefix / "lib" / f"python{VERSION}" / "os.py")]
    for run in place.runs(str(job["id"])):
        assert run["error"] is None
        assert run["workspace"] == "overlay"
        assert run["records"] == {"seen": [1, 1, str(site / "xx.py"), *python], "meta": ["history", "xx-1.0-0.json"]}
    assert (site / "xx.py").read_text() == "version = 2"
    assert sorted(path.name for path in (prefix / "conda-meta").iterdir()) == ["history", "xx-2.0-0.json"]

    # a job made now sees what is there now
    write_notebook(project / "conda.ipynb", "import xx\nseen = xx.version", kernel="conda")
    (run,) = place.runs(str(place.json("run", notebook, "--record", "seen", "--wait")["id"]))
    assert run["records"] == {"seen": 2}
