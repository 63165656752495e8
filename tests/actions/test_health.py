"""Findings about an installation, each provoked."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from jupyter_jobs.actions import health
from jupyter_jobs.backends import processes
from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.model import Health
from jupyter_jobs.store import dispatcher, events
from jupyter_jobs.store.database import SCHEMA_VERSION, write
from jupyter_jobs.store.dispatcher import Lease
from jupyter_jobs.version import __version__
from tests.actions.conftest import World
from tests.factories import bring_to, make_job


def codes(found: Health) -> set[str]:
    return {finding.code for finding in found.findings}


def this_process(**changes: object) -> Lease:
    me, now = processes.identify(os.getpid()), events.now()
    lease = Lease(
        host=me.host,
        boot_id=me.boot,
        pid=me.pid,
        pid_started=me.started,
        version=__version__,
        schema=SCHEMA_VERSION,
        since=now,
        heartbeat_at=now,
    )
    return msgspec.structs.replace(lease, **changes)


def hold(world: World, lease: Lease) -> None:
    with write(world.context.engine) as conn:
        assert dispatcher.acquire(conn, lease) is None


def test_an_installation_that_works(world: World) -> None:
    found = health.health(world.context)
    assert (found.version, found.schema, found.data_dir) == (__version__, SCHEMA_VERSION, str(world.data_dir))
    assert found.workspace == "copy"
    assert not found.dispatcher.running
    assert found.dispatcher.parallel >= 1
    # the fixture asks for copies
    assert codes(found) - {"environment_elsewhere", "disk_full"} == {"workspace_copy"}
    assert all(finding.message for finding in found.findings)
    msgspec.json.encode(found)


def test_a_broken_kernelspec_is_named(world: World) -> None:
    broken = world.data_dir.parent / "kernels" / "gone"
    broken.mkdir()
    (broken / "kernel.json").write_text('{"argv": ["/nowhere/python"], "display_name": "Gone", "language": "python"}')
    found = health.health(world.context)
    assert "kernel_executable_missing" in codes(found)
    assert any("gone" in finding.message for finding in found.findings)


def test_a_living_dispatcher(world: World) -> None:
    hold(world, this_process())
    with write(world.context.engine) as conn:
        job = make_job(conn, runs_count=3)
        bring_to(conn, f"{job}-1", RunState.RUNNING)
    status, _ = health.dispatcher_status(world.context)
    assert (status.running, status.pid, status.active, status.queued) == (True, os.getpid(), 1, 2)
    assert codes(health.health(world.context)) & {"nobody_follows", "dispatcher_of_other_version"} == set()


def test_a_dispatcher_of_another_version(world: World) -> None:
    hold(world, this_process(version="0.0.1"))
    assert "dispatcher_of_other_version" in codes(health.health(world.context))


@pytest.mark.parametrize("changes", [{"pid_started": 1}, {"boot_id": "another"}])
def test_a_dead_dispatcher_leaves_runs_behind(world: World, changes: dict[str, object]) -> None:
    hold(world, this_process(**changes))
    with write(world.context.engine) as conn:
        bring_to(conn, f"{make_job(conn)}-1", RunState.RUNNING)
    found = health.health(world.context)
    assert not found.dispatcher.running
    assert "nobody_follows" in codes(found)


def test_a_store_on_a_network_file_system(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "file_system_of", lambda path: "nfs4")
    assert "store_on_network" in codes(health.health(world.context))


def test_no_hard_links_and_no_space(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    monkeypatch.setattr(health, "LOW_DISK_BYTES", 1 << 60)
    assert {"no_hard_links", "disk_full"} <= codes(health.health(world.context))
    assert list(world.data_dir.glob(".probe-*")) == []
