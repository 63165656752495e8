"""The run's kernel: exactly the frozen kernelspec, with the submitter's variables, reached over private sockets."""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Instance

from jupyter_jobs.runner import rundir
from jupyter_jobs.runner.provisioner import ForkedKernel, Forking, ForkProvisioner, imports_of
from jupyter_jobs.runner.rundir import RunSpec, Way

SOCKET_PATH_LIMIT = 100
"""Bytes of the longest socket path we use; the platform's limit is 107 (104 on macOS)."""

TAIL = 8192


def environment_of(spec: RunSpec) -> dict[str, str]:
    """The kernel's variables: the submitter's, the kernelspec's (which may refer to them), the run's own, the mark. Nothing of this process.

    Raises OSError and ValueError where the variables file cannot be read.
    """
    variables: dict[str, str] = {}
    if spec.variables_file:
        variables = json.loads(Path(spec.variables_file).read_bytes())
    own = {name: Template(value).safe_substitute(variables) for name, value in spec.kernel.env.items()}
    return {**variables, **own, **spec.extra_env, rundir.RUN_MARK: spec.run}


def command_of(spec: RunSpec, connection_file: Path) -> list[str]:
    """The kernel's command line. A Python kernel keeps no history, so that parallel runs do not fight for one file."""
    places = {"{connection_file}": str(connection_file), "{resource_dir}": spec.kernel.resource_dir, "{prefix}": sys.prefix}
    argv = []
    for argument in spec.kernel.argv:
        for name, value in places.items():
            argument = argument.replace(name, value)
        argv.append(argument)
    if is_ipykernel(spec):
        argv.append("--HistoryManager.enabled=False")
    return argv


def is_python(spec: RunSpec) -> bool:
    """Whether the kernel speaks Python."""
    return spec.kernel.language.lower() == "python"


def is_ipykernel(spec: RunSpec) -> bool:
    """Whether the kernel is ipykernel itself, and not one built on it."""
    return is_python(spec) and any("ipykernel" in argument for argument in spec.kernel.argv)


class FrozenKernels(KernelSpecManager):
    """Knows one kernelspec, whatever the name."""

    frozen = Instance(KernelSpec)

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return self.frozen


class RunKernel(AsyncKernelManager):
    """The kernel's process and connection. `ended` is done, with the exit status (negative: a signal), as soon as the process ends."""

    ended: asyncio.Future[int]
    pid = 0
    forked: ForkedKernel | None = None

    def __init__(self, **traits: object) -> None:
        super().__init__(**traits)
        self.pipes: list[Pipe] = []
        self._tails: list[str] = []

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        # complete already: a brace in a path is no placeholder
        assert self.kernel_spec is not None
        return [*self.kernel_spec.argv, *(extra_arguments or [])]

    @property
    def ipykernel(self) -> bool:
        return False

    async def launch(self, env: dict[str, str], cwd: str, inside: str, output: Callable[[int, str], None]) -> None:
        """Start the process in `cwd`, or fork it, to change into `inside`.

        What it and its children write to descriptors 1 and 2 goes to `output(descriptor, text)`. Raises OSError."""
        readers, writers = zip(os.pipe(), os.pipe(), strict=True)
        try:
            assert isinstance(self.provisioner, ForkProvisioner)
            self.provisioner.inside = inside
            await self.start_kernel(env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=writers[0], stderr=writers[1])
        except BaseException:
            for reader in readers:
                os.close(reader)
            raise
        finally:
            for writer in writers:
                os.close(writer)
        assert isinstance(self.provisioner, LocalProvisioner)
        process = self.provisioner.process
        assert process is not None
        self.forked = process if isinstance(process, ForkedKernel) else None
        self.pid = process.pid
        self.ended = self.forked.ended if self.forked else when_ended(process.pid, process.wait)
        self.pipes = [Pipe(reader, number, output) for number, reader in enumerate(readers, 1)]

    def learn(self, sources: Sequence[str]) -> None:
        """Have what these cells import imported beforehand, for the runs that follow."""
        if isinstance(self.provisioner, ForkProvisioner) and self.provisioner.forking:
            preload = self.provisioner.forking.preload
            preload += [name for name in imports_of(sources) if name not in preload]

    def way(self) -> Way:
        """How it was started."""
        if self.forked:
            return Way(by="fork", imported=self.forked.imported)
        return Way(by="spawn", why=self.provisioner.why if isinstance(self.provisioner, ForkProvisioner) else "")

    def kill(self) -> None:
        """SIGKILL the kernel and its process group; of a forked one everything that the run has started."""
        if self.forked:
            self.forked.end()
        elif self.pid and not self.ended.done():
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Read what is left of the kernel's output, and close everything."""
        while self.pipes:
            pipe = self.pipes.pop()
            pipe.close()
            self._tails.append(pipe.tail.strip())

    def tail(self) -> str:
        """The last of what the process wrote to its standard error, else to its standard output."""
        tails = [*self._tails, *(pipe.tail.strip() for pipe in reversed(self.pipes))]
        return next((tail for tail in tails if tail), "")


