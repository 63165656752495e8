"""The lock on this host, and what a dispatcher makes of files that it finds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from jupyter_jobs.backends import processes
from jupyter_jobs.backends.base import Handle
from jupyter_jobs.dispatcher.lease import lock_now, still_there
from jupyter_jobs.store import attempts, runs
from jupyter_jobs.store.database import write
from tests.dispatcher.dispatcher_store import Store


def test_one_holds_the_lock(tmp_path: Path) -> None:
    first = lock_now(tmp_path / "lock")
    assert first is not None
    assert lock_now(tmp_path / "lock") is None
    os.close(first)
    again = lock_now(tmp_path / "lock")
    assert again is not None
    os.close(again)


def test_a_process_that_is_started_does_not_take_the_lock_along(tmp_path: Path) -> None:
    held = lock_now(tmp_path / "lock")
    assert held is not None
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        os.close(held)
        again = lock_now(tmp_path / "lock")
        assert again is not None
        os.close(again)
        child.communicate(b"\n")


def test_a_lock_whose_file_was_removed_is_noticed(tmp_path: Path) -> None:
    held = lock_now(tmp_path / "lock")
    assert held is not None
    assert still_there(held, tmp_path / "lock")
    (tmp_path / "lock").unlink()
    assert not still_there(held, tmp_path / "lock")
    other = lock_now(tmp_path / "lock")
    assert other is not None
    assert not still_there(held, tmp_path / "lock")
    os.close(other)
    os.close(held)


async def test_what_a_run_said_before_it_ended_unseen_comes_first(store: Store) -> None:
    (run,) = store.job({})
    _leave(store, run)
    async with store.dispatcher():
        await store.until(run)
    assert store.states(run) == ["init", "running", "complete"]
    assert store.run(run).records == {"answer": 42}


def _leave(store: Store, run: str) -> None:
    """An attempt that a dispatcher started, which ran to its end after that dispatcher was killed."""
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    process = processes.identify(child.pid)
    child.communicate(b"\n")
    data: dict[str, str | int] = {"host": process.host, "boot": process.boot, "pid": process.pid, "started": process.started}
    handle = msgspec.json.encode(Handle(backend="local", run=run, data=data)).decode()
    with write(store.engine) as conn:
        assert runs.claim(conn, run, 1, host=process.host, boot_id=process.boot)
        attempts.record_handle(conn, run, 1, handle=handle, pid=process.pid, pid_started=process.started)
    directory = store.directory_of(run)
    directory.mkdir(parents=True)
    (directory / "events.jsonl").write_text(json.dumps({"at": 1.0, "kind": "state", "state": "running"}) + "\n")
    result = {"state": "complete", "started_at": 1.0, "ended_at": 2.0, "records": {"answer": 42}, "cells": {"done": 1, "total": 1}}
    (directory / "result.json").write_text(json.dumps(result))
