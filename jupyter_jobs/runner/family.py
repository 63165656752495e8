"""The processes below a process.

Runs in the kernel's Python, handed over by the fork server as an open file: standard library only.
"""

from __future__ import annotations

import os
import signal


def children_of(pid: int) -> list[int]:
    """Its children, zombies too. Needs a kernel with CONFIG_PROC_CHILDREN, as distributions build it; elsewhere all processes are looked at."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            found = [int(child) for child in file.read().split()]
        if pid != os.getpid():
            for thread in os.listdir(f"/proc/{pid}/task"):
                if thread != str(pid):
                    with open(f"/proc/{pid}/task/{thread}/children") as file:
                        found += [int(child) for child in file.read().split()]
        return found
    except FileNotFoundError:
        if os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children"):
            return []
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    if int(file.read().rpartition(")")[2].split()[1]) == pid:
                        found.append(int(name))
            except OSError:
                continue
    return found


def kill_tree(pid: int) -> None:
    """SIGKILL a process after having stopped it from starting others, and all below it."""
    try:
        os.kill(pid, signal.SIGSTOP)
    except OSError:
        return
    for child in children_of(pid):
        kill_tree(child)
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return
