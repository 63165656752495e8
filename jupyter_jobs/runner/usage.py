"""What a run's processes use: sampled into `usage.jsonl`, less often as the run gets longer, and held against what the run may use."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import psutil

from jupyter_jobs.runner import rundir
from jupyter_jobs.runner.family import children_of
from jupyter_jobs.runner.rundir import RunSpec, UsageSample

log = logging.getLogger("jupyter_jobs.runner")

FIRST = 0.5
"""Seconds before the first sample: most short runs have ended by then, and cost nothing."""
INTERVAL = 1.0
KEPT = 600
"""Samples that are kept at most; then every other goes, and the next ones come half as often."""
WATCH = 0.2
"""Seconds between two looks at a run that has limits."""
WALK = 2.0
"""Seconds between two walks through what the run has written; `WATCH` where that is limited."""
SHARE = 20
"""Whatever takes a second is not done again for so many: looking on costs at most a twentieth of a core."""
FEW = 8
SMALL = 512 << 20
"""With more processes, or more bytes of memory, what they share is not told apart: that takes some 25 ms for each gigabyte."""
MOST_FILES = 100_000
"""Files beyond these are not counted."""

LINUX = sys.platform.startswith("linux")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Held(NamedTuple):
    """What processes hold together; `cpu` in seconds, `memory` in bytes."""

    cpu: float
    memory: int
    processes: int
    measure: Literal["pss", "rss"]


class Breach(NamedTuple):
    """A run uses more of a resource (a field of `rundir.Resources`) than it may."""

    resource: Literal["memory", "storage"]
    asked: int
    used: int


class Usage:
    """Looks at the processes below `root` on a timer, from `start` to `stop`. `breached` is called once, when the run uses more than it may."""

    def __init__(self, spec: RunSpec, run_dir: Path, breached: Callable[[Breach], None]) -> None:
        self.peak = 0
        self.cpu = 0.0
        self.last: Held | None = None
        self.free = 0
        """Bytes that the machine had left at the last look."""
        self._spec = spec
        self._work = run_dir / "work"
        self._file = run_dir / rundir.USAGE
        self._breached: Callable[[Breach], None] | None = breached
        self._limited = spec.resources.memory is not None or spec.resources.storage is not None
        self._root = 0
        self._timer: asyncio.TimerHandle | None = None
        self._samples: list[UsageSample] = []
        self._interval = INTERVAL
        self._due = 0.0
        self._storage: int | None = None
        self._walk_due = 0.0
        self._walking: asyncio.Future[int] | None = None
        self._frozen: int | None = None if spec.workspace.mode == "copy" else 0
        self._stopped = False
        self._kills = system_kills()

    def start(self, root: int) -> None:
        """Watch all descendants of the process `root`."""
        self._root = root
        self._due = time.monotonic() + FIRST
        self._wait(WATCH if self._limited else FIRST)

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        if self._timer:
            self._timer.cancel()

    def system_killed(self) -> bool:
        """Whether the system has killed something since the run began because memory ran out; perhaps not of this run."""
        return system_kills() > self._kills

    async def last_look(self) -> None:
        """How much the run has written is looked at once more, if that is limited: the last of it may have come since the last time."""
        if self._root and self._spec.resources.storage is not None:
            if self._walking:
                await asyncio.wait({self._walking})
            self._wrote(await asyncio.to_thread(self._walk))

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        began = time.monotonic()
        due = began >= self._due
        held = held_below(self._root, closely=due, limit=self._spec.resources.memory)
        self.last = held
        self.free = psutil.virtual_memory().available
        self.cpu = max(self.cpu, held.cpu)
        self.peak = max(self.peak, held.memory)
        if due:
            self._keep(held)
        if self._spec.resources.memory is not None and held.memory > self._spec.resources.memory:
            self._breach(Breach("memory", self._spec.resources.memory, held.memory))
        if began >= self._walk_due and self._walking is None:
            self._walking = asyncio.ensure_future(asyncio.to_thread(self._walk))
            self._walking.add_done_callback(self._walked)
        if not self._stopped:
            now = time.monotonic()
            until = self._due - now
            self._wait(max(0.0, min(until, WATCH) if self._limited else until, SHARE * (now - began)))

    def _keep(self, held: Held) -> None:
        sample = UsageSample(
            at=round(time.time(), 2),
            cpu=round(self.cpu, 2),
            memory=held.memory,
            processes=held.processes,
            storage=self._storage,
            measure=held.measure,
        )
        self._samples.append(sample)
        try:
            if len(self._samples) > KEPT:
                self._samples = thinned(self._samples)
                self._interval *= 2
                rundir.write_atomic(self._file, b"".join(rundir.encode(each) + b"\n" for each in self._samples))
            else:
                descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(rundir.encode(sample) + b"\n")
        except OSError as error:
            # a full disk costs a run its curve, nothing else
            log.warning("%s cannot be written: %s", self._file, error)
        self._due = time.monotonic() + self._interval

    # -- what the run writes -------------------------------------------------------------------------------------------

    def _walk(self) -> int:
        """Bytes that the run has written, less what was copied for it. In a thread."""
        began = time.monotonic()
        upper = [self._work / "upper", *self._work.glob("env/*/upper")]
        if self._frozen is None:
            self._frozen = self._size([Path(self._spec.workspace.tree)])
        size = self._size([self._work / "project"] if self._spec.workspace.mode == "copy" else upper)
        now = time.monotonic()
        pause = WALK if self._spec.resources.storage is None else WATCH
        self._walk_due = now + max(pause, SHARE * (now - began))
        return max(0, size - self._frozen)

    def _size(self, roots: Iterable[Path]) -> int:
        """Bytes of disk that the files below `roots` take."""
        total = count = 0
        waiting = [str(root) for root in roots]
        while waiting and count < MOST_FILES:
            try:
                with os.scandir(waiting.pop()) as entries:
                    for entry in entries:
                        count += 1
                        with contextlib.suppress(OSError):
                            if entry.is_dir(follow_symlinks=False):
                                waiting.append(entry.path)
                            else:
                                total += entry.stat(follow_symlinks=False).st_blocks * 512
            except OSError:
                # removed meanwhile, or closed by the run to itself
                continue
        return total

    def _walked(self, walking: asyncio.Future[int]) -> None:
        self._walking = None
        if not walking.cancelled() and walking.exception() is None:
            self._wrote(walking.result())

    def _wrote(self, size: int) -> None:
        self._storage = size
        limit = self._spec.resources.storage
        if limit is not None and size > limit:
            self._breach(Breach("storage", limit, size))

    def _breach(self, breach: Breach) -> None:
        if self._breached:
            breached, self._breached = self._breached, None
            breached(breach)


def thinned(samples: Sequence[UsageSample]) -> list[UsageSample]:
    """Half as many samples: of each two the later, with the larger memory, so that no peak is lost."""
    pairs = zip(samples[::2], samples[1::2], strict=False)
    halved = [msgspec.structs.replace(later, memory=max(first.memory, later.memory)) for first, later in pairs]
    return [*halved, samples[-1]] if len(samples) % 2 else halved


def system_kills() -> int:
    """How many processes of this machine the system has killed because memory ran out; 0 where it does not count them."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_bytes().splitlines():
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    return 0


