"""Ends of attempts: what is tried again, and what a failure for good means for others."""

from __future__ import annotations

import msgspec
from sqlalchemy import Engine

from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.model import RetryPolicy
from jupyter_jobs.store import attempts, ending, events, jobs, runs
from jupyter_jobs.store.database import write
from jupyter_jobs.store.ending import Ended
from jupyter_jobs.store.runs import Facts
from tests.factories import ERROR, at, bring_to, make_job, new_job

AGAIN = Ended(state=RunState.QUEUED)
FOR_GOOD = Ended(state=RunState.FAILED)


def with_fields(**fields: object) -> jobs.NewJob:
    return msgspec.structs.replace(new_job(), **fields)


def test_attempts_are_used_up(engine: Engine) -> None:
    with write(engine) as conn:
        run = make_job(conn, with_fields(retries=RetryPolicy(attempts=2, delay=10, jitter=0.5)), runs_count=1) + "-1"
        for attempt, result in ((1, AGAIN), (2, AGAIN), (3, FOR_GOOD)):
            assert runs.claim(conn, run, attempt, host="h", boot_id="b")
            assert runs.extend(conn, run, 60)
            assert ending.end(conn, run, attempt, RunState.FAILED, error=ERROR, exit_code=1, at=at(attempt), draw=lambda: 0.5) == result
            assert ending.end(conn, run, attempt, RunState.COMPLETE) is None, "an end is final"
            found = runs.get(conn, run)
            assert found is not None
            if result is AGAIN:
                assert (found.not_before, found.error, found.extended) == (at(attempt + 7.5), None, 0)
        assert (found.state, found.error, found.extended) == ("failed", ERROR, 60)
        assert [(each.state, each.error, each.exit_code) for each in attempts.list_of(conn, run)] == [("failed", ERROR, 1)] * 3


def test_being_queued_again_uses_no_attempt_up(engine: Engine) -> None:
    """It was claimed and never started."""
    with write(engine) as conn:
        run = make_job(conn, with_fields(retries=RetryPolicy(attempts=1)), runs_count=1) + "-1"
        runs.claim(conn, run, 1, host="h", boot_id="b")
        runs.move(conn, run, RunState.QUEUED, attempt=1)
        runs.claim(conn, run, 2, host="h", boot_id="b")
        assert ending.end(conn, run, 2, RunState.FAILED, error=ERROR) == AGAIN
        runs.claim(conn, run, 3, host="h", boot_id="b")
        assert ending.end(conn, run, 3, RunState.FAILED, error=ERROR) == FOR_GOOD


def test_what_is_to_be_canceled_or_deleted_is_not_tried_again(engine: Engine) -> None:
    with write(engine) as conn:
        job = make_job(conn, with_fields(retries=RetryPolicy(attempts=9)))
        for number in (1, 2):
            bring_to(conn, f"{job}-{number}", RunState.RUNNING)
        runs.request_cancel(conn, f"{job}-1")
        assert ending.end(conn, f"{job}-1", 1, RunState.FAILED, error=ERROR) == FOR_GOOD
        jobs.request_delete(conn, job)
        assert ending.end(conn, f"{job}-2", 1, RunState.FAILED, error=ERROR) == Ended(state=RunState.FAILED, deleting=True)


def test_only_a_failure_for_good_ends_a_job_that_fails_fast(engine: Engine) -> None:
    with write(engine) as conn:
        job = make_job(conn, with_fields(retries=RetryPolicy(attempts=1), fail_fast=True), runs_count=5)
        complete, canceled, running, fails, waits = (f"{job}-{number}" for number in range(1, 6))
        bring_to(conn, complete, RunState.COMPLETE)
        for run in (canceled, running, fails):
            bring_to(conn, run, RunState.RUNNING)
        runs.request_cancel(conn, canceled)
        assert ending.end(conn, fails, 1, RunState.FAILED, error=ERROR) == AGAIN
        runs.claim(conn, fails, 2, host="h", boot_id="b")
        assert ending.end(conn, fails, 2, RunState.FAILED, error=ERROR) == Ended(state=RunState.FAILED, others=2)
        ending.end(conn, canceled, 1, RunState.CANCELED)
        ending.end(conn, running, 1, RunState.CANCELED)
        found = {run.id: (run.state, run.error.code if run.error else "") for run in runs.list_page(conn, job).runs}
        assert found == {
            complete: ("complete", ""),
            canceled: ("canceled", ""),  # a person's wish came first
            running: ("canceled", "fail_fast"),
            fails: ("failed", ERROR.code),
            waits: ("canceled", "fail_fast"),
        }
        said = [event.data.get("code") for event in events.after(conn, 0, run=running).events if event.kind == "run.cancel"]
        assert said == ["fail_fast"]


def test_one_that_completes_before_the_cancel_reaches_it_is_complete(engine: Engine) -> None:
    with write(engine) as conn:
        job = make_job(conn, with_fields(retries=RetryPolicy(attempts=0), fail_fast=True))
        for number in (1, 2):
            bring_to(conn, f"{job}-{number}", RunState.RUNNING)
        ending.end(conn, f"{job}-1", 1, RunState.FAILED, error=ERROR)
        ending.end(conn, f"{job}-2", 1, RunState.COMPLETE)
        found = runs.get(conn, f"{job}-2")
        assert found is not None
        assert (found.state, found.error) == ("complete", None)


def test_the_largest_memory_is_kept_at_the_job(engine: Engine) -> None:
    with write(engine) as conn:
        job = make_job(conn, runs_count=3)
        for number, peak in ((1, 50), (2, 70), (3, 60)):
            bring_to(conn, f"{job}-{number}", RunState.RUNNING)
            ending.end(conn, f"{job}-{number}", 1, RunState.COMPLETE, facts=Facts(peak_memory=peak))
        assert jobs.peaks_of(conn, [job]) == {job: 70}
