"""A store for each test, and nothing left of it afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_jobs.backends import processes
from jupyter_jobs.dispatcher import process
from jupyter_jobs.settings import Jobs
from jupyter_jobs.store import runs
from jupyter_jobs.store.database import open_store, read
from tests.dispatcher.dispatcher_store import Store


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory short enough for sockets."""
    directory = Path(tempfile.mkdtemp(prefix="jj", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def store(tmp_path: Path, runtime: Path) -> Iterator[Store]:
    settings = Jobs(data_dir=str(tmp_path / "jobs"), max_parallel_runs=2, keep_dispatcher_seconds=600)
    engine = open_store(settings.data_dir)
    made = Store(settings, engine, Path(settings.data_dir))
    yield made
    for driver in made.started:
        driver.kill()
        driver.communicate()
    status = process.dispatcher_status(settings)
    if status.running:
        os.kill(status.pid, signal.SIGKILL)
    with read(engine) as conn:
        left = runs.active(conn)
    for each in left:
        processes.kill_run(each.run)
        if each.pid is not None and each.pid_started is not None:
            processes.send(processes.Process(host=each.host, boot=each.boot_id, pid=each.pid, started=each.pid_started), signal.SIGKILL)
    engine.dispose()
