"""The processes of a run: take in their orphans, find them all, and see to it that none outlives the run."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

import psutil

from jupyter_jobs.runner.rundir import RUN_MARK

PR_SET_CHILD_SUBREAPER = 36
GONE = (psutil.NoSuchProcess, psutil.AccessDenied)


def started(pid: int) -> int:
    """A process's start time, as `backends.processes` counts it: clock ticks since boot, elsewhere milliseconds. Raises OSError, psutil.Error."""
    if sys.platform == "linux":
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return int(psutil.Process(pid).create_time() * 1000)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, daemons included. Linux only; elsewhere the run's mark finds them."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans(spare: int) -> None:
    """Collect children that have ended, except the kernel (`spare`), whose exit status its own watcher collects."""
    for child in psutil.Process().children():
        with contextlib.suppress(*GONE, ChildProcessError):
            if child.pid != spare and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)


def sees(pid: int, place: str) -> bool:
    """Whether a process is where the overlay of that name (`rundir.place_name`) is mounted."""
    try:
        return bool(place) and f" overlay {place} ".encode() in Path(f"/proc/{pid}/mountinfo").read_bytes()
    except OSError:
        return False


def processes_of(run: str, place: str = "") -> list[psutil.Process]:
    """Every live process of the run: our descendants, whatever carries the run's mark in its environment, and who sees its overlay."""
    me = psutil.Process()
    spared = {me.pid, *(parent.pid for parent in me.parents())}
    found = {child.pid: child for child in me.children(recursive=True)}
    for process in psutil.process_iter():
        with contextlib.suppress(*GONE):
            marked = process.uids().real == os.getuid() and process.environ().get(RUN_MARK) == run
            if process.pid not in found and (marked or sees(process.pid, place)):
                found[process.pid] = process
    alive = []
    for process in found.values():
        with contextlib.suppress(*GONE):
            if process.pid not in spared and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive


def end_processes(run: str, place: str = "", rounds: int = 20) -> list[int]:
    """SIGKILL the run's processes until none is left, each round waiting up to a second. Returns the pids that would not end."""
    alive = processes_of(run, place)
    while alive and rounds:
        for process in alive:
            with contextlib.suppress(*GONE):
                process.kill()
        psutil.wait_procs(alive, timeout=1)
        # what was killed may have started others meanwhile
        alive = processes_of(run, place)
        rounds -= 1
    reap_orphans(spare=0)
    return [process.pid for process in alive]
