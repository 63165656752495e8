"""Stores of older versions, filled, and what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, text

from jupyter_jobs.store import attempts, jobs, queue, runs
from jupyter_jobs.store.database import open_store, read, write
from jupyter_jobs.store.migrations import upgrade
from tests.factories import START

JOB, PAUSED = "00000001", "00000002"


def test_from_the_first_schema(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    with engine.begin() as conn:
        fill_first_schema(conn)
    engine.dispose()

    engine = open_store(tmp_path)
    assert len(list(tmp_path.glob("jobs.sqlite.before-*"))) == 1
    check_what_became_of_it(engine)
    with read(engine) as conn:
        assert conn.execute(text("PRAGMA foreign_key_check")).all() == []
    engine.dispose()


def fill_first_schema(conn: Connection) -> None:
    """Make the first schema in an empty database, with rows."""
    upgrade(conn, "0001")
    at = START.replace(tzinfo=None).isoformat(sep=" ")
    conn.execute(text("INSERT INTO snapshots VALUES ('s', '/p', 1, 1, :at, '[]')"), {"at": at})
    kernel = {"name": "k", "display_name": "k", "language": "python"}
    choice = {"directory": "/p", "mode": "directory", "why": ""}
    spec = {"kernel": kernel, "project": choice, "request": {"path": "n"}, "time_limit": 30.5, "cell_timeout": None}
    for job, state in ((JOB, "active"), (PAUSED, "paused")):
        conn.execute(
            text(
                "INSERT INTO jobs VALUES (:job, 'n', '', :state, 'n', 'n', '/p/n', '/p', 's', NULL, :kernel, "
                "'[]', '[]', '[]', '[]', '[]', '[]', :spec, 'n', :at, 'u', 7, NULL)"
            ),
            {"job": job, "state": state, "kernel": json.dumps(kernel), "spec": json.dumps(spec), "at": at},
        )
    rows = [(JOB, 1, "complete", 1, 5, 900), (JOB, 2, "queued", 0, 9, None), (JOB, 3, "queued", 0, 5, None), (PAUSED, 1, "queued", 0, 1, None)]
    for job, number, state, attempt, queued, peak in rows:
        conn.execute(
            text(
                "INSERT INTO runs (id, job, number, combination, parameters, label, state, attempt, progress_done, progress_total, "
                "progress_cell_id, progress_cell_number, records, created_at, queued_seq, ended_at, peak_memory, workspace, live, rerun_of, seq) "
                "VALUES (:id, :job, :number, :number, '{}', '', :state, :attempt, 0, 0, '', 0, '{}', :at, :queued, :end, :peak, '', '[]', '', 7)"
            ),
            {"id": f"{job}-{number}", "job": job, "number": number, "state": state, "attempt": attempt, "at": at, "queued": queued}
            | {"end": at if state == "complete" else None, "peak": peak},
        )
    conn.execute(text(f"INSERT INTO attempts (run, number, host, boot_id, handle, started_at) VALUES ('{JOB}-1', 1, 'h', 'b', '', :at)"), {"at": at})


def check_what_became_of_it(engine: Engine) -> None:
    """After the migrations, in use."""
    with write(engine) as conn:
        found = jobs.get(conn, JOB)
        assert found is not None
        assert (found.time_limit, found.cell_timeout, found.priority, found.max_parallel, found.fail_fast) == (30.5, None, 0, 0, False)
        assert found.retries.on == ["interrupted"]
        assert jobs.peaks_of(conn, [JOB]) == {JOB: 900}
        assert len(attempts.list_of(conn, f"{JOB}-1")) == 1, "nothing that refers to a run was dropped"
        taken = queue.take(conn, 5, host="h", boot_id="b")
        assert [claim.run for claim in taken.claims] == [f"{JOB}-3", f"{JOB}-2"]
        assert runs.move(conn, f"{JOB}-3", runs.RunState.COMPLETE, attempt=1)