class Pipe:
    """One of the kernel's standard streams, read as it comes."""

    def __init__(self, descriptor: int, number: int, output: Callable[[int, str], None]) -> None:
        self.tail = ""
        self._descriptor = descriptor
        self._number = number
        self._output = output
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> bool:
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return False
        if not data:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        text = self._decoder.decode(data, final=not data)
        if text:
            self.tail = (self.tail + text)[-TAIL:]
            self._output(self._number, text)
        return bool(data)

    def close(self) -> None:
        while self._read():
            pass
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)


def when_ended(pid: int, wait: Callable[[], int]) -> asyncio.Future[int]:
    """A future for the exit status of a child process; `wait` collects it."""
    loop = asyncio.get_running_loop()
    if not hasattr(os, "pidfd_open"):
        return asyncio.ensure_future(asyncio.to_thread(wait))
    descriptor = os.pidfd_open(pid)
    ended: asyncio.Future[int] = loop.create_future()

    def collect() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        ended.set_result(wait())

    loop.add_reader(descriptor, collect)
    return ended


def make_socket_dir(spec: RunSpec, run_dir: Path) -> Path:
    """A private directory for this run's connection, with a path short enough for sockets. Raises OSError."""
    if spec.socket_dir and len(os.fsencode(spec.socket_dir)) + len("/k12345678/s-1") < SOCKET_PATH_LIMIT:
        place = rundir.socket_place(spec.socket_dir, run_dir)
        place.mkdir(mode=0o700, parents=True)
        return place
    return Path(tempfile.mkdtemp(prefix="jupyter-jobs-", dir="/tmp"))


def make_kernel(spec: RunSpec, argv: list[str], connection_file: Path, forking: Forking | None = None, why: str = "") -> RunKernel:
    """A manager, not started yet, of the kernel with this complete command line, or forked as `forking` says; `why` it cannot be."""
    frozen = KernelSpec(
        argv=argv,
        display_name=spec.kernel.display_name,
        language=spec.kernel.language,
        interrupt_mode=spec.kernel.interrupt_mode,
        resource_dir=spec.kernel.resource_dir,
    )
    kernel = RunKernel(kernel_name=spec.kernel.name or "kernel", kernel_spec_manager=FrozenKernels(frozen=frozen))
    kernel.connection_file = str(connection_file)
    kernel.kernel_id = str(uuid.uuid4())
    kernel.cache_ports = False
    # the environment is complete already, and no entry point may put another launcher in between
    kernel.provisioner = provisioner = ForkProvisioner(kernel_id=kernel.kernel_id, kernel_spec=frozen, parent=kernel)
    provisioner.forking, provisioner.why = forking, why
    if is_python(spec):
        kernel.transport = "ipc"
        kernel.ip = str(connection_file.with_name("s"))
    else:
        kernel.ip = "127.0.0.1"
        ports = free_ports(5)
        kernel.shell_port, kernel.iopub_port, kernel.stdin_port, kernel.hb_port, kernel.control_port = ports
    # no high-water mark: a notebook that floods its output must not lose the message that says the cell has ended
    kernel.context.rcvhwm = 0
    return kernel


def free_ports(count: int) -> list[int]:
    """Ports that are free now, below the range that the system gives away, and far from those of runners that look at the same time."""
    first, last = 10_000, 32_000
    port = first + os.getpid() * 7 % (last - first)
    ports: list[int] = []
    for _ in range(last - first):
        port = port + 1 if port < last else first
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise OSError("No free port on 127.0.0.1.")
