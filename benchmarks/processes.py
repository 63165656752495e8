"""What everything that this process started has cost: processor time and memory of all its descendants, adopted ones included."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from jupyter_jobs.runner import processes

TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 60.0


@dataclass(frozen=True)
class Stat:
    """A line of `/proc/PID/stat`; `cpu` in seconds, with that of children it has waited for."""

    pid: int
    parent: int
    zombie: bool
    cpu: float


@contextmanager
def household() -> Iterator[None]:
    """Everything started inside stays below this process, and nothing of it is left at the end, whatever the end."""
    processes.adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    try:
        yield
    finally:
        while left := [one.pid for one in descendants() if not one.zombie]:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)


def descendants(of: int = 0) -> list[Stat]:
    """Every process below this one, or below `of`, zombies included."""
    below: dict[int, list[Stat]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (found := stat(int(entry.name))):
            below.setdefault(found.parent, []).append(found)
    tree: list[Stat] = list(below.get(of or os.getpid(), []))
    for one in tree:
        tree += below.get(one.pid, [])
    return tree


def stat(pid: int) -> Stat | None:
    """None for a process that has gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Stat(pid, int(fields[1]), fields[0] == "Z", sum(map(int, fields[11:15])) / TICKS)


def alive(pid: int) -> bool:
    found = stat(pid)
    return found is not None and not found.zombie


def cpu_seconds() -> float:
    """Processor time so far of all that this process has started, without its own. Exact while nothing of it is just ending."""
    reaped = resource.getrusage(resource.RUSAGE_CHILDREN)
    return reaped.ru_utime + reaped.ru_stime + sum(one.cpu for one in descendants())


def settled() -> float:
    """`cpu_seconds` once they stand still (2 ticks in 0.3 s), so that what comes after an answer is counted too; after 10 s as they are."""
    before = cpu_seconds()
    for _ in range(33):
        time.sleep(0.3)
        now = cpu_seconds()
        if now - before <= 2 / TICKS:
            return now
        before = now
    return before


def commands(text: str) -> list[int]:
    """Living descendants whose command line holds `text`."""
    found = []
    for one in descendants():
        try:
            if not one.zombie and text in Path(f"/proc/{one.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                found.append(one.pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def until(what: str, holds: Callable[[], bool], seconds: float = PATIENCE, pause: float = 0.1) -> None:
    """Wait for it. Raises SystemExit that names it when it takes too long."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"waited {seconds:g} s in vain: {what}")
        time.sleep(pause)


@contextmanager
def watched(pause: float = 0.05) -> Iterator[dict[str, float]]:
    """By how many MB what all descendants hold together grows at most (`peak`). Shared pages are shared out (PSS)."""
    before = memory()
    held = {"peak": 0.0}
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(pause):
            held["peak"] = max(held["peak"], (memory() - before) / 1e6)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield held
    finally:
        ended.set()
        thread.join()


def memory(of: int = 0) -> int:
    """Bytes that all descendants hold now, or `of` and those below it, PSS."""
    return sum(share(one.pid) for one in descendants(of) if not one.zombie) + (share(of) if of else 0)


def share(pid: int) -> int:
    """A process's PSS in bytes; 0 when it has gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        # ended between being listed and being read
        return 0
    return 0
