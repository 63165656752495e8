"""Messages between fork server, kernel servers, keepers and runners: JSON over Unix sockets, with descriptors beside it.

A message is four bytes of length (big endian) and JSON; an answer that needs no descriptors is a line of JSON (`say`).
Runs in the kernel's Python, handed over by the fork server as an open file: standard library only.
"""

from __future__ import annotations

import json
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

PATIENCE = 10.0
"""Seconds that a request, once it is announced, may take to come."""


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
