"""The queue: its order, what is passed over, what a person changes, and that a pick reads a few rows however many wait."""

from __future__ import annotations

from datetime import datetime

import pytest
from sqlalchemy import Connection, Engine, event, update
from sqlalchemy.exc import IntegrityError

from jupyter_jobs.errors import BadInput, Conflict
from jupyter_jobs.lifecycle import JobState, RunState
from jupyter_jobs.model import Resources, RetryPolicy
from jupyter_jobs.store import ending, events, jobs, queue, runs
from jupyter_jobs.store.database import read, write
from jupyter_jobs.store.pages import token_of
from jupyter_jobs.store.runs import Facts
from jupyter_jobs.store.tables import jobs as jobs_table
from jupyter_jobs.store.tables import runs as runs_table
from tests.factories import ERROR, at, bring_to, make_job, new_job


def order(conn: Connection) -> list[str]:
    """All that waits, in order."""
    return [waiting.run.id for waiting in queue.list_page(conn, limit=1000)[0]]


def take(conn: Connection, count: int = 1, when: datetime | None = None) -> list[str]:
    return [claim.run for claim in queue.take(conn, count, host="h", boot_id="b", at=when).claims]


def with_fields(**fields: object) -> jobs.NewJob:
    import msgspec

    return msgspec.structs.replace(new_job(), **fields)


def test_first_in_first_out(engine: Engine) -> None:
    with write(engine) as conn:
        # the second job claims to be older: the order of the queue is that of the store, not of clocks
        first, second = make_job(conn, runs_count=11, seconds=100), make_job(conn, runs_count=1, seconds=0)
        whole = [f"{first}-{number}" for number in range(1, 12)] + [f"{second}-1"]
        assert order(conn) == whole
        assert take(conn, 2) == whole[:2]
        runs.move(conn, whole[0], RunState.QUEUED)
        assert order(conn) == [*whole[2:], whole[0]], "one that is queued again comes last"


def test_a_higher_priority_comes_first_and_can_be_changed(engine: Engine) -> None:
    with write(engine) as conn:
        low, high = make_job(conn, with_fields(priority=-5)), make_job(conn, with_fields(priority=7))
        usual = make_job(conn)
        assert [run[:8] for run in order(conn)] == [high, high, usual, usual, low, low]
        assert jobs.change(conn, low, priority=100)
        assert not jobs.change(conn, low, priority=100)
        assert take(conn, 3) == [f"{low}-1", f"{low}-2", f"{high}-1"]
        # another attempt has the priority of now
        jobs.change(conn, low, priority=-100)
        runs.move(conn, f"{low}-1", RunState.QUEUED)
        assert order(conn)[-1] == f"{low}-1"
    with pytest.raises(IntegrityError), write(engine) as conn:
        conn.execute(update(jobs_table).where(jobs_table.c.id == low).values(priority=101))


def test_a_job_at_its_own_limit_is_passed_over_and_starves_nobody(engine: Engine) -> None:
    with write(engine) as conn:
        limited, other = make_job(conn, with_fields(max_parallel=2, priority=9), runs_count=5), make_job(conn, runs_count=3)
        assert take(conn, 4) == [f"{limited}-1", f"{limited}-2", f"{other}-1", f"{other}-2"]
        assert [waiting.why for waiting in queue.list_page(conn)[0]] == ["job", "job", "job", ""]
        assert ending.end(conn, f"{limited}-1", 1, RunState.COMPLETE)
        assert take(conn, 4) == [f"{limited}-3", f"{other}-3"]
        assert take(conn) == []
        jobs.change(conn, limited, max_parallel=0)
        assert take(conn, 9) == [f"{limited}-4", f"{limited}-5"]


def test_limited_and_unlimited_jobs_keep_one_order(engine: Engine) -> None:
    with write(engine) as conn:
        first, limited, last = make_job(conn, runs_count=1), make_job(conn, with_fields(max_parallel=1), runs_count=1), make_job(conn, runs_count=1)
        assert take(conn, 9) == [f"{first}-1", f"{limited}-1", f"{last}-1"]


