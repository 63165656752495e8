"""The product as people meet it: the command line in a home of its own, real kernels, real environments."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Place:
    """A home with Jupyter's directories, and the command line in it."""

    home: Path
    variables: dict[str, str]

    @property
    def data(self) -> Path:
        return self.home / "data" / "jobs"

    def jobs(self, *words: str | Path, code: int = 0, cwd: Path | None = None) -> str:
        """Standard output of `jupyter jobs …`; fails unless it ends with this exit code."""
        done = subprocess.run(
            [sys.executable, "-m", "jupyter_jobs.cli", *map(str, words)],
            env=self.variables,
            cwd=cwd or self.home,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, f"{words}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr if code else done.stdout

    def json(self, *words: str | Path, code: int = 0) -> dict[str, object]:
        """The same with `--json`, decoded. With another exit code than 0 or 1 it is the error."""
        return json.loads(self.jobs(*words, "--json", code=code))

    def runs(self, job: str) -> list[dict[str, object]]:
        """The runs of a job in order."""
        found = self.json("runs", job)["runs"]
        assert isinstance(found, list)
        return found


def make_place(home: Path, runtime: Path) -> Place:
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "JPY_", "GIT_", "PYTEST"))}
    for name in ("CONFIG", "DATA", "RUNTIME"):
        variables[f"JUPYTER_{name}_DIR"] = str(home / name.lower())
    variables |= {
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "XDG_RUNTIME_DIR": str(runtime),
        "COLUMNS": "200",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    return Place(home, variables)


def write_notebook(path: Path, *cells: str, parameters: str = "", kernel: str = "python3") -> Path:
    """A notebook of these code cells; `parameters` is the source of its tagged cell, the first."""
    made = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})] if parameters else []
    made += [nbformat.v4.new_code_cell(cell) for cell in cells]
    metadata = {"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}, "language_info": {"name": "python"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=metadata), path)
    return path


def fingerprint(directory: Path) -> dict[str, tuple[str, int]]:
    """Content and time of change of every file."""
    return {
        str(path.relative_to(directory)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
