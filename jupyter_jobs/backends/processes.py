"""Processes by identity: pid and start time and boot, because a pid is used again, and a zombie has ended."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
from collections.abc import Container
from pathlib import Path

import msgspec
import psutil

from jupyter_jobs.runner.family import children_of
from jupyter_jobs.runner.processes import sees
from jupyter_jobs.runner.rundir import RUN_MARK as MARK
from jupyter_jobs.runner.rundir import Identity, KernelFacts


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process that can be recognised later. `started` is its start time in clock ticks since boot (elsewhere in milliseconds)."""

    host: str
    boot: str
    pid: int
    started: int


def here() -> str:
    """This machine's name, as it is kept in the store."""
    return socket.gethostname()


@functools.cache
def boot_id() -> str:
    """What changes when the machine starts again."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(int(psutil.boot_time()))


def identify(pid: int) -> Process:
    """The process `pid` of this machine. Raises `ProcessLookupError` when there is none."""
    stat = _stat(pid)
    if stat is None:
        raise ProcessLookupError(pid)
    return Process(host=here(), boot=boot_id(), pid=pid, started=stat[1])


def alive(process: Process) -> bool:
    """Whether it still runs here: same boot, same start time, no zombie. False for a process of another machine."""
    if process.host != here() or process.boot != boot_id():
        return False
    stat = _stat(process.pid)
    return stat is not None and stat[1] == process.started and stat[0] not in "ZX"


async def ended(process: Process) -> None:
    """Return once the process has ended; at once when it already has. Works for processes that are not our children."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):
        # the one place that looks again and again: platforms and sandboxes without pidfd
        while alive(process):  # noqa: ASYNC110
            await asyncio.sleep(1)
        return
    try:
        # the descriptor holds the pid from here on, so this look decides whether it is the one we mean
        if not alive(process):
            return
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        loop.add_reader(descriptor, _tell, over)
        try:
            await over
        finally:
            loop.remove_reader(descriptor)
    finally:
        os.close(descriptor)


def _tell(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)


def send(process: Process, number: signal.Signals) -> bool:
    """Send a signal to exactly this process. False when it has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    except (AttributeError, OSError):
        if not alive(process):
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        return True
    try:
        if not alive(process):
            return False
        signal.pidfd_send_signal(descriptor, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)


def of_run(run: str, session: Process | None = None, kernel: KernelFacts | None = None, place: str = "") -> list[Process]:
    """The living processes that are marked as the run's, those in the session that `session` leads (or led until just now), and those of a forked
    `kernel`: its keeper with all descendants, and whatever sees the run's overlay, named `place`."""
    found = []
    wanted = f"{MARK}={run}".encode()
    family = _family(kernel.keeper) if kernel else set()
    for pid in psutil.pids():
        if pid == os.getpid():
            continue
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # session 0 is the kernel's, and in a container everything that was started from outside
            in_session = session is not None and session.pid > 0 and os.getsid(pid) == session.pid
            if in_session or sees(pid, place) or pid in family or wanted in _environment(pid):
                process = identify(pid)
                if alive(process):
                    found.append(process)
    return found


def _family(keeper: Identity) -> set[int]:
    process = Process(host=here(), boot=boot_id(), pid=keeper.pid, started=keeper.started)
    if not alive(process):
        return set()
    with contextlib.suppress(psutil.Error):
        return {keeper.pid, *(child.pid for child in psutil.Process(keeper.pid).children(recursive=True))}
    return set()


def reap_orphans(spare: Container[int]) -> None:
    """Collect adopted children that have ended. Those that share our session we started ourselves, and for those to `spare` somebody waits."""
    for pid in children_of(os.getpid()):
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            stat = _stat(pid)
            if stat is not None and stat[0] == "Z" and pid not in spare and os.getsid(pid) != os.getsid(0):
                os.waitpid(pid, os.WNOHANG)


def kill_run(run: str, session: Process | None = None, kernel: KernelFacts | None = None, place: str = "") -> list[Process]:
    """SIGKILL every process of a run, those too that one of them starts meanwhile. Give `session` only if its leader lived a moment ago:
    the number of an empty session is used again."""
    killed: set[Process] = set()
    while remaining := [process for process in of_run(run, session, kernel, place) if process not in killed]:
        for process in remaining:
            killed.add(process)
            send(process, signal.SIGKILL)
    return list(killed)


def resident(process: Process) -> int:
    """Bytes of memory that the process and its descendants hold now; 0 when it has ended."""
    if not alive(process):
        return 0
    total = 0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(process.pid)
        for each in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += int(each.memory_info().rss)
    return total


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
    else:
        # the name in brackets may hold anything
        fields = text.rpartition(")")[2].split()
        return fields[0], int(fields[19])
    try:
        process = psutil.Process(pid)
        return ("Z" if process.status() == psutil.STATUS_ZOMBIE else "R"), int(process.create_time() * 1000)
    except psutil.Error:
        return None


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except FileNotFoundError:
        if Path("/proc/self/environ").exists():
            return []
    except (ProcessLookupError, PermissionError):
        return []
    try:
        return [f"{name}={value}".encode() for name, value in psutil.Process(pid).environ().items()]
    except psutil.Error:
        return []
