"""How a run's kernel comes to life: forked from a warm kernel server where that is possible, else started as its command line says."""

from __future__ import annotations

import ast
import asyncio
import hashlib
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from jupyter_jobs.runner import messages, processes
from jupyter_jobs.runner.rundir import Identity, KernelFacts, RunSpec
from jupyter_jobs.runner.workspace import Prepared

LAUNCHERS = ("ipykernel_launcher", "ipykernel", "ipykernel.kernelapp")
VOLATILE = frozenset(
    """
    _ PWD OLDPWD SHLVL COLUMNS LINES TERM COLORTERM TERM_PROGRAM TERM_PROGRAM_VERSION TERM_SESSION_ID
    WINDOWID STY TMUX TMUX_PANE SSH_CLIENT SSH_CONNECTION SSH_TTY
    XDG_SESSION_ID XDG_VTNR INVOCATION_ID JOURNAL_STREAM JUPYTER_JOBS_RUN
    """.split()  # noqa: SIM905 - shorter than a line for each
)
"""Variables that tell of a terminal or of this run, and that nothing reads while it starts."""


class Forking(msgspec.Struct, kw_only=True):
    """What it takes to fork a kernel.

    `channel` leads to the fork server. `python` and `arguments` are the kernel's command without the launcher, `variables` its environment less
    what is only this run's. `place` and `server_place` are the namespaces of the run and of the server it is forked from (None: none). `path` goes
    to the front of `sys.path`, and `preload` are modules to import beforehand for the runs that follow.
    """

    channel: socket.socket
    python: list[str]
    arguments: list[str]
    variables: dict[str, str]
    place: dict[str, Any] | None
    server_place: dict[str, Any] | None
    path: list[str]
    preload: list[str]


class NotForked(Exception):
    """The kernel has to be started as a process of its own; the text says why."""


class ForkedKernel:
    """A forked kernel, in the shape of the `Popen` that LocalProvisioner expects. Its parent, the keeper, tells of its end over `connection`."""

    stdin = stdout = stderr = None

    def __init__(self, connection: socket.socket) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self.keeper = 0
        self.imported: list[str] = []
        self.memory: int | None = None
        self.cpu: float | None = None
        self.failed: dict[str, Any] | None = None
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[str] = loop.create_future()
        """Done when it has a process (empty), or none was forked (why)."""
        self.ready: asyncio.Future[bool] = loop.create_future()
        """Done when its sockets are bound: whether what is written to descriptors 1 and 2 also comes as messages."""
        self.ended: asyncio.Future[int] = loop.create_future()
        self.clear: asyncio.Future[bool] = loop.create_future()
        """Done when no process of the run is left; False if the keeper was killed and cannot say."""
        self._connection = connection
        self._text = b""
        connection.setblocking(False)
        loop.add_reader(connection, self._read)

    def _read(self) -> None:
        try:
            piece = self._connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        *lines, self._text = (self._text + piece).split(b"\n")
        for line in lines:
            self._heard(json.loads(line))
        if not piece:
            self._over()

    def _heard(self, said: dict[str, Any]) -> None:
        if "pid" in said:
            self.pid, self.keeper, self.imported = said["pid"], said["keeper"], said["imported"]
            _tell(self.started, "")
        elif "failed" in said:
            self.failed = said["failed"]
            _tell(self.started, "")
            _tell(self.ended, -9)
        elif "refused" in said:
            _tell(self.started, said["refused"])
        elif "ready" in said:
            _tell(self.ready, said["repeats"])
        elif "ended" in said:
            self.memory, self.cpu = said["memory"], said["cpu"]
            self.returncode = said["ended"]
            _tell(self.ended, said["ended"])
        elif "clear" in said:
            self.cpu = said["cpu"]
            _tell(self.clear, True)

    def _over(self) -> None:
        asyncio.get_running_loop().remove_reader(self._connection)
        self._connection.close()
        _tell(self.started, "the kernel server ended")
        # the keeper was killed, and the kernel with it
        self.returncode = -9 if self.returncode is None else self.returncode
        _tell(self.ended, self.returncode)
        _tell(self.clear, False)

    def facts(self) -> KernelFacts:
        """How to find the run's processes. Raises OSError when the keeper has gone."""
        return KernelFacts(keeper=Identity(pid=self.keeper, started=processes.started(self.keeper)))

    def end(self) -> None:
        """Have the keeper kill all processes of the run."""
        if self._connection.fileno() >= 0:
            try:
                self._connection.send(b"k")
            except OSError:
                return

    def poll(self) -> int | None:
        """The exit status, once it is known."""
        return self.returncode

    def wait(self) -> int:
        """The exit status of a kernel that has ended."""
        return self.returncode or 0

    def send_signal(self, number: int) -> None:
        """Raises ProcessLookupError."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End everything."""
        self.end()

    terminate = kill


