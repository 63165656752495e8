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


def test_a_damaged_file_of_limits_changes_nothing(prepare):
    run = prepare([code("print('fine')", id="a")], time_limit=3600)
    (run.path / rundir.LIMITS).write_text("{")
    result = run.start().wait()
    assert result.state == "complete"
    assert "time limit cannot be read" in run.said("system")
