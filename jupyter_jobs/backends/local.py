"""Runs as processes of this machine, each in a session of its own. They go on when the dispatcher ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import psutil

from jupyter_jobs.backends import processes
from jupyter_jobs.backends.base import Capabilities, Exit, Handle, Submission
from jupyter_jobs.backends.forks import Forks, NotForked
from jupyter_jobs.backends.processes import Process
from jupyter_jobs.errors import Unavailable
from jupyter_jobs.runner import rundir
from jupyter_jobs.runner.processes import adopt_orphans
from jupyter_jobs.settings import Jobs
from jupyter_jobs.sockets import socket_directory

log = logging.getLogger("jupyter_jobs.dispatcher")
KILL_SECONDS = 10.0

# what our own runner needs; the notebook's variables come from its job, not from the environment of a dispatcher
KEPT = frozenset(
    """
    PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TMPDIR LD_LIBRARY_PATH DYLD_LIBRARY_PATH PYTHONPATH PYTHONDONTWRITEBYTECODE
    XDG_RUNTIME_DIR XDG_DATA_HOME XDG_CONFIG_HOME XDG_CACHE_HOME JUPYTER_DATA_DIR JUPYTER_CONFIG_DIR JUPYTER_CONFIG_PATH JUPYTER_PATH
    JUPYTER_RUNTIME_DIR JUPYTER_PLATFORM_DIRS JUPYTER_PREFER_ENV_PATH JUPYTER_NO_CONFIG SYSTEMROOT
    """.split()  # noqa: SIM905 - shorter than a line for each
)


class LocalBackend:
    """The built-in backend. `forks` forks runners where that is possible; `command` starts one otherwise, the run directory is added to it."""

    name = "local"
    capabilities = Capabilities(survives=True, shares_memory=True, notifies=True)

    def __init__(self, command: Sequence[str] = (), forks: Forks | None = None) -> None:
        # -P: the run directory, which is the working directory, is no place to import from
        self._command = list(command) or [sys.executable, "-P", "-m", "jupyter_jobs.runner"]
        self._forks = forks
        self._children: dict[Process, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Make ready for submissions that may come. Runners whose fork server was killed become our children."""
        adopt_orphans()
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)
        if self._forks:
            with contextlib.suppress(OSError):
                # each submission tries again
                self._forks.start()

    def _reap(self) -> None:
        spared = {process.pid for process in self._children}
        processes.reap_orphans(spared | self._forks.pids() if self._forks else spared)

    def close(self) -> None:
        """Let go of everything; runs go on."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        if self._forks:
            self._forks.close()

    async def submit(self, submission: Submission) -> Handle:
        if self._forks:
            try:
                return _handle(submission, await self._forks.fork(submission.directory))
            except NotForked as error:
                log.info("%s is started, not forked: %s", submission.run, error)
        return _handle(submission, await asyncio.to_thread(self._start, submission))

    def _start(self, submission: Submission) -> Process:
        try:
            with (submission.directory / rundir.RUNNER_LOG).open("ab") as runner_log:
                child = subprocess.Popen(
                    [*self._command, str(submission.directory)],
                    stdin=subprocess.DEVNULL,
                    stdout=runner_log,
                    stderr=runner_log,
                    cwd=submission.directory,
                    env=runner_environment(os.environ),
                    start_new_session=True,
                )
        except OSError as error:
            raise Unavailable(
                f"The runner of {submission.run} could not be started: {error}.", code="runner_not_started", run=submission.run
            ) from error
        # a child stays a zombie until we wait for it, so it can be identified even if it ended at once
        process = processes.identify(child.pid)
        self._children[process] = child
        return process

    async def find(self, submission: Submission) -> Handle | None:
        return await asyncio.to_thread(self._find, submission)

    def _find(self, submission: Submission) -> Handle | None:
        # a runner begins by claiming its directory: if we are first, none ever begins there
        try:
            rundir.claim(submission.directory, rundir.Identity(pid=0))
            found = rundir.read_identity(submission.directory / rundir.RUNNER)
        except FileNotFoundError:
            return None
        ended = (submission.directory / rundir.RESULT).exists()
        if found is None or (found.pid == 0 and not ended):
            return None
        boot = submission.boot or processes.boot_id()
        return _handle(submission, Process(host=processes.here(), boot=boot, pid=found.pid, started=found.started))

    async def poll(self, handles: Sequence[Handle]) -> list[Exit | None]:
        return [self._poll(_carrier(handle)) for handle in handles]

    def _poll(self, process: Process) -> Exit | None:
        return None if process.host != processes.here() or processes.alive(process) else Exit()

    async def wait(self, handle: Handle) -> Exit:
        process = _process(handle)
        lived = process if processes.alive(process) or process in self._children else None
        await processes.ended(process)
        if (carrier := _carrier(handle)) != process:
            # what we started found that a fork which we had given up had come first
            lived = carrier if processes.alive(carrier) else None
            await processes.ended(carrier)
            await self._exit(process)
            process = carrier
        if not (_directory(handle) / rundir.RESULT).exists():
            # before the child is reaped, whose pid names the session. A runner that has written its result has left nothing, a killed one its kernel
            await self._kill(handle, lived)
        return await self._exit(process)

    async def _kill(self, handle: Handle, session: Process | None) -> None:
        process = _process(handle)
        if (process.host, process.boot) != (processes.here(), processes.boot_id()):
            # nothing of it can live here, and the numbers that it left mean others now
            return
        directory = _directory(handle)
        kernel = await asyncio.to_thread(rundir.read_kernel, directory)
        killed = await asyncio.to_thread(processes.kill_run, handle.run, session, kernel, rundir.place_name(directory))
        with contextlib.suppress(TimeoutError):
            # one that hangs in the kernel (a dead network disk) cannot be waited for
            async with asyncio.timeout(KILL_SECONDS):
                await asyncio.gather(*(processes.ended(process) for process in killed))
        await asyncio.to_thread(_clear_sockets, _directory(handle))

    async def _exit(self, process: Process) -> Exit:
        child = self._children.pop(process, None)
        code = child.wait() if child else await self._forks.end_of(process) if self._forks else None
        if self._forks:
            self._forks.forget(process)
        if code is None:
            return Exit()
        return Exit(signal=-code) if code < 0 else Exit(code=code)

    async def cancel(self, handle: Handle, *, force: bool = False) -> None:
        process = _carrier(handle)
        if force:
            await self._kill(handle, process if processes.alive(process) else None)
        else:
            processes.send(process, signal.SIGTERM)

    async def notify(self, handle: Handle) -> None:
        processes.send(_process(handle), signal.SIGUSR1)

    async def memory(self, handle: Handle) -> int:
        return await asyncio.to_thread(_resident, handle)

    def logs(self, directory: Path) -> Path:
        return directory / rundir.RUNNER_LOG


def local_backend(settings: Jobs) -> LocalBackend:
    """The backend as it is configured."""
    if not settings.fork:
        return LocalBackend()
    memory = settings.fork_memory or psutil.virtual_memory().total // 4
    return LocalBackend(forks=Forks(socket_directory(settings.data_dir), memory, runner_environment(os.environ)))


def runner_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """What of the dispatcher's variables the runner gets: paths and language, no secrets."""
    return {name: value for name, value in variables.items() if name in KEPT or name.startswith("LC_")}


