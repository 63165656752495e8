"""How an execution went."""

from __future__ import annotations

from typing import Literal

import msgspec

from jupyter_jobs.runner.confine import Group
from jupyter_jobs.runner.rundir import RunError


class Stopped(Exception):
    """The run was told to stop, and has."""


class Outcome(msgspec.Struct):
    """Filled as the execution goes, so that what was reached is known however it ends."""

    state: Literal["complete", "failed", "canceled"] = "complete"
    error: RunError | None = None
    records: dict[str, object] = {}
    kernel_exit: int | None = None
    memory: int | None = None
    cpu: float | None = None
    peak: int = 0
    """The most memory of all processes together that was sampled."""
    clear: bool = False
    """Whether it is certain that no process of the run is left."""
    group: Group | None = None
    """The group that the run's processes are in, to be removed when they have ended."""
    done: int = 0
    total: int = 0

    def fail(self, error: RunError) -> None:
        """The run has failed; what failed first counts."""
        self.state = "failed"
        self.error = self.error or error
