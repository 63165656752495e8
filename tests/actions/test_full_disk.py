"""A disk without a free byte: what is wrong is said, and deleting makes room. Real file systems, really full."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from jupyter_jobs.cli import main
from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.store import jobs
from jupyter_jobs.store.database import open_store, read, write
from tests.actions.conftest import World
from tests.factories import bring_to, make_job, new_job
from tests.store.test_trouble import fill

RUN_BYTES = 1 << 20


@pytest.fixture
def disk(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 24 MB with the store of this test's command line: two ended jobs whose runs left files. Nobody has it open."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "jobs-test", str(place)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"file systems cannot be mounted here: {made.stderr.strip()}")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(place))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter" / "data"))
    engine = open_store(place / "jobs")
    for name in ("old", "older"):
        with write(engine) as conn:
            job = make_job(conn, new_job(name), runs_count=20)
            for number in range(1, 21):
                bring_to(conn, f"{job}-{number}", RunState.COMPLETE)
        folder = place / "jobs" / "runs" / job / "1" / "1"
        folder.mkdir(parents=True)
        (folder / "output.ipynb").write_bytes(b"x" * RUN_BYTES)
    engine.dispose()
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def ids_of(engine: Engine) -> list[str]:
    with read(engine) as conn:
        return sorted(jobs.ids(conn))


def fill_wholly(place: Path) -> None:
    fill(place)
    assert shutil.disk_usage(place).free == 0


@pytest.mark.parametrize("reserve", ["kept", "spent"])
def test_deleting_makes_room(disk: Path, reserve: str) -> None:
    # somebody has the store open, so that what SQLite keeps beside it is there
    other = open_store(disk / "jobs")
    gone, kept = ids_of(other)
    if reserve == "spent":
        (disk / "jobs" / "jobs.sqlite.reserve").unlink()
    fill_wholly(disk)
    assert main(["delete", gone]) == 0
    assert ids_of(other) == [kept]
    assert not (disk / "jobs" / "runs" / gone).exists()
    assert (disk / "jobs" / "runs" / kept).exists()
    assert shutil.disk_usage(disk).free >= RUN_BYTES // 2
    # where there is room again it is kept again
    (disk / "ballast").unlink()
    open_store(disk / "jobs").dispose()
    assert (disk / "jobs" / "jobs.sqlite.reserve").stat().st_blocks * 512 >= 2 << 20
    other.dispose()


def test_a_store_that_nobody_has_open_is_read_and_deleted_from_again_and_again(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill_wholly(disk)
    for _ in range(2):
        assert main(["list", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        fill(disk)
    gone = found["jobs"][0]["id"]
    assert main(["delete", gone]) == 0
    assert not (disk / "jobs" / "runs" / gone).exists()


@pytest.mark.parametrize("repair", [[], ["--repair"]])
@pytest.mark.parametrize("store", ["open", "closed", "unreadable"])
def test_doctor_says_it_and_the_rest(disk: Path, store: str, repair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    other = open_store(disk / "jobs") if store == "open" else None
    if other is not None:
        ids_of(other)
    if store == "unreadable":
        (disk / "jobs" / "jobs.sqlite.reserve").unlink()
    (disk / "jobs" / "jobs.sqlite").chmod(0o644)
    fill_wholly(disk)
    assert main(["doctor", "--json", *repair]) == (0 if store == "closed" else 1)
    said = json.loads(capsys.readouterr().out)
    found = {finding["code"]: finding for finding in said.get("health", said)["findings"]}
    if store == "closed":
        assert "disk_full" in found
    else:
        assert "is full" in found["no_room"]["message"]
        assert "delete" in found["no_room"]["mend"]
    assert "environment_elsewhere" in found
    if store != "unreadable":
        assert ("open_to_others" in found) == (not repair)
    if other is not None:
        other.dispose()
