"""Dispatchers as processes: one at a time, killed and followed by another, replaced by a newer one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from jupyter_jobs.backends import processes
from jupyter_jobs.backends.base import Handle
from jupyter_jobs.dispatcher import process
from jupyter_jobs.dispatcher.socket import Connection, Message, dispatcher_appeared, nudge, subscribe
from jupyter_jobs.errors import Conflict, Unavailable
from jupyter_jobs.sockets import DISPATCHER_SOCKET, LOCK, socket_directory
from jupyter_jobs.store import attempts, runs
from jupyter_jobs.store import dispatcher as lease_table
from jupyter_jobs.store.database import read, write
from jupyter_jobs.version import __version__
from tests.dispatcher.dispatcher_store import SECONDS, Store, gone, open_gate

ENSURE = """
import json, sys
from jupyter_jobs.dispatcher.process import ensure_dispatcher
from jupyter_jobs.settings import Jobs
print(ensure_dispatcher(Jobs(**json.loads(sys.argv[1]))).pid)
"""


async def test_many_who_start_one_at_once_get_the_same(store: Store) -> None:
    said = await asyncio.to_thread(_start_ten, store)
    assert len(set(said)) == 1
    pid = int(said[0])
    assert process.dispatcher_status(store.settings).pid == pid
    detached = processes.identify(pid)
    assert os.getsid(pid) not in (pid, os.getsid(0)), "it leads no session and is not in ours"
    assert process.stop_dispatcher(store.settings)
    await gone(detached)
    assert not process.dispatcher_status(store.settings).running
    with read(store.engine) as conn:
        assert lease_table.current(conn) is None
    assert "pid" in (store.directory / "dispatcher.log").read_text()


def _start_ten(store: Store) -> list[str]:
    values = json.dumps({"data_dir": store.settings.data_dir, "keep_dispatcher_seconds": 600})
    callers = [subprocess.Popen([sys.executable, "-c", ENSURE, values], stdout=subprocess.PIPE, text=True) for _ in range(10)]
    return [caller.communicate(timeout=SECONDS)[0].strip() for caller in callers]


async def test_a_second_one_is_refused(store: Store) -> None:
    first = store.spawn()
    with pytest.raises(Conflict) as refused:
        async with store.dispatcher():
            pass
    assert refused.value.code == "dispatcher_running"
    assert process.dispatcher_status(store.settings).pid == first.pid


async def test_a_second_one_behind_other_sockets_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = store.spawn()
    monkeypatch.setenv("XDG_RUNTIME_DIR", tempfile.mkdtemp(dir=os.environ["XDG_RUNTIME_DIR"]))
    with pytest.raises(Conflict) as refused:
        async with store.dispatcher():
            pass
    assert str(first.pid) in refused.value.message


async def test_a_killed_one_s_runs_are_adopted(store: Store) -> None:
    held, waiting, ended = store.job(
        {"do": "hold", "gate": store.gate("one"), "cells": 4}, {"do": "hold", "gate": store.gate("two")}, {"do": "complete"}
    )
    first = store.spawn()
    await store.until(held, waiting, state="running")
    runner = store.runner(held)
    first.kill()
    first.wait()
    # one ends while nobody looks
    await open_gate(store.gate("two"))
    await gone(store.runner(waiting))
    store.spawn()
    await store.until(waiting, ended)
    assert processes.alive(runner)
    await open_gate(store.gate("one"))
    await store.until(held)
    for run in (held, waiting, ended):
        assert store.states(run) == ["init", "running", "complete"]
        assert (store.directory_of(run) / "starts").read_text() == "x", "nothing is run twice"
    assert store.run(held).progress.done == 4


async def test_what_one_has_told_the_next_does_not_tell_again(store: Store) -> None:
    (run,) = store.job({"do": "hold", "gate": store.gate("one"), "early": 1, "cells": 2, "then": store.gate("two")})
    first = store.spawn()
    await _seen(store, lambda: bool(store.run(run).records))
    first.kill()
    first.wait()
    store.spawn()
    await open_gate(store.gate("one"))
    await _seen(store, lambda: store.run(run).progress.done == 2)
    await open_gate(store.gate("two"))
    await store.until(run)
    told = [event.data["names"] for event in store.events(run) if event.kind == "run.records"]
    assert told.count(["early"]) == 1, told
    assert store.states(run) == ["init", "running", "complete"]


async def _seen(store: Store, there: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        async for _ in subscribe(store.settings):
            if await asyncio.to_thread(there):
                return
    raise AssertionError("the dispatcher has gone")


async def test_a_machine_that_started_again_has_no_runs(store: Store) -> None:
    known, unknown, canceled = store.job({}, {}, {})
    me = processes.identify(os.getpid())
    with write(store.engine) as conn:
        for run in (known, unknown, canceled):
            assert runs.claim(conn, run, 1, host=me.host, boot_id="before")
        handle = Handle(backend="local", run=known, data={"host": me.host, "boot": "before", "pid": me.pid, "started": me.started})
        attempts.record_handle(conn, known, 1, pid=me.pid, pid_started=me.started, handle=msgspec.json.encode(handle).decode())
        assert runs.request_cancel(conn, canceled)
    # of this one only its own word is known, and our number has its place now
    store.directory_of(unknown).mkdir(parents=True)
    (store.directory_of(unknown) / "runner.json").write_text(json.dumps({"pid": me.pid, "started": me.started}))
    async with store.dispatcher():
        await store.until(known, unknown, canceled)
    for run in (known, unknown):
        error = store.run(run).error
        assert error is not None
        assert error.code == "interrupted"
    assert store.run(canceled).state == "canceled"


async def test_a_runner_that_died_while_nobody_looked_is_interrupted(store: Store) -> None:
    (run,) = store.job({"do": "orphan"})
    first = store.spawn()
    await store.until(run, state="running")
    runner = store.runner(run)
    first.kill()
    first.wait()
    os.kill(runner.pid, signal.SIGKILL)
    await gone(runner)
    store.spawn()
    await store.until(run)
    error = store.run(run).error
    assert error is not None
    assert error.code == "interrupted"
    await asyncio.gather(*(gone(left) for left in processes.of_run(run)))


async def test_a_claimed_run_that_never_started_is_queued_again(store: Store) -> None:
    (run,) = store.job({"do": "complete"})
    with write(store.engine) as conn:
        assert runs.claim(conn, run, 1, host=processes.here(), boot_id=processes.boot_id())
    async with store.dispatcher():
        await store.until(run)
    assert store.states(run) == ["init", "queued", "init", "running", "complete"]
    assert store.run(run).attempt == 2


async def test_a_run_that_started_before_its_handle_was_kept_is_adopted(store: Store) -> None:
    (run,) = store.job({"do": "hold", "gate": store.gate("one")})
    first = store.spawn()
    await store.until(run, state="running")
    runner = store.runner(run)
    first.kill()
    first.wait()
    from sqlalchemy import update

    from jupyter_jobs.store.tables import attempts

    with write(store.engine) as conn:
        conn.execute(update(attempts).values(pid=None, pid_started=None, handle=""))
    async with store.dispatcher():
        assert processes.alive(runner)
        await open_gate(store.gate("one"))
        await store.until(run)
    assert store.run(run).state == "complete"
    assert (store.directory_of(run) / "starts").read_text() == "x"


async def test_a_run_of_another_host_is_left_alone_until_its_files_say_more(store: Store) -> None:
    there, silent = store.job({}, {})
    with write(store.engine) as conn:
        for run in (there, silent):
            assert runs.claim(conn, run, 1, host="elsewhere", boot_id="other")
    store.directory_of(there).mkdir(parents=True)
    store.directory_of(silent).mkdir(parents=True)
    os.utime(store.directory_of(silent), (1_000_000_000, 1_000_000_000))
    async with store.dispatcher():
        await store.until(silent)
        assert store.run(there).state == "init"
        await store.cancel(there)
    error = store.run(silent).error
    assert error is not None
    assert error.code == "interrupted"


async def test_a_lease_of_a_living_dispatcher_on_another_host_is_respected(store: Store) -> None:
    from jupyter_jobs.store import events

    other = lease_table.Lease(
        host="elsewhere", boot_id="b", pid=1, pid_started=1, version=__version__, schema=1, since=events.now(), heartbeat_at=events.now()
    )
    with write(store.engine) as conn:
        assert lease_table.acquire(conn, other) is None
    with pytest.raises(Conflict, match="elsewhere"):
        async with store.dispatcher():
            pass


async def test_an_older_one_is_drained_and_its_runs_go_on(store: Store) -> None:
    (run,) = store.job({"do": "hold", "gate": store.gate("one")})
    older = store.spawn(version="0.0.1")
    await store.until(run, state="running")
    runner = store.runner(run)
    found = await asyncio.to_thread(process.ensure_dispatcher, store.settings)
    assert older.wait(timeout=SECONDS) == 0
    assert found.pid != older.pid
    assert found.version == __version__
    assert found.active == 1
    assert processes.alive(runner)
    await open_gate(store.gate("one"))
    await store.until(run)
    assert store.run(run).state == "complete"
    await asyncio.to_thread(process.stop_dispatcher, store.settings)


async def test_an_older_one_makes_way_before_the_store_is_migrated(store: Store) -> None:
    older = store.spawn(version="0.0.1")
    assert await asyncio.to_thread(process.make_way, store.settings)
    assert older.wait(timeout=SECONDS) == 0
    assert not await asyncio.to_thread(process.make_way, store.settings)
    same = store.spawn()
    assert not await asyncio.to_thread(process.make_way, store.settings)
    assert same.poll() is None


async def test_a_newer_one_is_used_as_long_as_it_understands_us(store: Store) -> None:
    newer = store.spawn(version="99.0")
    assert (await asyncio.to_thread(process.ensure_dispatcher, store.settings)).pid == newer.pid
    newer.terminate()
    assert newer.wait(timeout=SECONDS) == 0
    strange = store.spawn(version="99.0", oldest=7)
    with pytest.raises(Unavailable) as refused:
        await asyncio.to_thread(process.ensure_dispatcher, store.settings)
    assert refused.value.code == "dispatcher_newer"
    assert "Update" in refused.value.mend
    assert strange.poll() is None


async def test_sockets_that_were_removed_are_made_again(store: Store) -> None:
    first = store.spawn()
    directory = socket_directory(store.settings.data_dir)
    for path in directory.iterdir():
        if path.is_file() or path.is_socket():
            path.unlink()
    assert not nudge(store.settings)
    appeared = asyncio.create_task(dispatcher_appeared(store.settings))
    # one that starts finds the lease of the living one and tells it
    with pytest.raises(Conflict):
        async with store.dispatcher():
            pass
    async with asyncio.timeout(SECONDS):
        await appeared
    assert process.dispatcher_status(store.settings).pid == first.pid


async def test_it_ends_when_its_data_directory_is_removed(store: Store) -> None:
    served = store.spawn()
    shutil.rmtree(store.settings.data_dir)
    served.send_signal(signal.SIGHUP)  # as the clock would, half a minute later
    assert await asyncio.to_thread(served.wait, SECONDS) == 0
    assert not await asyncio.to_thread(Path(store.settings.data_dir).exists)


async def test_a_stale_socket_file_is_no_dispatcher(store: Store) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(socket_directory(store.settings.data_dir) / DISPATCHER_SOCKET))
    stale.close()
    assert not nudge(store.settings)
    assert not process.dispatcher_status(store.settings).running
    assert not process.stop_dispatcher(store.settings)
    assert [seq async for seq in subscribe(store.settings)] == []
    (run,) = store.job({})
    async with store.dispatcher():
        await store.until(run)


async def test_every_seq_is_announced_and_the_last_one_lands(store: Store) -> None:
    store.spawn()
    seen: list[int] = []

    async def listen() -> None:
        async for seq in subscribe(store.settings):
            seen.append(seq)
            # the store may be ahead of what was announced so far
            if all(store.run(run).state == "complete" for run in found) and seq >= store.events()[-1].seq:
                return

    found = store.job({"cells": 3}, {"cells": 3})
    await asyncio.to_thread(nudge, store.settings)
    async with asyncio.timeout(SECONDS):
        await listen()
    assert seen == sorted(set(seen))
    ends = {event.seq for event in store.events() if event.kind == "run.state"}
    missed = [seq for seq in ends if seq not in seen and not any(other >= seq for other in seen)]
    assert not missed
    assert seen[-1] == store.events()[-1].seq


async def test_subscribers_learn_of_a_dispatcher_and_of_its_end(store: Store) -> None:
    appeared = asyncio.create_task(dispatcher_appeared(store.settings))
    first = await asyncio.to_thread(store.spawn)
    async with asyncio.timeout(SECONDS):
        await appeared
        listening = subscribe(store.settings)
        assert await anext(listening) == 0
        first.kill()
        with pytest.raises(StopAsyncIteration):
            await anext(listening)


async def test_strangers_words_do_no_harm(store: Store) -> None:
    store.spawn()
    for words in (b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b"{" + b"x" * 200_000 + b"\n", b'{"nudge": 7}\n'):
        connection = Connection(store.settings.data_dir)
        connection._socket.sendall(words)
        while connection.receive() is not None:
            pass
        connection.close()
    assert process.dispatcher_status(store.settings).running


async def test_a_drain_starts_nothing_more_and_gives_up_lock_and_lease(store: Store) -> None:
    held, queued = store.job({"do": "hold", "gate": store.gate("one")}, {"do": "complete"})
    store.settings.max_parallel_runs = 1
    first = store.spawn()
    await store.until(held, state="running")
    connection = Connection(store.settings.data_dir)
    connection.send(Message(drain=True))
    while await asyncio.to_thread(connection.receive) is not None:
        pass
    connection.close()
    # at this moment already
    with read(store.engine) as conn:
        assert lease_table.current(conn) is None
    from jupyter_jobs.dispatcher.lease import lock_now

    descriptor = lock_now(socket_directory(store.settings.data_dir) / LOCK)
    assert descriptor is not None
    os.close(descriptor)
    assert first.wait(timeout=SECONDS) == 0
    assert store.run(queued).state == "queued"
    assert processes.alive(store.runner(held))


def test_a_dispatcher_that_cannot_start_says_why(store: Store) -> None:
    with write(store.engine) as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Unavailable) as refused:
        process.ensure_dispatcher(store.settings)
    assert refused.value.code == "dispatcher_not_started"
    assert "schema 9999" in refused.value.message
