"""What the command line says, and what it refuses, where a newcomer went astray."""

from __future__ import annotations

import os
from pathlib import Path

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


def test_a_paused_queue_says_so_to_whoever_waits(place: Place, project: Path) -> None:
    notebook = write_notebook(project / "held.ipynb", "1")
    place.jobs("queue", "pause")
    job = str(place.json("run", notebook, "--memory", "200M", "--cpu", "1", "--storage", "5M")["id"])
    assert "1 core, 200.0 MB of memory, 5.0 MB of files" in place.jobs("show", job)
    place.jobs("cancel", job)
    assert "canceled before it started" in place.jobs("show", f"{job}-1")
    place.jobs("queue", "resume")