def process_of(handle: Handle) -> Process | None:
    """The runner's process; None for a handle of another backend."""
    with contextlib.suppress(KeyError, ValueError):
        return _process(handle)
    return None


def _handle(submission: Submission, process: Process) -> Handle:
    data: dict[str, str | int] = {"host": process.host, "boot": process.boot, "pid": process.pid, "started": process.started}
    data["directory"] = str(submission.directory)
    return Handle(backend="local", run=submission.run, data=data)


def _process(handle: Handle) -> Process:
    data = handle.data
    return Process(host=str(data["host"]), boot=str(data["boot"]), pid=int(data["pid"]), started=int(data["started"]))


def _carrier(handle: Handle) -> Process:
    """The process that carries the run: the one that has claimed its directory, else the one that was started for it."""
    process = _process(handle)
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        found = rundir.read_identity(_directory(handle) / rundir.RUNNER)
        if found is not None and found.pid:
            return msgspec.structs.replace(process, pid=found.pid, started=found.started)
    return process


def _clear_sockets(directory: Path) -> None:
    """Remove what a killed runner would have removed itself."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        spec = rundir.read_spec(directory)
        if spec.socket_dir:
            shutil.rmtree(rundir.socket_place(spec.socket_dir, directory))


def _directory(handle: Handle) -> Path:
    # one of an earlier version has none, and then nothing is found there
    return Path(str(handle.data.get("directory", os.devnull)))


def _resident(handle: Handle) -> int:
    found = processes.resident(_carrier(handle))
    if kernel := rundir.read_kernel(_directory(handle)):
        process = _process(handle)
        found += processes.resident(msgspec.structs.replace(process, pid=kernel.keeper.pid, started=kernel.keeper.started))
    return found
