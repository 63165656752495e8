"""The others, each in a virtual environment of its own: the `papermill` command, jupyter-scheduler, and the limit (`limit.py`)."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environments import python, variables
from benchmarks.processes import commands, settled, until
from jupyter_jobs import resources

SECONDS = 600
"""Nothing here takes longer for one run, or for twenty."""


@dataclass(frozen=True)
class Measured:
    """Seconds until all runs had ended and until the first had; processor seconds of all processes; runs that failed (two kernels that drew the
    same port, say)."""

    seconds: float
    first: float
    cpu: float
    failed: int = 0


@dataclass(frozen=True)
class SchedulerServer:
    """A Jupyter server with jupyter-scheduler: its port and process."""

    port: int
    pid: int


# -- the papermill command -----------------------------------------------------------------------------------------------


def papermill(place: Path, notebook: Path, runs: int, *, without: bool) -> Measured:
    """As many commands as runs, as many at a time as we run."""
    environment = variables(place, "papermill", without=without)
    before = settled()
    start = time.perf_counter()

    def run(number: int) -> tuple[float, str]:
        command = [str(python("papermill").parent / "papermill"), str(notebook), str(place / f"out{number}.ipynb"), "-p", "n", str(number)]
        said = ""
        try:
            checked([*command, "--no-progress-bar"], environment, notebook.parent)
        except SystemExit as error:
            said = str(error)
        return time.perf_counter() - start, said

    with ThreadPoolExecutor(resources.usable_cores()) as pool:
        ended = list(pool.map(run, range(runs)))
    complete = [end for end, said in ended if not said]
    if not complete:
        raise SystemExit(ended[0][1])
    return Measured(max(end for end, _ in ended), min(complete), settled() - before, runs - len(complete))


def checked(command: list[str], environment: Mapping[str, str], folder: Path) -> str:
    """What a command prints. Raises SystemExit with what it said when it fails or takes longer than `SECONDS`."""
    try:
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{' '.join(command[:4])} …: longer than {SECONDS} s") from None
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} …: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


# -- the limit -----------------------------------------------------------------------------------------------------------


def limit(place: Path, notebook: Path, runs: int) -> Measured:
    command = [str(python("papermill")), "-P", str(Path(__file__).with_name("limit.py")), str(notebook), str(runs)]
    return Measured(**json.loads(checked(command, variables(place, "papermill"), notebook.parent)))


# -- jupyter-scheduler ---------------------------------------------------------------------------------------------------


@contextmanager
def scheduler_server(place: Path, root: Path, *, without: bool) -> Iterator[SchedulerServer]:
    """A Jupyter server with its extension, on `root`."""
    # it makes no folder for its database
    (place / "data").mkdir(parents=True, exist_ok=True)
    command = [str(python("jupyter-scheduler")), "-m", "jupyter_server", "--no-browser", "--allow-root", "--port=0", f"--ServerApp.root_dir={root}"]
    command += ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True", "--ServerApp.jpserver_extensions={'jupyter_scheduler': True}"]
    environment = variables(place, "jupyter-scheduler", without=without)
    with (place / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        runtime = place / "runtime"
        until("the server of jupyter-scheduler", lambda: any(runtime.glob("jpserver-*.json")) or process.poll() is not None)
        (found,) = runtime.glob("jpserver-*.json")
        server = SchedulerServer(json.loads(found.read_text())["port"], process.pid)
        until("jupyter-scheduler's answer", lambda: answers(server))
        yield server
    finally:
        process.terminate()
        process.wait(SECONDS)


def answers(server: SchedulerServer) -> bool:
    try:
        ask(server, "GET", "runtime_environments")
    except ConnectionRefusedError:
        return False
    return True


def ask(server: SchedulerServer, method: str, path: str, body: object = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    connection.request(method, f"/scheduler/{path}", json.dumps(body) if body else None, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status >= 400:
        raise SystemExit(f"{method} {path}: {answer.status} {text.decode()}")
    return json.loads(text)


def scheduler(server: SchedulerServer, notebook: str, runs: int) -> Measured:
    """As many jobs as runs, all at once, as it does; until the last has ended by its own account. `notebook` from the server's root."""
    (environment,) = ask(server, "GET", "runtime_environments")
    known = {"name": "benchmark", "input_uri": notebook, "runtime_environment_name": environment["name"], "output_formats": ["ipynb"]}
    before = settled()
    start = time.time()
    jobs = [ask(server, "POST", "jobs", known | {"parameters": {"n": str(number)}})["job_id"] for number in range(runs)]
    waiting = set(jobs)

    def ended() -> bool:
        found = {job: ask(server, "GET", f"jobs/{job}") for job in waiting}
        ends.update({job: one["end_time"] / 1000 - start for job, one in found.items() if one["status"] == "COMPLETED"})
        failures.update({job: str(one.get("status_message")) for job, one in found.items() if one["status"] == "FAILED"})
        waiting.difference_update(ends, failures)
        return not waiting

    ends: dict[str, float] = {}
    failures: dict[str, str] = {}
    # it tells the times itself, so asking seldom costs no accuracy
    until("jupyter-scheduler's jobs", ended, SECONDS, pause=1.0)
    until("the ends of its processes", lambda: not commands("multiprocessing.spawn import spawn_main"))
    if not ends:
        raise SystemExit(f"jupyter-scheduler: {failures[jobs[0]]}")
    return Measured(max(ends.values()), min(ends.values()), settled() - before, len(failures))
