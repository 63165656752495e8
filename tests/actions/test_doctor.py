"""`jupyter jobs doctor`: each trouble made for real, found, mended, and gone."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from jupyter_jobs.actions import leftovers, prune
from jupyter_jobs.actions.places import run_dir
from jupyter_jobs.backends import processes
from jupyter_jobs.cli import main
from jupyter_jobs.dispatcher import process
from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.runner import rundir
from jupyter_jobs.settings import Jobs
from jupyter_jobs.sockets import socket_directory
from jupyter_jobs.store import database, dispatcher, jobs, runs
from jupyter_jobs.store.database import read, write
from tests.actions.conftest import World
from tests.actions.test_health import hold, this_process
from tests.factories import bring_to, make_job
from tests.store.test_trouble import HOLD, damage, filled, pages_of


def found(world: World) -> dict[str, leftovers.Trouble]:
    return {trouble.finding.code: trouble for trouble in leftovers.troubles(world.context.engine, world.data_dir)}


def test_a_sound_installation_has_no_trouble(world: World) -> None:
    with write(world.context.engine) as conn:
        make_job(conn)
    assert found(world) == {}


def test_what_others_can_read_is_closed(world: World) -> None:
    (world.data_dir / "jobs.sqlite").chmod(0o644)
    trouble = found(world)["open_to_others"]
    assert "jobs.sqlite" in trouble.finding.message
    trouble.repair()
    assert stat.S_IMODE((world.data_dir / "jobs.sqlite").stat().st_mode) == 0o600
    assert found(world) == {}


def test_the_lease_of_a_dead_dispatcher_is_taken_back_and_a_living_one_stays(world: World) -> None:
    hold(world, this_process())
    assert found(world) == {}
    hold(world, this_process(pid_started=1))
    found(world)["stale_lease"].repair()
    with read(world.context.engine) as conn:
        assert dispatcher.current(conn) is None


def test_only_what_no_job_names_is_removed(world: World) -> None:
    with write(world.context.engine) as conn:
        kept = make_job(conn)
    places = [f"jobs/{kept}", f"runs/{kept}/1/1", "snapshots/" + "a" * 64, "jobs/00000000", "runs/00000000/1/1", "snapshots/" + "b" * 64]
    for place in places:
        (world.data_dir / place).mkdir(parents=True)
        (world.data_dir / place / "file").write_bytes(b"x" * 10_000)
    trouble = found(world)["orphaned_files"]
    assert "1 in jobs/, 1 in runs/, 1 in snapshots/: 0.0 MB" in trouble.finding.message.replace("0.1", "0.0")
    assert all((world.data_dir / place).exists() for place in places)
    assert trouble.repair() == "3 of 3 were removed"
    assert [(world.data_dir / place).exists() for place in places] == [True, True, True, False, False, False]
    assert found(world) == {}


def test_nothing_counts_as_removed_while_a_job_is_being_made(world: World) -> None:
    left = world.data_dir / "runs/00000000"
    left.mkdir(parents=True)
    trouble = found(world)["orphaned_files"]
    with prune.freezing(world.data_dir):
        assert "nothing was removed" in trouble.repair()
    assert left.exists()
    assert trouble.repair() == "1 of 1 were removed"


def sleeper(data_dir: Path, run: str) -> subprocess.Popen[bytes]:
    variables = {**os.environ, processes.MARK: run, "JUPYTER_JOBS_DATA": str(data_dir)}
    child = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables)
    assert child.stdout is not None
    # it has its environment once it speaks
    child.stdout.readline()
    return child


def test_processes_of_ended_runs_are_ended_and_no_others(world: World, tmp_path: Path) -> None:
    with write(world.context.engine) as conn:
        job = make_job(conn, runs_count=3)
        bring_to(conn, f"{job}-1", RunState.FAILED)
        bring_to(conn, f"{job}-2", RunState.RUNNING)
    children = [sleeper(world.data_dir, f"{job}-1"), sleeper(world.data_dir, f"{job}-2"), sleeper(tmp_path / "another", f"{job}-1x")]
    try:
        trouble = found(world)["leftover_processes"]
        assert f"{job}-1 (pid {children[0].pid})" in trouble.finding.message
        assert f"{job}-2" not in trouble.finding.message
        assert trouble.repair() == "1 processes were ended"
        assert children[0].wait(60) == -9
        assert [child.poll() for child in children[1:]] == [None, None]
        assert "leftover_processes" not in found(world)
    finally:
        for child in children:
            child.kill()
            child.communicate()


def test_sockets_of_kernels_that_have_ended_are_removed(world: World) -> None:
    place = socket_directory(world.data_dir) / "k" / "kabcdefgh"
    place.mkdir(parents=True)
    (place / "kernel.json").write_text("{}")
    living = subprocess.Popen(
        [sys.executable, "-c", "input()", str(socket_directory(world.data_dir) / "k" / "klives" / "kernel.json")], stdin=subprocess.PIPE
    )
    (place.parent / "klives").mkdir()
    try:
        found(world)["leftover_sockets"].repair()
        assert [entry.name for entry in place.parent.iterdir()] == ["klives"]
    finally:
        living.kill()
        living.communicate()


def write_result(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "runner.log").touch()
    done = rundir.RunResult(state="complete", started_at=1, ended_at=2, cells=rundir.CellCount(done=1, total=1), records={"auc": 0.5})
    rundir.write_result(directory, done)


def test_results_that_the_store_never_took_in_are_taken_in(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with write(world.context.engine) as conn:
        job = make_job(conn, runs_count=1)
    # as after an older store was put back
    write_result(run_dir(world.data_dir, f"{job}-1", 1))
    settings = Jobs(data_dir=str(world.data_dir), keep_dispatcher_seconds=1)
    monkeypatch.setattr("jupyter_jobs.cli.doctor.load_settings", lambda: settings)
    assert "result_not_taken_in" in found(world)
    assert main(["doctor", "--repair", "--json"]) in (0, 1)
    said = json.loads(capsys.readouterr().out)
    assert [repair["code"] for repair in said["repairs"]] == ["result_not_taken_in", "nobody_follows"]
    # returns once it has let go of everything, what it adopted at its start included
    process.stop_dispatcher(settings)
    with read(world.context.engine) as conn:
        run = runs.get(conn, f"{job}-1")
    assert run is not None
    assert (run.state, run.records, run.attempt) == ("complete", {"auc": 0.5}, 1)


def test_a_damaged_store_is_mended_and_the_files_of_lost_jobs_are_kept(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.context.engine.dispose()
    for file in world.data_dir.glob("jobs.sqlite*"):
        file.unlink()
    made = filled(world.data_dir)
    (world.data_dir / "jobs" / "00000000").mkdir(parents=True)
    (world.data_dir / "jobs" / "00000000" / "notebook.ipynb").write_text("the only copy")
    file = world.data_dir / "jobs.sqlite"
    damage(file, pages_of(file, "runs")[1])
    monkeypatch.setattr("jupyter_jobs.cli.doctor.load_settings", lambda: Jobs(data_dir=str(world.data_dir)))
    assert main(["doctor"]) == 1
    assert "doctor --repair" in capsys.readouterr().err
    assert main(["doctor", "--repair"]) in (0, 1)
    said = capsys.readouterr().out
    assert "40 jobs" in said
    assert "jobs.sqlite.damaged." in said
    with read(world.context.engine) as conn:
        assert jobs.ids(conn) == set(made)
    (aside,) = world.data_dir.glob("kept-aside/*/jobs/00000000/notebook.ipynb")
    assert aside.read_text() == "the only copy"


def test_damage_that_only_the_full_check_sees_is_found(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import sqlite3

    with write(world.context.engine) as conn:
        make_job(conn)
    connection = sqlite3.connect(world.data_dir / "jobs.sqlite")
    connection.execute("INSERT INTO artifacts (run, path, bytes, kind, media_type) VALUES ('nobody-1', 'f', 1, 'created', '')")
    connection.commit()
    connection.close()
    monkeypatch.setattr("jupyter_jobs.cli.doctor.load_settings", lambda: Jobs(data_dir=str(world.data_dir)))
    assert main(["doctor", "--json"]) == 1
    assert "store_corrupt" in {finding["code"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    main(["doctor", "--repair", "--json"])
    assert [repair["code"] for repair in json.loads(capsys.readouterr().out)["repairs"]] == ["store_corrupt"]
    main(["doctor", "--json"])
    assert "store_corrupt" not in {finding["code"] for finding in json.loads(capsys.readouterr().out)["findings"]}


def test_whoever_locks_the_store_is_named(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("jupyter_jobs.cli.doctor.load_settings", lambda: Jobs(data_dir=str(world.data_dir)))
    monkeypatch.setattr("jupyter_jobs.cli.doctor.HELD_SECONDS", 0.1)
    command = [sys.executable, "-c", HOLD, str(world.data_dir / "jobs.sqlite")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        main(["doctor", "--json"])
        other.communicate()
    findings = {finding["code"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert f"{other.pid} (python" in findings["store_busy"]["message"]


def test_what_a_busy_store_keeps_from_being_mended_is_said(world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jupyter_jobs.cli.doctor.load_settings", lambda: Jobs(data_dir=str(world.data_dir)))
    monkeypatch.setattr("jupyter_jobs.cli.doctor.HELD_SECONDS", 0.1)
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    hold(world, this_process(pid_started=1))
    command = [sys.executable, "-c", HOLD, str(world.data_dir / "jobs.sqlite")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        main(["doctor", "--repair", "--json"])
        other.communicate()
    repairs = {repair["code"]: repair["after"] for repair in json.loads(capsys.readouterr().out)["repairs"]}
    assert repairs["stale_lease"].startswith("not mended: Another process has been writing to the store")


def test_a_server_elsewhere_is_not_repaired(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--repair", "--url", "http://127.0.0.1:1"]) == 2
    assert "where the store lies" in capsys.readouterr().err


def test_repairs_are_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(leftovers.Repair(code="a", before="b", after="c"))) == {"code": "a", "before": "b", "after": "c"}
