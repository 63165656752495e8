"""Holding a run to its cores and its memory: by a group of cgroup v2 where we were given a place for one, else, for the cores, by affinity."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Iterable
from pathlib import Path

from jupyter_jobs.runner import processes
from jupyter_jobs.runner.rundir import Resources

log = logging.getLogger("jupyter_jobs.runner")

PREFIX = "jupyter-jobs-"
PERIOD = 100_000
"""Microseconds in which a group may use its share of CPU; the system's own default."""


class Group:
    """A group for one run's processes, below a directory of cgroup v2 that was delegated to us. `cpu`, `memory`: whether it limits them."""

    def __init__(self, path: Path, *, cpu: bool, memory: bool) -> None:
        self.path = path
        self.cpu = cpu
        self.memory = memory

    def take(self, pid: int) -> None:
        """Move a process in; what it starts from now on is in too. Raises OSError."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def out_of_memory(self) -> int | None:
        """The most that the group held, if the system had to kill in it because it wanted more; else None."""
        if _counters(self.path / "memory.events").get("oom_kill", 0) == 0:
            return None
        # memory.peak came with Linux 5.19
        for name in ("memory.peak", "memory.max"):
            with contextlib.suppress(OSError, ValueError):
                return int((self.path / name).read_text())
        return 0

    def remove(self) -> None:
        """Remove the group, which is empty when the run has ended. One that is not is removed by a later run."""
        with contextlib.suppress(OSError):
            self.path.rmdir()


def make_group(parent: Path, resources: Resources) -> Group | None:
    """A new group below `parent` with the limits that can be set there; None where none can."""
    if not parent.name or (resources.memory is None and resources.cpu is None):
        return None
    _remove_left(parent)
    me = os.getpid()
    path = parent / f"{PREFIX}{me}-{processes.started(me)}"
    try:
        path.mkdir()
    except OSError as error:
        log.warning("no group can be made in %s: %s", parent, error)
        return None
    memory = resources.memory is not None and _limit(path / "memory.max", str(resources.memory))
    if memory:
        # else it would go on in swap, and a part of the run would be killed instead of the run
        _limit(path / "memory.swap.max", "0")
        _limit(path / "memory.oom.group", "1")
    cpu = resources.cpu is not None and _limit(path / "cpu.max", f"{max(1000, round(resources.cpu * PERIOD))} {PERIOD}")
    group = Group(path, cpu=cpu, memory=memory)
    if cpu or memory:
        return group
    group.remove()
    return None


def keep_to_cores(pids: Iterable[int], cores: float) -> None:
    """Let these processes, and what they start, use only so many cores (rounded up). Where the system has no affinity nothing happens."""
    if not hasattr(os, "sched_setaffinity"):
        return
    usable = sorted(os.sched_getaffinity(0))
    wanted = min(len(usable), math.ceil(cores))
    # other runs are to get other cores
    first = os.getpid() % len(usable)
    chosen = {usable[(first + number) % len(usable)] for number in range(wanted)}
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - no paths are wanted
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread), chosen)


def _limit(file: Path, text: str) -> bool:
    # opened for writing only if it is there: the controller may be switched off
    try:
        with file.open("r+") as opened:
            opened.write(text)
    except OSError:
        return False
    return True


def _remove_left(parent: Path) -> None:
    """Remove groups of runners that were killed: empty ones whose name is no living process's."""
    for path in parent.glob(f"{PREFIX}*"):
        pid, _, started = path.name.removeprefix(PREFIX).partition("-")
        try:
            living = pid.isdigit() and str(processes.started(int(pid))) == started
        except OSError:
            living = False
        if not living:
            with contextlib.suppress(OSError):
                path.rmdir()


def _counters(file: Path) -> dict[str, int]:
    with contextlib.suppress(OSError, ValueError):
        return {name: int(value) for name, value in (line.split() for line in file.read_text().splitlines())}
    return {}
