"""What should not be there: found by `jupyter jobs doctor`, and mended one by one if that is asked for. Nothing that the store names is removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil
from sqlalchemy import Engine

from jupyter_jobs.actions.health import lives
from jupyter_jobs.actions.places import run_dir
from jupyter_jobs.actions.prune import prune, unneeded
from jupyter_jobs.actions.run_spec import DATA_VARIABLE
from jupyter_jobs.backends import processes
from jupyter_jobs.lifecycle import FINAL
from jupyter_jobs.model import Finding
from jupyter_jobs.runner import rundir
from jupyter_jobs.runner.rundir import RUN_MARK
from jupyter_jobs.sockets import KERNEL_SOCKETS, socket_directory
from jupyter_jobs.store import dispatcher, integrity, jobs, queue, runs
from jupyter_jobs.store.database import read, write

REPAIR = "`jupyter jobs doctor --repair` mends it."
MNT_DETACH = 2
"""A flag of umount2(2)."""


@dataclass(frozen=True)
class Trouble:
    """A finding and what mends it: `repair` does so and says what is so now. It looks again before it changes anything."""

    finding: Finding
    repair: Callable[[], str]


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """What was mended: how it was, and how it is now."""

    code: str
    before: str
    after: str


def troubles(engine: Engine, data_dir: Path) -> list[Trouble]:
    """Everything that can be mended, in the order in which it should be."""
    return [
        *_open_to_others(data_dir),
        *_stale_lease(engine),
        *_untaken_results(engine, data_dir),
        *_processes_of_ended_runs(engine, data_dir),
        *_mounts(data_dir),
        *_sockets(engine, data_dir),
        *_orphans(engine, data_dir),
    ]


def _open_to_others(data_dir: Path) -> Iterator[Trouble]:
    wanted = {data_dir: 0o700, **dict.fromkeys(_private_files(data_dir), 0o600)}
    wrong = {path: mode for path, mode in wanted.items() if stat.S_IMODE(path.stat().st_mode) & 0o077 and path.stat().st_uid == os.getuid()}
    if not wrong:
        return

    def repair() -> str:
        for path, mode in wrong.items():
            path.chmod(mode)
        return f"{len(wrong)} files and folders are only yours now"

    first = min(wrong)
    message = f"{first}{f' and {len(wrong) - 1} more' if len(wrong) > 1 else ''} can be read by other users of this machine."
    yield Trouble(Finding(code="open_to_others", level="warning", message=message, mend=REPAIR, path=str(first)), repair)


def _private_files(data_dir: Path) -> Iterator[Path]:
    yield from integrity.files_of(data_dir / "jobs.sqlite")
    yield from integrity.backups(data_dir / "jobs.sqlite")
    yield from (data_dir / "jobs").glob("*/variables.json")


def _stale_lease(engine: Engine) -> Iterator[Trouble]:
    with read(engine) as conn:
        lease = dispatcher.current(conn)
    if lease is None or lease.host != processes.here() or lives(lease):
        return

    def repair() -> str:
        with write(engine) as conn:
            return "the lease is free" if dispatcher.release(conn, lease) else "somebody else has taken it"

    message = f"A dispatcher (pid {lease.pid}) has ended without giving the store back."
    yield Trouble(Finding(code="stale_lease", level="note", message=message, mend="The next dispatcher takes it over."), repair)


def _untaken_results(engine: Engine, data_dir: Path) -> Iterator[Trouble]:
    """Queued runs of whose next attempt a result lies on disk, as after an older store was put back. Those of active runs the dispatcher takes in."""
    with read(engine) as conn:
        waiting = queue.next_attempts(conn)
    ready = [run for run in waiting if (run_dir(data_dir, run.run, run.attempt) / rundir.RESULT).exists()]
    if not ready:
        return

    def repair() -> str:
        taken = 0
        for run in ready:
            with write(engine) as conn:
                # the dispatcher, which is started afterwards, finds an active run whose process has ended, and reads its result
                taken += runs.claim(conn, run.run, run.attempt, host=processes.here(), boot_id=processes.boot_id())
        return f"{taken} runs are handed to the dispatcher, which reads their results"

    message = f"{len(ready)} queued runs have ended already, {ready[0].run} for one: their results lie on disk and are not in the store."
    yield Trouble(Finding(code="result_not_taken_in", level="warning", message=message, mend=REPAIR), repair)


def _processes_of_ended_runs(engine: Engine, data_dir: Path) -> Iterator[Trouble]:
    found = {run: living for run, living in _marked(data_dir).items() if _has_ended(engine, run)}
    if not found:
        return

    def repair() -> str:
        killed = [each for run in found if _has_ended(engine, run) for each in processes.kill_run(run)]
        return f"{len(killed)} processes were ended"

    count = sum(len(pids) for pids in found.values())
    message = f"{count} processes of ended runs still live: {', '.join(f'{run} (pid {pids[0]})' for run, pids in sorted(found.items())[:5])}."
    yield Trouble(Finding(code="leftover_processes", level="warning", message=message, mend=REPAIR), repair)


def _marked(data_dir: Path) -> dict[str, list[int]]:
    """Processes that carry a run's mark and this store's place in their environment, by run."""
    found: dict[str, list[int]] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            variables = process.environ()
            if variables.get(DATA_VARIABLE) == str(data_dir) and (run := variables.get(RUN_MARK)) and process.status() != psutil.STATUS_ZOMBIE:
                found.setdefault(run, []).append(process.pid)
    return found


def _has_ended(engine: Engine, run: str) -> bool:
    with read(engine) as conn:
        found = runs.get(conn, run)
    return found is None or found.state in FINAL


def _mounts(data_dir: Path) -> Iterator[Trouble]:
    """A run's mounts live in its own namespace and go with it; seen from here, they are none of a run's any more."""
    points = [Path(part.mountpoint) for part in psutil.disk_partitions(all=True) if Path(part.mountpoint).is_relative_to(data_dir / "runs")]
    if not points:
        return

    def repair() -> str:
        left = [str(point) for point in reversed(points) if not _unmount(point)]
        return f"still mounted: {', '.join(left)}" if left else f"{len(points)} file systems were unmounted"

    message = f"{points[0]} is still mounted."
    yield Trouble(Finding(code="leftover_mounts", level="warning", message=message, mend=REPAIR, path=str(points[0])), repair)


def _unmount(point: Path) -> bool:
    """Take a mount away, at once for whoever looks and later for whoever uses it; whether that was possible."""
    import ctypes

    status: int = ctypes.CDLL(None).umount2(os.fsencode(point), MNT_DETACH)
    return status == 0


def _sockets(engine: Engine, data_dir: Path) -> Iterator[Trouble]:
    place = socket_directory(data_dir) / KERNEL_SOCKETS
    left = _unused(engine, place)
    if not left:
        return

    def repair() -> str:
        gone = _unused(engine, place)
        for folder in gone:
            shutil.rmtree(folder, ignore_errors=True)
        return f"{len(gone)} folders were removed"

    message = f"{len(left)} folders of kernels that have ended lie in {place}."
    yield Trouble(Finding(code="leftover_sockets", level="note", message=message, mend=REPAIR, path=str(place)), repair)


def _unused(engine: Engine, place: Path) -> list[Path]:
    """Folders for kernels' sockets that no living process names; none while a run is active, whose kernel may be about to start."""
    if not place.is_dir():
        return []
    # looked at before the runs and processes: a kernel that starts meanwhile makes a new one
    folders = [entry for entry in place.iterdir() if entry.is_dir() and not entry.is_symlink() and entry.name.startswith("k")]
    with read(engine) as conn:
        if runs.count_active(conn):
            return []
    named = ""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            named += "\0".join([*process.cmdline(), ""])
    return [folder for folder in folders if f"{folder}/" not in named]


