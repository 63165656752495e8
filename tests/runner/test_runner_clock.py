"""A wall clock that is set while a run goes on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from jupyter_jobs.runner import clock, rundir
from jupyter_jobs.runner.log import Journal


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_run_does_not_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    began = clock.begin()
    journal = Journal(tmp_path, "r", 1, "")
    journal.state("running")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + hours * 3600)
    journal.progress(1, 1)
    at = [event.at for event in rundir.read_records(tmp_path / rundir.EVENTS, rundir.RunEvent)[0]]
    assert began <= at[0] <= at[1] <= clock.now() < began + 3600