def test_a_job_that_is_not_active_is_passed_over(engine: Engine) -> None:
    with write(engine) as conn:
        paused, limited, other = make_job(conn), make_job(conn, with_fields(max_parallel=1)), make_job(conn)
        for job in (paused, limited):
            jobs.set_state(conn, job, JobState.PAUSED, [JobState.ACTIVE])
        assert take(conn, 9) == [f"{other}-1", f"{other}-2"]
        for job in (paused, limited):
            jobs.set_state(conn, job, JobState.ACTIVE, [JobState.PAUSED])
        assert take(conn, 9) == [f"{paused}-1", f"{paused}-2", f"{limited}-1"]


def test_another_attempt_waits_for_its_time(engine: Engine) -> None:
    with write(engine) as conn:
        job = make_job(conn, with_fields(retries=RetryPolicy(attempts=2, delay=60)))
        take(conn, 1, at(1))
        assert ending.end(conn, f"{job}-1", 1, RunState.FAILED, error=ERROR, at=at(10)) == ending.Ended(state=RunState.QUEUED)
        waiting = runs.get(conn, f"{job}-1")
        assert waiting is not None
        assert waiting.not_before == at(70)
        (second, later) = queue.list_page(conn)[0]
        assert [(each.run.id, each.why, each.position) for each in (second, later)] == [(f"{job}-2", "", 1), (f"{job}-1", "time", 2)]
        taken = queue.take(conn, 2, host="h", boot_id="b", at=at(69))
        assert ([claim.run for claim in taken.claims], taken.not_before) == ([f"{job}-2"], at(70))
        assert queue.count(conn) == 1
        taken = queue.take(conn, 2, host="h", boot_id="b", at=at(70))
        assert ([(claim.run, claim.attempt) for claim in taken.claims], taken.not_before) == ([(f"{job}-1", 2)], None)


def test_a_paused_queue_starts_nothing(engine: Engine) -> None:
    with write(engine) as conn:
        job = make_job(conn)
        assert queue.set_paused(conn, "u", at=at(3))
        assert not queue.set_paused(conn, "v")
        assert queue.paused(conn) == (at(3), "u")
        assert take(conn) == []
        assert queue.demand(conn) == 0
    with write(engine) as conn:
        assert queue.is_paused(conn), "it is kept"
        assert queue.set_paused(conn, None)
        assert not queue.set_paused(conn, None)
        assert queue.demand(conn) == 2
        assert take(conn) == [f"{job}-1"]
        assert [each.kind for each in events.after(conn, 0).events][1:3] == ["queue.paused", "queue.resumed"]


def test_runs_are_moved_within_their_priority(engine: Engine) -> None:
    with write(engine) as conn:
        job, other = make_job(conn, runs_count=4), make_job(conn, runs_count=1)
        one, two, three, four, last = *(f"{job}-{number}" for number in range(1, 5)), f"{other}-1"
        queue.move(conn, three, before=one)
        assert order(conn) == [three, one, two, four, last]
        queue.move(conn, last, to="first")
        queue.move(conn, three, to="last")
        assert order(conn) == [last, one, two, four, three]
        queue.move(conn, last, to="first")
        queue.move(conn, two, before=two)
        assert order(conn) == [last, one, two, four, three]
        assert [each.data for each in events.after(conn, 0, run=three).events] == [{"before": one}, {"to": "last"}]
        high = make_job(conn, with_fields(priority=1), runs_count=1)
        take(conn, 1)
        for wrong, code in (({"before": last}, "run_not_waiting"), ({"to": "first"}, "run_not_waiting")):
            with pytest.raises(Conflict) as caught:
                queue.move(conn, f"{high}-1", **wrong)
            assert caught.value.code == code
        higher = make_job(conn, with_fields(priority=2), runs_count=1)
        with pytest.raises(Conflict) as caught:
            queue.move(conn, one, before=f"{higher}-1")
        assert caught.value.code == "other_priority"
        for nothing in ({}, {"before": one, "to": "last"}):
            with pytest.raises(BadInput):
                queue.move(conn, two, **nothing)


