"""Runs: every pair of states, fences, cancels, the queue, and what the database itself refuses."""

from __future__ import annotations

import base64
from itertools import product

import pytest
from sqlalchemy import Connection, Engine, update
from sqlalchemy.exc import IntegrityError

from jupyter_jobs.errors import BadInput
from jupyter_jobs.lifecycle import FINAL, RunState, can_move
from jupyter_jobs.model import CellRef, Progress
from jupyter_jobs.store import attempts, events, jobs, queue, runs
from jupyter_jobs.store.database import read, write
from jupyter_jobs.store.pages import names_of
from jupyter_jobs.store.runs import Facts
from jupyter_jobs.store.tables import runs as table
from tests.factories import ERROR, at, bring_to, make_job


def place(conn: Connection, state: RunState) -> str:
    """A run in `state`."""
    job = make_job(conn, runs_count=1, state=RunState.CREATED if state is RunState.CREATED else RunState.QUEUED)
    if state is not RunState.CREATED:
        bring_to(conn, f"{job}-1", state)
    return f"{job}-1"


@pytest.mark.parametrize(("old", "new"), list(product(RunState, RunState)))
def test_every_pair_of_states(engine: Engine, old: RunState, new: RunState) -> None:
    with write(engine) as conn:
        run = place(conn, old)
        before = runs.get(conn, run)
        seq = events.last_seq(conn)
        if new is RunState.INIT:
            # only `claim` leads there: it makes the attempt's row too
            assert before is not None
            moved = runs.claim(conn, run, before.attempt + 1, host="h", boot_id="b")
        else:
            moved = runs.move(conn, run, new, error=ERROR if new is RunState.FAILED else None, at=at(9))
        assert moved == can_move(old, new)
        after = runs.get(conn, run)
        found = events.after(conn, seq, run=run).events
    assert after is not None
    if not moved:
        assert after == before
        assert found == []
        return
    assert after.state is new
    assert (after.ended_at is not None) == (new in FINAL)
    assert [(event.kind, event.state) for event in found] == [("run.state", str(new))]
    assert after.seq == found[0].seq


@pytest.mark.parametrize(
    ("state", "values"),
    [
        (RunState.QUEUED, {"state": "asleep"}),
        (RunState.QUEUED, {"state": "complete"}),
        (RunState.QUEUED, {"ended_at": at(1)}),
        (RunState.QUEUED, {"started_at": at(1)}),
        (RunState.QUEUED, {"attempt": -1}),
        (RunState.QUEUED, {"number": 0}),
        (RunState.QUEUED, {"state": "init"}),
        (RunState.QUEUED, {"duration": 1.0}),
        (RunState.INIT, {"state": "running"}),
        (RunState.INIT, {"attempt": 0}),
        (RunState.RUNNING, {"state": "failed", "ended_at": at(1)}),
        (RunState.RUNNING, {"progress_done": 3, "progress_total": 2}),
        (RunState.COMPLETE, {"error": ERROR}),
        (RunState.COMPLETE, {"ended_at": None}),
        (RunState.COMPLETE, {"state": "running"}),
        (RunState.COMPLETE, {"duration": -1.0}),
    ],
)
def test_the_database_refuses_what_the_lifecycle_forbids(engine: Engine, state: RunState, values: dict[str, object]) -> None:
    with write(engine) as conn:
        run = place(conn, state)
    with pytest.raises(IntegrityError), write(engine) as conn:
        conn.execute(update(table).where(table.c.id == run).values(values))


def test_a_run_has_its_times_and_duration(engine: Engine) -> None:
    with write(engine) as conn:
        run = place(conn, RunState.QUEUED)
        runs.claim(conn, run, 1, host="h", boot_id="b", at=at(1))
        runs.move(conn, run, RunState.RUNNING, attempt=1, at=at(5), facts=Facts(started_at=at(2)))
        runs.move(conn, run, RunState.COMPLETE, attempt=1, at=at(4.5), facts=Facts(records={"auc": 0.9}, peak_memory=77, workspace="overlay"))
        found = runs.get(conn, run)
        job = jobs.get(conn, found.job) if found else None
    assert found is not None
    assert (found.created_at, found.started_at, found.ended_at, found.duration) == (at(0), at(2), at(4.5), 2.5)
    assert (found.records, found.peak_memory, found.workspace) == ({"auc": 0.9}, 77, "overlay")
    assert job is not None
    assert job.record_names == ["auc"]
    assert job.ended_at == at(4.5)
    assert job.seq == found.seq


