"""What the command line says, and what it refuses, where a newcomer went astray."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from jupyter_jobs.cli.output import bytes_text
from tests.acceptance.place import Place, write_notebook


def test_what_was_started_again_is_judged_alone(place: Place, project: Path) -> None:
    bad = project.parent / "bad"
    bad.write_text("")
    cell = f"import os\nassert not (n < 3 and os.path.exists({str(bad)!r})), n"
    notebook = write_notebook(project / "alone.ipynb", cell, parameters="n = 0")
    job = str(place.json("run", notebook, "-p", "n", "1", "-p", "n", "2", "--wait", code=1)["id"])
    said = place.jobs("add", job, "-p", "n", "5", "--wait")
    assert (f"{job}-3" in said, f"{job}-1" in said) == (True, False)
    bad.unlink()
    said = place.jobs("rerun", f"{job}-1", "--wait")
    assert (f"{job}-4" in said, f"{job}-2" in said, "AssertionError" in said) == (True, False, False)
    bad.write_text("")
    said = place.jobs("rerun", job, "--failed", "--wait", code=1)
    assert (f"{job}-5" in said, f"{job}-4 " in said) == (True, False)


def test_canceling_says_what_comes_of_it(place: Place, project: Path) -> None:
    gate = project.parent / "gate-of-words"
    os.mkfifo(gate)
    # goes on for a while after it was asked to end
    cell = f"import time\nprint(open({str(gate)!r}).read())\ntry:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    open({str(gate)!r}).read()"
    notebook = write_notebook(project / "slow.ipynb", cell)
    job = str(place.json("run", notebook)["id"])
    with gate.open("w"):
        pass
    said = place.jobs("delete", job, code=2)
    assert f"1 run of job {job} is active" in said
    assert f"jupyter jobs delete {job} --cancel" in said
    assert "canceling 1 run" in place.jobs("cancel", job)
    place.jobs("logs", job, "--follow")
    assert f"job {job} is canceled already; nothing to cancel" in place.jobs("cancel", job)
    assert f"run {job}-1 is canceled already; nothing to cancel" in place.jobs("cancel", f"{job}-1")


def told(place: Place, *words: str | Path) -> str:
    """Standard error of a command that succeeds."""
    line = [sys.executable, "-m", "jupyter_jobs.cli", *map(str, words)]
    return subprocess.run(line, env=place.variables, cwd=place.home, capture_output=True, text=True, check=True).stderr


def test_a_paused_queue_says_so_to_whoever_waits(place: Place, project: Path) -> None:
    notebook = write_notebook(project / "held.ipynb", "1")
    place.jobs("queue", "pause")
    job = str(place.json("run", notebook, "--memory", "200M", "--cpu", "1", "--storage", "5M")["id"])
    assert "1 core, 200.0 MB of memory, 5.0 MB of files" in place.jobs("show", job)
    assert "the queue is paused: `jupyter jobs queue resume`" in told(place, "run", notebook)
    refused = place.jobs("run", notebook, "--cpu", "100000", code=2)
    assert "1 run" not in refused, "nothing looks as if something had started"
    place.jobs("cancel", job)
    assert "canceled before it started" in place.jobs("show", f"{job}-1")
    place.jobs("queue", "resume")


def test_attempts_are_told_apart(place: Place, project: Path) -> None:
    mark = project.parent / "tried"
    cell = f"import os\nfirst = not os.path.exists({str(mark)!r})\nopen({str(mark)!r}, 'w').close()\nprint('said', first)\nassert not first"
    notebook = write_notebook(project / "twice.ipynb", cell)
    run = f"{place.json('run', notebook, '--retries', '1', '--wait')['id']}-1"
    said = place.jobs("logs", run).splitlines()
    assert said.index("attempt 1") < said.index("said True") < said.index("attempt 2") < said.index("said False")
    assert said[-2:] == place.jobs("logs", run, "-f").splitlines()[-2:]
    alone = place.jobs("logs", run, "--attempt", "1")
    assert ("said True" in alone, "said False" in alone, "attempt" in alone) == (True, False, False)
    assert "AssertionError" in place.jobs("html", run, "--attempt", "1", "-o", "-")
    assert "AssertionError" not in place.jobs("html", run, "-o", "-")
    assert place.jobs("files", run, "--attempt", "1")
    assert "has no attempt 3" in place.jobs("logs", run, "--attempt", "3", code=2)
    assert "Name a run" in place.jobs("logs", run.rpartition("-")[0], "--attempt", "1", code=2)
    assert "attempt 2" in place.jobs("usage", run)


def test_a_breach_is_the_most_that_was_used(place: Place, project: Path) -> None:
    notebook = write_notebook(
        project / "writes.ipynb", "with open('big', 'wb') as file:\n    while True:\n        file.write(bytes(1_000_000))\n        file.flush()"
    )
    run = f"{place.json('run', notebook, '--storage', '5M', '--wait', code=1)['id']}-1"
    error = place.json("show", run)["run"]["error"]  # type: ignore[index]
    assert error["detail"]["resource"] == "storage"
    said = place.jobs("usage", run)
    assert bytes_text(error["detail"]["used"]) in said
    assert "nothing was sampled" not in said
