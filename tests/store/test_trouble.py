"""A store in trouble: damaged, locked, not writable, on a full disk, about to be migrated. Real files, real locks, real users."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from jupyter_jobs.errors import Unavailable
from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.store import database, events, integrity, jobs, runs
from jupyter_jobs.store import salvage as salvage_module
from jupyter_jobs.store.database import SCHEMA_VERSION, open_store, read, write
from jupyter_jobs.store.refusal import refusal
from jupyter_jobs.store.salvage import salvage
from tests.factories import bring_to, make_job, new_job

PAGE = 4096


def filled(folder: Path, count: int = 40) -> list[str]:
    """A store with so many jobs, all in its main file; their ids."""
    engine = open_store(folder)
    with write(engine) as conn:
        made = [make_job(conn, new_job(f"job {number}"), runs_count=20) for number in range(count)]
        for job in made[:5]:
            bring_to(conn, f"{job}-1", RunState.COMPLETE)
    engine.dispose()
    with closing(sqlite3.connect(folder / "jobs.sqlite")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return made


def pages_of(file: Path, table: str) -> list[int]:
    """Numbers of the pages that hold rows of a table, found by looking for what only they hold; never its root."""
    with closing(sqlite3.connect(file)) as connection:
        roots = {row[0] for row in connection.execute("SELECT rootpage FROM sqlite_master")}
    data = file.read_bytes()
    # a leaf of a table begins with 0x0D
    mark = {"runs": b'{"seed":', "events": b"job.created"}[table]
    found = [number for number in range(1, len(data) // PAGE) if data[number * PAGE] == 0x0D and mark in data[number * PAGE : (number + 1) * PAGE]]
    return [number for number in found if number + 1 not in roots]


def damage(file: Path, page: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(page * PAGE)
        opened.write(bytes(byte ^ 0xFF for byte in range(256)) * (PAGE // 256))


def test_a_damaged_store_is_named_and_not_touched(tmp_path: Path) -> None:
    filled(tmp_path)
    file = tmp_path / "jobs.sqlite"
    damage(file, pages_of(file, "runs")[2])
    before = file.read_bytes()
    with pytest.raises(Unavailable) as caught:
        open_store(tmp_path)
    assert caught.value.code == "store_corrupt"
    assert "doctor --repair" in caught.value.mend
    assert file.read_bytes() == before


def test_what_is_readable_is_saved_and_the_damaged_file_kept(tmp_path: Path) -> None:
    made = filled(tmp_path)
    file = tmp_path / "jobs.sqlite"
    damage(file, pages_of(file, "runs")[2])
    before = file.read_bytes()
    saved = salvage(file, SCHEMA_VERSION)
    assert Path(saved.kept).read_bytes() == before
    engine = open_store(tmp_path)
    with read(engine) as conn:
        assert jobs.ids(conn) == set(made)
        left = sum(len(runs.ids_of(conn, job)) for job in made)
        assert events.last_seq(conn) > 0
    assert saved.rows["runs"] == left
    assert 700 < left < 800
    assert saved.lost["runs"] >= 800 - left
    with write(engine) as conn:
        make_job(conn)
    engine.dispose()
    assert integrity.problems_of(file, quick=False) == []


def test_rows_that_are_given_up_count_as_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salvage_module, "MOST_UNREADABLE", 3)
    filled(tmp_path)
    file = tmp_path / "jobs.sqlite"
    damage(file, pages_of(file, "runs")[2])
    saved = salvage(file, SCHEMA_VERSION)
    assert 0 < saved.rows["runs"] < 400
    assert saved.rows["runs"] + saved.lost["runs"] == 800


HALF_DONE = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = DELETE")
connection.execute("PRAGMA cache_size = 5")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE runs SET label = 'half done'")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_half_done_is_undone_before_it_is_read(tmp_path: Path) -> None:
    filled(tmp_path)
    file = tmp_path / "jobs.sqlite"
    page = pages_of(file, "runs")[0]
    subprocess.run([sys.executable, "-c", HALF_DONE, str(file)], check=False)
    assert file.with_name("jobs.sqlite-journal").exists()
    damage(file, page)
    saved = salvage(file, SCHEMA_VERSION)
    assert saved.rows["runs"] > 700
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM runs WHERE label = 'half done'").fetchone() == (0,)
    assert not list(tmp_path.glob("jobs.sqlite.read*"))


def test_a_number_of_an_event_is_not_given_again_after_a_salvage(tmp_path: Path) -> None:
    filled(tmp_path)
    file = tmp_path / "jobs.sqlite"
    engine = open_store(tmp_path)
    with write(engine) as conn:
        last = events.append(conn, "test", "00000000")
        conn.execute(text("DELETE FROM events WHERE seq = :seq"), {"seq": last})
    engine.dispose()
    damage(file, pages_of(file, "runs")[0])
    salvage(file, SCHEMA_VERSION)
    engine = open_store(tmp_path)
    with write(engine) as conn:
        assert events.append(conn, "test", "00000000") > last
    engine.dispose()


def test_whoever_has_the_store_open_sees_the_mended_one(tmp_path: Path) -> None:
    filled(tmp_path)
    file = tmp_path / "jobs.sqlite"
    engine = open_store(tmp_path)
    with read(engine) as conn:
        assert events.last_seq(conn) > 0
    damage(file, pages_of(file, "runs")[0])
    saved = salvage(file, SCHEMA_VERSION)
    assert saved.in_place
    with write(engine) as conn:
        made = make_job(conn)
    engine.dispose()
    other = open_store(tmp_path)
    with read(other) as conn:
        assert jobs.get(conn, made) is not None
    other.dispose()


def test_a_store_without_a_readable_page_becomes_an_empty_one(tmp_path: Path) -> None:
    filled(tmp_path)
    file = tmp_path / "jobs.sqlite"
    damage(file, 0)
    with pytest.raises(Unavailable) as caught:
        open_store(tmp_path)
    assert caught.value.code == "store_corrupt"
    saved = salvage(file, SCHEMA_VERSION)
    assert sum(saved.rows.values()) == 0
    engine = open_store(tmp_path)
    with write(engine) as conn:
        make_job(conn)
    engine.dispose()


def test_a_large_store_is_looked_at_once_a_day_and_after_each_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "SMALL_BYTES", 0)
    filled(tmp_path, 2)
    file = tmp_path / "jobs.sqlite"
    looked: list[bool] = []
    monkeypatch.setattr(integrity, "problems_of", lambda path, *, quick: looked.append(quick) or [])
    mark = tmp_path / "jobs.sqlite.checked"
    mark.unlink(missing_ok=True)
    integrity.check(file)
    integrity.check(file)
    assert looked == [True]
    for seconds in (-integrity.CHECK_SECONDS - 1, 3600):
        # a day has passed; the clock was set back
        now = mark.stat().st_mtime
        os.utime(mark, (now + seconds, now + seconds))
        integrity.check(file)
    assert len(looked) == 3
    mark.write_text("another boot")
    integrity.check(file)
    assert len(looked) == 4


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hold() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Another process that holds the right to write."""
    started: list[subprocess.Popen[str]] = []

    def begin(file: Path) -> subprocess.Popen[str]:
        child = subprocess.Popen([sys.executable, "-c", HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        return child

    yield begin
    for child in started:
        child.kill()
        child.communicate()


def test_a_locked_store_is_busy_and_works_again(
    tmp_path: Path, hold: Callable[[Path], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    filled(tmp_path, 1)
    engine = open_store(tmp_path)
    other = hold(tmp_path / "jobs.sqlite")

    def try_to_write() -> None:
        with write(engine) as conn:
            make_job(conn)

    with pytest.raises(DBAPIError) as caught:
        try_to_write()
    found = refusal(tmp_path, caught.value)
    assert (found.code, found.status, found.detail["retry_after"]) == ("store_busy", 503, 5)
    with read(engine) as conn:
        assert events.last_seq(conn) > 0
    other.communicate()
    try_to_write()
    engine.dispose()


def as_nobody(work: Callable[[], str]) -> str:
    """What `work` says when another user does it, in a child process: modes do not bind root."""
    if os.getuid() != 0:
        return work()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(writer, work().encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as said:
        return said.read().decode()


@pytest.fixture
def open_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that every user may enter."""
    import tempfile

    place = Path(tempfile.mkdtemp(prefix="jj-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_cannot_be_written_is_said(open_place: Path, what: str) -> None:
    store = open_place / "jobs"
    filled(store, 1)
    if os.getuid() == 0:
        for path in (store, *store.iterdir()):
            os.chown(path, 65534, 65534)
    if what == "folder":
        for left in store.glob("jobs.sqlite-*"):
            left.unlink()
        store.chmod(0o500)
    else:
        (store / "jobs.sqlite").chmod(0o400)

    def work() -> str:
        try:
            engine = open_store(store)
            with write(engine) as conn:
                make_job(conn)
        except Unavailable as error:
            return error.code
        except DBAPIError as error:
            return refusal(store, error).code
        return "written"

    found = as_nobody(work)
    store.chmod(0o700)
    assert found == "store_read_only"


def test_a_full_disk_is_said_and_nothing_is_lost(small_disk: Path) -> None:
    filled(small_disk / "jobs", 1)
    engine = open_store(small_disk / "jobs")
    fill(small_disk)

    def try_to_write() -> str:
        with write(engine) as conn:
            return make_job(conn, new_job("x" * 100_000))

    def write_until_it_is_full() -> None:
        for _ in range(20):
            try_to_write()

    with pytest.raises(DBAPIError) as caught:
        write_until_it_is_full()
    assert refusal(small_disk, caught.value).code == "no_room"
    (small_disk / "ballast").unlink()
    with read(engine) as conn:
        before = jobs.ids(conn)
    made = try_to_write()
    with read(engine) as conn:
        assert jobs.ids(conn) == before | {made}
    engine.dispose()
    assert integrity.problems_of(small_disk / "jobs" / "jobs.sqlite", quick=False) == []


def fill(place: Path) -> None:
    with (place / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "jobs-test", str(place)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"file systems cannot be mounted here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def pretend_to_migrate(engine: Engine, monkeypatch: pytest.MonkeyPatch, to: int) -> None:
    def upgrade(conn: object, revision: str = "head") -> None:
        conn.execute(text(f"UPDATE alembic_version SET version_num = '{to:04}'"))  # type: ignore[attr-defined]

    monkeypatch.setattr(database, "SCHEMA_VERSION", to)
    monkeypatch.setattr("jupyter_jobs.store.migrations.upgrade", upgrade)
    database.bring_up_to_date(engine)


def test_no_migration_without_room_for_a_backup(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(small_disk / "jobs", 1)
    engine = open_store(small_disk / "jobs")
    with pytest.raises(Unavailable, match="no room to back it up") as caught:
        pretend_to_migrate(engine, monkeypatch, SCHEMA_VERSION + 1)
    assert caught.value.code == "no_room"
    with read(engine) as conn:
        assert database.schema_version(conn) == SCHEMA_VERSION
    engine.dispose()


def test_the_newest_three_backups_are_kept(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    file = tmp_path / "jobs.sqlite"
    for number in range(4):
        (tmp_path / f"jobs.sqlite.before-{number}.2026010{number}T000000").write_bytes(b"old")
    made = integrity.back_up(file, 9)
    kept = integrity.backups(file)
    assert [each.name for each in kept] == [made.name, "jobs.sqlite.before-3.20260103T000000", "jobs.sqlite.before-2.20260102T000000"]
    assert integrity.problems_of(made, quick=False) == []
