"""The way to an endpoint over HTTP, to a server."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit, urlunsplit

import msgspec

from jupyter_jobs.client import Query, Sent, query_text
from jupyter_jobs.errors import BadInput, Conflict, JobsError, NotFound, TooLarge, Unavailable
from jupyter_jobs.model import ErrorBody

ANSWER_SECONDS = 600.0
"""Freezing a large project takes its time."""
SILENCE_SECONDS = 60.0
"""A stream shows every 15 seconds that it lives."""
ROOT = "jupyter-jobs/api"


class HttpTransport:
    """REST of a Jupyter server. `url` is the server's or our API's own; a token may be in it as `?token=`. `secret` is what its kernels have, and
    `certificate` the file of the server's own certificate, which is then the only one that is trusted."""

    remote = True

    def __init__(self, url: str, *, token: str = "", secret: str = "", certificate: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise BadInput(
                "The URL of the server must begin with http:// or https://.", code="bad_url", mend="`jupyter server list` shows it.", field="url"
            )
        token = token or parse_qs(parts.query).get("token", [""])[0]
        path = parts.path.rstrip("/")
        for end in (f"/{ROOT}", "/lab", "/tree"):
            path = path.removesuffix(end)
        self._root = urlunsplit((parts.scheme, parts.netloc, f"{path}/{ROOT}/", "", ""))
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if secret:
            # our own server: no proxy may see the secret
            handlers.append(urllib.request.ProxyHandler({}))
        if certificate:
            handlers.append(urllib.request.HTTPSHandler(context=_trusting(certificate)))
        self._opener = urllib.request.build_opener(*handlers)
        self._authorization = f"jobs {secret}" if secret else f"token {token}" if token else ""

    def request(self, method: str, path: str, query: Query, body: bytes) -> bytes:
        with self._open(method, path, query, body, "application/json, */*", ANSWER_SECONDS) as answer, _translated(self._root):
            data: bytes = answer.read()
            return data

    def stream(self, path: str, query: Query) -> Iterator[Sent]:
        """After a break it goes on behind the last message, once for each message that came."""
        last = ""
        while True:
            came = False
            with self._open("GET", path, query, b"", "text/event-stream", SILENCE_SECONDS, last) as answer:
                try:
                    for sent in read_events(answer):
                        came = True
                        last = sent.id or last
                        yield sent
                        if sent.event == "end":
                            return
                except (OSError, http.client.HTTPException) as error:
                    if not came:
                        raise _unreachable(self._root, error) from error
            if not came:
                raise Unavailable("The server ended the stream.", code="stream_ended", mend="Is it stopping? Try again.")

    def close(self) -> None:
        """Nothing is kept open between requests."""

    def _open(self, method: str, path: str, query: Query, body: bytes, accept: str, seconds: float, last: str = "") -> http.client.HTTPResponse:
        headers = {"Accept": accept, "Content-Type": "application/json"}
        if self._authorization:
            headers["Authorization"] = self._authorization
        if last:
            headers["Last-Event-ID"] = last
        url = f"{self._root}{path}"
        if given := query_text(query):
            url = f"{url}?{given}"
        request = urllib.request.Request(url, data=body if method in ("POST", "PATCH") else None, headers=headers, method=method)
        try:
            answer: http.client.HTTPResponse = self._opener.open(request, timeout=seconds)
        except urllib.error.HTTPError as error:
            with error:
                raise error_of(error.code, error.read()) from None
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self._root, error) from error
        return answer


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token or the secret elsewhere, and leads to a login page anyway."""

    def redirect_request(self, *args: object) -> None:
        return None


def _trusting(certificate: str) -> ssl.SSLContext:
    """Trust this one certificate, whatever host name it is for and whoever signed it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(certificate)
    except OSError as error:
        raise Unavailable(
            f"The server's certificate {certificate} cannot be read.", code="certificate_not_trusted", mend="Restart the kernel."
        ) from error
    return context


class _translated:
    """Turns a broken connection into `Unavailable`."""

    def __init__(self, root: str) -> None:
        self._root = root

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, (OSError, http.client.HTTPException)):
            raise _unreachable(self._root, error) from error


def _unreachable(root: str, error: BaseException) -> Unavailable:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return Unavailable(
            f"The certificate of {root} is not trusted: {reason.verify_message}.",
            code="certificate_not_trusted",
            mend="If it is your own, name it in the environment variable SSL_CERT_FILE.",
        )
    return Unavailable(f"{root} does not answer: {reason}.", code="server_unreachable", mend="Is the server running? `jupyter server list` shows it.")


def read_events(lines: Iterator[bytes] | http.client.HTTPResponse) -> Iterator[Sent]:
    """Server-sent events from lines, each of which ends with a newline."""
    event, name = "", ""
    data: list[bytes] = []
    for raw in lines:
        line = raw.rstrip(b"\r\n")
        if not line:
            if event or data:
                yield Sent(event or "message", b"\n".join(data), name)
            event, data, name = "", [], ""
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            event = value.decode()
        elif field == b"data":
            data.append(value)
        elif field == b"id":
            name = value.decode()


_KINDS: tuple[type[JobsError], ...] = (BadInput, NotFound, Conflict, TooLarge, Unavailable)


def error_of(status: int, body: bytes) -> JobsError:
    """The error that a server answered with, as it was raised there."""
    kind = next((kind for kind in _KINDS if kind.status == status), BadInput if 300 <= status < 500 else JobsError)
    try:
        said = msgspec.json.decode(body, type=ErrorBody)
    except (msgspec.DecodeError, UnicodeDecodeError):
        mend = "Is jupyter_jobs installed and enabled there? `jupyter server extension list` says it." if status == 404 else "Is the URL right?"
        return kind(f"The server answered {status}, and not as jupyter_jobs does.", code="not_ours", mend=mend)
    detail = {name: value for name, value in said.detail.items() if name not in ("message", "code", "mend", "self")}
    return kind(said.message, code=said.code, mend=said.mend, **detail)
