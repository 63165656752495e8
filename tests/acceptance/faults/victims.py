"""Who does what among a site's processes, told by what the system says of each; and killing one of them."""

from __future__ import annotations

import contextlib
import json
import re
import signal
from dataclasses import dataclass
from pathlib import Path

import psutil

from jupyter_jobs.backends import processes
from jupyter_jobs.backends.processes import Process
from tests.acceptance.faults.site import Site

KINDS = ("server", "dispatcher", "runner", "keeper", "kernel", "kernel server", "fork server")
OF_A_RUN = ("runner", "keeper", "kernel", "child")


@dataclass(frozen=True)
class Found:
    """A process of the site. `attempt`: number and attempt of its run, where it belongs to one."""

    kind: str
    process: Process
    attempt: tuple[int, int] | None = None


def found_in(site: Site) -> list[Found]:
    """Every living process of the site that the system names to us, and what its runs leave with a clean environment."""
    found = []
    mark = str(site.home).encode()
    keepers = _keepers(site)
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            place = Path(f"/proc/{pid}")
            command = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            ours = mark in (place / "environ").read_bytes() or command == ["sleep", site.seconds]
            process = processes.identify(pid)
            if not ours or not processes.alive(process):
                continue
            kind = _kind(pid, command, _cwd(pid), (place / "comm").read_text().strip())
            if kind == "server" and (site.server is None or pid != site.server.pid):
                kind = "other"
            above = psutil.Process(pid).ppid() if kind == "kernel" else pid
            found.append(Found(kind, process, keepers.get(above) or _attempt(_cwd(above)) if kind in OF_A_RUN else None))
    return found


def _keepers(site: Site) -> dict[int, tuple[int, int]]:
    """Number and attempt of the run of each keeper that has been written down."""
    found = {}
    for path in site.data.glob("runs/*/*/*/kernel.json"):
        with contextlib.suppress(OSError, ValueError):
            found[int(json.loads(path.read_bytes())["keeper"]["pid"])] = (int(path.parts[-3]), int(path.parts[-2]))
    return found


def _attempt(directory: str) -> tuple[int, int] | None:
    run = re.search(r"/runs/[0-9a-f]+/([0-9]+)/([0-9]+)", directory)
    return (int(run[1]), int(run[2])) if run else None


def _cwd(pid: int) -> str:
    return str(Path(f"/proc/{pid}/cwd").readlink())


def _kind(pid: int, command: list[str], where: str, name: str) -> str:
    line = " ".join(command)
    if "jupyter_jobs.runner.forkserver" in line:
        # a forked runner has its parent's command line, and soon its run directory for a working directory
        return "runner" if "/runs/" in where else "other" if _has(psutil.Process(pid).ppid(), b"runner.forkserver") else "fork server"
    if name == "jobs-keeper":
        return "keeper"
    if "kernelserver=" in line:
        parent = _parent(pid)
        if parent == "jobs-keeper":
            return "kernel"
        # else a child that tries an import, or a keeper that has no name yet
        return "other" if _has(psutil.Process(pid).ppid(), b"kernelserver=") else "kernel server"
    if "jupyter_jobs.dispatcher" in line:
        # else its child, which is about to become a runner
        return "other" if _has(psutil.Process(pid).ppid(), b"jupyter_jobs.dispatcher") else "dispatcher"
    if "jupyter_jobs.runner" in line:
        return "runner"
    if "ipykernel_launcher" in line:
        return "kernel"
    if "jupyter_server" in line:
        return "server"
    return "child" if command[:1] in (["sleep"], ["true"], ["setsid"]) else "other"


def _parent(pid: int) -> str:
    try:
        return Path(f"/proc/{psutil.Process(pid).ppid()}/comm").read_text().strip()
    except (OSError, psutil.Error):
        return ""


def _has(pid: int, word: bytes) -> bool:
    try:
        return word in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def kill(victim: Found) -> bool:
    """SIGKILL it; False when it has ended already."""
    return processes.send(victim.process, signal.SIGKILL)
