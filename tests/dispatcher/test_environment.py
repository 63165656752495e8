"""A frozen environment is checked before each run: what drifted fails the run, unless its job accepts that."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from jupyter_jobs.dispatcher.socket import nudge
from jupyter_jobs.dispatcher.state import Check
from jupyter_jobs.model import KernelInfo
from jupyter_jobs.snapshot.environment import freeze_environment
from jupyter_jobs.store import snapshots
from jupyter_jobs.store.database import write
from tests.dispatcher.dispatcher_store import Store


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A module in a virtual environment."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", tmp_path / "venv"], check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "module.py").write_text("x = 1\n")
    return site / "module.py"


@pytest.fixture
def environment(store: Store, tmp_path: Path, module: Path) -> str:
    """The environment, recorded and not cloned, so that a change of the original counts on every file system."""
    kernel = KernelInfo(name="k", display_name="k", language="python", argv=[str(tmp_path / "venv" / "bin" / "python"), "-m", "ipykernel_launcher"])
    frozen = freeze_environment(store.directory, kernel, copy_max_bytes=1 << 30, freeze=False, project=None)
    with write(store.engine) as conn:
        snapshots.insert_environment(conn, frozen)
    return frozen.digest


def change(module: Path) -> None:
    module.write_text("x = 2\n")


async def test_an_environment_that_is_as_it_was(store: Store, environment: str) -> None:
    found = store.job({}, {}, environment=environment)
    async with store.dispatcher():
        await store.until(*found)
    assert [store.run(run).state for run in found] == ["complete", "complete"]


async def test_drift_fails_every_run_and_names_the_file(store: Store, environment: str, module: Path) -> None:
    change(module)
    found = store.job({}, {}, {}, environment=environment)
    async with store.dispatcher():
        await store.until(*found)
    for run in found:
        error = store.run(run).error
        assert error is not None
        assert error.code == "environment_drifted"
        assert error.detail["files"] == [str(module)]
        assert str(module) in error.message
        assert error.mend
        assert not store.directory_of(run).exists()


async def test_a_look_answers_for_the_runs_that_start_soon_after_it(store: Store, environment: str, module: Path) -> None:
    async with store.dispatcher(check=1e6):
        await store.until(*store.job({}, environment=environment))
        change(module)
        (soon,) = store.job({}, environment=environment)
        nudge(store.settings)
        await store.until(soon)
    assert store.run(soon).state == "complete"
    (later,) = store.job({}, environment=environment)
    async with store.dispatcher():
        await store.until(later)
    assert store.run(later).state == "failed"


async def test_how_long_a_look_stands() -> None:
    async def looked(failure: Exception | None = None) -> None:
        if failure:
            raise failure

    look = Check(task=asyncio.create_task(looked()), began=100.0)
    assert look.stands(1e9, 2.0), "it goes on"
    await look.task
    look.ended = 100.01
    assert look.stands(102.0, 2.0)
    assert not look.stands(102.1, 2.0)
    look.ended = 101.0
    assert look.stands(125.0, 2.0), "a long one stands longer"
    assert not look.stands(125.1, 2.0)
    failed = Check(task=asyncio.create_task(looked(OSError())), began=100.0)
    await asyncio.wait({failed.task})
    failed.ended = 100.01
    assert not failed.stands(100.01, 2.0), "what was mended is found to be so"


async def test_drift_that_is_accepted(store: Store, environment: str, module: Path) -> None:
    change(module)
    (run,) = store.job({}, environment=environment, accept_drift=True)
    async with store.dispatcher():
        await store.until(run)
    assert store.run(run).state == "complete"


async def test_an_environment_whose_files_are_gone_fails_the_run(store: Store, environment: str) -> None:
    for file in (store.directory / "environments" / environment).iterdir():
        if file.is_file():
            file.unlink()
    (run,) = store.job({}, environment=environment)
    async with store.dispatcher():
        await store.until(run)
    error = store.run(run).error
    assert error is not None
    assert error.code != "internal_error"
