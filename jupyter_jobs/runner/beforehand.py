"""What a kernel server imports before it forks, and what it may not import.

Runs in the kernel's Python, handed over by the fork server as an open file: standard library only.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import signal
import sys
import threading

_MODULES = """
ipykernel.kernelapp ipykernel.ipkernel ipykernel.zmqshell ipykernel.displayhook ipykernel.comm ipykernel.compiler ipykernel.subshell_manager
ipykernel.debugger comm IPython.core.debugger IPython.core.completerlib IPython.core.oinspect IPython.utils.wildcard pdb bdb cmd faulthandler
tornado.platform.asyncio zmq.eventloop.zmqstream jupyter_client.session jupyter_client.connect jupyter_client.localinterfaces
IPython.core.logger IPython.extensions.storemagic unicodedata
"""

_OPENBLAS = ("openblas_get_num_threads", "openblas_get_num_threads64_", "scipy_openblas_get_num_threads", "scipy_openblas_get_num_threads64_")

# what a preloaded distribution may say no with; the exit status of the process that tries it
REFUSALS = {
    1: "it cannot be imported",
    2: "it starts threads",
    3: "it asks for the shell",
    4: "it changes the process",
    5: "it is not installed as a distribution",
}


def import_kernel() -> None:
    # a debugger would listen on a port and take half a second, and nobody attaches to a run
    absent = {name: None for name in ("debugpy", "debugpy.server") if name not in sys.modules}
    sys.modules.update(absent)  # type: ignore[arg-type]
    try:
        for name in _MODULES.split():
            try:
                importlib.import_module(name)
            except ImportError:
                # another version of ipykernel, which does without
                continue
    finally:
        for name in absent:
            del sys.modules[name]
    if "ipykernel.kernelapp" not in sys.modules:
        sys.exit("ipykernel cannot be imported")


def threads_explained() -> bool:
    """Whether every thread of this process but this one belongs to OpenBLAS, whose own handlers end its threads before a fork."""
    if threading.active_count() > 1:
        return False
    extra = len(os.listdir("/proc/self/task")) - 1
    return extra == 0 or extra == _openblas_threads()


def _openblas_threads() -> int:
    with open("/proc/self/maps") as lines:
        paths = {line.split(None, 5)[5].strip() for line in lines if "openblas" in line}
    threads = 0
    for path in paths:
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        for name in _OPENBLAS:
            if hasattr(library, name):
                threads += getattr(library, name)() - 1
                break
    return threads


def _process_state() -> object:
    """What an import has no business to change for good."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    umask = os.umask(0)
    os.umask(umask)
    return sorted(os.listdir("/proc/self/fd")), dict(os.environ), os.getcwd(), handlers, umask, sys.stdout, sys.stderr, sys.excepthook


def try_import(name: str) -> int:
    """In a process of its own: import, and find out whether that may be done beforehand. A key of `REFUSALS`, or 0."""
    from importlib.util import find_spec

    try:
        spec = find_spec(name.partition(".")[0])
    except (ImportError, ValueError):
        return 1
    if spec is None:
        return 1
    places = [*(spec.submodule_search_locations or []), spec.origin or ""]
    if not any(f"/{folder}/" in place for place in places for folder in ("site-packages", "dist-packages")):
        return 5
    asked = False

    def get_ipython() -> None:
        nonlocal asked
        asked = True

    import IPython
    import IPython.core.getipython

    IPython.get_ipython = IPython.core.getipython.get_ipython = get_ipython
    before = _process_state()
    try:
        importlib.import_module(name)
    except BaseException:  # noqa: BLE001 - whatever it raises, the run will see it when it imports it
        return 1
    if asked:
        return 3
    if not threads_explained():
        return 2
    return 0 if _process_state() == before else 4


def settle() -> None:
    """Collect garbage and keep the collector from touching, and so copying, what forked processes share."""
    gc.collect()
    gc.freeze()
