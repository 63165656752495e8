"""What a run needs before it can start: its frozen environment as it was, and its run directory."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from jupyter_jobs.dispatcher.state import Active, Dispatch
from jupyter_jobs.settings import Jobs


class EnvironmentCheck(msgspec.Struct, frozen=True):
    """A frozen environment that must be as it was, unless the job accepts what has drifted."""

    digest: str


def environment_of(conn: Connection, job: str) -> EnvironmentCheck | None:
    """What is to be checked before a run of the job starts; None when nothing is."""
    return None


def check_environment(settings: Jobs, check: EnvironmentCheck) -> None:
    """Raises `JobsError` (`environment_drifted`) with the files that differ."""


def write_run(dispatch: Dispatch, active: Active) -> str:
    """Make the run directory (0700) with `run.json`; the kind of workspace."""
    raise NotImplementedError
