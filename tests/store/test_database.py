"""The engine: private files, journal, transactions of several writers, migrations."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.exc import OperationalError

from jupyter_jobs.errors import BadInput, Unavailable
from jupyter_jobs.store import database, dispatcher, events, jobs
from jupyter_jobs.store.database import file_system_of, is_network_file_system, journal_mode_for, open_store, read, schema_version, write
from jupyter_jobs.store.dispatcher import Lease
from jupyter_jobs.store.tables import metadata
from tests.factories import START, at, make_job


def plain(found: object) -> object:
    """What the inspector says, in an order of its own and with conditions as text."""
    if isinstance(found, dict):
        return {name: plain(value) for name, value in found.items()}
    return sorted(map(plain, found), key=str) if isinstance(found, list) else str(found)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_migrations_and_tables_agree(engine: Engine) -> None:
    with read(engine) as conn:
        assert differences(conn) == []
        assert schema_version(conn) == database.SCHEMA_VERSION


def differences(conn: Connection) -> list[object]:
    """Between this database and `tables.py`, but for comments, which only PostgreSQL has and migrations leave out."""
    context = MigrationContext.configure(conn, opts={"compare_type": True, "compare_server_default": True})
    found = (each for one in compare_metadata(context, metadata) for each in (one if isinstance(one, list) else [one]))
    return [each for each in found if each[0] != "modify_comment"]


def test_migrations_and_tables_agree_on_constraints(tmp_path: Path) -> None:
    """Alembic does not compare CHECKs."""
    made = create_engine("sqlite://")
    metadata.create_all(made)
    migrated = open_store(tmp_path)
    for table in metadata.tables:
        for ask in ("get_check_constraints", "get_foreign_keys", "get_unique_constraints", "get_pk_constraint", "get_indexes"):
            wanted, found = (getattr(inspect(engine), ask)(table) for engine in (made, migrated))
            assert plain(wanted) == plain(found), (table, ask)
    # a deleted event's number must not be given again
    with read(migrated) as conn:
        assert "AUTOINCREMENT" in str(conn.execute(text("SELECT sql FROM sqlite_master WHERE name = 'events'")).scalar())


def test_only_the_owner_can_read_the_store(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "jobs"
    engine = open_store(folder)
    with write(engine) as conn:
        make_job(conn)
        assert mode(folder) == 0o700
        assert {mode(path) for path in folder.iterdir()} == {0o600}
    engine.dispose()
    folder.chmod(0o755)
    open_store(folder).dispose()
    assert mode(folder) == 0o700


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    engine = open_store(tmp_path)
    with write(engine) as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    engine.dispose()
    before = (tmp_path / "jobs.sqlite").read_bytes()
    with pytest.raises(Unavailable, match=rf"schema 999.*knows {database.SCHEMA_VERSION}") as caught:
        open_store(tmp_path)
    assert caught.value.code == "schema_newer"
    assert (tmp_path / "jobs.sqlite").read_bytes() == before


def test_an_older_store_is_copied_before_it_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_store(tmp_path)
    with write(engine) as conn:
        job = make_job(conn)
    before = database.SCHEMA_VERSION
    monkeypatch.setattr(database, "SCHEMA_VERSION", before + 1)
    seen: list[int] = []

    def upgrade(conn: object, revision: str = "head") -> None:
        seen.append(1)
        conn.execute(text("UPDATE alembic_version SET version_num = :new"), {"new": f"{before + 1:04}"})  # type: ignore[attr-defined]

    monkeypatch.setattr("jupyter_jobs.store.migrations.upgrade", upgrade)
    database.bring_up_to_date(engine)
    database.bring_up_to_date(engine)
    engine.dispose()
    (copy,) = tmp_path.glob("jobs.sqlite.before-*.*")
    assert seen == [1]
    assert mode(copy) == 0o600
    kept = sqlite3.connect(copy)
    assert kept.execute("SELECT id FROM jobs").fetchall() == [(job,)]
    assert kept.execute("SELECT version_num FROM alembic_version").fetchall() == [(f"{before:04}",)]
    kept.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_store(tmp_path)
    monkeypatch.setattr(database, "SCHEMA_VERSION", database.SCHEMA_VERSION + 1)

    def upgrade(conn: object, revision: str = "head") -> None:
        conn.execute(text("DROP TABLE artifacts"))  # type: ignore[attr-defined]
        raise RuntimeError("half way")

    monkeypatch.setattr("jupyter_jobs.store.migrations.upgrade", upgrade)
    with pytest.raises(RuntimeError):
        database.bring_up_to_date(engine)
    assert inspect(engine).has_table("artifacts")


def test_what_is_no_database_and_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        open_store(tmp_path / "file" / "jobs")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "jobs.sqlite").write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(Unavailable) as caught:
        open_store(broken)
    assert caught.value.code == "store_corrupt"
    for url in ("not a url", "sqlite://", "sqlite:///:memory:", "oracle+nothing://x"):
        with pytest.raises(BadInput):
            open_store(tmp_path / "jobs", url)


def test_a_password_is_not_said(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises((Unavailable, BadInput)) as caught:
        open_store(tmp_path / "jobs", f"sqlite://user:geheim@/{tmp_path / 'folder'}")
    assert "geheim" not in str(caught.value)


def test_several_processes_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    code = "import sys; from jupyter_jobs.store.database import open_store; open_store(sys.argv[1]); print('open')"
    children = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "jobs")], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [child.communicate()[0].strip() for child in children] == ["open"] * 4


def test_writers_wait_for_each_other_and_lose_nothing(engine: Engine) -> None:
    with write(engine) as conn:
        job = make_job(conn)
    failures: list[BaseException] = []

    def count_up() -> None:
        try:
            for _ in range(20):
                with write(engine) as conn:
                    # reads before it writes: with a deferred transaction this fails at once
                    found = jobs.get(conn, job)
                    assert found is not None
                    jobs.add_record_names(conn, job, [f"n{len(found.record_names)}"])
        except BaseException as error:  # noqa: BLE001  (told to the test)
            failures.append(error)

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with read(engine) as conn:
        found = jobs.get(conn, job)
    assert found is not None
    assert found.record_names == [f"n{number}" for number in range(80)]


def test_a_failed_transaction_leaves_nothing(engine: Engine) -> None:
    def fail_half_way() -> None:
        with write(engine) as conn:
            make_job(conn)
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    with read(engine) as conn:
        assert events.last_seq(conn) == 0
        assert jobs.list_page(conn).page.total == 0


def test_a_reader_sees_one_state(engine: Engine) -> None:
    with read(engine) as reader:
        assert jobs.list_page(reader).page.total == 0
        with write(engine) as conn:
            make_job(conn)
        assert jobs.list_page(reader).page.total == 0


def test_naive_times_are_refused(engine: Engine) -> None:
    with pytest.raises(Exception, match="naive"), write(engine) as conn:
        events.append(conn, "test", "00000000", at=datetime(2026, 1, 1))


MOUNTS = [
    ("/", "ext4"),
    ("/home", "autofs"),
    ("/home", "nfs4"),
    ("/home/u/fast", "xfs"),
    ("/home/sshfs", "fuse.sshfs"),
    ("/mnt/win", "fuseblk"),
    ("/x", "nfs"),
]


@pytest.mark.parametrize(
    ("path", "kind", "journal"),
    [
        ("/srv/jobs", "ext4", "wal"),
        ("/home/u/jobs", "nfs4", "delete"),
        ("/home/u/fast/jobs", "xfs", "wal"),
        ("/home/u/faster", "nfs4", "delete"),
        ("/home/sshfs/jobs", "fuse.sshfs", "delete"),
        ("/mnt/win/jobs", "fuseblk", "wal"),
        ("/xy", "ext4", "wal"),
    ],
)
def test_journal_by_file_system(path: str, kind: str, journal: str) -> None:
    assert file_system_of(Path(path), MOUNTS) == kind
    assert journal_mode_for(Path(path), MOUNTS) == journal


@pytest.mark.parametrize("kind", ["cifs", "smb3", "nfs", "lustre", "fuse", "9p", "ceph"])
def test_network_file_systems(kind: str) -> None:
    assert is_network_file_system(kind)


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_the_journal_is_what_was_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: str) -> None:
    monkeypatch.setattr(database, "file_system_of", lambda path, mounts=None: "ext4" if journal == "wal" else "nfs4")
    engine = open_store(tmp_path)
    with read(engine) as conn:
        assert conn.execute(text("PRAGMA journal_mode")).scalar() == journal
        assert conn.execute(text("PRAGMA foreign_keys")).scalar() == 1
    assert (tmp_path / "jobs.sqlite-wal").exists() == (journal == "wal")
    engine.dispose()


def lease(host: str = "a", pid: int = 1, started: int = 5) -> Lease:
    return Lease(host=host, boot_id="b", pid=pid, pid_started=started, version="1", schema=1, since=START, heartbeat_at=START)


def test_one_dispatcher_holds_the_lease(engine: Engine) -> None:
    with write(engine) as conn:
        assert dispatcher.current(conn) is None
        assert dispatcher.acquire(conn, lease()) is None
        assert dispatcher.acquire(conn, lease("other")) == lease()
        assert not dispatcher.heartbeat(conn, lease("other"), at=at(10))
        assert not dispatcher.release(conn, lease("other"))
        assert dispatcher.heartbeat(conn, lease(), at=at(50))
        assert dispatcher.acquire(conn, lease("other"), dead=lease()) is not None, "it has beaten since it was found dead"
        assert dispatcher.acquire(conn, lease(pid=2)) is None, "the lock of the host is with the caller"
        assert not dispatcher.heartbeat(conn, lease(), at=at(52))
        assert dispatcher.acquire(conn, lease("other"), dead=lease(pid=2)) is None
        assert dispatcher.release(conn, lease("other"))
        assert dispatcher.current(conn) is None


def test_a_commit_that_fails_does_not_lock_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # with a rollback journal a reader keeps a writer from committing
    monkeypatch.setattr(database, "file_system_of", lambda path, mounts=None: "nfs4")
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    engine = open_store(tmp_path)

    def try_to_write() -> None:
        with write(engine) as conn:
            make_job(conn)

    with read(engine) as reader:
        assert jobs.list_page(reader).page.total == 0
        with pytest.raises(OperationalError, match="locked"):
            try_to_write()
    try_to_write()
    with read(engine) as conn:
        assert jobs.list_page(conn).page.total == 1
    engine.dispose()