def test_there_is_always_room_before_a_run(engine: Engine) -> None:
    with write(engine) as conn:
        job = make_job(conn, runs_count=40)
        target = f"{job}-2"
        for number in range(3, 41):
            queue.move(conn, f"{job}-{number}", before=target)
        assert order(conn) == [f"{job}-1", *(f"{job}-{number}" for number in range(3, 41)), target]


def test_runs_in_one_place_have_one_order_for_all_who_look(engine: Engine) -> None:
    """As after a run was moved to the front, and a change of priority brought it beside another that had been."""
    with write(engine) as conn:
        for max_parallel in (0, 1, 0, 1):
            make_job(conn, with_fields(max_parallel=max_parallel), runs_count=1)
        conn.execute(update(runs_table).values(position=7))
        whole = order(conn)
        paged, after = [], ""
        while len(paged) < len(whole):
            (one,), page = queue.list_page(conn, after=after, limit=1)
            paged.append(one.run.id)
            after = page.next
        assert paged == whole
        assert [take(conn)[0] for _ in whole] == whole


def test_pages_of_the_queue_neither_repeat_nor_skip(engine: Engine) -> None:
    with write(engine) as conn:
        make_job(conn, with_fields(priority=3), runs_count=3)
        late = make_job(conn, with_fields(retries=RetryPolicy(attempts=1, delay=60), priority=50), runs_count=2)
        make_job(conn, runs_count=3)
        for run in take(conn, 2, at(1)):
            ending.end(conn, run, 1, RunState.FAILED, error=ERROR, at=at(2))
        whole = order(conn)
    seen, positions, after = [], [], ""
    with read(engine) as conn:
        while True:
            waiting, page = queue.list_page(conn, after=after, limit=3)
            seen += [each.run.id for each in waiting]
            positions += [each.position for each in waiting]
            assert page.total == 8
            after = page.next
            if not after:
                break
        for wrong in ("WyJ4IiwxXQ", token_of(["", 1 << 70, 1, "x", 1]), token_of(["soon", 1, 1, "x", 1])):
            with pytest.raises(BadInput):
                queue.list_page(conn, after=wrong)
    assert seen == whole
    assert set(whole[-2:]) == {f"{late}-1", f"{late}-2"}
    assert positions == list(range(1, 9))


def test_the_first_that_does_not_fit_stops_the_pick(engine: Engine) -> None:
    with write(engine) as conn:
        job = make_job(conn, runs_count=4)
        take(conn)
        ending.end(conn, f"{job}-1", 1, RunState.COMPLETE, facts=Facts(peak_memory=600))
        asked: list[queue.Head] = []

        def fits(head: queue.Head) -> bool:
            asked.append(head)
            return len(asked) < 2

        taken = queue.take(conn, 3, host="h", boot_id="b", fits=fits)
        assert [claim.run for claim in taken.claims] == [f"{job}-2"]
        assert taken.short == asked[1] == queue.Head(run=f"{job}-3", job=job, asked=Resources(), peak=600)
        assert len(asked) == 2


@pytest.mark.parametrize("kind", ["free", "gated"])
def test_a_pick_reads_by_index_whatever_waits(engine: Engine, kind: str) -> None:
    """SQLite tells how much a statement does: with a hundred times the runs, a pick does the same."""
    if engine.dialect.name != "sqlite":
        pytest.skip("counts SQLite's own instructions")
    steps: list[int] = []
    for count in (30, 3000):
        with write(engine) as conn:
            blocked = make_job(conn, with_fields(max_parallel=1, priority=5), runs_count=count)
            for waiting in (make_job(conn, runs_count=count), make_job(conn, with_fields(max_parallel=1), runs_count=count)):
                if kind == "gated":
                    jobs.change(conn, waiting, max_parallel=1)
            bring_to(conn, f"{blocked}-1", RunState.RUNNING)
            made: list[int] = []
            raw = conn.connection.driver_connection
            raw.set_progress_handler(lambda made=made: made.append(1), 100)  # type: ignore[union-attr]
            assert queue.first(conn) is not None
            raw.set_progress_handler(None, 0)  # type: ignore[union-attr]
            steps.append(len(made))
            for job in (blocked, *jobs.ids(conn)):
                jobs.delete(conn, job)
    # hundreds of instructions; a scan of the runs would make it a hundred times as many
    assert steps[1] <= steps[0] + 5, steps


