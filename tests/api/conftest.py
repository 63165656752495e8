"""A Jupyter server with the extension in this process, on the test's own event loop and folders, and the dispatcher's socket beside it."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from jupyter_server.serverapp import ServerApp
from sqlalchemy import Engine
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from traitlets.config import Config

from jupyter_jobs.app import JobsApp
from jupyter_jobs.dispatcher.socket import Server, hello
from jupyter_jobs.model import DispatcherStatus
from jupyter_jobs.settings import Jobs
from jupyter_jobs.sockets import DISPATCHER_SOCKET, socket_directory
from jupyter_jobs.store import events
from jupyter_jobs.store.database import SCHEMA_VERSION, open_store, read, write

TOKEN = "the-token"
BASE = "/user/a%40b/"
SECONDS = 30.0
"""The most that a test waits for anything; none waits for time to pass."""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The test's own home, Jupyter folders and runtime folder; the latter with a path short enough for sockets."""
    runtime = tempfile.mkdtemp(prefix="jj-", dir="/tmp")
    for name in ("home", "config", "data", "root"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    for name, folder in {"CONFIG": tmp_path / "config", "DATA": tmp_path / "data", "RUNTIME": Path(runtime) / "jupyter"}.items():
        monkeypatch.setenv(f"JUPYTER_{name}_DIR", str(folder))
    for name in ("URL", "SECRET", "ROOT", "CERTIFICATE", "RUN"):
        monkeypatch.delenv(f"JUPYTER_JOBS_{name}", raising=False)
    yield tmp_path
    shutil.rmtree(runtime)


@pytest.fixture
def settings(places: Path) -> Jobs:
    return Jobs(data_dir=str(places / "data" / "jobs"))


@pytest.fixture
def engine(settings: Jobs) -> Iterator[Engine]:
    engine = open_store(settings.data_dir)
    yield engine
    engine.dispose()


@dataclass
class Dispatcher:
    """The dispatcher's real socket, on which the test says that the store grew. It runs nothing."""

    engine: Engine
    nudges: list[None] = field(default_factory=list)
    nudged: asyncio.Event = field(default_factory=asyncio.Event)
    server: Server = field(init=False)

    def __post_init__(self) -> None:
        self.server = Server(
            hello(SCHEMA_VERSION),
            nudged=self._nudge,
            drain=lambda _: None,
            left=lambda: None,
            status=lambda: DispatcherStatus(running=True, pid=1),
        )

    def _nudge(self) -> None:
        self.nudges.append(None)
        self.nudged.set()

    def announce(self) -> None:
        with read(self.engine) as conn:
            self.server.announce(events.last_seq(conn))

    def write(self, change: Any, *args: object, **kwargs: object) -> Any:
        """Change the store and say so, as the dispatcher does."""
        with write(self.engine) as conn:
            result = change(conn, *args, **kwargs)
        self.announce()
        return result


@pytest.fixture
async def dispatcher(settings: Jobs, engine: Engine) -> AsyncIterator[Dispatcher]:
    made = Dispatcher(engine)
    await made.server.listen(socket_directory(settings.data_dir) / DISPATCHER_SOCKET)
    yield made
    made.server.close_listening()
    made.server.close_connections()


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


@pytest.fixture
def server_config() -> Config:
    """Overridden by tests that need more."""
    return Config()


@pytest.fixture
async def server(places: Path, server_config: Config) -> AsyncIterator[Running]:
    """Without a dispatcher; ask for `dispatcher` first to have one."""
    config = Config({"ServerApp": {"jpserver_extensions": {"jupyter_jobs": True}}, "IdentityProvider": {"token": TOKEN}})
    config.merge(server_config)
    ServerApp.clear_instance()
    app = ServerApp.instance(config=config, base_url=BASE, root_dir=str(places / "root"), open_browser=False, allow_root=True, port=0, log_level="INFO")
    app.init_signal = lambda: None
    app.initialize(argv=[], find_extensions=False, new_httpserver=False)
    sockets = bind_sockets(0, "127.0.0.1")
    app.port = sockets[0].getsockname()[1]
    http = HTTPServer(app.web_app)
    http.add_sockets(sockets)
    await app.extension_manager.start_all_extensions()
    running = Running(app, app.port, places / "root")
    yield running
    http.stop()
    await http.close_all_connections()
    await app._cleanup()
    app.kernel_manager.context.destroy()
    ServerApp.clear_instance()
