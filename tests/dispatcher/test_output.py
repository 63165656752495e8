"""A job's output folder: an ended run's files come there, whatever becomes of the dispatcher, and what hinders that is said."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from jupyter_jobs.dispatcher.socket import dispatcher_appeared, subscribe
from jupyter_jobs.model import Event
from jupyter_jobs.store import jobs, queue
from jupyter_jobs.store.database import read, write
from tests.dispatcher.dispatcher_store import SECONDS, Store, open_gate
from tests.factories import tree_of

DELIVERED = {"plot.png": b"image", "test.ipynb": b"{}"}


async def said(store: Store, run: str) -> Event:
    """What the dispatcher says of the run's output, once it has."""

    def found() -> list[Event]:
        return [event for event in store.events(run) if event.kind == "run.output"]

    await seen(store, lambda: bool(found()))
    (one,) = found()
    return one


async def seen(store: Store, there: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await asyncio.to_thread(there):
            await dispatcher_appeared(store.settings)
            async for _ in subscribe(store.settings):
                if await asyncio.to_thread(there):
                    return


async def test_files_come_to_the_output_folder(store: Store, tmp_path: Path) -> None:
    complete, failed = store.job({}, {"do": "fail"}, output_dir=str(tmp_path / "out"))
    async with store.dispatcher():
        for run in (complete, failed):
            event = await said(store, run)
            assert event.data == {"files": 2}
            assert tree_of(tmp_path / "out" / run) == DELIVERED


async def test_one_that_is_killed_before_it_delivers_leaves_that_to_the_next(store: Store, tmp_path: Path) -> None:
    runs = store.job({}, {}, output_dir=str(tmp_path / "out"))
    first = store.spawn(gate_before_output=store.gate("gate"))
    await store.until(*runs)
    first.kill()
    first.wait()
    assert not (tmp_path / "out").exists()
    with read(store.engine) as conn:
        assert queue.demand(conn) == 2, "a server sees that a dispatcher is needed"
    store.spawn()
    for run in runs:
        assert (await said(store, run)).data == {"files": 2}
        assert tree_of(tmp_path / "out" / run) == DELIVERED
    with read(store.engine) as conn:
        assert queue.demand(conn) == 0
    # what was delivered once is not delivered again, over what a person made of it
    shutil.rmtree(tmp_path / "out")
    (another,) = store.job({}, output_dir=str(tmp_path / "out"))
    store.started[-1].kill()
    store.started[-1].wait()
    store.spawn()
    await said(store, another)
    assert tree_of(tmp_path / "out") == {f"{another}/{name}": content for name, content in DELIVERED.items()}


async def test_one_that_is_killed_while_it_delivers_leaves_no_halves(store: Store, tmp_path: Path) -> None:
    (run,) = store.job({}, output_dir=str(tmp_path / "out"))
    first = store.spawn(gate_before_output=store.gate("gate"))
    await store.until(run)
    first.kill()
    first.wait()
    (tmp_path / "out" / run).mkdir(parents=True)
    (tmp_path / "out" / run / ".plot.png.0123abcd.part").write_text("im")
    (tmp_path / "out" / run / "test.ipynb").write_text("{}")
    async with store.dispatcher():
        await said(store, run)
        assert tree_of(tmp_path / "out" / run) == DELIVERED


async def test_a_folder_that_cannot_be_written_is_said_once(store: Store, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file stands here")
    (run,) = store.job({}, output_dir=str(tmp_path / "out"))
    async with store.dispatcher():
        event = await said(store, run)
    assert event.data["code"] == "not_copied"
    assert str(tmp_path / "out" / run) in str(event.data["message"])
    assert f"jupyter jobs files {run}" in str(event.data["mend"])
    assert store.run(run).state == "complete"
    (tmp_path / "out").unlink()
    (another,) = store.job({}, output_dir=str(tmp_path / "out"))
    async with store.dispatcher():
        await said(store, another)
    assert not (tmp_path / "out" / run).exists(), "it is not tried for ever"
    assert await said_already(store, run) == event


async def said_already(store: Store, run: str) -> Event:
    (one,) = [event for event in store.events(run) if event.kind == "run.output"]
    return one


async def test_a_file_that_is_gone_keeps_back_no_other(store: Store, tmp_path: Path) -> None:
    (run,) = store.job({}, output_dir=str(tmp_path / "out"))
    first = store.spawn(gate_before_output=store.gate("gate"))
    await store.until(run)
    first.kill()
    first.wait()
    (store.directory_of(run) / "work" / "files" / "plot.png").unlink()
    async with store.dispatcher():
        assert (await said(store, run)).data == {"files": 1, "left_out": ["plot.png"]}
    assert tree_of(tmp_path / "out" / run) == {"test.ipynb": b"{}"}


async def test_a_job_is_deleted_after_its_files_were_delivered(store: Store, tmp_path: Path) -> None:
    (run,) = store.job({}, output_dir=str(tmp_path / "out"))
    job = run.split("-")[0]
    store.spawn(gate_before_output=store.gate("gate"))
    await store.until(run)
    with write(store.engine) as conn:
        assert jobs.to_delete(conn) == []
        jobs.request_delete(conn, job)
        assert jobs.to_delete(conn) == [], "its files are still to be copied"
    await open_gate(store.gate("gate"))
    await seen(store, lambda: store.events()[-1].kind == "job.deleted")
    assert tree_of(tmp_path / "out" / run) == DELIVERED
