"""The store in a real PostgreSQL: migrated from the first schema, and used. With `JUPYTER_JOBS_TEST_DB_URL` the other tests of the store run there
too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine

from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.model import RunError
from jupyter_jobs.store import artifacts, attempts, ending, events, jobs, output, queue, runs
from jupyter_jobs.store.database import SCHEMA_VERSION, open_store, read, schema_version, write
from jupyter_jobs.store.runs import Facts
from tests.factories import at, make_job
from tests.store.cluster import cluster, programs
from tests.store.test_database import differences
from tests.store.test_migrations import JOB, PAUSED, check_what_became_of_it, fill_first_schema


@pytest.fixture
def url() -> Iterator[str]:
    found = programs()
    if found is None:
        pytest.skip("no PostgreSQL is installed")
    with cluster(found) as address:
        yield address


def test_a_store_in_postgresql(url: str, tmp_path: Path) -> None:
    first = create_engine(url)
    with first.begin() as conn:
        fill_first_schema(conn)
    first.dispose()
    engine = open_store(tmp_path, url)
    with read(engine) as conn:
        assert schema_version(conn) == SCHEMA_VERSION
        assert differences(conn) == []
    check_what_became_of_it(engine)
    with write(engine) as conn:
        job = make_job(conn, runs_count=3)
        one, two, three = (f"{job}-{number}" for number in (1, 2, 3))
        before = events.last_seq(conn)
        assert [claim.run for claim in queue.take(conn, 2, host="h", boot_id="b").claims] == [one, two]
        attempts.record_handle(conn, one, 1, handle="{}", pid=7, pid_started=8)
        assert runs.move(conn, one, RunState.RUNNING, attempt=1, at=at(1))
        assert ending.end(conn, one, 1, RunState.COMPLETE, facts=Facts(records={"auc": 0.5}), at=at(3), output_due=True) == ending.Ended(
            state=RunState.COMPLETE, output_due=True
        )
        interrupted = RunError(code="interrupted", message="It is gone.")
        assert ending.end(conn, two, 1, RunState.FAILED, error=interrupted, at=at(4)) == ending.Ended(state=RunState.QUEUED)
        assert [due.run for due in output.due(conn)] == [one]
        artifacts.replace(conn, one, [])
    with write(engine) as conn:
        assert not output.settle(conn, one, {"files": 0})
        assert queue.demand(conn) == 4, "two of these, and two of the jobs that were migrated"
        told = [(event.kind, event.run, event.state) for event in events.after(conn, before, job=job).events]
        assert told == [
            ("run.state", one, "init"),
            ("run.state", two, "init"),
            ("run.state", one, "running"),
            ("run.state", one, "complete"),
            ("run.state", two, "queued"),
            ("run.output", one, ""),
        ]
        seen, after = [], ""
        while True:
            (waiting,), page = queue.list_page(conn, after=after, limit=1)
            seen.append(waiting.run.id)
            if not (after := page.next):
                break
        assert seen[-2:] == [three, two]
        ended = runs.get(conn, one)
        assert ended is not None
        assert (ended.state, ended.duration, ended.records) == ("complete", 2.0, {"auc": 0.5})
        assert {each.id for each in jobs.list_page(conn).jobs} == {job, JOB, PAUSED}
    engine.dispose()


def test_events_become_visible_in_the_order_of_their_numbers(url: str, tmp_path: Path) -> None:
    """A second writer waits for the first, so nobody who reads on from a number misses one."""
    engine = open_store(tmp_path, url)
    with write(engine) as conn:
        events.append(conn, "test", JOB)
        second = threading.Thread(target=_write, args=(engine,))
        second.start()
        with read(engine) as other:
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while not other.exec_driver_sql(waiting).scalar():
                assert second.is_alive(), "it did not wait"
    second.join()
    with read(engine) as conn:
        assert [event.kind for event in events.after(conn, 0).events] == ["test", "second"]
    engine.dispose()


def _write(engine: Engine) -> None:
    with write(engine) as conn:
        events.append(conn, "second", JOB)
