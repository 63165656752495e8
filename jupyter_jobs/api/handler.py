"""One Tornado handler for the whole URL table: authenticate, authorize, decode, call, encode, and errors as `ErrorBody`."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Protocol, cast
from urllib.parse import quote

import msgspec
from jupyter_server.auth import IdentityProvider, User
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler, FileFindHandler
from jupyter_server.extension.handler import ExtensionHandlerMixin
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.iostream import StreamClosedError

from jupyter_jobs.api.answers import SANDBOX, Document, Message, Stream
from jupyter_jobs.api.news import News, batches
from jupyter_jobs.api.routes import ROUTES
from jupyter_jobs.api.table import Route, decode, find_route
from jupyter_jobs.errors import BadInput, JobsError, NotFound, TooLarge
from jupyter_jobs.model import ErrorBody

ROOT = "jupyter-jobs/api"
RESOURCE = "jupyter_jobs"
"""What an authorizer is asked about, with `read`, `write` or `execute`."""

_encoder = msgspec.json.Encoder()


class Host(Protocol):
    """What the handler needs of the extension."""

    secret: str
    news: News

    async def call(self, route: Route, request: object, user: str) -> object:
        """The endpoint's answer, computed in a thread. Raises what it raises."""

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        """The function's result, computed in a thread of its own pool."""


class KernelIdentity(IdentityProvider):
    """Who comes with the server's own secret: a kernel of this server. Servers with a password have no token that kernels could use."""

    def get_user(self, handler: web.RequestHandler) -> User:
        name = kernel_user()
        return User(username=name, name=name, display_name=name)

    def is_token_authenticated(self, handler: web.RequestHandler) -> bool:
        return True

    def should_check_origin(self, handler: web.RequestHandler) -> bool:
        return False


def kernel_user() -> str:
    """The name of the person whose server this is."""
    import getpass
    import os

    return os.environ.get("JUPYTERHUB_USER") or getpass.getuser()


