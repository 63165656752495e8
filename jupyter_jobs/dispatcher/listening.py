"""What a dispatcher holds on this host: the lock, the socket that callers speak to, the socket that runners send hints to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec

from jupyter_jobs.dispatcher import lease
from jupyter_jobs.dispatcher.socket import Server, answers, bind_private, ring
from jupyter_jobs.dispatcher.state import Active, log
from jupyter_jobs.errors import Conflict
from jupyter_jobs.sockets import DISPATCHER_SOCKET, HINTS_SOCKET, LOCK, socket_directory

HINT_BYTES = 4096


class Hint(msgspec.Struct):
    """What a runner sends after it has written something."""

    run: str
    attempt: int = 0


class Listening:
    """Lock and sockets. Made by `alone`; `mend` makes them again when a cleaner or a logout has removed them."""

    def __init__(self, data_dir: str, directory: Path, lock: int) -> None:
        self.directory = directory
        self._data_dir = data_dir
        self._lock = lock
        self._hints: socket.socket | None = None

    @classmethod
    async def alone(cls, data_dir: str) -> Listening:
        """Take the lock. Raises `Conflict` when another dispatcher has it and does not end soon."""
        directory = await asyncio.to_thread(socket_directory, data_dir)
        lock = lease.lock_now(directory / LOCK)
        if lock is None:
            if await asyncio.to_thread(answers, directory / DISPATCHER_SOCKET):
                raise lease.taken("on this machine")
            lock = await lease.lock(directory / LOCK)
        return cls(data_dir, directory, lock)

    async def open(self, server: Server, active: Mapping[str, Active]) -> None:
        """Listen on both sockets, in place of what a dead dispatcher left, and wake those who wait for a dispatcher."""
        self._close_hints()
        hints = self.directory / HINTS_SOCKET
        self._hints = bind_private(hints, socket.SOCK_DGRAM)
        asyncio.get_running_loop().add_reader(self._hints, _take_hints, self._hints, active)
        await server.listen(self.directory / DISPATCHER_SOCKET)
        ring(self.directory)

    async def mend(self, server: Server, active: Mapping[str, Active]) -> bool:
        """Make lock and sockets again if they are gone. False when another process has the lock by now."""
        if (
            lease.still_there(self._lock, self.directory / LOCK)
            and (self.directory / DISPATCHER_SOCKET).exists()
            and (self.directory / HINTS_SOCKET).exists()
        ):
            return True
        log.warning("the sockets in %s were removed and are made again", self.directory)
        directory = await asyncio.to_thread(socket_directory, self._data_dir)
        if directory != self.directory or not lease.still_there(self._lock, directory / LOCK):
            try:
                # one that has just started holds it until it has seen our lease
                lock = await lease.lock(directory / LOCK)
            except Conflict:
                return False
            os.close(self._lock)
            self.directory, self._lock = directory, lock
        await self.open(server, active)
        return True

    def stop(self, server: Server) -> None:
        """Take no more callers."""
        server.close_listening()
        self._close_hints()
        if lease.still_there(self._lock, self.directory / LOCK):  # else they are another's
            for name in (DISPATCHER_SOCKET, HINTS_SOCKET):
                (self.directory / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Give the lock back."""
        os.close(self._lock)

    def _close_hints(self) -> None:
        if self._hints is not None:
            asyncio.get_running_loop().remove_reader(self._hints)
            self._hints.close()
            self._hints = None


def _take_hints(hints: socket.socket, active: Mapping[str, Active]) -> None:
    with contextlib.suppress(BlockingIOError):
        while data := hints.recv(HINT_BYTES):
            try:
                hint = msgspec.json.decode(data, type=Hint)
            except msgspec.MsgspecError as failure:
                log.warning("a hint that is none: %s", failure)
                continue
            if run := active.get(hint.run):
                run.changed.set()
