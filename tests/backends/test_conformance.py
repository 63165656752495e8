"""What every backend must do, with real processes. A new backend is added to `BACKENDS`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from jupyter_jobs.backends import local, processes
from jupyter_jobs.backends.base import Backend, Exit, Handle, Submission
from jupyter_jobs.backends.forks import Forks
from jupyter_jobs.backends.local import LocalBackend, runner_environment
from jupyter_jobs.backends.registry import backend_names, make_backend
from jupyter_jobs.errors import NotFound, Unavailable
from jupyter_jobs.runner import rundir
from jupyter_jobs.settings import Jobs

T = TypeVar("T")
STAND_IN = Path(__file__).parents[1] / "dispatcher" / "stand_in.py"
SPAWN = [sys.executable, "-S", str(STAND_IN)]
BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "local, spawning": lambda place: LocalBackend(SPAWN),
    "local, forking": lambda place: LocalBackend(["/nowhere/python"], Forks(place, 1 << 30, runner_environment(os.environ), [str(STAND_IN)])),
}
SECONDS = 60.0


@pytest.fixture(params=BACKENDS)
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[], Backend]]:
    made: list[Backend] = []
    with tempfile.TemporaryDirectory(prefix="jj-") as place:

        def make() -> Backend:
            made.append(BACKENDS[request.param](Path(place)))
            return made[-1]

        yield make
        for backend in made:
            backend.close()


def submission(tmp_path: Path, **does: object) -> Submission:
    directory = tmp_path / "run"
    directory.mkdir()
    run = f"{os.getpid():08x}-{abs(hash(str(tmp_path))) % 1000}"
    spec = {"run": run, "job": run[:8], "attempt": 1, "parameters": does, "hints": str(tmp_path / "none")}
    (directory / "run.json").write_text(json.dumps(spec))
    return Submission(run=run, attempt=1, directory=directory)


def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


async def soon(what: Awaitable[T]) -> T:
    async with asyncio.timeout(SECONDS):
        return await what


async def at_gate(path: Path) -> None:
    await soon(asyncio.to_thread(lambda: path.open("wb").close()))


async def test_a_run_is_under_way_until_it_has_ended(make: Callable[[], Backend], tmp_path: Path) -> None:
    backend = make()
    path = gate(tmp_path)
    handle = await backend.submit(submission(tmp_path, do="hold", gate=str(path)))
    assert handle.backend == backend.name
    assert await backend.poll([handle, handle]) == [None, None]
    waiting = asyncio.ensure_future(backend.wait(handle))
    await at_gate(path)
    assert await soon(waiting) == Exit(code=0)
    assert None not in await backend.poll([handle])
    assert (tmp_path / "run" / "result.json").exists()


async def test_the_exit_code_and_the_words_of_one_that_dies(make: Callable[[], Backend], tmp_path: Path) -> None:
    backend = make()
    given = submission(tmp_path, do="die")
    handle = await backend.submit(given)
    assert await soon(backend.wait(handle)) == Exit(code=7)
    assert backend.logs(given.directory).read_text() == "the stand-in dies\n"


async def test_another_dispatcher_finds_it_by_its_handle(make: Callable[[], Backend], tmp_path: Path) -> None:
    path = gate(tmp_path)
    first = make()
    handle = await first.submit(submission(tmp_path, do="hold", gate=str(path)))
    kept = msgspec.json.decode(msgspec.json.encode(handle), type=Handle)
    assert kept == handle
    later = make()
    assert await later.poll([kept]) == [None]
    waiting = asyncio.ensure_future(later.wait(kept))
    await at_gate(path)
    assert await soon(waiting) == Exit(), "only its parent learns the exit code"
    assert await soon(first.wait(handle)) == Exit(code=0)


async def test_one_whose_handle_was_lost_is_found(make: Callable[[], Backend], tmp_path: Path) -> None:
    path = gate(tmp_path)
    backend = make()
    given = submission(tmp_path, do="hold", gate=str(path))
    handle = await backend.submit(given)
    await soon(_begun(given.directory))
    assert await make().find(given) == handle
    await at_gate(path)
    await soon(backend.wait(handle))
    found = await make().find(given)
    assert found is not None, "it was started"
    assert None not in await make().poll([found])
    assert await soon(make().wait(found)) == Exit()


async def test_one_that_was_not_found_never_starts(make: Callable[[], Backend], tmp_path: Path) -> None:
    given = submission(tmp_path)
    assert await make().find(given) is None
    backend = make()
    handle = await backend.submit(given)
    assert await soon(backend.wait(handle)) == Exit(code=1)
    assert not (given.directory / "starts").exists()
    assert await make().find(given) is None


async def test_one_that_ends_before_anybody_looks_has_its_exit_code(make: Callable[[], Backend], tmp_path: Path) -> None:
    backend = make()
    given = submission(tmp_path, do="die")
    asked = asyncio.ensure_future(backend.submit(given))
    # let the request go out, and then no word come in until the runner has come and gone
    await asyncio.sleep(0)
    _watch_until(given.directory, lambda: _gone(given.directory))
    assert await soon(backend.wait(await soon(asked))) == Exit(code=7)


async def test_one_that_finds_another_at_work_leaves_it_the_run(tmp_path: Path) -> None:
    path = gate(tmp_path)
    given = submission(tmp_path, do="hold", gate=str(path))
    first, second = LocalBackend(SPAWN), LocalBackend(SPAWN)
    early = await first.submit(given)
    await soon(_begun(given.directory))
    # as after a fork of which nobody was told
    late = await second.submit(given)
    waiting = asyncio.ensure_future(second.wait(late))
    loser = local.process_of(late)
    assert loser is not None
    await soon(processes.ended(loser))
    assert await second.poll([late]) == [None]
    await at_gate(path)
    await soon(waiting)
    assert json.loads((given.directory / "result.json").read_bytes())["state"] == "complete"
    assert await soon(first.wait(early)) == Exit(code=0)


async def test_cancel_asks_and_lets_it_write_its_result(make: Callable[[], Backend], tmp_path: Path) -> None:
    backend = make()
    given = submission(tmp_path, do="hold", gate=str(gate(tmp_path)))
    handle = await backend.submit(given)
    await soon(_begun(given.directory))
    await backend.cancel(handle)
    await soon(backend.wait(handle))
    assert json.loads((given.directory / "result.json").read_bytes())["state"] == "canceled"


async def test_force_ends_every_process_of_a_stubborn_one(make: Callable[[], Backend], tmp_path: Path) -> None:
    backend = make()
    given = submission(tmp_path, do="stubborn")
    handle = await backend.submit(given)
    await soon(_begun(given.directory, lines=2))
    child = processes.identify(int((given.directory / "child").read_text()))
    await backend.cancel(handle)
    assert await backend.poll([handle]) == [None]
    await backend.cancel(handle, force=True)
    assert await soon(backend.wait(handle)) == Exit(signal=9)
    assert not processes.alive(child)
    await backend.cancel(handle)  # one that has ended is none's harm
    await backend.cancel(handle, force=True)


async def test_a_runner_is_told_of_new_limits(make: Callable[[], Backend], tmp_path: Path) -> None:
    backend = make()
    path = gate(tmp_path)
    given = submission(tmp_path, do="hold", gate=str(path))
    handle = await backend.submit(given)
    await soon(_begun(given.directory))
    rundir.write_limits(given.directory, rundir.Limits(time_limit=90))
    if backend.capabilities.notifies:
        await backend.notify(handle)
        await soon(_until(lambda: (given.directory / "told").exists(), given.directory))
        assert (given.directory / "told").read_text() == "90\n"
    assert await backend.poll([handle]) == [None], "it goes on"
    await at_gate(path)
    await soon(backend.wait(handle))
    await backend.notify(handle)  # one that has ended is none's harm


async def test_memory_of_one_under_way_and_of_one_that_ended(make: Callable[[], Backend], tmp_path: Path) -> None:
    backend = make()
    path = gate(tmp_path)
    handle = await backend.submit(submission(tmp_path, do="hold", gate=str(path)))
    assert await backend.memory(handle) > 1_000_000
    await at_gate(path)
    await soon(backend.wait(handle))
    assert await backend.memory(handle) == 0


async def test_two_in_one_backend_are_kept_apart(make: Callable[[], Backend], tmp_path: Path) -> None:
    backend = make()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    path = gate(tmp_path)
    held = await backend.submit(submission(tmp_path / "a", do="hold", gate=str(path)))
    ended = await backend.submit(submission(tmp_path / "b", do="die"))
    assert await soon(backend.wait(ended)) == Exit(code=7)
    assert (await backend.poll([held, ended]))[0] is None
    await backend.cancel(ended, force=True)
    assert await backend.poll([held]) == [None]
    await at_gate(path)
    assert await soon(backend.wait(held)) == Exit(code=0)


async def test_local_cannot_start_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as refused:
        await LocalBackend(["/nowhere/python"]).submit(submission(tmp_path))
    assert refused.value.code == "runner_not_started"


async def test_local_leaves_processes_of_another_host_boot_or_time_alone(tmp_path: Path) -> None:
    backend = LocalBackend()
    me = processes.identify(os.getpid())
    elsewhere = Handle(backend="local", run="x-1", data={"host": "elsewhere", "boot": me.boot, "pid": me.pid, "started": me.started})
    assert await backend.poll([elsewhere]) == [None]
    for changed in ({"boot": "before"}, {"started": me.started - 1}):
        reused = Handle(backend="local", run="x-1", data={"host": me.host, "boot": me.boot, "pid": me.pid, "started": me.started, **changed})
        assert await backend.poll([reused]) == [Exit()]
        await backend.cancel(reused)
        await backend.cancel(reused, force=True)
        assert await soon(backend.wait(reused)) == Exit()


async def test_local_takes_nobody_for_what_was_there_before_the_machine_started_again(tmp_path: Path) -> None:
    me = processes.identify(os.getpid())
    bystander = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
    try:
        facts = {"keeper": {"pid": bystander.pid, "started": processes.identify(bystander.pid).started}}
        (tmp_path / "kernel.json").write_text(json.dumps(facts))
        data = {"host": me.host, "boot": "before", "pid": me.pid, "started": me.started, "directory": str(tmp_path)}
        handle = Handle(backend="local", run="x-1", data=data)
        assert await soon(LocalBackend().wait(handle)) == Exit()
        await LocalBackend().cancel(handle, force=True)
        (tmp_path / "run.json").write_text("{}")
        (tmp_path / "runner.json").write_text(json.dumps(facts["keeper"]))
        found = await LocalBackend().find(Submission(run="x-1", attempt=1, directory=tmp_path, boot="before"))
        assert found is not None
        assert await LocalBackend().poll([found]) == [Exit()]
        assert processes.alive(processes.identify(bystander.pid))
    finally:
        bystander.kill()
        await bystander.wait()


def test_the_runner_gets_paths_and_no_secrets() -> None:
    given = {"PATH": "/bin", "LC_ALL": "C", "JUPYTER_DATA_DIR": "/d", "JPY_API_TOKEN": "s", "JUPYTERHUB_API_TOKEN": "s", "AWS_SECRET_ACCESS_KEY": "s"}
    assert runner_environment(given) == {"PATH": "/bin", "LC_ALL": "C", "JUPYTER_DATA_DIR": "/d"}


def test_an_unknown_backend_names_those_there_are() -> None:
    assert "local" in backend_names()
    with pytest.raises(NotFound) as refused:
        make_backend("moon", Jobs())
    assert "local" in refused.value.mend


def _gone(directory: Path) -> bool:
    """Whether a runner has claimed this directory and ended."""
    claimed = directory / "runner.json"
    if not claimed.exists():
        return False
    return not processes.alive(processes.Process(host=processes.here(), boot=processes.boot_id(), **json.loads(claimed.read_bytes())))


def _watch_until(directory: Path, there: Callable[[], bool]) -> None:
    """Block until that is so: the loop has no turn meanwhile."""
    from watchfiles import watch

    for _ in watch(directory, watch_filter=None, rust_timeout=50, yield_on_timeout=True):
        if there():
            return


async def _begun(directory: Path, lines: int = 1) -> None:
    """Wait until the stand-in has written so many events; its files are watched, not polled by us."""

    def there() -> bool:
        file = directory / "events.jsonl"
        return file.exists() and file.read_bytes().count(b"\n") >= lines

    await _until(there, directory)


async def _until(there: Callable[[], bool], directory: Path) -> None:
    from watchfiles import awatch

    async for _ in awatch(directory, watch_filter=None, rust_timeout=50, yield_on_timeout=True):
        if there():
            return
