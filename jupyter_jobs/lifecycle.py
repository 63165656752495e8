"""States of jobs and runs, the transitions between them, and what a job's runs say about the job. The only definition; pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class RunState(StrEnum):
    """States of a run. Shown besides: `scheduled` while its time has not come, `canceling` once a cancel was asked."""

    CREATED = "created"
    QUEUED = "queued"
    INIT = "init"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELED = "canceled"


class JobState(StrEnum):
    """What a person decided about a job; its progress is derived from its runs."""

    DRAFT = "draft"
    ACTIVE = "active"
    PAUSED = "paused"
    ARCHIVED = "archived"


FINAL = frozenset({RunState.COMPLETE, RunState.FAILED, RunState.CANCELED})
ACTIVE = frozenset({RunState.INIT, RunState.RUNNING})

TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.CREATED: frozenset({RunState.QUEUED, RunState.CANCELED}),
    RunState.QUEUED: frozenset({RunState.INIT, RunState.FAILED, RunState.CANCELED}),
    # back to queued: another attempt
    RunState.INIT: frozenset({RunState.RUNNING, RunState.COMPLETE, RunState.FAILED, RunState.CANCELED, RunState.QUEUED}),
    RunState.RUNNING: frozenset({RunState.COMPLETE, RunState.FAILED, RunState.CANCELED, RunState.QUEUED}),
    RunState.COMPLETE: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELED: frozenset(),
}

JOB_TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.DRAFT: frozenset({JobState.ACTIVE, JobState.ARCHIVED}),
    JobState.ACTIVE: frozenset({JobState.PAUSED, JobState.ARCHIVED}),
    JobState.PAUSED: frozenset({JobState.ACTIVE, JobState.ARCHIVED}),
    JobState.ARCHIVED: frozenset({JobState.ACTIVE}),
}

STATE_LETTERS: Mapping[RunState, str] = {
    RunState.CREATED: "n",
    RunState.QUEUED: "q",
    RunState.INIT: "i",
    RunState.RUNNING: "r",
    RunState.COMPLETE: "c",
    RunState.FAILED: "f",
    RunState.CANCELED: "x",
}


def can_move(old: RunState, new: RunState) -> bool:
    """Whether a run may go from `old` to `new`."""
    return new in TRANSITIONS[old]


def sources_of(new: RunState) -> list[RunState]:
    """The states from which a run may go to `new`, in the order of the definition."""
    return [old for old, targets in TRANSITIONS.items() if new in targets]


def job_status(counts: Mapping[str, int]) -> RunState | None:
    """The status that a job's runs give it, from `{state: number of runs}`; None for a job without runs.

    Anything active or waiting comes first; among ended runs one failure makes the job failed, then one cancel canceled.
    """
    for state in (RunState.RUNNING, RunState.INIT, RunState.QUEUED, RunState.CREATED):
        if counts.get(state, 0):
            started = any(counts.get(done, 0) for done in FINAL)
            return RunState.RUNNING if started and state is not RunState.CREATED else state
    for state in (RunState.FAILED, RunState.CANCELED, RunState.COMPLETE):
        if counts.get(state, 0):
            return state
    return None