class JobsHandler(ExtensionHandlerMixin, APIHandler):
    """Answers everything below `jupyter-jobs/api`."""

    auth_resource = RESOURCE
    _stream: asyncio.Task[None] | None = None

    @property
    def host(self) -> Host:
        return cast("Host", self.extensionapp)

    @property
    def identity_provider(self) -> IdentityProvider:
        scheme, _, secret = self.request.headers.get("Authorization", "").partition(" ")
        if scheme == "jobs" and hmac.compare_digest(secret.encode(), self.host.secret.encode()):
            return KernelIdentity()
        return super().identity_provider

    @web.authenticated
    async def get(self) -> None:
        await self._answer()

    @web.authenticated
    async def post(self) -> None:
        await self._answer()

    @web.authenticated
    async def delete(self) -> None:
        await self._answer()

    @web.authenticated
    async def put(self) -> None:
        await self._answer()

    @web.authenticated
    async def patch(self) -> None:
        await self._answer()

    @web.authenticated
    async def head(self) -> None:
        await self._answer()

    async def _answer(self) -> None:
        try:
            below = self.request.path[len(url_path_join(self.base_url, ROOT)) :]
            route, values = find_route(ROUTES, self.request.method, below)
            await PERMITTED[route.permission](self, route, values)
        except JobsError as error:
            if seconds := error.detail.get("retry_after"):
                self.set_header("Retry-After", str(seconds))
            self._fail(error.status, ErrorBody(code=error.code, message=error.message, mend=error.mend, detail=error.detail))
        except (web.HTTPError, StreamClosedError):
            raise
        except Exception as error:  # noqa: BLE001 - nothing that goes wrong may be answered by a page or a traceback
            # neither the message nor the traceback's lines are safe to log: they may show a parameter's value
            self.log.error("jupyter_jobs: %s %s failed: %s", self.request.method, self.request.path, describe(error))
            self._fail(500, internal_error(error))

    async def _call(self, route: Route, values: dict[str, str]) -> None:
        query = self.request.query
        if (last := self.request.headers.get("Last-Event-ID")) and "last" in route.request.__struct_fields__:
            query = f"{query}&last={quote(last)}"
        request = decode(route, values, query, self.request.body)
        answer = await self.host.call(route, request, user_name(self.current_user))
        self.set_status(route.status)
        if answer is None:
            self.finish()
        elif isinstance(answer, msgspec.Struct):
            self.finish(_encoder.encode(answer))
        elif isinstance(answer, Document):
            await self._send_document(answer)
        else:
            await self._send_stream(answer, download=getattr(request, "download", False))  # type: ignore[arg-type]

    async def _send_document(self, document: Document) -> None:
        """What a notebook may have written is shown in an origin of its own, whatever headers the server's settings ask for."""
        self.set_header("Content-Security-Policy", SANDBOX)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "private, no-cache")
        for name, value in document.headers.items():
            self.set_header(name, value)
        if document.attachment:
            self.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{quote(document.attachment, safe='', errors='replace')}")
        if document.etag:
            self.set_header("ETag", f'"{document.etag}"')
            if self.check_etag_header():
                self.set_status(304)
                self.finish(set_content_type=document.media_type)
                return
        if document.length is not None:
            self.set_header("Content-Length", str(document.length))
        self.set_header("Content-Type", document.media_type)
        chunks = document.chunks()
        try:
            while chunk := await self.host.in_thread(lambda: next(chunks, b"")):
                self.write(chunk)
                await self.flush()
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        self.finish(set_content_type=document.media_type)

    async def _send_stream(self, stream: Stream, *, download: bool) -> None:
        text = None
        if download or "text/event-stream" not in self.request.headers.get("Accept", ""):
            text = await self.host.in_thread(stream.text)
        if text is not None:
            await self._send_document(text if download else replace(text, attachment=""))
            return
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Accel-Buffering", "no")
        self.write(b": here\n\n")
        await self.flush()
        self._stream = asyncio.ensure_future(self._send_batches(stream))
        try:
            await self._stream
        except asyncio.CancelledError:
            # the client has gone, nobody reads what we would say
            return
        finally:
            self._stream = None
        self.finish(set_content_type="text/event-stream; charset=utf-8")

    async def _send_batches(self, stream: Stream) -> None:
        async with aclosing(batches(stream, self.host.news, self.host.in_thread)) as found:
            async for messages in found:
                self.write(b"".join(map(as_event, messages)) or b": still here\n\n")
                await self.flush()

    def on_connection_close(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
        super().on_connection_close()

    def compute_etag(self) -> None:
        """Documents bring their own."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """What Tornado and jupyter_server refuse."""
        error = kwargs.get("exc_info", (None, None))[1]
        if isinstance(error, web.HTTPError):
            self._fail(status_code, refusal(status_code, error.log_message if status_code < 500 else None))
        else:
            if error is not None:
                self.log.error("jupyter_jobs: %s %s failed: %s", self.request.method, self.request.path, describe(error))
            self._fail(status_code, internal_error(error))

    def log_exception(self, typ: type[BaseException] | None, value: BaseException | None, tb: object) -> None:
        """Tornado would log a traceback, whose last line may show a value; `write_error` says what may be said."""

    def _fail(self, status: int, body: ErrorBody) -> None:
        if self._headers_written:
            # the answer has begun: cutting it off is the only sign that is left
            self.detach().close()
            return
        for name in ("Content-Length", "Content-Disposition", "ETag"):
            self.clear_header(name)
        self.set_status(status)
        if status == 405 and isinstance(allow := body.detail.get("allow"), list):
            self.set_header("Allow", ", ".join(map(str, allow)))
        self.finish(encode_error(body))


PERMITTED: dict[str, Callable[[JobsHandler, Route, dict[str, str]], Awaitable[None]]] = {
    permission: authorized(action=permission, resource=RESOURCE)(JobsHandler._call) for permission in ("read", "write", "execute")
}


class AssetsHandler(FileFindHandler):
    """What executed notebooks' pages need: MathJax, widgets and so on. Their origin is opaque, so fonts and modules need leave to be read."""

    _static_paths: dict[str, str] = {}  # noqa: RUF012 - its own cache, by name, as the base class has it

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Access-Control-Allow-Origin", "*")
        self.set_header("X-Content-Type-Options", "nosniff")


def as_event(message: Message) -> bytes:
    """A message in the format of server-sent events."""
    parts = [f"event: {message.event}\n".encode()]
    if message.id:
        parts.append(f"id: {message.id}\n".encode())
    parts.append(b"data: " + (b"{}" if message.data is None else _encoder.encode(message.data)) + b"\n\n")
    return b"".join(parts)


def encode_error(body: ErrorBody) -> bytes:
    """The body as JSON. A detail that is no JSON value is shown as text: an error must not fail."""
    return msgspec.json.encode(body, enc_hook=str)


def refusal(status: int, message: str | None) -> ErrorBody:
    """The body for what the server refuses before an endpoint is asked."""
    known: dict[int, tuple[str, str, str]] = {
        400: (BadInput.code, "The request is malformed.", ""),
        401: ("not_authenticated", "Nobody is logged in.", "Log in, or send the server's token."),
        403: ("forbidden", "This is not allowed.", "Log in, or send the server's token; if you did, ask who runs this server."),
        404: (NotFound.code, "There is nothing here.", ""),
        405: ("method_not_allowed", "This method is not possible here.", ""),
        413: (TooLarge.code, "The request is too large.", ""),
    }
    code, sentence, mend = known.get(status, ("internal_error", f"The server answered {status}.", ""))
    return ErrorBody(code=code, message=message or sentence, mend=mend)


def internal_error(error: BaseException | None) -> ErrorBody:
    """The body for what should not happen."""
    kind = type(error).__name__ if error is not None else "an unknown error"
    return ErrorBody(
        code="internal_error", message=f"jupyter_jobs failed inside: {kind}.", mend="The server's log names the place; please report it."
    )


def describe(error: BaseException) -> str:
    """Kind and places of an error, without its message or source lines, which may hold what somebody passed."""
    import traceback
    from pathlib import PurePath

    places = [f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)[-6:]]
    return f"{type(error).__name__} at {' < '.join(reversed(places))}"


def user_name(user: object) -> str:
    """The name of whoever is logged in; an anonymous one of a token server is the server's own person."""
    name = getattr(user, "username", "") or ""
    return kernel_user() if not name or getattr(user, "name", "").startswith("Anonymous ") else str(name)
