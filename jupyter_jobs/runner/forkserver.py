"""`python -m jupyter_jobs.runner.forkserver CONTROL_FD SOCKET_DIR MEMORY [SCRIPT]`: a warm process that forks runners. Linux only.

The local backend starts one and speaks to it over CONTROL_FD (a Unix socket; messages as `messages.send` writes them): `{"run": RUN_DIR}` is
answered by `{"run", "pid", "started"}` or `{"run", "error"}`, and later by `{"ended": pid, "status": n}` (negative: a signal). A runner is forked
with a socket of its own, on which it may ask for a kernel server, `{"key", "command", "env", "place"}`, and gets a connection to one: this process
starts kernel servers, one per key, and closes the least recently used when together they hold more than MEMORY bytes or nobody asked for long.

SCRIPT is run instead of our runner, with the run directory as its argument.

When CONTROL_FD is closed (the dispatcher has ended) it forks nothing more, waits for its runners, and ends.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_jobs.runner import kernelserver, messages, namespace, processes, rundir

UNUSED_SECONDS = 900.0
"""A kernel server that nobody asked for so long is closed."""
MODULES = ("jupyter_jobs.runner.__main__", "jupyter_jobs.runner.execute", "jupyter_jobs.runner.provisioner", "tornado.platform.asyncio")


@dataclass
class KernelServer:
    """A kernel server under way: its process, the socket through which it is handed connections (whose end tells it to end), and its own files."""

    process: subprocess.Popen[bytes]
    door: socket.socket
    files: Path | None
    asked: float = field(default_factory=time.monotonic)


class Forked(BaseException):
    """This is the new runner: unwinds the server's stack."""

    def __init__(self, run_dir: Path, channel: socket.socket) -> None:
        super().__init__()
        self.run_dir = run_dir
        self.channel = channel


class ForkServer:
    """One selector loop, no threads, no asyncio."""

    def __init__(self, control: socket.socket, sockets: Path, memory: int) -> None:
        self.control = control
        self.sockets = sockets
        self.memory = memory
        self.runners: dict[int, Path] = {}
        self.servers: dict[str, KernelServer] = {}
        self.selector = selectors.DefaultSelector()
        self.wakeup = os.pipe()
        for descriptor in self.wakeup:
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self.wakeup[1])
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.selector.register(self.wakeup[0], selectors.EVENT_READ)
        self.selector.register(control, selectors.EVENT_READ)
        self.open = True

    def serve(self) -> None:
        """Until the control socket is closed and no runner lives. Raises Forked in a runner's process."""
        while self.open or self.runners:
            ready = self.selector.select(UNUSED_SECONDS if self.servers else None)
            for source in (key.fileobj for key, _ in ready):
                if source == self.wakeup[0]:
                    os.read(self.wakeup[0], 512)
                    self.reap()
                elif source is self.control:
                    self.order()
                elif isinstance(source, socket.socket):
                    self.serve_runner(source)
            self.close_unused()
        for key in list(self.servers):
            self.close(key)

    def order(self) -> None:
        message = receive(self.control)
        if message is None:
            self.open = False
            self.selector.unregister(self.control)
            return
        run_dir = Path(message["run"])
        try:
            pid = self.fork(run_dir)
        except OSError as error:
            send(self.control, {"run": message["run"], "error": str(error)})
            return
        self.runners[pid] = run_dir
        # it is not reaped yet, so this can be told even of one that has ended
        send(self.control, {"run": message["run"], "pid": pid, "started": processes.started(pid)})

    def fork(self, run_dir: Path) -> int:
        if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208 - only their number counts
            raise OSError("the fork server has threads")
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        pid = os.fork()
        if pid == 0:
            mine.close()
            raise Forked(run_dir, theirs)
        theirs.close()
        self.selector.register(mine, selectors.EVENT_READ)
        return pid

    def reap(self) -> None:
        """Take in what has ended, and remember how, for a dispatcher that may come later."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            if run_dir := self.runners.pop(pid, None):
                if code:
                    with contextlib.suppress(OSError):
                        rundir.write_exit(run_dir, code)
                if self.open:
                    send(self.control, {"ended": pid, "status": code})
            for key, server in list(self.servers.items()):
                if server.process.pid == pid:
                    server.process.returncode = code
                    self.close(key)

    # -- kernel servers ------------------------------------------------------------------------------------------------

    def serve_runner(self, channel: socket.socket) -> None:
        """Answer a runner that wants a kernel server."""
        message = receive(channel)
        if message is None:
            self.selector.unregister(channel)
            channel.close()
            return
        try:
            server = self.servers.get(message["key"]) or self.start(message)
        except OSError as error:
            send(channel, {"error": str(error)})
            return
        server.asked = time.monotonic()
        mine, theirs = socket.socketpair()
        with mine, theirs:
            try:
                messages.hand_in(server.door, theirs)
                messages.send(channel, {"server": server.process.pid}, [mine.fileno()])
            except OSError as error:
                send(channel, {"error": str(error)})

    def start(self, wanted: dict[str, Any]) -> KernelServer:
        self.make_room()
        mine, theirs = socket.socketpair()
        files: Path | None = None
        with theirs, contextlib.ExitStack() as opened:
            # opened here: in its own place these files may be of another version
            parts = {
                name: opened.enter_context(Path(kernelserver.__file__).with_name(f"{name}.py").open("rb")).fileno() for name in kernelserver.PARTS
            }
            passed = [*parts.values(), theirs.fileno()]
            python, flags = wanted["command"][0], wanted["command"][1:]
            words = [*(f"{name}={number}" for name, number in parts.items()), str(theirs.fileno())]
            command = [python, *flags, "-c", kernelserver.BOOTSTRAP, *words]
            if wanted["place"]:
                files = Path(tempfile.mkdtemp(prefix=f"f{os.getpid()}-", dir=self.sockets))
                place = files / "place.json"
                place.write_text(json.dumps({**wanted["place"], "hold": True}))
                command = [sys.executable, "-I", str(namespace.__file__), str(place), "--", *command]
            try:
                process = subprocess.Popen(
                    command, env=wanted["env"], cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=passed, start_new_session=True
                )
            except OSError:
                mine.close()
                raise
        server = KernelServer(process, mine, files)
        self.servers[wanted["key"]] = server
        return server

    def close(self, key: str) -> None:
        """Let go of a kernel server: it ends when its last kernel has."""
        server = self.servers.pop(key)
        server.door.close()
        if server.files:
            shutil.rmtree(server.files, ignore_errors=True)

    def close_unused(self) -> None:
        limit = time.monotonic() - UNUSED_SECONDS
        for key, server in list(self.servers.items()):
            if server.asked < limit:
                self.close(key)

    def make_room(self) -> None:
        by_use = sorted(self.servers, key=lambda key: self.servers[key].asked)
        held = {key: resident(self.servers[key].process.pid) for key in by_use}
        for key in by_use:
            if sum(held.values()) <= self.memory:
                return
            self.close(key)
            del held[key]


def remove_stale(sockets: Path) -> None:
    """Remove the files of kernel servers whose fork server was killed, and with it the only one who knew them."""
    for path in sockets.glob("f*-*"):
        pid = path.name[1:].partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(path, ignore_errors=True)


def resident(pid: int) -> int:
    """Bytes of memory that a process holds; 0 when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def receive(channel: socket.socket) -> dict[str, Any] | None:
    """The next message; None when the other side has gone."""
    try:
        return messages.receive(channel)[0]
    except (OSError, ValueError):
        return None


