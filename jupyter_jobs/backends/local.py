"""Runs as processes of this machine, each in a session of its own. They go on when the dispatcher ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from jupyter_jobs.backends import processes
from jupyter_jobs.backends.base import Capabilities, Exit, Handle, Submission
from jupyter_jobs.backends.processes import Process
from jupyter_jobs.errors import Unavailable

RUNNER_LOG = "runner.log"
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
    """The built-in backend. `command` starts the runner; the run directory is added to it."""

    name = "local"
    capabilities = Capabilities(survives=True, shares_memory=True)

    def __init__(self, command: Sequence[str] = ()) -> None:
        # -P: the run directory, which is the working directory, is no place to import from
        self._command = list(command) or [sys.executable, "-P", "-m", "jupyter_jobs.runner"]
        self._children: dict[Process, subprocess.Popen[bytes]] = {}

    async def submit(self, submission: Submission) -> Handle:
        return _handle(submission, await asyncio.to_thread(self._start, submission))

    def _start(self, submission: Submission) -> Process:
        try:
            # made before the process: without it, nothing was started (`find`)
            with (submission.directory / RUNNER_LOG).open("ab") as log:
                child = subprocess.Popen(
                    [*self._command, str(submission.directory)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
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
        if not (submission.directory / RUNNER_LOG).exists():
            return None
        found = await asyncio.to_thread(processes.with_argument, str(submission.directory))
        return _handle(submission, found or Process(host=processes.here(), boot=processes.boot_id(), pid=0, started=0))

    async def poll(self, handles: Sequence[Handle]) -> list[Exit | None]:
        return [self._poll(_process(handle)) for handle in handles]

    def _poll(self, process: Process) -> Exit | None:
        return None if process.host != processes.here() or processes.alive(process) else Exit()

    async def wait(self, handle: Handle) -> Exit:
        process = _process(handle)
        lived = process if processes.alive(process) or process in self._children else None
        await processes.ended(process)
        # before the child is reaped, whose pid names the session. A runner that ended as it should has left nothing, a killed one its kernel
        await self._kill(handle.run, lived)
        return self._exit(process)

    async def _kill(self, run: str, session: Process | None) -> None:
        killed = await asyncio.to_thread(processes.kill_run, run, session)
        with contextlib.suppress(TimeoutError):
            # one that hangs in the kernel (a dead network disk) cannot be waited for
            async with asyncio.timeout(KILL_SECONDS):
                await asyncio.gather(*(processes.ended(process) for process in killed))

    def _exit(self, process: Process) -> Exit:
        child = self._children.pop(process, None)
        if child is None:
            return Exit()
        code = child.wait()
        return Exit(signal=-code) if code < 0 else Exit(code=code)

    async def cancel(self, handle: Handle, *, force: bool = False) -> None:
        process = _process(handle)
        if force:
            await self._kill(handle.run, process if processes.alive(process) else None)
        else:
            processes.send(process, signal.SIGTERM)

    async def memory(self, handle: Handle) -> int:
        return await asyncio.to_thread(processes.resident, _process(handle))

    def logs(self, directory: Path) -> Path:
        return directory / RUNNER_LOG


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
    return Handle(backend="local", run=submission.run, data=data)


def _process(handle: Handle) -> Process:
    data = handle.data
    return Process(host=str(data["host"]), boot=str(data["boot"]), pid=int(data["pid"]), started=int(data["started"]))
