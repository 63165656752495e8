"""The states: every pair, the status of a job, and that SQL says the same."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_jobs.lifecycle import ACTIVE, FINAL, STATE_LETTERS, TRANSITIONS, JobState, RunState, can_move, job_status, sources_of

ALLOWED = {
    ("created", "queued"),
    ("created", "canceled"),
    ("queued", "init"),
    ("queued", "failed"),
    ("queued", "canceled"),
    ("init", "queued"),
    ("init", "running"),
    ("init", "complete"),
    ("init", "failed"),
    ("init", "canceled"),
    ("running", "queued"),
    ("running", "complete"),
    ("running", "failed"),
    ("running", "canceled"),
}


@pytest.mark.parametrize(("old", "new"), list(product(RunState, RunState)))
def test_every_pair(old: RunState, new: RunState) -> None:
    assert can_move(old, new) == ((old, new) in ALLOWED)
    assert (old in sources_of(new)) == can_move(old, new)


def test_final_states_are_those_without_a_way_out() -> None:
    assert {state for state in RunState if not TRANSITIONS[state]} == FINAL
    assert not ACTIVE & FINAL


def test_every_state_has_a_letter_of_its_own() -> None:
    assert set(STATE_LETTERS) == set(RunState)
    assert len(set(STATE_LETTERS.values())) == len(RunState)


def test_job_states_are_named() -> None:
    assert set(JobState) == {"draft", "active", "paused", "archived"}


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ({}, None),
        ({"complete": 0}, None),
        ({"created": 2}, "created"),
        ({"created": 1, "complete": 1}, "created"),
        ({"queued": 2}, "queued"),
        ({"queued": 1, "complete": 1}, "running"),
        ({"init": 1, "queued": 1}, "init"),
        ({"running": 1, "failed": 3}, "running"),
        ({"complete": 2}, "complete"),
        ({"complete": 2, "canceled": 1}, "canceled"),
        ({"complete": 2, "canceled": 1, "failed": 1}, "failed"),
    ],
)
def test_status_of_a_job(counts: dict[str, int], status: str | None) -> None:
    assert job_status(counts) == status


@given(st.dictionaries(st.sampled_from(list(RunState)), st.integers(0, 3)))
def test_a_job_has_ended_exactly_when_its_runs_have(counts: dict[str, int]) -> None:
    present = {state for state, number in counts.items() if number}
    status = job_status(counts)
    assert (status in FINAL) == (bool(present) and present <= FINAL)
    assert (status is None) == (not present)
