"""A home with a Jupyter server of its own, and the job that the sweeps run: each run says what it did, where nothing of ours can forge it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import nbformat
import psutil

from jupyter_jobs.client import Client
from jupyter_jobs.dispatcher.process import stop_dispatcher
from jupyter_jobs.model import Job, LivePath
from jupyter_jobs.remote import HttpTransport
from jupyter_jobs.requests import CreateJob
from jupyter_jobs.settings import Jobs
from tests.acceptance.place import ROOT

TOKEN = "faults"
# the directory of a kernel's sockets is each attempt's own
WITNESS = """
import os, sys
place = os.path.basename(os.path.dirname(sys.argv[sys.argv.index('-f') + 1]))
descriptor = os.open(witness, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
os.write(descriptor, f"{os.environ['JUPYTER_JOBS_RUN']} {place}\\n".encode())
os.close(descriptor)
print('begun', number)
"""
CHILDREN = """
import subprocess, time
subprocess.run(['true'], check=True)
if number % 3 == 0:
    subprocess.Popen(['sleep', seconds], start_new_session=True)
if washes and number % 5 == 1:
    subprocess.run(['setsid', '-f', 'sleep', seconds], env={'PATH': os.environ['PATH']}, check=True)
if number % 4 == 2:
    time.sleep(0.2)
"""
RESULT = """
value = number * number
os.makedirs('out', exist_ok=True)
with open(f'out/{number}.txt', 'w') as file:
    file.write(str(value))
print('value', value)
"""
ON_PURPOSE = "if number % 10 == 7: raise ValueError(f'on purpose {number}')"


def fails_on_purpose(number: int) -> bool:
    return number % 10 == 7


@dataclass
class Site:
    """Directories, settings, and the server that is under way. `seconds`: the argument of every `sleep` that a run leaves, only this site's."""

    home: Path
    settings: Jobs
    options: list[str]
    seconds: str
    server: subprocess.Popen[str] | None = None
    url: str = ""
    said: list[str] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return Path(self.settings.data_dir)

    @property
    def witness(self) -> Path:
        return self.home / "witness" / "lines"

    def start_server(self) -> None:
        """Returns when it answers."""
        command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--ServerApp.root_dir={self.home / 'root'}"]
        command += [f"--IdentityProvider.token={TOKEN}", "--ServerApp.port=0", *self.options]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=self.home, env=dict(os.environ), start_new_session=True)
        assert server.stderr is not None
        said = ""
        while "jupyter_jobs: ready" not in said:
            line = server.stderr.readline()
            assert line, said
            said += line
        found = re.search(r"http://127\.0\.0\.1:\d+/", said)
        assert found, said
        # what it says later must not fill the pipe
        threading.Thread(target=self.said.extend, args=(server.stderr,), daemon=True).start()
        self.server, self.url = server, found[0]

    def stop_server(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.server is not None:
            self.server.send_signal(number)
            self.server.wait(timeout=60)
            self.server = None

    def close(self) -> None:
        """End server and dispatcher as people do."""
        self.stop_server()
        stop_dispatcher(self.settings)

    def client(self) -> Client:
        return Client(HttpTransport(self.url, token=TOKEN))

    def submit(self, runs: int) -> Job:
        """The job: `runs` combinations, of which every tenth fails on purpose."""
        folder = self.home / "root" / "sweep"
        folder.mkdir()
        (folder / ".jobs.toml").write_text("")
        self.witness.parent.mkdir()
        # without a namespace and a keeper nothing tells whose a daemon with a clean environment is, once its runner was killed
        washes = self.settings.fork or self.settings.workspace != "copy"
        parameters = f"number = 0\nwitness = {str(self.witness)!r}\nseconds = {self.seconds!r}\nwashes = {washes}"
        cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
        cells += [nbformat.v4.new_code_cell(source) for source in (WITNESS, CHILDREN, RESULT, ON_PURPOSE)]
        kernel = {"name": "python3", "display_name": "python3", "language": "python"}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / "sweep.ipynb")
        request = CreateJob(
            path="sweep/sweep.ipynb",
            parameters={"number": list(range(1, runs + 1))},
            record=["value"],
            live=[LivePath(path=str(self.witness.parent), writable=True)],
            accept_drift=True,
        )
        with self.client() as client:
            return client.create(request)


@contextlib.contextmanager
def made_site(home: Path, *, number: int, data: Path | None = None, **settings: object) -> Iterator[Site]:
    """A site below `home` with a running server; `settings` are those of `Jobs`. This process has its variables meanwhile."""
    runtime = Path(tempfile.mkdtemp(prefix="jj", dir="/tmp"))
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "JPY_", "GIT_", "PYTEST"))}
    for name in ("config", "data", "root"):
        (home / name).mkdir(parents=True)
    variables |= {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    variables |= {"HOME": str(home), "IPYTHONDIR": str(home / "ipython"), "XDG_RUNTIME_DIR": str(runtime)}
    shutil.copytree(ROOT / "jupyter-config" / "jupyter_server_config.d", home / "config" / "jupyter_server_config.d")
    given = {"data_dir": str(data or home / "data" / "jobs"), "freeze_environment": False, "max_parallel_runs": 4, **settings}
    with mock.patch.dict(os.environ, variables, clear=True):
        site = Site(home, Jobs(**given), [f"--Jobs.{name}={value}" for name, value in given.items()], f"{80000 + number}.{os.getpid()}")
        site.start_server()
        try:
            yield site
        finally:
            _end_all(site)
            shutil.rmtree(runtime)


def _end_all(site: Site) -> None:
    """Whatever failed, nothing of the site stays."""
    site.stop_server(signal.SIGKILL)
    while left := [process for process in psutil.process_iter() if _is_of(site, process)]:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=5)


def _is_of(site: Site, process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        ours = str(site.home) in process.environ().values() or process.cmdline() == ["sleep", site.seconds]
        return ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
    return False