def send(channel: socket.socket, message: dict[str, object]) -> None:
    """Send a message; whoever has gone misses it."""
    with contextlib.suppress(OSError):
        messages.send(channel, message)


def run(server: ForkServer, forked: Forked, script: str = "") -> int:
    """Be a runner: as a process that was started with `python -m jupyter_jobs.runner RUN_DIR`, but warm."""
    from jupyter_jobs.runner.__main__ import main

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for key in list(server.selector.get_map().values()):
        # a socket to another runner, kept open here, would hide from it that the server has gone
        if isinstance(key.fileobj, socket.socket):
            key.fileobj.close()
    server.selector.close()
    for kernel_server in server.servers.values():
        kernel_server.door.close()
    for descriptor in server.wakeup:
        os.close(descriptor)
    os.setsid()
    os.chdir(forked.run_dir)
    log = os.open(rundir.RUNNER_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.argv[:] = [script or "jupyter_jobs.runner", str(forked.run_dir)]
    if script:
        runpy.run_path(script, run_name="__main__")
        return 0
    return main(sys.argv, forked.channel)


def warm_up() -> None:
    """Import what a runner needs, and have done once what is only done once: schemas and regular expressions are compiled."""
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    for name in MODULES:
        importlib.import_module(name)
    import msgspec
    import nbformat
    from papermill.parameterize import parameterize_notebook

    for kind in (rundir.RunSpec, rundir.Limits, rundir.Identity):
        with contextlib.suppress(msgspec.ValidationError):
            msgspec.json.decode(b"{}", type=kind)
    for minor in (4, 5):
        notebook = nbformat.v4.new_notebook(nbformat_minor=minor)  # type: ignore[no-untyped-call]
        nbformat.validate(notebook)
    notebook.metadata.update({"kernelspec": {"name": "python3", "language": "python"}, "papermill": {}})
    notebook.cells.append(nbformat.v4.new_code_cell(metadata={"tags": ["parameters"]}))  # type: ignore[no-untyped-call]
    parameterize_notebook(notebook, {"x": [1, 0.5, "", {"y": None}]}, kernel_name="python3", language="python")


def main(arguments: list[str]) -> None:
    """Serve until the dispatcher has gone and the last runner has ended."""
    import gc

    control = socket.socket(fileno=int(arguments[1]))
    processes.adopt_orphans()
    warm_up()
    gc.collect()
    gc.freeze()
    remove_stale(Path(arguments[2]))
    server = ForkServer(control, Path(arguments[2]), int(arguments[3]))
    try:
        server.serve()
        return
    except Forked as process:
        forked = process
    try:
        status = run(server, forked, *arguments[4:])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - the end of a process: the log has the traceback, the parent the status
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # nothing is left to do, and taking the interpreter apart would cost more than some runs
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv)
