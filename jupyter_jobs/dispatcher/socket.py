"""How one talks to the dispatcher: JSON lines on a private Unix socket. The server, and a small client for each kind of caller."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import msgspec

from jupyter_jobs.errors import Unavailable
from jupyter_jobs.model import DispatcherStatus
from jupyter_jobs.settings import Jobs
from jupyter_jobs.sockets import DISPATCHER_SOCKET, check_address, socket_directory, socket_path
from jupyter_jobs.version import __version__

PROTOCOL = 1
"""The newest form of these messages that we speak."""
OLDEST = 1
"""The oldest form that we still understand."""
ANSWER_SECONDS = 10.0
LINE_BYTES = 1 << 16
UNREAD_BYTES = 1 << 20
WAITING = "waiting-"


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """Who speaks. `protocol` and `oldest` bound what it understands."""

    version: str
    schema: int
    pid: int = 0
    protocol: int = 1
    oldest: int = 1


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line, either way; one field is set."""

    hello: Hello | None = None
    nudge: bool = False
    subscribe: bool = False
    status: DispatcherStatus | bool | None = None
    drain: bool = False
    stop: bool = False
    ok: bool = False
    seq: int | None = None


def hello(schema: int) -> Hello:
    """Our own introduction; `schema` is the store's, as this version of the package knows it."""
    return Hello(version=__version__, schema=schema, pid=os.getpid(), protocol=PROTOCOL, oldest=OLDEST)


def is_newer(mine: Hello, theirs: Hello) -> bool:
    """Whether `mine` may replace `theirs`."""
    if (mine.schema, mine.version) == (theirs.schema, theirs.version):
        return False
    from packaging.version import Version

    return (mine.schema, Version(mine.version)) > (theirs.schema, Version(theirs.version))


def check_speaks(mine: Hello, theirs: Hello) -> None:
    """Raises `Unavailable` when the newer dispatcher `theirs` no longer understands us."""
    if theirs.oldest > mine.protocol:
        raise Unavailable(
            f"The dispatcher (pid {theirs.pid}) is of jupyter_jobs {theirs.version}, which no longer understands {mine.version} here.",
            code="dispatcher_newer",
            mend="Update jupyter_jobs in this environment.",
            version=theirs.version,
        )


# -- the dispatcher's side ---------------------------------------------------------------------------------------------


class Server:
    """Answers on the socket. A nudge or a subscriber that leaves calls `wake`; nothing is promised any more once `draining` is set."""

    def __init__(
        self,
        me: Hello,
        *,
        wake: Callable[[], None],
        draining: asyncio.Event,
        drain: Callable[[str], None],
        status: Callable[[], Awaitable[DispatcherStatus]],
    ) -> None:
        self._me = me
        self._wake = wake
        self._draining = draining
        self._drain = drain
        self._status = status
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._subscribers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._seq = 0

    @property
    def subscribers(self) -> int:
        return len(self._subscribers)

    async def listen(self, path: Path) -> None:
        """Listen at `path`, in place of a socket file that a dead dispatcher left. Only the holder of the lock may call this."""
        listening = bind_private(path, socket.SOCK_STREAM)
        previous, self._server = self._server, await asyncio.start_unix_server(self._serve, sock=listening, limit=LINE_BYTES)
        if previous is not None:
            previous.close()

    def announce(self, seq: int) -> None:
        """Tell the subscribers that the store has events up to `seq`."""
        if seq > self._seq:
            self._seq = seq
            for writer in self._subscribers:
                if writer.transport.get_write_buffer_size() > UNREAD_BYTES:
                    # it has been asleep for long; when it wakes it finds the end, subscribes again and reads what it missed
                    writer.transport.abort()
                else:
                    _send(writer, Message(seq=seq))

    def close_listening(self) -> None:
        if self._server is not None:
            self._server.close()

    async def hang_up(self) -> None:
        """Close all connections. Callers of `drain` and `stop` take that as the sign that all is released."""
        for writer in self._writers:
            writer.close()
        if self._tasks:
            _, deaf = await asyncio.wait(self._tasks, timeout=1)
            for writer in self._writers if deaf else ():
                writer.transport.abort()
            await asyncio.gather(*deaf, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not _is_ours(writer.get_extra_info("socket")):
                return
            _send(writer, Message(hello=self._me))
            while line := await reader.readline():
                await self._answer(msgspec.json.decode(line, type=Message), writer)
        except (ConnectionError, ValueError):
            # a peer that went away or does not speak this language: ValueError is also msgspec's and a line too long
            return
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            if writer in self._subscribers:
                self._subscribers.discard(writer)
                self._wake()
            writer.close()

    async def _answer(self, message: Message, writer: asyncio.StreamWriter) -> None:
        if message.nudge:
            if self._draining.is_set():
                raise ConnectionResetError("ending")
            self._wake()
            _send(writer, Message(ok=True))
        if message.subscribe:
            self._subscribers.add(writer)
            _send(writer, Message(seq=self._seq))
        if message.status is True:
            _send(writer, Message(status=await self._status()))
        if message.drain or message.stop:
            _send(writer, Message(ok=True))
            self._drain("asked to stop" if message.stop else "asked to make room for a newer one")


def bind_private(path: Path, kind: socket.SocketKind) -> socket.socket:
    """A Unix socket with mode 0600 bound at `path`, in place of a file that a dead process left; its directory is private already."""
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, kind)
    try:
        bound.bind(check_address(path))
        path.chmod(0o600)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def _is_ours(peer: socket.socket) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the directory keeps others out
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid in (os.getuid(), 0)


