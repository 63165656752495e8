"""Our side: `jupyter jobs run NOTEBOOK --wait` in a home of its own, with a warm dispatcher, without one, and on an empty store."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import python, variables
from benchmarks.peers import Measured, checked
from benchmarks.processes import alive, commands, settled, until

JUPYTER = str(python("ours").with_name("jupyter"))
KEEP_SECONDS = 3600
"""A dispatcher stays for the whole benchmark, while the peers have their turn."""


@dataclass(frozen=True)
class Home:
    """A store of its own, `data`, and the variables that lead there."""

    place: Path
    variables: dict[str, str]

    @property
    def runs(self) -> Path:
        return self.place / "data" / "jobs" / "runs"


def make_home(place: Path) -> Home:
    """An empty store, and a configuration that keeps its dispatcher. `place` is short, because sockets lie below."""
    (place / "config").mkdir(parents=True)
    (place / "config" / "jupyter_jobs_config.json").write_text(json.dumps({"Jobs": {"keep_dispatcher_seconds": KEEP_SECONDS}}))
    sockets = place / "x"
    sockets.mkdir(mode=0o700)
    return Home(place, variables(place, "ours") | {"XDG_RUNTIME_DIR": str(sockets)})


def run(home: Home, notebook: Path, runs: int) -> Measured:
    """The command with so many values of `n`, from its own start until it has said that all is complete."""
    known = jobs(home)
    parameters = [word for number in range(runs) for word in ("-p", "n", str(number))]
    command = [JUPYTER, "jobs", "run", str(notebook), "--wait", "--accept-drift", *parameters]
    before = settled()
    start, began = time.perf_counter(), time.time()
    checked(command, home.variables, notebook.parent)
    seconds = time.perf_counter() - start
    (job,) = jobs(home) - known
    ends = [result.stat().st_mtime for result in (home.runs / job).glob("*/*/result.json")]
    if len(ends) != runs:
        raise SystemExit(f"{len(ends)} results of {runs} runs of {notebook.name}")
    return Measured(seconds, min(ends) - began, settled() - before)


def jobs(home: Home) -> set[str]:
    return {folder.name for folder in home.runs.iterdir()} if home.runs.exists() else set()


def dispatcher(home: Home) -> int:
    """The process id of its dispatcher; 0: there is none."""
    return int(json.loads(checked([JUPYTER, "jobs", "dispatcher", "status", "--json"], home.variables, home.place))["pid"])


def fork_servers(home: Home) -> list[int]:
    """The process ids of its fork servers, which have its sockets' place among their arguments."""
    return commands(str(home.place / "x"))


def stop(home: Home) -> None:
    """Let the dispatcher end, and wait for its fork servers, so that the next command finds nothing warm."""
    pid = dispatcher(home)
    checked([JUPYTER, "jobs", "dispatcher", "stop"], home.variables, home.place)
    until("the end of dispatcher and fork servers", lambda: not (fork_servers(home) or (pid and alive(pid))))


def cold(home: Home, notebook: Path) -> Measured:
    """One run without a dispatcher, on a store that knows notebook and environment."""
    stop(home)
    return run(home, notebook, 1)


def empty(place: Path, notebook: Path) -> Measured:
    """One run on an empty store: nothing is frozen yet, no process is there."""
    home = make_home(place)
    try:
        return run(home, notebook, 1)
    finally:
        stop(home)
        shutil.rmtree(place)
