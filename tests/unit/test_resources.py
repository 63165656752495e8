"""What may be used, read from cgroup files as both versions write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jupyter_jobs.resources import cgroups, core_share, delegated_group, free_memory, threads_per_run, usable_cores, usable_memory

AVAILABLE = 64 << 30


class Machine:
    """A `/proc` that tells of cgroups below `directory`."""

    def __init__(self, directory: Path) -> None:
        self.proc = directory / "proc"
        self.groups = directory / "cgroup fs"
        (self.proc / "self").mkdir(parents=True)
        self.groups.mkdir()

    def tell(self, *, cgroup: str, mounts: list[tuple[str, str, str]]) -> None:
        """`mounts`: (root of the mount in its hierarchy, folder below `groups`, `cgroup2` or the controllers of version 1)."""
        (self.proc / "self" / "cgroup").write_text(cgroup)
        lines = ["22 1 0:20 / /sys rw - sysfs sysfs rw"]
        for root, folder, what in mounts:
            kind, options = ("cgroup2", "rw") if what == "cgroup2" else ("cgroup", f"rw,{what}")
            place = str(self.groups / folder).replace(" ", "\\040")
            lines.append(f"30 22 0:26 {root} {place} rw,nosuid shared:9 - {kind} cgroup {options}")
        (self.proc / "self" / "mountinfo").write_text("\n".join(lines))

    def write(self, path: str, **files: object) -> None:
        folder = self.groups / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name.replace("__", ".")).write_text(f"{content}\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    return Machine(tmp_path)


def test_version_2_quota_of_any_group_above_counts(machine: Machine) -> None:
    machine.tell(cgroup="0::/user/pod/box\n", mounts=[("/", "", "cgroup2")])
    machine.write("user/pod/box", cpu__max="max 100000")
    machine.write("user/pod", cpu__max="250000 100000")
    machine.write("user", cpu__max="800000 100000")
    assert usable_cores(machine.proc) == 2


def test_less_than_a_core_is_one(machine: Machine) -> None:
    machine.tell(cgroup="0::/\n", mounts=[("/", "", "cgroup2")])
    machine.write("", cpu__max="50000 100000")
    assert usable_cores(machine.proc) == 1


def test_version_1_quota(machine: Machine) -> None:
    machine.tell(cgroup="4:cpu,cpuacct:/box\n3:memory:/other\n", mounts=[("/", "cpu", "cpu,cpuacct"), ("/", "memory", "memory")])
    machine.write("cpu/box", cpu__cfs_quota_us=300000, cpu__cfs_period_us=100000)
    machine.write("cpu", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    machine.write("memory/other", cpu__cfs_quota_us=100000, cpu__cfs_period_us=100000)
    assert usable_cores(machine.proc) == 3


def test_affinity_counts(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 6}, raising=False)
    machine.tell(cgroup="0::/\n", mounts=[("/", "", "cgroup2")])
    machine.write("", cpu__max="800000 100000")
    assert usable_cores(machine.proc) == 2


def test_a_container_that_sees_only_its_own_group(machine: Machine) -> None:
    """Without a cgroup namespace the group has the host's name, and the mount shows only its own part."""
    machine.tell(cgroup="3:memory:/docker/abc/inner\n", mounts=[("/docker/abc", "memory", "memory")])
    machine.write("memory/inner", memory__limit_in_bytes=4 << 30, memory__usage_in_bytes=1 << 30, memory__stat="cache 5\ntotal_inactive_file 1000")
    machine.write("memory", memory__limit_in_bytes=8 << 30, memory__usage_in_bytes=1 << 30, memory__stat="total_inactive_file 0")
    assert [group.name for group in cgroups(machine.proc, "memory")] == ["inner", "memory"]
    assert free_memory(machine.proc, AVAILABLE) == (3 << 30) + 1000


def test_a_group_that_is_not_below_the_mount_is_the_mount(machine: Machine) -> None:
    machine.tell(cgroup="3:memory:/elsewhere\n", mounts=[("/docker/abc", "memory", "memory")])
    machine.write("memory", memory__limit_in_bytes=2 << 30, memory__usage_in_bytes=0, memory__stat="")
    assert free_memory(machine.proc, AVAILABLE) == 2 << 30


