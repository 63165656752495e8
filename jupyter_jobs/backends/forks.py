"""The local backend's side of the runners' fork server: start it when it is needed, ask it for runners, hear of their ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jupyter_jobs.backends import processes
from jupyter_jobs.backends.processes import Process
from jupyter_jobs.runner import messages

log = logging.getLogger("jupyter_jobs.dispatcher")
ANSWER_SECONDS = 30.0
"""A fork server answers in milliseconds once it is up, which takes a second or two."""


class NotForked(Exception):
    """No runner was forked; the text says why."""


class Forks:
    """One fork server at a time, another when that has gone. All methods belong on the event loop."""

    def __init__(self, sockets: Path, memory: int, environment: dict[str, str], script: Sequence[str] = ()) -> None:
        self._arguments = [str(sockets), str(memory), *script]
        self._environment = environment
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._received = b""
        self._answered = False
        self._asked: dict[str, asyncio.Future[Process]] = {}
        self._ends: dict[int, asyncio.Future[int | None]] = {}
        self.broken = not sys.platform.startswith("linux")
        """Whether a fork server ended before it ever answered: there is no use in another."""

    def start(self) -> None:
        """Have a fork server under way, so that it is warm when it is needed."""
        if self._control is None and not self.broken:
            mine, theirs = socket.socketpair()
            with theirs:
                command = [sys.executable, "-P", "-m", "jupyter_jobs.runner.forkserver", str(theirs.fileno()), *self._arguments]
                self._server = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=self._environment, start_new_session=True
                )
            mine.setblocking(False)
            self._control = mine
            asyncio.get_running_loop().add_reader(mine, self._read)

    async def fork(self, directory: Path) -> Process:
        """A runner on this run directory. Raises NotForked: the runner may be started in another way then."""
        try:
            self.start()
        except OSError as error:
            raise NotForked(str(error)) from error
        if self._control is None:
            raise NotForked("there is no fork server here")
        asked: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
        self._asked[str(directory)] = asked
        try:
            messages.send(self._control, {"run": str(directory)})
            async with asyncio.timeout(ANSWER_SECONDS):
                process = await asked
        except OSError as error:
            # TimeoutError too; a fork that comes after all finds the run directory claimed, or claims it and is found there
            raise NotForked(f"the fork server does not answer: {error}") from error
        finally:
            self._asked.pop(str(directory), None)
        self._answered = True
        return process

    async def end_of(self, process: Process) -> int | None:
        """The exit status of a runner that we had forked and that has ended (negative: a signal); None where nobody knows."""
        end = self._ends.get(process.pid)
        if end is None:
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                return await end
        return None

    def forget(self, process: Process) -> None:
        """Nobody will ask for this runner's end any more."""
        self._ends.pop(process.pid, None)

    def pids(self) -> set[int]:
        """Processes whose ends we collect, should they be our children."""
        return {*self._ends, *([self._server.pid] if self._server else [])}

    def close(self) -> None:
        """Let the fork server end when its runners have."""
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self._control = None

    def _read(self) -> None:
        assert self._control is not None
        try:
            piece = self._control.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        self._received += piece
        for message in self._messages():
            self._heard(message)
        if not piece:
            self._gone()

    def _messages(self) -> list[dict[str, Any]]:
        whole, self._received = messages.split(self._received)
        return whole

    def _heard(self, message: dict[str, Any]) -> None:
        if "ended" in message:
            end = self._ends.get(message["ended"])
            if end is not None and not end.done():
                end.set_result(message["status"])
            return
        asked = self._asked.get(message["run"])
        if asked is not None and not asked.done():
            if "pid" in message:
                # its end may be the very next message, before anybody else has had a turn
                self._ends[message["pid"]] = asyncio.get_running_loop().create_future()
                asked.set_result(Process(host=processes.here(), boot=processes.boot_id(), pid=message["pid"], started=message["started"]))
            else:
                asked.set_exception(NotForked(message["error"]))

    def _gone(self) -> None:
        """The fork server has ended. Its runners go on as children of ours, if we adopt orphans."""
        self.close()
        self._received = b""
        assert self._server is not None
        status = self._server.wait()
        log.warning("the fork server has ended (%s)", status)
        self.broken = not self._answered and status > 0
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(NotForked("the fork server has ended"))
        for pid, end in self._ends.items():
            if not end.done():
                asyncio.get_running_loop().create_task(_collect(pid, end))


async def _collect(pid: int, end: asyncio.Future[int | None]) -> None:
    """Learn the end of a process that has become our child."""
    with contextlib.suppress(ProcessLookupError):
        await processes.ended(processes.identify(pid))
    try:
        _, status = os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it has ended, this returns at once
    except ChildProcessError:
        code = None
    else:
        code = os.waitstatus_to_exitcode(status)
    if not end.done():
        end.set_result(code)
