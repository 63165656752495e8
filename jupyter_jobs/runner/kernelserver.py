"""A warm Python kernel that forks: one per kernel environment, in that environment's own Python. Standard library only.

    python … -c BOOTSTRAP SERVER_FD NAMESPACE_FD DOOR_FD

ipykernel is imported once; each connection that is handed in through DOOR_FD (a Unix socket) asks for one kernel and is served by two processes:
the *keeper*, a session of its own that enters the run's mount namespace and is the parent of whatever the run leaves behind, and the *kernel*, its
child. A request is four bytes of length (big endian) and JSON, with the descriptors of the kernel's stdout and stderr beside it:

    {"argv": ["-f", "/…/kernel.json"], "env": {}, "place": {namespace SPEC or null}, "cwd": "/…", "path": ["/…"], "preload": ["pandas"]}

Answers are lines of JSON: `{"refused": why}` (nothing was forked), `{"failed": {"step", "path", "errno", "message"}}` (the namespace),
`{"pid", "keeper", "imported"}`, `{"ready": true, "repeats": true}` (its sockets are bound; what is written to descriptors 1 and 2
also comes as messages), `{"ended": status, "memory": bytes, "cpu": seconds}`
(negative: a signal), and after it, when no process of the run is left, `{"clear": true, "cpu": seconds}` (of all of them). Whoever asked closes the
connection, or sends a byte, to have all processes of the run killed.

The server ends when DOOR_FD is closed and no keeper lives.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
import weakref
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

BOOTSTRAP = """
import sys
sys.path[:1] = [] if sys.path[:1] == [''] else sys.path[:1]
space = {'__name__': 'jupyter_jobs_kernelserver'}
with open(int(sys.argv[1])) as file: exec(compile(file.read(), 'kernelserver.py', 'exec'), space)
space['main']([int(argument) for argument in sys.argv[2:]])
"""

PATIENCE = 10.0
"""Seconds that a request, once it is announced, may take to come."""
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

_MODULES = """
ipykernel.kernelapp ipykernel.ipkernel ipykernel.zmqshell ipykernel.displayhook ipykernel.comm ipykernel.compiler ipykernel.subshell_manager
ipykernel.debugger comm IPython.core.debugger IPython.core.completerlib IPython.core.oinspect IPython.utils.wildcard pdb bdb cmd faulthandler
tornado.platform.asyncio zmq.eventloop.zmqstream jupyter_client.session jupyter_client.connect jupyter_client.localinterfaces
IPython.core.logger IPython.extensions.storemagic unicodedata
"""

_OPENBLAS = ("openblas_get_num_threads", "openblas_get_num_threads64_", "scipy_openblas_get_num_threads", "scipy_openblas_get_num_threads64_")

# what a preloaded distribution may say no with; the exit status of the process that tries it
_REFUSALS = {
    1: "it cannot be imported",
    2: "it starts threads",
    3: "it asks for the shell",
    4: "it changes the process",
    5: "it is not installed as a distribution",
}


# -- what is imported beforehand ---------------------------------------------------------------------------------------


def _import_kernel() -> None:
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


def _threads_explained() -> bool:
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


def _try_import(name: str) -> int:
    """In a process of its own: import, and find out whether that may be done beforehand. A key of `_REFUSALS`, or 0."""
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
    if not _threads_explained():
        return 2
    return 0 if _process_state() == before else 4


# -- the server --------------------------------------------------------------------------------------------------------


class Server:
    """Takes requests, forks, and between requests imports what was asked for."""

    def __init__(self, namespace: ModuleType, door: socket.socket) -> None:
        self.namespace = namespace
        self.door = door
        self.alive = True
        self.keepers: set[int] = set()
        self.wanted: list[str] = []
        self.known: dict[str, str] = {}
        self.trying: tuple[int, str] | None = None
        self.imported: list[str] = []
        self.wakeup = signals = os.pipe()
        for descriptor in signals:
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(signals[1])
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def serve(self) -> None:
        """Until DOOR_FD is closed and all keepers have ended."""
        while self.alive or self.keepers:
            watched: list[Any] = [self.wakeup[0]]
            if self.alive:
                watched.append(self.door)
            ready, _, _ = select.select(watched, [], [])
            if self.wakeup[0] in ready:
                os.read(self.wakeup[0], 512)
                self.reap()
            if self.door in ready:
                connection = next_connection(self.door)
                if connection is None:
                    self.shut()
                else:
                    self.answer(connection)
            self.preload()
        if self.trying:
            # an import that never comes back
            kill_tree(self.trying[0])

    def shut(self) -> None:
        """Take no more requests."""
        self.alive = False
        self.door.close()

    def reap(self) -> None:
        """Take in what has ended. A child that we did not fork is an orphan of a keeper that was killed: it goes too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if self.trying and pid == self.trying[0]:
                self.tried(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 4)
            elif pid in self.keepers:
                self.keepers.discard(pid)
        for child in children_of(os.getpid()):
            if child not in self.keepers and not (self.trying and child == self.trying[0]):
                kill_tree(child)

    def tried(self, why: int) -> None:
        assert self.trying is not None
        name, self.trying = self.trying[1], None
        self.known[name] = _REFUSALS.get(why, "")
        if not why:
            try:
                importlib.import_module(name)
            except BaseException as error:  # noqa: BLE001 - it worked a moment ago in another process; the run sees it itself
                self.known[name] = f"it cannot be imported: {type(error).__name__}"
            else:
                self.imported.append(name)
            if not _threads_explained():
                # forked kernels would lack these threads: no more of them from here
                self.shut()
            settle()

    def preload(self) -> None:
        if self.trying or not self.wanted or not self.alive:
            return
        name = self.wanted.pop(0)
        me = os.getpid()
        pid = os.fork()
        if pid == 0:
            self.namespace.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            os._exit(_try_import(name) if os.getppid() == me else 1)
        self.trying = pid, name

    def answer(self, connection: socket.socket) -> None:
        """Fork for one request. Raises Forked in the new process."""
        descriptors: list[int] = []
        try:
            request, descriptors = receive(connection)
            refused = "" if len(descriptors) == 2 else "the request brought no two descriptors"
            refused = refused or ("" if _threads_explained() else "the kernel server has threads")
            if not refused:
                self.note(request["preload"])
                pid = os.fork()
                if pid == 0:
                    raise Forked(connection, request, descriptors)
                self.keepers.add(pid)
        except (OSError, ValueError, KeyError) as error:
            refused = f"{type(error).__name__}: {error}"
        if refused:
            say(connection, refused=refused)
        connection.close()
        for descriptor in descriptors:
            os.close(descriptor)

    def note(self, names: list[str]) -> None:
        """Remember what is to be imported when there is time."""
        for name in names:
            if name not in self.known:
                self.known[name] = "not imported yet"
                self.wanted.append(name)

    def forget(self) -> None:
        """In a forked process: let go of what is the server's."""
        signal.set_wakeup_fd(-1)
        for descriptor in (self.door.detach(), *self.wakeup):
            os.close(descriptor)


