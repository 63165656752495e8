"""No dispatcher, and runs that need one: whoever looks at them sees what is true, or is told that nobody looks after them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.place import Place, write_notebook


def kill_with_all_below(pid: int) -> None:
    """SIGKILL a process and its descendants, the oldest first, so that none sees another's end."""
    found = psutil.Process(pid)
    everyone = [found, *found.children(recursive=True)]
    for each in everyone:
        each.suspend()
    for each in everyone:
        each.kill()
    psutil.wait_procs(everyone)


@pytest.fixture
def held(place: Place, project: Path) -> Iterator[str]:
    """A job whose run is in its cell until its end, and is not tried again; its id. The dispatcher is there."""
    gate = project / "gate"
    os.mkfifo(gate)
    notebook = write_notebook(project / "held.ipynb", f"print('begun', flush=True)\nprint(open({str(gate)!r}).read(), flush=True)")
    job = str(place.json("run", notebook, "--retries", "0", "--live", "gate")["id"])
    with gate.open("w"):  # once the cell has opened it
        yield job
    place.jobs("dispatcher", "start")
    place.jobs("delete", job, "--cancel")
    place.jobs("logs", job, "--follow", code=2)


def pid_of(place: Place) -> int:
    return int(str(place.json("dispatcher", "status")["pid"]))


@pytest.mark.parametrize("words", [["list"], ["logs", "--follow"]])
def test_after_a_kill_of_all_whoever_looks_sees_what_is_true(place: Place, held: str, words: list[str]) -> None:
    kill_with_all_below(pid_of(place))
    status = place.json("dispatcher", "status")
    assert (status["running"], status["active"]) == (False, 1)
    assert "1 active and 0 queued runs" in place.jobs("dispatcher", "status")
    assert place.json("dispatcher", "status")["running"] is False, "to ask for it starts none"
    if words == ["list"]:
        said = place.jobs("list")
        assert "failed" in said
        assert "running" not in said
    else:
        assert place.jobs(*words, f"{held}-1") == "begun\n"
    (run,) = place.runs(held)
    assert (run["state"], run["error"]["code"]) == ("failed", "interrupted")  # type: ignore[index]


def test_one_that_was_stopped_stays_stopped_and_that_is_said(place: Place, held: str) -> None:
    waiting = subprocess.Popen(
        [sys.executable, "-m", "jupyter_jobs.cli", "logs", held, "--follow"], env=place.variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert waiting.stdout is not None
    assert waiting.stderr is not None
    assert waiting.stdout.readline() == b"begun\n"
    assert "1 active and 0 queued runs" in place.jobs("dispatcher", "stop")
    told = b"No dispatcher runs since it was stopped: 1 active and 0 queued runs"
    assert waiting.stderr.readline().startswith(told)
    done = subprocess.run([sys.executable, "-m", "jupyter_jobs.cli", "list"], env=place.variables, capture_output=True, check=True)
    assert done.stderr.startswith(told)
    assert place.json("dispatcher", "status")["running"] is False
    # and goes on with the next
    place.jobs("dispatcher", "start")
    place.jobs("cancel", held)
    waiting.communicate(timeout=60)
    assert waiting.returncode == 0


def test_where_nothing_is_to_do_none_is_started(place: Place) -> None:
    place.jobs("list")
    place.jobs("dispatcher", "start")
    os.kill(pid := pid_of(place), signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [])
    for words in (["list"], ["queue"]):
        place.jobs(*words)
        assert place.json("dispatcher", "status")["running"] is False