class ForkProvisioner(LocalProvisioner):
    """Forks the kernel where `forking` says how; starts it as LocalProvisioner does otherwise, and says why in `why`."""

    forking: Forking | None = None
    forked: ForkedKernel | None = None
    inside = ""
    why = ""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Raises OSError when the command cannot be started."""
        if self.forking is not None:
            try:
                self.forked = await fork(self.forking, kwargs["env"], self.inside, [kwargs["stdout"], kwargs["stderr"]])
            except (NotForked, OSError) as error:
                self.why = str(error)
            else:
                self.process = self.forked  # type: ignore[assignment]
                self.pid = self.pgid = self.forked.pid or None
                return self.connection_info
        return await super().launch_kernel(cmd, **kwargs)


async def fork(forking: Forking, env: Mapping[str, str], cwd: str, descriptors: Sequence[int]) -> ForkedKernel:
    """A kernel forked from the server for this environment, which is started if there is none. Raises NotForked, OSError."""
    try:
        messages.send(forking.channel, server_of(forking))
        # it answers at once, unless it has gone
        answer, given = messages.receive(forking.channel)
    except (OSError, ValueError) as error:
        raise NotForked("the fork server has gone") from error
    if "error" in answer:
        raise NotForked(f"no kernel server could be started: {answer['error']}")
    if not given:
        raise NotForked("the fork server gave no connection to a kernel server")
    # handed over, with no name that a run could find: whoever can ask a kernel server gets processes that are in no run's place
    connection = socket.socket(fileno=given[0])
    try:
        request = {
            "argv": forking.arguments,
            "env": dict(env),
            "place": forking.place,
            "cwd": cwd,
            "path": forking.path,
            "preload": forking.preload,
        }
        messages.send(connection, request, descriptors)
    except OSError:
        connection.close()
        raise
    kernel = ForkedKernel(connection)
    if why := await kernel.started:
        await kernel.clear
        raise NotForked(why)
    return kernel


def forking_for(spec: RunSpec, prepared: Prepared, env: Mapping[str, str], channel: socket.socket | None) -> Forking | str:
    """How to fork the run's kernel, or why it cannot be."""
    if channel is None:
        return "the runner was not forked itself"
    if not spec.fork:
        return "forking is switched off"
    split = split_command(prepared.command)
    if split is None:
        return "its command line is not that of ipykernel"
    return Forking(
        channel=channel,
        python=split[0],
        arguments=split[1],
        variables={**env, **prepared.shared},
        place=prepared.place,
        server_place=prepared.server_place,
        path=prepared.path,
        preload=list(spec.preload),
    )


def server_of(forking: Forking) -> dict[str, object]:
    """The kernel server that a kernel is to be forked from. Everything that was read while it started is in its key."""
    variables = {name: value for name, value in sorted(forking.variables.items()) if name not in VOLATILE}
    what = json.dumps([forking.python, variables, forking.server_place]).encode()
    return {"key": hashlib.sha256(what).hexdigest(), "command": forking.python, "env": variables, "place": forking.server_place}


def split_command(argv: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """A kernel's command as (Python with its options, ipykernel's arguments); None where it is not plainly `python -m ipykernel_launcher …`."""
    for index, argument in enumerate(argv):
        if argument == "-m":
            if index + 1 < len(argv) and argv[index + 1] in LAUNCHERS and os.path.basename(argv[0]).startswith(("python", "pypy")):  # noqa: PTH119
                return list(argv[:index]), list(argv[index + 2 :])
            return None
        if index and not argument.startswith("-"):
            return None
    return None


def imports_of(sources: Sequence[str]) -> list[str]:
    """The modules, but for Python's own, that cells import at their top level, in order; cells that are no plain Python are passed over."""
    found: dict[str, None] = {}
    for source in sources:
        plain = "\n".join(line for line in source.split("\n") if not line.lstrip().startswith(("%", "!")))
        try:
            tree = ast.parse(plain)
        except (SyntaxError, ValueError):
            continue
        for node in tree.body:
            if isinstance(node, ast.Import):
                found.update((alias.name, None) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found[node.module] = None
    return [name for name in found if name.partition(".")[0] not in sys.stdlib_module_names]


def _tell(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)
