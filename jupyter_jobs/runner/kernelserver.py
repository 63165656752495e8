"""A warm Python kernel that forks: one per kernel environment, in that environment's own Python. Standard library only.

    python … -c BOOTSTRAP PART=FD … DOOR_FD

ipykernel is imported once; each connection that is handed in through DOOR_FD (a Unix socket) asks for one kernel and is served by two processes:
the *keeper*, a session of its own that enters the run's mount namespace and is the parent of whatever the run leaves behind, and the *kernel*, its
child. A request is four bytes of length (big endian) and JSON, with the descriptors of the kernel's stdout and stderr beside it:

    {"argv": ["-f", "/…/kernel.json"], "env": {}, "place": {namespace SPEC or null}, "cwd": "/…", "path": ["/…"], "preload": ["pandas"]}

Answers are lines of JSON: `{"refused": why}` (nothing was forked), `{"failed": {"step", "path", "errno", "message"}}` (the namespace),
`{"pid", "keeper", "imported"}`, `{"ready": true, "repeats": true}` (its sockets are bound; what is written to descriptors 1 and 2 also comes as
messages), `{"ended": status, "memory": bytes, "cpu": seconds}` (negative: a signal), and when no process of the run is left
`{"clear": true, "cpu": seconds}` (of all of them). Whoever asked closes the connection, or sends a byte, to have all processes of the run killed.

The server ends when DOOR_FD is closed and no keeper lives.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import select
import signal
import socket

from jupyter_jobs.runner.beforehand import REFUSALS, import_kernel, settle, threads_explained, try_import
from jupyter_jobs.runner.family import children_of, kill_tree
from jupyter_jobs.runner.forked import become
from jupyter_jobs.runner.messages import next_connection, receive, say
from jupyter_jobs.runner.namespace import Failed, enter_from_held, prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PARTS = ("messages", "family", "namespace", "beforehand", "forked", "kernelserver")
"""The files that are handed over, each after those that it imports."""
# under their own names only while they are loaded: the run's `jupyter_jobs` is the one in its environment
BOOTSTRAP = """
import sys
from types import ModuleType
sys.path[:1] = [] if sys.path[:1] == [''] else sys.path[:1]
*sources, door = sys.argv[1:]
ours = {name: ModuleType(name) for name in ('jupyter_jobs', 'jupyter_jobs.runner')}
sys.modules.update(ours)
for source in sources:
    name, _, number = source.partition('=')
    part = ModuleType('jupyter_jobs.runner.' + name)
    ours[part.__name__] = sys.modules[part.__name__] = part
    with open(int(number), encoding='utf-8') as file: exec(compile(file.read(), name + '.py', 'exec'), part.__dict__)
    setattr(ours['jupyter_jobs.runner'], name, part)
for name in ours: del sys.modules[name]
part.main(int(door))
"""

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36


class Server:
    """Takes requests, forks, and between requests imports what was asked for."""

    def __init__(self, door: socket.socket) -> None:
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
        self.known[name] = REFUSALS.get(why, "")
        if not why:
            try:
                importlib.import_module(name)
            except BaseException as error:  # noqa: BLE001 - it worked a moment ago in another process; the run sees it itself
                self.known[name] = f"it cannot be imported: {type(error).__name__}"
            else:
                self.imported.append(name)
            if not threads_explained():
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
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            os._exit(try_import(name) if os.getppid() == me else 1)
        self.trying = pid, name

    def answer(self, connection: socket.socket) -> None:
        """Fork for one request. Raises Forked in the new process."""
        descriptors: list[int] = []
        try:
            request, descriptors = receive(connection)
            refused = "" if len(descriptors) == 2 else "the request brought no two descriptors"
            refused = refused or ("" if threads_explained() else "the kernel server has threads")
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
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        if request["place"]:
            enter_from_held(request["place"])
        else:
            os.chdir(request["cwd"])
    except Failed as failed:
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
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != me:
            os._exit(1)
        signal.set_wakeup_fd(-1)
        os.close(reader)
        os.close(writer)
        return
    name = ctypes.create_string_buffer(b"jobs-keeper")
    prctl(_PR_SET_NAME, ctypes.addressof(name))
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


def main(door: int) -> None:
    """Serve on the descriptor that the command line names."""
    # as a kernel does it itself, but before anything is imported that looks at it
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    # what a killed keeper leaves comes to us
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    import_kernel()
    settle()
    server = Server(socket.socket(fileno=door))
    try:
        server.serve()
        return
    except Forked as process:
        forked = process
    keep(server, forked)
    become(forked.connection, forked.request, forked.descriptors)
