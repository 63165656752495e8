"""What this process may use: cores by affinity and cgroup quota, memory within the cgroup's limit. Version 1 and 2 of cgroups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

PROC = Path("/proc")


def usable_cores(proc: Path = PROC) -> int:
    """Cores that this process may keep busy: its affinity, and no more than the cgroups' quota (rounded down, at least 1)."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for group in cgroups(proc, "cpu"):
        quota = _quota(group)
        if quota is not None:
            cores = min(cores, quota)
    return max(1, int(cores))


def free_memory(proc: Path = PROC, available: int | None = None) -> int:
    """Bytes that can still be used without swapping, on the machine and in each of our cgroups. `available` replaces the machine's figure."""
    free = int(psutil.virtual_memory().available) if available is None else available
    for group in cgroups(proc, "memory"):
        room = _room(group)
        if room is not None:
            free = min(free, room)
    return max(0, free)


def threads_per_run(configured: int, cores: int, parallel: int) -> int:
    """BLAS and OpenMP threads of each of `parallel` runs: as configured, or (0) an even share of `cores`, at least 1."""
    return configured or max(1, cores // max(1, parallel))


def cgroups(proc: Path, controller: str) -> Iterator[Path]:
    """The directories of this process's cgroup and all above it for `controller`, innermost first. Nothing where there are no cgroups."""
    try:
        memberships = (proc / "self" / "cgroup").read_text().splitlines()
        mounts = [line.split() for line in (proc / "self" / "mountinfo").read_text().splitlines()]
    except OSError:
        return
    for line in memberships:
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
        limits = [_number(group / "memory.max"), _number(group / "memory.high")]
        cache = "inactive_file"
    elif (used := _number(group / "memory.usage_in_bytes")) is not None:
        limits = [_number(group / "memory.limit_in_bytes")]
        cache = "total_inactive_file"
    else:
        return None
    known = [limit for limit in limits if limit is not None]
    if not known:
        return None
    return min(known) - used + _counter(group / "memory.stat", cache)


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