class Forked(BaseException):
    """This is the new process now: unwinds to the bottom of the stack, so that the kernel's end is the end of its interpreter."""

    def __init__(self, connection: socket.socket, request: dict[str, Any], descriptors: list[int]) -> None:
        super().__init__()
        self.connection = connection
        self.request = request
        self.descriptors = descriptors


def keep(server: Server, forked: Forked) -> None:
    """The keeper's life: place, kernel, orphans. Returns only in the kernel's process."""
    server.forget()
    connection, request = forked.connection, forked.request
    os.setsid()
    server.namespace.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        if request["place"]:
            server.namespace.enter_from_held(request["place"])
        else:
            os.chdir(request["cwd"])
    except server.namespace.Failed as failed:
        say(connection, failed={"step": failed.step, "path": failed.path, "errno": failed.errno, "message": str(failed)})
        os._exit(1)
    except OSError as error:
        message = f"cannot change into {request['cwd']}: {error.strerror}"
        say(connection, failed={"step": "change into", "path": request["cwd"], "errno": error.errno, "message": message})
        os._exit(1)
    me = os.getpid()
    reader, writer = os.pipe()
    for descriptor in (reader, writer):
        os.set_blocking(descriptor, False)
    # before the kernel exists, whose end must not be missed
    signal.set_wakeup_fd(writer)
    kernel = os.fork()
    if kernel == 0:
        server.namespace.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != me:
            os._exit(1)
        signal.set_wakeup_fd(-1)
        os.close(reader)
        os.close(writer)
        return
    name = ctypes.create_string_buffer(b"jobs-keeper")
    server.namespace.prctl(_PR_SET_NAME, ctypes.addressof(name))
    for descriptor in forked.descriptors:
        os.close(descriptor)
    say(connection, pid=kernel, keeper=me, imported=server.imported)
    watch(connection, kernel, reader)
    os._exit(0)