# -- processes ---------------------------------------------------------------------------------------------------------


def held_below(root: int, *, closely: bool = True, limit: int | None = None) -> Held:
    """What all descendants of a process hold. `closely`: tell shared memory apart, if that is not too much work; it is always tried before more
    than `limit` bytes are found."""
    if not LINUX:
        return _held_elsewhere(root)
    cpu = _reaped(root)
    resident = 0
    alive = []
    for pid in family_of(root):
        try:
            fields = _fields(pid)
            cpu += sum(map(int, fields[11:15])) / TICKS
            if fields[0] not in "ZX":
                resident += int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * PAGE
                alive.append(pid)
        except OSError:
            # it has ended
            continue
    if (closely and len(alive) <= FEW and resident <= SMALL) or (limit is not None and resident > limit):
        shared = _proportional(alive)
        if shared is not None:
            return Held(cpu, shared, len(alive), "pss")
    return Held(cpu, resident, len(alive), "rss")


def family_of(root: int) -> list[int]:
    """All descendants of a process, zombies too. Linux only."""
    found: list[int] = []
    waiting = [root]
    while waiting:
        with contextlib.suppress(OSError):
            children = children_of(waiting.pop())
            found += children
            waiting += children
    return found


def _fields(pid: int) -> list[str]:
    """Of `/proc/<pid>/stat`, from the state on. Raises OSError."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def _reaped(pid: int) -> float:
    """Seconds of CPU of the children that a process has seen to their end."""
    try:
        return sum(map(int, _fields(pid)[13:15])) / TICKS
    except OSError:
        return 0.0


def _proportional(pids: Iterable[int]) -> int | None:
    """Bytes of memory, in which a page that processes share counts once altogether, and of swap; None where the system does not tell."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            if not Path(f"/proc/{os.getpid()}/smaps_rollup").exists():
                return None
            continue
        except OSError:
            return None
        total += sum(int(line.split()[1]) for line in lines if line.startswith((b"Pss:", b"SwapPss:"))) * 1024
    return total


def _held_elsewhere(root: int) -> Held:
    cpu, memory, count = 0.0, 0, 0
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(root).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                cpu += sum(process.cpu_times()[:4])
                memory += process.memory_info().rss
                count += 1
    return Held(cpu, memory, count, "rss")