def _orphans(engine: Engine, data_dir: Path) -> Iterator[Trouble]:
    found = unneeded(engine, data_dir)
    if not found:
        return
    size = sum(map(_bytes, found))

    def repair() -> str:
        prune(engine, data_dir)
        left = unneeded(engine, data_dir)
        if left is None:
            return "nothing was removed, because a job is being made; try again"
        return f"{len(found) - len(left)} of {len(found)} were removed"

    places: dict[str, int] = {}
    for path in found:
        place = path.relative_to(data_dir).parts[0]
        places[place] = places.get(place, 0) + 1
    what = ", ".join(f"{count} in {place}/" for place, count in places.items())
    message = f"{what}: {size / 1e6:.1f} MB that no job needs."
    yield Trouble(Finding(code="orphaned_files", level="note", message=message, mend=REPAIR, path=str(data_dir)), repair)


def _bytes(path: Path) -> int:
    """Bytes that would be freed: of what has other links, none."""
    total = 0
    for each in [path, *path.rglob("*")]:
        with contextlib.suppress(OSError):
            facts = each.lstat()
            if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
                total += facts.st_blocks * 512
    return total


def keep_aside(engine: Engine, data_dir: Path, stamp: str) -> list[str]:
    """Move files of jobs that the store no longer knows out of the way of `prune`, to `kept-aside/<stamp>`; what was moved. After a salvage."""
    with read(engine) as conn:
        known = jobs.ids(conn)
    moved = []
    for place in ("jobs", "runs"):
        folder = data_dir / place
        for entry in list(folder.iterdir()) if folder.is_dir() else []:
            if entry.is_dir() and entry.name not in known and not entry.name.startswith("."):
                target = data_dir / "kept-aside" / stamp / place
                target.mkdir(mode=0o700, parents=True, exist_ok=True)
                entry.rename(target / entry.name)
                moved.append(f"{place}/{entry.name}")
    return moved