def watch(connection: socket.socket, kernel: int, wakeup: int) -> None:
    """See the kernel to its end, then kill what it left, until this process has no child."""
    usage = None
    cpu = 0.0
    asked = False
    while True:
        watched: list[Any] = [wakeup] if asked else [wakeup, connection]
        ready, _, _ = select.select(watched, [], [])
        if connection in ready:
            # a byte or the end: either way nobody wants it to go on
            asked = True
        if wakeup in ready:
            os.read(wakeup, 512)
        while True:
            try:
                pid, status, resources = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                say(connection, clear=True, cpu=cpu)
                return
            if pid == 0:
                break
            cpu += resources.ru_utime + resources.ru_stime
            if pid == kernel:
                usage = resources
                code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                say(connection, ended=code, memory=usage.ru_maxrss * 1024, cpu=usage.ru_utime + usage.ru_stime)
        if asked or usage is not None:
            for child in children_of(os.getpid()):
                kill_tree(child)


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


# -- small parts -------------------------------------------------------------------------------------------------------


def send(connection: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send one request: its length, its text as JSON, and descriptors. Raises OSError."""
    body = json.dumps(message).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(descriptors)}i", *descriptors))] if descriptors else []
    connection.sendmsg([struct.pack(">I", len(body))], rights)
    connection.sendall(body)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A request and the descriptors that came with it. Raises OSError, and ValueError where it is cut off."""
    data, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(8))
    descriptors: list[int] = []
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            count = len(content) // 4
            descriptors += struct.unpack(f"{count}i", content[: 4 * count])
    (length,) = struct.unpack(">I", data + _more(connection, 4 - len(data)))
    return json.loads(_more(connection, length)), descriptors


def next_connection(door: socket.socket) -> socket.socket | None:
    """The connection that was handed in through the door; None when that is closed."""
    try:
        _, ancillary, _, _ = door.recvmsg(1, socket.CMSG_SPACE(4))
    except OSError:
        return None
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            connection = socket.socket(fileno=struct.unpack("i", content[:4])[0])
            connection.settimeout(PATIENCE)
            return connection
    return None


def hand_in(door: socket.socket, connection: socket.socket) -> None:
    """Pass a connection through the door. Raises OSError when nobody is behind it."""
    door.sendmsg([b"c"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", connection.fileno()))])


def split(data: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """The whole messages at the start of what was received so far, and the rest."""
    messages = []
    while len(data) >= 4:
        (length,) = struct.unpack(">I", data[:4])
        if len(data) < 4 + length:
            break
        messages.append(json.loads(data[4 : 4 + length]))
        data = data[4 + length :]
    return messages, data


def _more(connection: socket.socket, wanted: int) -> bytes:
    pieces = []
    while wanted:
        piece = connection.recv(min(wanted, 1 << 18))
        if not piece:
            raise ValueError("it was cut off")
        pieces.append(piece)
        wanted -= len(piece)
    return b"".join(pieces)


def say(connection: socket.socket, **what: object) -> None:
    """Answer, if somebody still listens."""
    try:
        connection.sendall(json.dumps(what).encode() + b"\n")
    except OSError:
        return


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


def settle() -> None:
    """Collect garbage and keep the collector from touching, and so copying, what forked processes share."""
    gc.collect()
    gc.freeze()


def main(arguments: list[int]) -> None:
    """Serve on the descriptors that the command line names."""
    source, door = arguments
    namespace = ModuleType("jupyter_jobs_namespace")
    with open(source) as file:
        exec(compile(file.read(), "namespace.py", "exec"), namespace.__dict__)
    # as a kernel does it itself, but before anything is imported that looks at it
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    # what a killed keeper leaves comes to us
    namespace.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _import_kernel()
    settle()
    server = Server(namespace, socket.socket(fileno=door))
    try:
        server.serve()
        return
    except Forked as process:
        forked = process
    keep(server, forked)
    become(forked.connection, forked.request, forked.descriptors)
