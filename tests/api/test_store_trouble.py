"""What REST says of a store that is locked or damaged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from jupyter_jobs.settings import Jobs
from jupyter_jobs.store import database
from jupyter_jobs.store.database import write
from tests.api.running import Dispatcher, Running, error_of
from tests.factories import make_job
from tests.store.test_trouble import HOLD, damage, filled, pages_of


async def test_a_locked_store_is_busy_and_reading_goes_on(
    settings: Jobs, engine: Engine, dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch, server: Running
) -> None:
    with write(engine) as conn:
        job = make_job(conn)
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    with holding(Path(settings.data_dir) / "jobs.sqlite") as other:
        answer = await server.ask("POST", f"jobs/{job}/cancel")
        assert (answer.code, error_of(answer)["code"], answer.headers["Retry-After"]) == (503, "store_busy", "5")
        assert (await server.ask("GET", f"jobs/{job}")).code == 200
        other.communicate()
    assert (await server.ask("POST", f"jobs/{job}/cancel")).code == 200


@contextmanager
def holding(file: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that keeps everybody from writing until its input ends."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield other


@pytest.fixture
def damaged(settings: Jobs) -> None:
    """Damage the store before a server opens it."""
    folder = Path(settings.data_dir)
    filled(folder)
    damage(folder / "jobs.sqlite", pages_of(folder / "jobs.sqlite", "runs")[0])


async def test_a_damaged_store_is_said_with_its_mend(damaged: None, server: Running) -> None:
    answer = await server.ask("GET", "jobs")
    assert (answer.code, error_of(answer)["code"]) == (503, "store_corrupt")
    assert "doctor --repair" in error_of(answer)["mend"]
