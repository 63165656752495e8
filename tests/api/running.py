"""What tests of the API do with a running server and with the dispatcher's socket."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jupyter_server.serverapp import ServerApp
from sqlalchemy import Engine
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse

from jupyter_jobs.app import JobsApp
from jupyter_jobs.dispatcher.socket import Server, hello
from jupyter_jobs.model import DispatcherStatus
from jupyter_jobs.store import events
from jupyter_jobs.store.database import SCHEMA_VERSION, read, write

TOKEN = "the-token"
BASE = "/user/a%40b/"
SECONDS = 30.0
"""The most that a test waits for anything; none waits for time to pass."""


@dataclass
class Dispatcher:
    """The dispatcher's real socket, on which the test says that the store grew. It runs nothing."""

    engine: Engine
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    server: Server = field(init=False)

    def __post_init__(self) -> None:
        async def status() -> DispatcherStatus:
            return DispatcherStatus(running=True, pid=1)

        self.server = Server(hello(SCHEMA_VERSION), wake=self.wake.set, draining=asyncio.Event(), drain=lambda _: None, status=status)

    def announce(self) -> None:
        with read(self.engine) as conn:
            self.server.announce(events.last_seq(conn))

    def write(self, change: Any, *args: object, **kwargs: object) -> Any:
        """Change the store and say so, as the dispatcher does."""
        with write(self.engine) as conn:
            result = change(conn, *args, **kwargs)
        self.announce()
        return result


@dataclass
class Running:
    """A running server. `get` and the like ask below `jupyter-jobs/api/` with the token, and return answers of any status."""

    app: ServerApp
    port: int
    root: Path

    @property
    def jobs(self) -> JobsApp:
        found = self.app.web_app.settings["jupyter_jobs"]
        assert isinstance(found, JobsApp)
        return found

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{BASE}"

    @property
    def api(self) -> str:
        return f"{self.url}jupyter-jobs/api/"

    async def ask(
        self, method: str, path: str, *, body: object = None, raw: bytes | None = None, headers: dict[str, str] | None = None, **query: object
    ) -> HTTPResponse:
        given = {"Authorization": f"token {TOKEN}", **(headers or {})}
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        if method in ("POST", "PUT", "PATCH") and data is None:
            data = b""
        base = self.url if path.startswith("api/") else self.api
        url = base + path + (f"?{urlencode(query)}" if query else "")
        request = HTTPRequest(
            url,
            method=method,
            body=data,
            headers={name: value for name, value in given.items() if value},
            allow_nonstandard_methods=True,
            follow_redirects=False,
            request_timeout=SECONDS,
        )
        return await AsyncHTTPClient().fetch(request, raise_error=False)

    async def get(self, path: str, **query: object) -> HTTPResponse:
        return await self.ask("GET", path, **query)

    async def post(self, path: str, body: object = None) -> HTTPResponse:
        return await self.ask("POST", path, body=body)


def error_of(response: HTTPResponse) -> dict[str, Any]:
    """The body of an error, checked to be one."""
    body = json.loads(response.body)
    assert set(body) == {"code", "message", "mend", "detail"}, body
    assert isinstance(body["detail"], dict)
    assert body["message"]
    return body