def test_an_end_before_the_beginning_has_no_negative_duration(engine: Engine) -> None:
    with write(engine) as conn:
        run = place(conn, RunState.RUNNING)
        runs.move(conn, run, RunState.COMPLETE, at=at(0))
        found = runs.get(conn, run)
    assert found is not None
    assert found.duration == 0


def test_another_attempt_is_fenced_off(engine: Engine) -> None:
    with write(engine) as conn:
        run = place(conn, RunState.RUNNING)
        assert not runs.move(conn, run, RunState.COMPLETE, attempt=2)
        assert not runs.set_progress(conn, run, 2, Progress(done=1, total=2))
        assert not runs.set_records(conn, run, 2, {"a": 1})
        assert runs.move(conn, run, RunState.COMPLETE, attempt=1)


def test_a_second_attempt(engine: Engine) -> None:
    with write(engine) as conn:
        run = place(conn, RunState.RUNNING)
        runs.set_records(conn, run, 1, {"a": 1})
        runs.request_cancel(conn, run)
        assert runs.move(conn, run, RunState.QUEUED, attempt=1)
        assert attempts.end(conn, run, 1, RunState.FAILED, error=ERROR, exit_code=1)
        assert not attempts.end(conn, run, 1, RunState.COMPLETE)
        again = runs.get(conn, run)
        assert again is not None
        assert (again.state, again.attempt, again.started_at, again.records, again.progress.done) == (RunState.QUEUED, 1, None, {}, 0)
        head = queue.first(conn)
        assert head is not None
        assert head.run == run
        assert not runs.claim(conn, run, 1, host="h", boot_id="b")
        assert runs.claim(conn, run, 2, host="h", boot_id="b")
        assert not runs.claim(conn, run, 2, host="h", boot_id="b")
        assert [(attempt.number, attempt.state) for attempt in attempts.list_of(conn, run)] == [(1, "failed"), (2, None)]


def test_the_handle_of_an_attempt(engine: Engine) -> None:
    with write(engine) as conn:
        run = place(conn, RunState.INIT)
        attempts.record_handle(conn, run, 1, pid=42, pid_started=2**40, handle='{"backend": "local"}')
        (active,) = runs.active(conn)
    assert (active.run, active.attempt, active.state, active.cancel_requested) == (run, 1, "init", False)
    assert (active.host, active.boot_id, active.pid, active.pid_started, active.handle) == ("here", "boot", 42, 2**40, '{"backend": "local"}')


def test_canceling(engine: Engine) -> None:
    with write(engine) as conn:
        waiting, busy, ended = place(conn, RunState.QUEUED), place(conn, RunState.RUNNING), place(conn, RunState.FAILED)
        assert runs.request_cancel(conn, waiting)
        assert runs.request_cancel(conn, busy)
        assert not runs.request_cancel(conn, busy)
        assert not runs.request_cancel(conn, ended)
        found = [runs.get(conn, run) for run in (waiting, busy, ended)]
        assert [run and (run.state, run.status) for run in found] == [
            ("canceled", "canceled"),
            ("running", "canceling"),
            ("failed", "failed"),
        ]
        assert [event.kind for event in events.after(conn, 0, run=busy).events][-1] == "run.cancel"
        assert [run.cancel_requested for run in runs.active(conn)] == [True]
        runs.move(conn, busy, RunState.COMPLETE, at=at(9))
        ended_run = runs.get(conn, busy)
    assert ended_run is not None
    assert ended_run.status == "complete"