def test_a_page_of_the_queue_reads_what_it_shows(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it begins: no statement sorts all that waits, and where a hundred times as much does, none reads more."""
    if engine.dialect.name != "sqlite":
        pytest.skip("reads SQLite's plans, and counts its instructions")
    said: list[tuple[str, object]] = []
    event.listen(engine, "before_cursor_execute", lambda conn, cursor, statement, parameters, context, many: said.append((statement, parameters)))
    # the total is counted besides, in an index
    monkeypatch.setattr(queue, "count", lambda conn: 0)
    steps: list[list[int]] = []
    for count in (30, 1000):
        with write(engine) as conn:
            made = [make_job(conn, with_fields(max_parallel=limit, priority=limit), runs_count=count) for limit in (0, 1, 0, 1)]
            for number in range(1, count + 1):
                conn.execute(update(runs_table).where(runs_table.c.id == f"{made[0]}-{number}").values(not_before=at(number)))
            steps.append([])
            for start in (0, 10, count, 2 * count, 3 * count - 5, 3 * count + 10, 4 * count - 10):
                after = place(conn, start)
                said.clear()
                ran: list[int] = []
                raw = conn.connection.driver_connection
                raw.set_progress_handler(lambda ran=ran: ran.append(1), 100)  # type: ignore[union-attr]
                found, _ = queue.list_page(conn, after=after, limit=10)
                raw.set_progress_handler(None, 0)  # type: ignore[union-attr]
                assert [each.position for each in found] == list(range(start + 1, start + 11))
                steps[-1].append(len(ran))
                for statement, parameters in list(said):
                    plan = [row[3] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]  # type: ignore[arg-type]
                    assert "USE TEMP B-TREE FOR ORDER BY" not in plan, (statement, plan)
            for job in made:
                jobs.delete(conn, job)
    assert all(many <= few + 10 for few, many in zip(*steps, strict=True)), steps


def place(conn: Connection, start: int) -> str:
    """Where the page after the first `start` runs begins."""
    after = ""
    while start:
        after = queue.list_page(conn, after=after, limit=min(start, 1000))[1].next
        start -= min(start, 1000)
    return after


def test_no_statement_of_the_queue_scans_the_runs(engine: Engine) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("reads SQLite's plans")
    said: list[tuple[str, object]] = []
    event.listen(engine, "before_cursor_execute", lambda conn, cursor, statement, parameters, context, many: said.append((statement, parameters)))
    with write(engine) as conn:
        job = make_job(conn, with_fields(max_parallel=3, retries=RetryPolicy(attempts=5, delay=1)), runs_count=20)
        said.clear()
        take(conn, 2, at(1))
        ending.end(conn, f"{job}-1", 1, RunState.FAILED, error=ERROR, at=at(2))
        ending.end(conn, f"{job}-2", 1, RunState.COMPLETE, facts=Facts(peak_memory=5), at=at(2))
        take(conn, 2, at(10))
        runs.active(conn)
        statements = list(said)
        plans = [
            (statement, row[3])
            for statement, parameters in statements
            if statement.startswith(("SELECT", "UPDATE", "DELETE"))
            for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[arg-type]
        ]
    assert len(plans) > 20
    scans = {(statement, plan) for statement, plan in plans if plan.startswith("SCAN") and "INDEX" not in plan}
    assert {plan for _, plan in scans} <= {"SCAN pause"}, scans
