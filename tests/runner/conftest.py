"""Real runs: a notebook made in the test, a real run directory, the runner as its own process, a real kernel."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from nbformat.v4 import new_notebook

from jupyter_jobs.runner import messages, rundir

PATIENCE = 60


class Forked:
    """A runner that the fork server has forked, in the shape of a Popen."""

    def __init__(self, forks: Forks, pid: int) -> None:
        self.pid = pid
        self._forks = forks

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def poll(self) -> int | None:
        return self._forks.ends.get(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        while self.poll() is None:
            self._forks.hear()
        return self._forks.ends[self.pid]


class Forks:
    """A fork server and its kernel servers, for all tests of a process."""

    def __init__(self, place: Path, memory: int = 1 << 32) -> None:
        self.control, theirs = socket.socketpair()
        self.control.settimeout(PATIENCE)
        with theirs:
            command = [sys.executable, "-P", "-m", "jupyter_jobs.runner.forkserver", str(theirs.fileno()), str(place), str(memory)]
            variables = {**os.environ, "RUNNERS_OWN_SECRET": "not for kernels"}
            self.server = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True, env=variables)
        self.ends: dict[int, int] = {}
        self.started: dict[str, int] = {}

    def fork(self, run_dir: Path) -> Forked:
        messages.send(self.control, {"run": str(run_dir)})
        while str(run_dir) not in self.started:
            self.hear()
        pid = self.started.pop(str(run_dir))
        return Forked(self, pid)

    def hear(self) -> None:
        said, _ = messages.receive(self.control)
        if "ended" in said:
            self.ends[said["ended"]] = said["status"]
        else:
            # a number may be used again
            self.ends.pop(said["pid"], None)
            self.started[said["run"]] = said["pid"]

    def close(self) -> None:
        self.control.close()
        self.server.wait(PATIENCE)


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    with tempfile.TemporaryDirectory(prefix="jj-") as place:
        served = Forks(Path(place))
        yield served
        served.close()


@dataclass
class Run:
    """A run directory, its runner once started, and what it left."""

    path: Path
    spec: rundir.RunSpec
    hints: socket.socket
    forks: Forks | None = None
    process: subprocess.Popen[bytes] | Forked | None = None
    hinted: list[dict[str, Any]] = field(default_factory=list)

    def start(self) -> Run:
        """Start the runner as the local backend does: own session, cwd the run directory, an environment of its own."""
        rundir.write_spec(self.path, self.spec)
        if self.forks:
            self.process = self.forks.fork(self.path)
            return self
        with (self.path / "runner.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyter_jobs.runner", str(self.path)],
                cwd=self.path,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "RUNNERS_OWN_SECRET": "not for kernels"},
            )
        return self

    def until(self, seen: Callable[[Run], bool]) -> Run:
        """Wait, woken by the runner's hints, until something is to be seen in the run's files."""
        while not seen(self):
            self.hinted.append(json.loads(self.hints.recv(1000)))
        return self

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> rundir.RunResult:
        """The result, after the runner's end."""
        assert self.process is not None
        status = self.process.wait(PATIENCE)
        assert status == 0, (self.path / "runner.log").read_text()
        result = rundir.read_result(self.path)
        assert result is not None
        return result

    def family(self) -> list[psutil.Process]:
        """The kernel and all that it has started: below the runner, or below the keeper of a forked kernel."""
        assert self.process is not None
        kernel = self.path / rundir.KERNEL
        above = json.loads(kernel.read_bytes())["keeper"]["pid"] if kernel.exists() else self.process.pid
        return psutil.Process(above).children(recursive=True)

    @property
    def log(self) -> list[rundir.LogRecord]:
        return rundir.read_records(self.path / rundir.LOG, rundir.LogRecord)[0]

    @property
    def events(self) -> list[rundir.RunEvent]:
        return rundir.read_records(self.path / rundir.EVENTS, rundir.RunEvent)[0]

    @property
    def cells(self) -> list[Any]:
        return list(nbformat.read(self.path / rundir.NOTEBOOK, as_version=4).cells)

    def said(self, stream: str = "") -> str:
        return "".join(line.text + line.end for line in self.log if not stream or line.stream == stream)

    def cell(self, id: str) -> Any:
        return next(cell for cell in self.cells if cell.id == id)

    def file(self, name: str) -> Path:
        """A file that the run left."""
        from jupyter_jobs.runner.workspace import artifact_root

        return artifact_root(self.path) / name


Prepare = Callable[..., Run]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The original project's directory."""
    path = tmp_path / "project"
    path.mkdir()
    return path


@pytest.fixture(params=["spawn", "fork"])
def way(request: pytest.FixtureRequest) -> str:
    """How runner and kernel come to life: what holds for one holds for the other."""
    return str(request.param)


@pytest.fixture
def prepare(tmp_path: Path, project: Path, way: str, request: pytest.FixtureRequest) -> Iterator[Prepare]:
    """Make a run of a notebook with these cells: `prepare(cells, parameters=…, …)`. `workspace` has fields of WorkspaceSpec, `files` is the tree."""
    runs: list[Run] = []
    short = Path(tempfile.mkdtemp(prefix="jj-"))

    def make(
        cells: list[Any] | Path,
        *,
        files: dict[str, str] | None = None,
        variables: dict[str, str] | None = None,
        workspace: dict[str, Any] | None = None,
        kernel: dict[str, Any] | None = None,
        **more: Any,
    ) -> Run:
        number = len(runs) + 1
        here = tmp_path / f"run{number}"
        tree = here / "tree"
        tree.mkdir(parents=True)
        for name, content in (files or {}).items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(content)
        notebook = cells if isinstance(cells, Path) else here / "notebook.ipynb"
        if not isinstance(cells, Path):
            nbformat.write(new_notebook(cells=cells), notebook)
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        passed = {"PATH": os.environ["PATH"], "HOME": str(home), "IPYTHONDIR": str(home / ".ipython")} if variables is None else variables
        (here / "variables.json").write_text(json.dumps(passed))
        hints = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        hints.bind(str(short / f"h{number}"))
        hints.settimeout(PATIENCE)
        run_dir = here / "attempt"
        run_dir.mkdir()
        spec = rundir.RunSpec(
            run=f"{short.name}-{number}",
            job=short.name,
            notebook=str(notebook),
            notebook_path="notebook.ipynb",
            kernel=rundir.Kernel(
                **{
                    "argv": [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                    "name": "python3",
                    "display_name": "Python 3",
                    **(kernel or {}),
                }
            ),
            variables_file=str(here / "variables.json"),
            workspace=rundir.WorkspaceSpec(**{"mode": "copy", "project": str(project), "tree": str(tree), **(workspace or {})}),
            socket_dir=str(short / "k"),
            hints=str(short / f"h{number}"),
            **more,
        )
        runs.append(Run(run_dir, spec, hints, request.getfixturevalue("forks") if way == "fork" else None))
        return runs[-1]

    yield make
    for run in runs:
        run.hints.close()
        if run.process and run.process.poll() is None:
            os.killpg(run.process.pid, signal.SIGKILL)
            run.process.wait()
    shutil.rmtree(short)


@pytest.fixture
def execute(prepare: Prepare) -> Callable[..., tuple[Run, rundir.RunResult]]:
    """Run a notebook with these cells to its end."""

    def make(*arguments: Any, **options: Any) -> tuple[Run, rundir.RunResult]:
        run = prepare(*arguments, **options).start()
        return run, run.wait()

    return make