def test_canceling_a_whole_job(engine: Engine) -> None:
    with write(engine) as conn:
        job = make_job(conn, runs_count=5)
        other = make_job(conn, runs_count=1)
        bring_to(conn, f"{job}-1", RunState.COMPLETE)
        bring_to(conn, f"{job}-2", RunState.RUNNING)
        seq = events.last_seq(conn)
        assert runs.request_cancel_job(conn, job, at=at(7)) == 4
        assert runs.request_cancel_job(conn, job) == 0
        page = runs.list_page(conn, job)
        found = events.after(conn, seq, job=job).events
        assert [run.status for run in page.runs] == ["complete", "canceling", "canceled", "canceled", "canceled"]
        assert sorted(event.run for event in found) == [f"{job}-{number}" for number in (2, 3, 4, 5)]
        assert {run.id: run.seq for run in page.runs[1:]} == {event.run: event.seq for event in found}
        shown = jobs.get(conn, job)
        assert shown is not None
        assert shown.seq == found[-1].seq
        untouched = runs.get(conn, f"{other}-1")
        assert untouched is not None
        assert untouched.state is RunState.QUEUED


def test_progress_keeps_one_event(engine: Engine) -> None:
    with write(engine) as conn:
        run = place(conn, RunState.RUNNING)
        for done in range(3):
            assert runs.set_progress(conn, run, 1, Progress(done=done, total=3, cell=CellRef(id="c1", number=2)))
        found = [event for event in events.after(conn, 0, run=run).events if event.kind == "run.progress"]
        shown = runs.get(conn, run)
        assert [event.data for event in found] == [{"done": 2, "total": 3}]
        assert shown is not None
        assert shown.progress == Progress(done=2, total=3, cell=CellRef(id="c1", number=2))
        runs.move(conn, run, RunState.COMPLETE)
        assert not runs.set_progress(conn, run, 1, Progress(done=3, total=3))
        assert "run.progress" not in {event.kind for event in events.after(conn, 0, run=run).events}


def test_events_hold_no_recorded_values(engine: Engine) -> None:
    with write(engine) as conn:
        run = place(conn, RunState.RUNNING)
        runs.set_records(conn, run, 1, {"auc": "a value of mine"})
        assert "a value of mine" not in repr(events.after(conn, 0))


@pytest.mark.parametrize("sort", names_of(runs.SORTS))
def test_pages_neither_repeat_nor_skip(engine: Engine, sort: str) -> None:
    with write(engine) as conn:
        job = make_job(conn, runs_count=7)
        for number, state in ((1, RunState.COMPLETE), (3, RunState.FAILED), (4, RunState.RUNNING), (6, RunState.COMPLETE)):
            bring_to(conn, f"{job}-{number}", state, seconds=number)
    seen, after = [], ""
    with read(engine) as conn:
        whole = [run.id for run in runs.list_page(conn, job, sort=sort).runs]
        while True:
            page = runs.list_page(conn, job, after=after, limit=2, sort=sort)
            seen += [run.id for run in page.runs]
            assert page.page.total == 7
            after = page.page.next
            if not after:
                break
    assert seen == whole
    assert sorted(seen) == sorted(f"{job}-{number}" for number in range(1, 8))


def too_large(shape: str) -> str:
    """A page's token with a number that no database holds."""
    return base64.urlsafe_b64encode((shape % 2**63).encode()).decode()


def test_runs_by_state_and_bad_questions(engine: Engine) -> None:
    with write(engine) as conn:
        job = make_job(conn, runs_count=3)
        bring_to(conn, f"{job}-2", RunState.FAILED)
        assert [run.number for run in runs.list_page(conn, job, state=["failed"]).runs] == [2]
        no_pages = [{"after": token} for token in ("!", "bm90IGpzb24", "WyJ4IiwxXQ", too_large("[%d]"), too_large("[-9%d]"))]
        for wrong in ({"state": ["asleep"]}, {"sort": "mood"}, *no_pages):
            with pytest.raises(BadInput):
                runs.list_page(conn, job, **wrong)  # type: ignore[arg-type]


def test_large_and_odd_values_stay_what_they_are(engine: Engine) -> None:
    odd = {"large": 2**80, "text": "ü\n\U0001f600\"'", "float": 1e-300, "nested": [{"a": [None, True]}], "empty": {}}
    with write(engine) as conn:
        run = place(conn, RunState.RUNNING)
        runs.set_records(conn, run, 1, odd)
    with read(engine) as conn:
        found = runs.get(conn, run)
    assert found is not None
    assert found.records == odd
    assert type(found.records["large"]) is int
