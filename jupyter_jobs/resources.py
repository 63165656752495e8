"""What this process may use: cores by affinity and cgroup quota, memory within the cgroup's limit. Version 1 and 2 of cgroups."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def usable_cores(proc: Path = PROC) -> int:
    """Cores that this process may keep busy: its affinity, and no more than the cgroups' quota (rounded down, at least 1)."""
    return max(1, int(core_share(proc)))


def core_share(proc: Path = PROC) -> float:
    """The same, not rounded: a quota may be one core and a half."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for group in cgroups(proc, "cpu"):
        quota = _quota(group)
        if quota is not None:
            cores = min(cores, quota)
    return cores


def usable_memory(proc: Path = PROC, total: int | None = None) -> int:
    """Bytes of memory that there are for this process, used or not: the machine's, and no more than its cgroups' limits. `total` replaces the
    machine's figure."""
    import psutil

    memory = int(psutil.virtual_memory().total) if total is None else total
    for group in cgroups(proc, "memory"):
        memory = min([memory, *_memory_limits(group)])
    return memory


def delegated_group(proc: Path = PROC) -> Path | None:
    """The innermost directory of cgroup v2 in which we may make groups that limit memory: one above (or of) this process that was delegated to us.

    To everyone but root that is one that they can write; root can write all of them, and takes only what systemd has marked as delegated.
    """
    groups = [group for group in cgroups(proc, "memory") if (group / "cgroup.controllers").exists()]
    for number, group in enumerate(groups):
        ours = os.geteuid() != 0 or any(_marked(above) for above in groups[number:])
        writable = os.access(group, os.W_OK | os.X_OK) and os.access(group / "cgroup.procs", os.W_OK)
        if ours and writable and "memory" in _read(group / "cgroup.subtree_control").split():
            return group
    return None


def _marked(group: Path) -> bool:
    for name in ("user.delegate", "trusted.delegate"):
        try:
            if os.getxattr(group, name) == b"1":
                return True
        except OSError:
            continue
    return False


def free_memory(proc: Path = PROC, available: int | None = None) -> int:
    """Bytes that can still be used without swapping, on the machine and in each of our cgroups. `available` replaces the machine's figure."""
    import psutil

    free = int(psutil.virtual_memory().available) if available is None else available
    for group in cgroups(proc, "memory"):
        room = _room(group)
        if room is not None:
            free = min(free, room)
    return max(0, free)


def threads_per_run(configured: int, cores: int, parallel: int, asked: float | None = None) -> int:
    """BLAS and OpenMP threads of each of `parallel` runs: as configured, or (0) as many as the run may have cores (`asked`, rounded up), else an
    even share of `cores`, at least 1."""
    return configured or (math.ceil(asked) if asked else max(1, cores // max(1, parallel)))


def cgroups(proc: Path, controller: str) -> tuple[Path, ...]:
    """The directories of this process's cgroup and all above it for `controller`, innermost first. Nothing where there are no cgroups."""
    try:
        return _cgroups(proc, controller, (proc / "self" / "cgroup").read_text())
    except OSError:
        return ()


# asked before each start of a run: as long as we stay in our group, its directories stay the same
@functools.lru_cache(16)
def _cgroups(proc: Path, controller: str, memberships: str) -> tuple[Path, ...]:
    mounts = [line.split() for line in (proc / "self" / "mountinfo").read_text().splitlines()]
    return tuple(_directories(mounts, controller, memberships))


def _directories(mounts: list[list[str]], controller: str, memberships: str) -> Iterator[Path]:
    for line in memberships.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, inside = rest.partition(":")
        for fields in mounts:
            dash = fields.index("-") if "-" in fields else len(fields)
            if len(fields) < dash + 4:
                continue
            kind, options = fields[dash + 1], fields[dash + 3].split(",")
            unified = kind == "cgroup2" and not controllers
            if unified or (kind == "cgroup" and controller in controllers.split(",") and controller in options):
                yield from _upwards(_unescape(fields[3]), Path(_unescape(fields[4])), inside)


def _upwards(root: str, mount: Path, inside: str) -> Iterator[Path]:
    # the mount may show only a part of the hierarchy (a container without a cgroup namespace): `root` is that part
    root = root.rstrip("/")
    below = inside == root or inside.startswith(root + "/")
    group = mount / inside[len(root) :].strip("/") if below else mount
    while True:
        if group.is_dir():
            yield group
        if group == mount:
            return
        group = group.parent


def _quota(group: Path) -> float | None:
    if text := _read(group / "cpu.max"):
        quota, _, period = text.partition(" ")
        return None if quota == "max" else int(quota) / int(period or 100_000)
    limit, each = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
    return limit / each if limit and each and limit > 0 else None


def _room(group: Path) -> int | None:
    """Limit less use, where the page cache that can be dropped does not count as used."""
    if (used := _number(group / "memory.current")) is not None:
        cache = "inactive_file"
    elif (used := _number(group / "memory.usage_in_bytes")) is not None:
        cache = "total_inactive_file"
    else:
        return None
    limits = _memory_limits(group)
    return min(limits) - used + _counter(group / "memory.stat", cache) if limits else None


def _memory_limits(group: Path) -> list[int]:
    """The limits of a group of either version, in bytes."""
    found = [_number(group / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
    return [limit for limit in found if limit is not None]


def _counter(file: Path, name: str) -> int:
    for line in _read(file).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _number(file: Path) -> int | None:
    text = _read(file)
    return int(text) if text and text != "max" else None


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _unescape(text: str) -> str:
    return text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
