"""A sweep: a job, a storm, and what must be so afterwards; in figures."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.faults.checks import check
from tests.acceptance.faults.site import Site, made_site
from tests.acceptance.faults.storm import Watch, beat, ensure, rage

DISK_BYTES = 64 << 20
NO_ROOM = frozenset({"no_room", "not_stored", "interrupted", "kernel_died", "kernel_not_started", "workspace_failed", "cell_error"})
"""What a run may say that found the disk full. One that cannot even write why it ends says what killed ones say."""
FULL_SECONDS = 3.0
"""How long the disk stays full, unless the job goes on all the same."""


@dataclass(frozen=True)
class Figures:
    """Of one sweep: what was killed, how the runs ended, and how long the storm lasted, in seconds."""

    seed: int
    how: str
    runs: int
    kills: Counter[str]
    outcomes: Counter[str]
    seconds: float


def sweep(home: Path, seed: int, runs: int, *, most: int, gap: int = 4, **settings: object) -> Figures:
    """One job of `runs` runs, of which up to `most` processes are killed, about one each `gap` events. Fails where anything is untrue."""
    with made_site(home, number=seed, **settings) as site:
        job = site.submit(runs)
        began = time.monotonic()
        storm = asyncio.run(rage(site, job, random.Random(seed), most=most, gap=gap))
        seconds = time.monotonic() - began
        outcomes = check(site, job, storm)
    how = "copies" if settings.get("workspace") == "copy" else "overlay"
    how += ", spawned" if settings.get("fork") is False else ", forked"
    return Figures(seed, how, runs, storm.counts(), outcomes, seconds)


def full_disk(home: Path, seed: int, runs: int, *, times: int = 3) -> Figures:
    """The store on a disk of 64 MB that is filled `times` times while the job runs, and freed again. Raises PermissionError where nothing may be
    mounted here."""
    with _disk(home / "disk") as disk, made_site(home / "site", number=seed, data=disk / "jobs") as site:
        job = site.submit(runs)
        rng = random.Random(seed)
        began = time.monotonic()
        storm = asyncio.run(rage(site, job, rng, most=0, gap=1, also=lambda watch: _fill(site, disk, watch, rng, times)))
        seconds = time.monotonic() - began
        outcomes = check(site, job, storm, excused=NO_ROOM)
    return Figures(seed, f"disk of {DISK_BYTES >> 20} MB, full {times} times", runs, storm.counts(), outcomes, seconds)


async def _fill(site: Site, disk: Path, watch: Watch, rng: random.Random, times: int) -> None:
    ballast = disk / "ballast"
    for _ in range(times):
        await watch.until(watch.seq + rng.randint(10, 40))
        if watch.over:
            return
        try:
            await asyncio.to_thread(_write_until_full, ballast)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FULL_SECONDS):
                    await watch.until(watch.seq + 10)
        finally:
            ballast.unlink()
        await asyncio.to_thread(ensure, site)
        beat(site)


def _write_until_full(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


@contextlib.contextmanager
def _disk(place: Path) -> Iterator[Path]:
    """A small disk in memory, mounted at `place`."""
    libc = ctypes.CDLL(None, use_errno=True)
    place.mkdir(parents=True)
    if libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, f"size={DISK_BYTES},mode=700".encode()):
        raise PermissionError(ctypes.get_errno(), "a disk cannot be mounted here")
    try:
        yield place
    finally:
        libc.umount2(os.fsencode(place), 2)
