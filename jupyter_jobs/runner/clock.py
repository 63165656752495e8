"""The time of a run: seconds since the epoch, counted from the run's start by a clock that nobody sets, so that no span is ever negative."""

from __future__ import annotations

import time

# counts while the machine sleeps, where the platform has such a clock
_COUNTING = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_anchor = (time.time(), time.clock_gettime(_COUNTING))


def begin() -> float:
    """Take the wall clock's time as it is now, and count from it; returns it. A process that was forked calls it for itself."""
    global _anchor
    _anchor = (time.time(), time.clock_gettime(_COUNTING))
    return _anchor[0]


def now() -> float:
    """The time; it only goes forward, whatever becomes of the wall clock."""
    wall, start = _anchor
    return wall + time.clock_gettime(_COUNTING) - start
