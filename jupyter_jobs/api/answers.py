"""What an endpoint may return besides a struct: a document (HTML, a file, text) or a stream of messages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

CHUNK = 256 * 1024

SANDBOX = "sandbox allow-scripts; frame-ancestors 'self'"
"""Content-Security-Policy of everything that a notebook may have written: its scripts run, but in an origin of their own."""


@dataclass(frozen=True)
class Document:
    """Bytes with a media type. `chunks` opens it and yields its bytes, blocking; it is called in a thread, once.

    `attachment` names the file that a browser saves it as; empty: the browser shows it. `etag` stands for the content.
    """

    media_type: str
    chunks: Callable[[], Iterator[bytes]]
    attachment: str = ""
    length: int | None = None
    etag: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Message:
    """One message of a stream. `id` is where to go on after it."""

    event: str
    data: msgspec.Struct | None = None
    id: str = ""


@dataclass(frozen=True)
class Batch:
    """What a stream has to send now. `more`: read again at once; `ended`: nothing will follow; else wait until a file in a directory
    of `watch` changes, or something happens to the stream's job, and read again."""

    messages: list[Message]
    more: bool = False
    ended: bool = False
    watch: frozenset[Path] = frozenset()


class Stream(Protocol):
    """Messages as they come. `job` is the job whose changes matter to it; empty: all."""

    job: str

    def read(self) -> Batch:
        """What is new since the last call. Blocks on disk and store, never waits for news."""

    def text(self) -> Document | None:
        """The same as plain text, as far as it goes now, with a name to save it as; None where there is no such form."""


def file_document(path: Path, media_type: str, *, attachment: str = "", etag: str = "") -> Document:
    """The file at `path`. Raises FileNotFoundError. Without an ETag the file is read once for one of its content."""
    if etag:
        return Document(media_type, lambda: read_chunks(path), attachment, path.stat().st_size, etag)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        length = file.tell()
    return Document(media_type, lambda: read_chunks(path), attachment, length, digest)


def read_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of the file at `path`, in pieces of at most `CHUNK` bytes."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
