"""A Jupyter server with the extension in this process, on the test's own event loop and folders, and the dispatcher's socket beside it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from jupyter_server.serverapp import ServerApp
from sqlalchemy import Engine
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from traitlets.config import Config

from jupyter_jobs.settings import Jobs
from jupyter_jobs.sockets import DISPATCHER_SOCKET, socket_directory
from jupyter_jobs.store.database import open_store
from tests.api.running import BASE, TOKEN, Dispatcher, Running


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


@pytest.fixture
async def dispatcher(settings: Jobs, engine: Engine) -> AsyncIterator[Dispatcher]:
    made = Dispatcher(engine)
    await made.server.listen(socket_directory(settings.data_dir) / DISPATCHER_SOCKET)
    yield made
    made.server.close_listening()
    await made.server.hang_up()


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
    app = ServerApp.instance(
        config=config, base_url=BASE, root_dir=str(places / "root"), open_browser=False, allow_root=True, port=0, log_level="INFO"
    )
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
