"""The lifecycle over the real store, by a machine that does whatever may happen in whatever order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Connection, Engine, delete, select

from jupyter_jobs.lifecycle import ACTIVE, FINAL, JobState, RunState, can_move
from jupyter_jobs.model import Combination, Progress, RetryPolicy, Run, RunError
from jupyter_jobs.store import attempts, ending, events, jobs, output, queue, runs
from jupyter_jobs.store.database import read, write
from jupyter_jobs.store.tables import events as events_table
from jupyter_jobs.store.tables import jobs as jobs_table
from jupyter_jobs.store.tables import pause
from jupyter_jobs.store.tables import runs as runs_table
from tests.factories import START, make_job, new_job

POLICIES = (RetryPolicy(attempts=0), RetryPolicy(attempts=2, delay=5), RetryPolicy(attempts=1, on=["interrupted"]))
CODES = ("cell_error", "interrupted")
WHICH = st.integers(0, 30)
"""Chooses one of those there are, counted round."""


class Lifecycle(RuleBasedStateMachine):
    """Two jobs and everything that dispatchers, people and late runners do to their runs."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.jobs: list[str] = []
        self.ended: dict[str, Run] = {}
        self.replayed: dict[str, RunState] = {}
        self.due: set[str] = set()
        self.seq = 0

    @initialize(policy=st.sampled_from(POLICIES), fail_fast=st.booleans(), most=st.integers(0, 2))
    def begin(self, policy: RetryPolicy, fail_fast: bool, most: int) -> None:
        with write(self.engine) as conn:
            for table in (jobs_table, events_table, pause):
                conn.execute(delete(table))
            self.seq = self._last_number(conn)
            first = msgspec.structs.replace(new_job(), retries=policy, fail_fast=fail_fast)
            second = msgspec.structs.replace(new_job(), retries=POLICIES[1], max_parallel=most)
            self.jobs = [make_job(conn, first, runs_count=3), make_job(conn, second, runs_count=2)]

    # -- what a dispatcher does ----------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 3))
    def claim(self, count: int) -> None:
        with write(self.engine) as conn:
            paused = queue.is_paused(conn)
            before = self._runs(conn)
            taken = queue.take(conn, count, host="h", boot_id="b", at=self.now)
            assert not (paused and taken.claims)
            for claim in taken.claims:
                assert before[claim.run].state is RunState.QUEUED
                assert claim.attempt == before[claim.run].attempt + 1
                assert before[claim.run].not_before is None or before[claim.run].not_before <= self.now
            assert taken.not_before is None or taken.not_before > self.now
            for job in self.jobs:
                found = jobs.get(conn, job)
                assert found is not None
                active = sum(run.job == job and run.state in ACTIVE for run in self._runs(conn).values())
                claimed = sum(claim.job == job for claim in taken.claims)
                assert not claimed or (found.state is JobState.ACTIVE and (not found.max_parallel or active <= found.max_parallel))

    @rule(which=WHICH, late=st.integers(0, 2))
    def start_cells(self, which: int, late: int) -> None:
        self._by_attempt(
            which, late, lambda conn, run, attempt: runs.move(conn, run.id, RunState.RUNNING, attempt=attempt, at=self.now), RunState.INIT
        )

    @rule(which=WHICH, late=st.integers(0, 2), done=st.integers(0, 3))
    def progress(self, which: int, late: int, done: int) -> None:
        self._by_attempt(which, late, lambda conn, run, attempt: runs.set_progress(conn, run.id, attempt, Progress(done=done, total=3)), *ACTIVE)

    @rule(which=WHICH, late=st.integers(0, 2), state=st.sampled_from(sorted(FINAL)), code=st.sampled_from(CODES), due=st.booleans())
    def end(self, which: int, late: int, state: RunState, code: str, due: bool) -> None:
        error = RunError(code=code, message="It failed.") if state is RunState.FAILED else None

        def act(conn: Connection, run: Run, attempt: int) -> bool:
            ended = ending.end(conn, run.id, attempt, state, error=error, at=self.now, output_due=due, draw=lambda: 0.5)
            assert ended is None or ended.state in (state, RunState.QUEUED)
            if ended is not None and ended.state in FINAL:
                assert ended.output_due == due
                self.due |= {run.id} if due else set()
            return ended is not None

        self._by_attempt(which, late, act, *ACTIVE)

    @rule(which=WHICH, late=st.integers(0, 2))
    def queue_again(self, which: int, late: int) -> None:
        """It was claimed, and nothing of it was started."""

        def act(conn: Connection, run: Run, attempt: int) -> bool:
            return ending.give_back(conn, run.id, attempt, at=self.now)

        self._by_attempt(which, late, act, *ACTIVE)

    @rule(which=WHICH)
    @precondition(lambda self: self.due)
    def deliver(self, which: int) -> None:
        with write(self.engine) as conn:
            run = sorted(self.due)[which % len(self.due)]
            output.settle(conn, run, {"files": 1}, at=self.now)
            self.due.discard(run)
            self.ended[run] = msgspec.structs.replace(self.ended[run], seq=events.last_seq(conn))

    @rule(seconds=st.integers(1, 8))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    # -- what people do ------------------------------------------------------------------------------------------------

    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        with write(self.engine) as conn:
            run = self._one(conn, which)
            assert runs.request_cancel(conn, run.id, at=self.now) == (run.state not in FINAL and run.status != "canceling")

    @rule(which=WHICH)
    def cancel_job(self, which: int) -> None:
        with write(self.engine) as conn:
            runs.request_cancel_job(conn, self.jobs[which % 2], at=self.now)

    @rule(which=WHICH)
    @precondition(lambda self: self.ended)
    def run_again(self, which: int) -> None:
        with write(self.engine) as conn:
            run = list(self.ended.values())[which % len(self.ended)]
            newest = [each for each in runs.newest(conn, run.job) if each.combination == run.combination]
            assert len(newest) == 1, "one run stands for each combination"
            if newest[0].state in FINAL:
                again = Combination(number=run.combination, parameters=run.parameters, label=run.label)
                (made,) = runs.append(conn, run.job, [again], rerun_of=[run.id], at=self.now)
                assert made not in self.replayed

    @rule(which=WHICH, priority=st.integers(-2, 2), most=st.integers(0, 2))
    def change(self, which: int, priority: int, most: int) -> None:
        with write(self.engine) as conn:
            jobs.change(conn, self.jobs[which % 2], priority=priority, max_parallel=most, at=self.now)

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        with write(self.engine) as conn:
            queue.set_paused(conn, "u" if paused else None, at=self.now)

    @rule(which=WHICH, active=st.booleans())
    def pause_job(self, which: int, active: bool) -> None:
        new, old = (JobState.ACTIVE, JobState.PAUSED) if active else (JobState.PAUSED, JobState.ACTIVE)
        with write(self.engine) as conn:
            jobs.set_state(conn, self.jobs[which % 2], new, [old], at=self.now)

    @rule(which=WHICH)
    def extend(self, which: int) -> None:
        with write(self.engine) as conn:
            run = self._one(conn, which)
            assert runs.extend(conn, run.id, 60, at=self.now) == (run.state in ACTIVE and run.status != "canceling")

    @rule(which=WHICH, to=st.sampled_from(("first", "last")))
    def move(self, which: int, to: str) -> None:
        with write(self.engine) as conn:
            run = self._one(conn, which)
            if run.state is RunState.QUEUED:
                queue.move(conn, run.id, to=to, at=self.now)

    # -- what is always so ---------------------------------------------------------------------------------------------

    @invariant()
    def all_is_well(self) -> None:
        with read(self.engine) as conn:
            found = self._runs(conn)
            self._replay(conn)
            assert {run.id: run.state for run in found.values()} == self.replayed, "events tell what is stored"
            for run in found.values():
                if run.state in FINAL:
                    # that another run stands for it now is no change of it
                    as_ended = msgspec.structs.replace(run, superseded=False)
                    assert self.ended.setdefault(run.id, as_ended) == as_ended, "an end is final"
                tried = attempts.list_of(conn, run.id)
                assert [each.number for each in tried] == list(range(1, run.attempt + 1))
                under_way = [each.number for each in tried if each.ended_at is None]
                assert under_way == ([run.attempt] if run.state in ACTIVE else []), "the present attempt is the only one under way"
                assert run.not_before is None or run.state is RunState.QUEUED
            assert {each.run for each in output.due(conn)} == self.due, "what is to be delivered is, once"
            self._queue_is_what_waits(conn, found)

    def _queue_is_what_waits(self, conn: Connection, found: dict[str, Run]) -> None:
        waiting, page = queue.list_page(conn, limit=100)
        assert {each.run.id for each in waiting} == {run.id for run in found.values() if run.state is RunState.QUEUED}
        assert page.total == len(waiting) == queue.count(conn)
        startable = [each.run.id for each in waiting if not each.why]
        head = queue.first(conn)
        assert ([head.run] if head else []) == startable[:1], "what starts next is the first that can"

    # ------------------------------------------------------------------------------------------------------------------

    def _by_attempt(self, which: int, late: int, act: object, *states: RunState) -> None:
        """What the present attempt (`late` 0) or a superseded one says. It counts only from the present one, in one of `states`."""
        with write(self.engine) as conn:
            run = self._one(conn, which)
            attempt = run.attempt - late
            before = self._rows(conn, run)
            changed = act(conn, run, attempt)  # type: ignore[operator]
            assert changed == (not late and run.state in states), (run.state, attempt)
            if not changed:
                assert self._rows(conn, run) == before, "it changed nothing"

    def _replay(self, conn: Connection) -> None:
        found = events.after(conn, self.seq, 1000).events
        assert [each.seq for each in found] == list(range(self.seq + 1, self.seq + 1 + len(found))), "no event is missing or doubled"
        for each in found:
            self.seq = each.seq
            if each.kind == "job.created":
                self.replayed |= {f"{each.job}-{number}": RunState.QUEUED for number in range(1, int(str(each.data["total"])) + 1)}
            elif each.kind == "run.created":
                assert each.run not in self.replayed
                self.replayed[each.run] = RunState(each.state)
            elif each.kind == "run.state":
                assert can_move(self.replayed[each.run], RunState(each.state))
                self.replayed[each.run] = RunState(each.state)

    def _one(self, conn: Connection, which: int) -> Run:
        found = list(self._runs(conn).values())
        return found[which % len(found)]

    @staticmethod
    def _runs(conn: Connection) -> dict[str, Run]:
        rows = conn.execute(select(runs_table).order_by(runs_table.c.job, runs_table.c.number)).mappings()
        return {row["id"]: runs.struct_of(row) for row in rows}

    @staticmethod
    def _rows(conn: Connection, run: Run) -> object:
        row = conn.execute(select(runs_table).where(runs_table.c.id == run.id)).one()
        return tuple(row), attempts.list_of(conn, run.id), events.last_seq(conn)

    @staticmethod
    def _last_number(conn: Connection) -> int:
        return int(conn.exec_driver_sql("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'").scalar() or 0)


@pytest.fixture
def machine(engine: Engine) -> Iterator[type[Lifecycle]]:
    if engine.dialect.name != "sqlite":
        pytest.skip("many small transactions, and SQLite's own numbering")
    Lifecycle.engine = engine
    yield Lifecycle
    del Lifecycle.engine


def test_whatever_happens_the_lifecycle_holds(machine: type[Lifecycle]) -> None:
    bounded = settings(max_examples=20, stateful_step_count=35, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=bounded)
