"""Time limits that change while a notebook runs."""

from __future__ import annotations

import os
import signal

from jupyter_jobs.runner import rundir
from tests.runner.runner_cells import code

HOLD = "print('waiting', flush=True)\nopen({!r}).read()"


def test_a_run_may_take_longer_than_it_was_first_given(prepare, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    # it would end at once when the limit that stands there first were kept
    run = prepare([code(HOLD.format(str(gate)), id="a")], time_limit=0.001)
    rundir.write_limits(run.path, rundir.Limits(time_limit=3600))
    run.start().until(lambda run: "waiting" in run.said())
    rundir.write_limits(run.path, rundir.Limits(time_limit=7200))
    run.signal(signal.SIGUSR1)
    run.signal(signal.SIGUSR1)
    gate.open("w").close()
    assert run.wait().state == "complete"


def test_new_limits_are_heeded_while_a_cell_runs(prepare):
    run = prepare([code("import threading\nprint('waiting', flush=True)\nthreading.Event().wait()", id="a")], time_limit=3600)
    run.start().until(lambda run: "waiting" in run.said())
    rundir.write_limits(run.path, rundir.Limits(time_limit=0.5))
    run.signal(signal.SIGUSR1)
    error = run.wait().error
    assert error is not None
    assert (error.code, error.detail["limit"]) == ("time_limit_exceeded", 0.5)


def test_a_run_that_nobody_can_tell_looks_before_it_ends(prepare, tmp_path):
    """As with a backend that cannot send the signal. Which content is read when is decided by a pipe, not by time."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    run = prepare([code(HOLD.format(str(gate)), id="a")], time_limit=3600)
    run.start().until(lambda run: "waiting" in run.said())
    os.mkfifo(run.path / rundir.LIMITS)
    run.signal(signal.SIGUSR1)
    with (run.path / rundir.LIMITS).open("wb") as opened:
        # it reads; what it reads next is not what it reads now
        rundir.write_limits(run.path, rundir.Limits(time_limit=7200))
        opened.write(rundir.encode(rundir.Limits(time_limit=0.001)))
    run.until(lambda run: "7200" in run.said("system"))
    gate.open("w").close()
    assert run.wait().state == "complete"


def test_a_damaged_file_of_limits_changes_nothing(prepare):
    run = prepare([code("import threading\nthreading.Event().wait()", id="a")], time_limit=0.001)
    (run.path / rundir.LIMITS).write_text("{")
    error = run.start().wait().error
    assert error is not None
    assert (error.code, error.detail["limit"]) == ("time_limit_exceeded", 0.001)
    assert "time limit cannot be read" in run.said("system")
