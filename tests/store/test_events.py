"""A hundred thousand events: in pages, by an index, and without what nobody can ask for."""

from __future__ import annotations

from sqlalchemy import Engine, insert, text

from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.model import Progress
from jupyter_jobs.store import events, runs
from jupyter_jobs.store.database import read, write
from jupyter_jobs.store.pages import MAX_LIMIT
from jupyter_jobs.store.tables import events as table
from tests.factories import START, bring_to, make_job

MANY = 100_000


def fill(engine: Engine) -> list[str]:
    with write(engine) as conn:
        made = [make_job(conn, seconds=number) for number in range(10)]
        rows = [
            {"at": START, "kind": "test", "job": made[number % 10], "run": f"{made[number % 10]}-1", "state": "", "data": {}}
            for number in range(MANY)
        ]
        conn.execute(insert(table), rows)
    return made


def test_everything_is_caught_up_with_in_pages(engine: Engine) -> None:
    made = fill(engine)
    with read(engine) as conn:
        seen, after = 0, 0
        while (page := events.after(conn, after, 10**9)).events:
            assert len(page.events) <= MAX_LIMIT
            assert [event.seq for event in page.events] == sorted(event.seq for event in page.events)
            assert page.events[0].seq > after
            seen, after = seen + len(page.events), page.last
        assert seen == MANY + 10
        assert after == events.last_seq(conn)
        mine = events.after(conn, 0, job=made[3]).events
        assert {event.job for event in mine} == {made[3]}
        if engine.dialect.name == "sqlite":
            for where in ("seq > 5", "job = 'x' AND seq > 5", "run = 'x' AND seq > 5"):
                plan = " ".join(
                    str(row[3]) for row in conn.execute(text(f"EXPLAIN QUERY PLAN SELECT * FROM events WHERE {where} ORDER BY seq LIMIT 5"))
                )
                assert "SEARCH" in plan
                assert "TEMP B-TREE" not in plan


def test_what_a_later_event_says_better_is_forgotten(engine: Engine) -> None:
    with write(engine) as conn:
        job = make_job(conn)
        bring_to(conn, f"{job}-1", RunState.RUNNING)
        for number in range(50):
            assert runs.set_progress(conn, f"{job}-1", 1, Progress(done=number, total=50))
            assert runs.set_records(conn, f"{job}-1", 1, {f"n{each}": 1 for each in range(number + 1)})
        kinds = [event.kind for event in events.after(conn, 0, run=f"{job}-1").events]
        assert kinds == ["run.state", "run.state", "run.progress", "run.records"]
        assert len(events.after(conn, 0, run=f"{job}-1").events[-1].data["names"]) == 50


def test_only_deletions_that_are_long_past_are_forgotten(engine: Engine) -> None:
    with write(engine) as conn:
        first = make_job(conn)
        for _ in range(20):
            events.append(conn, events.DELETED, "00000000")
        last = events.last_seq(conn)
        events.drop_old_deletions(conn, keep=20)
        assert len(events.after(conn, 0).events) == 21
        events.drop_old_deletions(conn, keep=5)
        left = events.after(conn, 0).events
        assert [event.kind for event in left] == ["job.created", *[events.DELETED] * 5]
        assert (left[0].job, left[-1].seq) == (first, last)