def test_version_2_memory_counts_droppable_cache_as_free(machine: Machine) -> None:
    machine.tell(cgroup="0::/box\n", mounts=[("/", "", "cgroup2")])
    machine.write("box", memory__max=4 << 30, memory__high="max", memory__current=3 << 30, memory__stat=f"anon 5\ninactive_file {1 << 30}")
    machine.write("", memory__stat="inactive_file 0")
    assert free_memory(machine.proc, AVAILABLE) == 2 << 30
    machine.write("box", memory__high=3 << 30)
    assert free_memory(machine.proc, AVAILABLE) == 1 << 30


def test_the_machine_s_own_memory_bounds(machine: Machine) -> None:
    machine.tell(cgroup="0::/box\n", mounts=[("/", "", "cgroup2")])
    machine.write("box", memory__max="max", memory__current=1, memory__stat="")
    assert free_memory(machine.proc, 7) == 7


def test_more_used_than_allowed_is_nothing_free(machine: Machine) -> None:
    machine.tell(cgroup="0::/box\n", mounts=[("/", "", "cgroup2")])
    machine.write("box", memory__max=10, memory__current=20, memory__stat="")
    assert free_memory(machine.proc, AVAILABLE) == 0


def test_no_cgroups(machine: Machine) -> None:
    assert usable_cores(machine.proc) == 64
    assert free_memory(machine.proc, AVAILABLE) == AVAILABLE


def test_this_machine() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert free_memory() > 0


@pytest.mark.parametrize(("configured", "cores", "parallel", "threads"), [(0, 8, 2, 4), (0, 2, 4, 1), (3, 8, 2, 3), (0, 1, 0, 1)])
def test_threads(configured: int, cores: int, parallel: int, threads: int) -> None:
    assert threads_per_run(configured, cores, parallel) == threads


def test_a_share_of_a_core_is_not_rounded(machine: Machine) -> None:
    machine.tell(cgroup="0::/box\n", mounts=[("/", "", "cgroup2")])
    machine.write("box", cpu__max="150000 100000")
    assert (core_share(machine.proc), usable_cores(machine.proc)) == (1.5, 1)


def test_memory_that_there_is_at_all(machine: Machine) -> None:
    machine.tell(cgroup="0::/pod/box\n", mounts=[("/", "", "cgroup2")])
    machine.write("pod/box", memory__max="max", memory__current=5)
    machine.write("pod", memory__max=3 << 30, memory__current=2 << 30)
    assert usable_memory(machine.proc, AVAILABLE) == 3 << 30
    assert usable_memory(machine.proc, 1 << 30) == 1 << 30


@pytest.mark.parametrize(("uid", "marked", "found"), [(1000, False, "slice"), (0, False, None), (0, True, "slice")])
def test_a_group_that_was_delegated(machine: Machine, monkeypatch: pytest.MonkeyPatch, uid: int, marked: bool, found: str | None) -> None:
    machine.tell(cgroup="0::/user/slice/app.scope\n", mounts=[("/", "", "cgroup2")])
    # ours holds processes, so it cannot limit groups below it; the one above it can
    machine.write("user/slice/app.scope", cgroup__controllers="cpu memory", cgroup__subtree_control="", cgroup__procs=1)
    machine.write("user/slice", cgroup__controllers="cpu memory", cgroup__subtree_control="cpu memory", cgroup__procs="")
    machine.write("user", cgroup__controllers="cpu memory", cgroup__subtree_control="cpu memory", cgroup__procs="")
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    if marked:
        os.setxattr(machine.groups / "user", "user.delegate", b"1")
    group = delegated_group(machine.proc)
    assert (group.name if group else None) == found


def test_a_group_without_the_memory_controller_is_of_no_use(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.tell(cgroup="0::/box\n", mounts=[("/", "", "cgroup2")])
    machine.write("box", cgroup__controllers="pids", cgroup__subtree_control="pids", cgroup__procs="")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert delegated_group(machine.proc) is None


def test_a_run_that_asks_for_cores_has_as_many_threads() -> None:
    assert threads_per_run(0, 8, 4, 2.5) == 3
    assert threads_per_run(1, 8, 4, 2.5) == 1
