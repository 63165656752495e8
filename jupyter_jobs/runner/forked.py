"""The process of a forked kernel: it becomes what the command line would have started, and ends as that would.

Runs in the kernel's Python, handed over by the fork server as an open file: standard library only.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import os
import signal
import sys
import threading
import weakref
from types import ModuleType

from jupyter_jobs.runner.messages import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any, NoReturn


def become(connection: socket.socket, request: dict[str, Any], descriptors: list[int]) -> None:
    """Turn this process into the kernel that the command line would have started. Ends with SystemExit."""
    os.setsid()
    for number, descriptor in enumerate(descriptors, 1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv[:] = ["ipykernel_launcher.py", *request["argv"]]
    sys.path[:0] = request["path"]
    reseed()
    from ipykernel.kernelapp import IPKernelApp

    # 1: no thread that looks every second whether the parent lives, and no advice for terminals. The keeper's end kills us at once
    application: Any = IPKernelApp.instance(parent_handle=1)
    application.initialize()
    threads = set(sys._current_frames())
    modules = set(sys.modules)
    # so that what was said while it started is not taken for the first cell's
    sys.stdout.flush()
    sys.stderr.flush()
    say(connection, ready=True, repeats=getattr(sys.stdout, "_original_stdstream_copy", None) is not None)
    connection.close()
    application.start()
    leave(threads, modules)


def leave(threads: set[int], modules: set[str]) -> NoReturn:
    """End as `sys.exit(0)` does, but do not take apart what was there before the run: to copy all those pages takes as long as to run some notebooks.

    Threads of `threads` are ipykernel's own. As at any interpreter's end other threads are waited for, exit handlers run, what the run's code holds
    and what `modules` does not name is let go of, files are flushed, and then the C library's exit handlers run. Where a thread of the run goes on,
    the interpreter ends as always, because it stops such threads first.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    if set(sys._current_frames()) - threads:
        sys.exit(0)
    atexit._run_exitfuncs()
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        vars(sys).pop(name, None)
    vars(sys.modules["__main__"]).clear()
    gc.collect()
    # as the interpreter does it: modules end by themselves where they can, so that what is in them finds what it needs
    left = [weakref.ref(sys.modules.pop(name)) for name in list(sys.modules) if name not in modules and type(sys.modules[name]) is ModuleType]
    gc.collect()
    for reference in reversed(left):
        if (module := reference()) is not None:
            vars(module).clear()
    gc.collect()
    # layers above a file first
    for kinds in (io.TextIOWrapper,), (io.BufferedWriter, io.BufferedRandom):
        for found in gc.get_objects():
            if issubclass(type(found), kinds):
                try:
                    found.flush()
                except (OSError, ValueError):
                    continue
    # the interpreter's lock stays with this thread: no other may run into what C libraries take apart
    ctypes.PyDLL(None).exit(0)
    os._exit(0)


def reseed() -> None:
    """Give this process chances of its own; Python's `random` sees to itself."""
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "multiprocessing.process" in sys.modules:
        process = sys.modules["multiprocessing.process"]
        process.current_process().authkey = os.urandom(32)