def _send(writer: asyncio.StreamWriter, message: Message) -> None:
    if not writer.is_closing():
        writer.write(msgspec.json.encode(message) + b"\n")


# -- the callers' side -------------------------------------------------------------------------------------------------


class Connection:
    """A caller's connection, for code without an event loop. Every read is bounded by `ANSWER_SECONDS` unless told otherwise."""

    def __init__(self, data_dir: str | Path) -> None:
        """Raises `ConnectionError` or `FileNotFoundError` when nobody answers there."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._buffer = b""
        try:
            self._socket.settimeout(ANSWER_SECONDS)
            self._socket.connect(str(socket_path(data_dir) / DISPATCHER_SOCKET))
            first = self.receive()
        except BaseException:
            self._socket.close()
            raise
        if first is None or first.hello is None:
            self._socket.close()
            raise ConnectionResetError("the dispatcher said nothing")
        self.peer = first.hello

    def send(self, message: Message) -> None:
        self._socket.sendall(msgspec.json.encode(message) + b"\n")

    def receive(self, seconds: float = ANSWER_SECONDS) -> Message | None:
        """The next message; None when the dispatcher hung up. Raises `TimeoutError`."""
        self._socket.settimeout(seconds)
        while b"\n" not in self._buffer:
            try:
                piece = self._socket.recv(LINE_BYTES)
            except ConnectionError:
                return None
            if not piece:
                return None
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return msgspec.json.decode(line, type=Message)

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def connected(data_dir: str | Path) -> Iterator[Connection | None]:
    """A connection to the dispatcher of the store in `data_dir`; None when none answers."""
    try:
        connection = Connection(data_dir)
    except (ConnectionError, FileNotFoundError):
        yield None
        return
    except TimeoutError as error:
        raise _silent(data_dir) from error
    try:
        yield connection
    except TimeoutError as error:
        raise _silent(data_dir) from error
    finally:
        connection.close()


def nudge(settings: Jobs) -> bool:
    """Tell the dispatcher that the store changed. False when none runs or it is about to end: nothing was told then."""
    try:
        with connected(settings.data_dir) as connection:
            if connection is None:
                return False
            connection.send(Message(nudge=True))
            answer = connection.receive()
            return answer is not None and answer.ok
    except (Unavailable, ConnectionError):
        return False


async def subscribe(settings: Jobs) -> AsyncIterator[int]:
    """The seq of the store's last event, now and whenever it grew. Ends when the dispatcher goes away, at once when none runs."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket_path(settings.data_dir) / DISPATCHER_SOCKET), limit=LINE_BYTES)
    except (ConnectionError, FileNotFoundError):
        return
    try:
        _send(writer, Message(subscribe=True))
        while line := await reader.readline():
            message = msgspec.json.decode(line, type=Message)
            if message.seq is not None:
                yield message.seq
    except ConnectionError:
        return
    finally:
        writer.close()


async def dispatcher_appeared(settings: Jobs) -> None:
    """Return once a dispatcher listens, at once when one does: so a server learns of one that the CLI started."""
    directory = await asyncio.to_thread(socket_directory, settings.data_dir)
    mine = directory / f"{WAITING}{os.getpid()}-{uuid.uuid4().hex[:6]}.sock"
    waiting = bind_private(mine, socket.SOCK_DGRAM)
    try:
        # bound first, then looked: one that starts in between rings here
        while not await asyncio.to_thread(answers, directory / DISPATCHER_SOCKET):
            await asyncio.get_running_loop().sock_recv(waiting, 16)
    finally:
        waiting.close()
        mine.unlink(missing_ok=True)


def ring(directory: Path) -> None:
    """Wake those who wait for a dispatcher."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.setblocking(False)
        for path in directory.glob(f"{WAITING}*.sock"):
            try:
                bell.sendto(b"!", str(path))
            except ConnectionError:
                path.unlink(missing_ok=True)  # its process was killed
            except (BlockingIOError, FileNotFoundError):
                continue


def answers(path: Path) -> bool:
    """Whether somebody listens on the socket at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as attempt:
        try:
            attempt.connect(str(path))
        except (ConnectionError, FileNotFoundError):
            return False
        return True


def _silent(data_dir: str | Path) -> Unavailable:
    return Unavailable(
        f"The dispatcher of {data_dir} does not answer.",
        code="dispatcher_silent",
        mend="See dispatcher.log there. `jupyter jobs dispatcher stop`, or ending its process, loses no run.",
    )
