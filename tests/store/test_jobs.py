"""Jobs: lists, derived status, ids, deletion."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from jupyter_jobs.errors import BadInput, Unavailable
from jupyter_jobs.lifecycle import JobState, RunState, job_status
from jupyter_jobs.model import Combination, RunFile
from jupyter_jobs.store import artifacts, attempts, events, jobs, runs, snapshots
from jupyter_jobs.store.database import read, write
from jupyter_jobs.store.pages import names_of, token_of
from tests.factories import at, bring_to, combinations, make_job, new_job, snapshot


def test_what_is_put_in_comes_out(engine: Engine) -> None:
    with write(engine) as conn:
        job = make_job(conn, new_job("Größe", environment_digest="e" * 64), runs_count=3, seconds=5)
        bring_to(conn, f"{job}-2", RunState.COMPLETE)
        found = jobs.get(conn, job)
        spec = jobs.get_spec(conn, job)
    assert found is not None
    assert (found.name, found.environment, found.snapshot, found.created_at) == ("Größe", "e" * 64, "a" * 64, at(5))
    assert (found.counts, found.total, found.strip, found.status) == ({"complete": 1, "queued": 2}, 3, "qcq", "running")
    assert found.ended_at is None
    assert found.state is JobState.ACTIVE
    assert found.kernel.env == {"SECRET_OF_SPEC": ""}, "values of variables are not shown"
    assert spec is not None
    assert spec.kernel.env == {"SECRET_OF_SPEC": "hidden"}
    assert spec.request.path == "report.ipynb"


def test_what_is_not_there(engine: Engine) -> None:
    with write(engine) as conn:
        assert jobs.get(conn, "00000000") is None
        assert jobs.get_spec(conn, "00000000") is None
        assert not jobs.delete(conn, "00000000")
        assert jobs.list_page(conn).jobs == []


def test_an_id_that_is_taken_is_drawn_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["aaaaaaaa", "aaaaaaaa", "bbbbbbbb"])
    monkeypatch.setattr("secrets.token_hex", lambda size: next(drawn))
    with write(engine) as conn:
        assert [make_job(conn), make_job(conn)] == ["aaaaaaaa", "bbbbbbbb"]
        monkeypatch.setattr("secrets.token_hex", lambda size: "aaaaaaaa")
        with pytest.raises(Unavailable):
            make_job(conn)
        assert len(jobs.list_page(conn).jobs) == 2


def test_ids_by_their_beginning(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["abcd0001", "abcd0002", "ffff0001"])
    monkeypatch.setattr("secrets.token_hex", lambda size: next(drawn))
    with write(engine) as conn:
        for seconds in range(3):
            make_job(conn, seconds=seconds)
        assert jobs.find(conn, "ABCD") == ["abcd0002", "abcd0001"]
        assert jobs.find(conn, "f") == ["ffff0001"]
        assert jobs.find(conn, "%") == []


@pytest.mark.parametrize("sort", names_of(jobs.SORTS))
def test_pages_neither_repeat_nor_skip(engine: Engine, sort: str) -> None:
    with write(engine) as conn:
        made = [make_job(conn, new_job(f"n{seconds % 3}"), seconds=seconds // 2) for seconds in range(9)]
    seen, after = [], ""
    with read(engine) as conn:
        whole = [job.id for job in jobs.list_page(conn, sort=sort).jobs]
        while True:
            page = jobs.list_page(conn, after=after, limit=2, sort=sort)
            seen += [job.id for job in page.jobs]
            assert page.page.total == 9
            after = page.page.next
            if not after:
                break
    assert seen == whole
    assert sorted(seen) == sorted(made)


def test_newest_first_unless_asked_otherwise(engine: Engine) -> None:
    with write(engine) as conn:
        old, new = make_job(conn, new_job("a"), seconds=0), make_job(conn, new_job("b"), seconds=60)
        assert [job.id for job in jobs.list_page(conn).jobs] == [new, old]
        assert [job.id for job in jobs.list_page(conn, sort="name").jobs] == [old, new]


def test_search_and_filters(engine: Engine) -> None:
    with write(engine) as conn:
        churn = make_job(conn, new_job("ÄRGER 100%_", notebook="deep/Churn.ipynb"))
        sales = make_job(conn, new_job("sales"))
        bring_to(conn, f"{sales}-1", RunState.FAILED)
        bring_to(conn, f"{sales}-2", RunState.COMPLETE)

        def found(**asked: object) -> list[str]:
            return [job.id for job in jobs.list_page(conn, **asked).jobs]  # type: ignore[arg-type]

        assert found(search="ärger churn") == [churn]
        assert found(search="0%_") == [churn]
        assert found(search="%") == [churn]
        assert found(search=sales[:6].upper()) == [sales]
        assert found(search="ärger sales") == []
        assert found(notebook="deep/Churn.ipynb") == [churn]
        assert found(notebook="elsewhere", file="/home/u/churn/deep/Churn.ipynb") == [churn]
        assert found(status=["failed"]) == [sales]
        assert found(status=["queued", "running"]) == [churn]
        assert jobs.list_page(conn, status=["complete"]).page.total == 0
        for wrong in ({"status": ["asleep"]}, {"sort": "mood"}, {"after": "???"}, {"after": token_of(["2026-01-01T00:00:00", "x"])}):
            with pytest.raises(BadInput):
                found(**wrong)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(states=st.lists(st.sampled_from([state for state in RunState if state is not RunState.CREATED]), min_size=1, max_size=5))
def test_the_status_in_sql_is_the_lifecycles(engine: Engine, states: list[RunState]) -> None:
    with write(engine) as conn:
        job = make_job(conn, runs_count=len(states))
        for number, state in enumerate(states, 1):
            bring_to(conn, f"{job}-{number}", state)
        expected = job_status({state: states.count(state) for state in states})
        shown = jobs.get(conn, job)
        assert shown is not None
        assert shown.status == expected
        for state in RunState:
            listed = job in [each.id for each in jobs.list_page(conn, status=[state], limit=1000).jobs]
            assert listed == (state is expected)


def test_a_page_costs_the_same_however_many_jobs_it_has(engine: Engine) -> None:
    statements: list[str] = []
    with write(engine) as conn:
        for seconds in range(20):
            make_job(conn, seconds=seconds)
    event.listen(engine, "after_cursor_execute", lambda conn, cursor, statement, *rest: statements.append(statement))
    spent = []
    for limit in (1, 20):
        statements.clear()
        with read(engine) as conn:
            assert len(jobs.list_page(conn, limit=limit).jobs) == limit
        spent.append(len(statements))
    assert spent[0] == spent[1]


def test_a_job_of_many_runs_has_counts_but_no_strip(engine: Engine) -> None:
    with write(engine) as conn:
        snapshots.insert_snapshot(conn, snapshot())
        job = jobs.insert(conn, new_job())
        runs.insert_many(conn, job, combinations(jobs.STRIP_LIMIT + 1))
        found = jobs.get(conn, job)
    assert found is not None
    assert (found.total, found.strip) == (jobs.STRIP_LIMIT + 1, "")


def test_deleting_leaves_one_event_and_no_rows(engine: Engine) -> None:
    with write(engine) as conn:
        job, other = make_job(conn), make_job(conn)
        bring_to(conn, f"{job}-1", RunState.COMPLETE)
        artifacts.replace(conn, f"{job}-1", [RunFile(path="out.csv", bytes=3, kind="created")])
        assert jobs.delete(conn, job)
        assert jobs.get(conn, job) is None
        assert runs.get(conn, f"{job}-1") is None
        assert attempts.list_of(conn, f"{job}-1") == []
        assert artifacts.list_of(conn, f"{job}-1") == []
        assert [found.kind for found in events.after(conn, 0, job=job).events] == ["job.deleted"]
        assert jobs.get(conn, other) is not None


def test_numbers_of_events_are_never_given_again(engine: Engine) -> None:
    with write(engine) as conn:
        job = make_job(conn)
        last = events.last_seq(conn)
        events.drop_job(conn, job)
    with write(engine) as conn:
        assert events.append(conn, "job.deleted", job) > last


def test_deletion_waits_for_active_runs(engine: Engine) -> None:
    with write(engine) as conn:
        job = make_job(conn, runs_count=1)
        bring_to(conn, f"{job}-1", RunState.RUNNING)
        jobs.request_delete(conn, job)
        assert jobs.to_delete(conn) == []
        runs.move(conn, f"{job}-1", RunState.CANCELED)
        assert jobs.to_delete(conn) == [job]


def test_unused_snapshots_are_dropped_and_used_ones_stay(engine: Engine) -> None:
    with write(engine) as conn:
        job = make_job(conn, new_job(snapshot_digest="b" * 64, environment_digest="f" * 64))
        make_job(conn)
        snapshots.insert_snapshot(conn, snapshot("b" * 64))
        assert snapshots.drop_unused(conn) == ([], [])
        jobs.delete(conn, job)
        assert snapshots.drop_unused(conn) == (["b" * 64], ["f" * 64])
        assert snapshots.digests(conn) == ({"a" * 64}, set())


def test_events_page_by_number(engine: Engine) -> None:
    with write(engine) as conn:
        job = make_job(conn)
        for number in range(5):
            events.append(conn, "test", job, run=f"{job}-1", data={"n": number})
        first = events.after(conn, 0, limit=3)
        rest = events.after(conn, first.last)
        nothing = events.after(conn, rest.last)
    numbers = [found.seq for found in itertools.chain(first.events, rest.events)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 6
    assert (nothing.events, nothing.last) == ([], rest.last)


def test_a_run_belongs_to_a_job(engine: Engine) -> None:
    from sqlalchemy.exc import NoResultFound

    with write(engine) as conn, pytest.raises(NoResultFound):
        runs.insert_many(conn, "00000000", [Combination(number=1, parameters={})])
