"""The dispatcher as a process: be it, start it detached, ask it, end it. For code without an event loop; light to import."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import selectors
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from jupyter_jobs.dispatcher.socket import Connection, Hello, Message, check_speaks, connected, hello, is_newer
from jupyter_jobs.errors import JobsError, Unavailable
from jupyter_jobs.model import DispatcherStatus
from jupyter_jobs.settings import Jobs
from jupyter_jobs.sockets import START_LOCK, socket_directory

START_SECONDS = 60.0
END_SECONDS = 90.0
LOG = "dispatcher.log"


def run_dispatcher(settings: Jobs) -> None:
    """Be the dispatcher in this process until it is told to end or has nothing to do. Raises `Conflict` when there is one already."""
    from jupyter_jobs.dispatcher.service import serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(serve(settings))


def ensure_dispatcher(settings: Jobs) -> DispatcherStatus:
    """See to it that a dispatcher of our version or a newer one runs, tell it that the store changed, and return its status.

    However many processes call this at once, one dispatcher comes of it. An older one is drained and replaced; its runs go on.
    Raises `Unavailable` when none can be started, it does not answer, or it no longer understands us.
    """
    from jupyter_jobs.store.database import SCHEMA_VERSION

    me = hello(SCHEMA_VERSION)
    if (found := _use(settings, me)) is not None:
        return found
    with _starting(settings):
        # whoever held the lock before us has probably started it
        if (found := _use(settings, me)) is not None:
            return found
        _launch(settings)
        if (found := _use(settings, me)) is not None:
            return found
    raise _not_started(settings, "it ended at once")


def make_way(settings: Jobs) -> bool:
    """End a dispatcher that is older than we are; whether there was one. To be called before `open_store`, which may migrate the store
    that it still uses."""
    from jupyter_jobs.store.database import SCHEMA_VERSION

    with connected(settings.data_dir) as connection:
        if connection is None or not is_newer(hello(SCHEMA_VERSION), connection.peer):
            return False
        connection.send(Message(drain=True))
        _wait_for_end(connection)
        return True


def stop_dispatcher(settings: Jobs) -> bool:
    """End the dispatcher and return once it has let go of everything; False when none ran. Its runs go on, what is queued stays queued."""
    with connected(settings.data_dir) as connection:
        if connection is None:
            return False
        connection.send(Message(stop=True))
        _wait_for_end(connection)
        return True


def dispatcher_status(settings: Jobs) -> DispatcherStatus:
    """What the dispatcher says of itself; `running` false when there is none. Raises `Unavailable` when it does not answer."""
    with connected(settings.data_dir) as connection:
        found = None if connection is None else _status(connection)
    return found or DispatcherStatus(running=False)


def lives_with() -> str:
    """A note when a process started here ends with whoever started it: in a container, or in a service of systemd that is stopped as a whole."""
    if any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")) or "KUBERNETES_SERVICE_HOST" in os.environ:
        return "jobs stop with this container"
    return "jobs stop with this server" if _in_service() else ""


def _use(settings: Jobs, me: Hello) -> DispatcherStatus | None:
    """The status of a dispatcher that we can use and that has promised to look at the store; None when one must be started."""
    try:
        with connected(settings.data_dir) as connection:
            if connection is None:
                return None
            if is_newer(me, connection.peer):
                connection.send(Message(drain=True))
                _wait_for_end(connection)
                return None
            check_speaks(me, connection.peer)
            connection.send(Message(nudge=True))
            answer = connection.receive()
            if answer is None or not answer.ok:
                return None
            return _status(connection)
    except ConnectionError:  # it ended while we spoke
        return None


def _status(connection: Connection) -> DispatcherStatus | None:
    try:
        connection.send(Message(status=True))
        answer = connection.receive()
    except ConnectionError:
        return None
    return answer.status if answer is not None and isinstance(answer.status, DispatcherStatus) else None


def _wait_for_end(connection: Connection) -> None:
    with contextlib.suppress(ConnectionError):
        while connection.receive(END_SECONDS) is not None:
            pass


@contextlib.contextmanager
def _starting(settings: Jobs) -> Iterator[None]:
    """One at a time: another that starts it is waited for."""
    path = socket_directory(settings.data_dir) / START_LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _launch(settings: Jobs) -> None:
    """Start a detached dispatcher and return once it listens. Raises `Unavailable` with its own words when it does not come up."""
    note = lives_with()
    command = [sys.executable, "-P", "-m", "jupyter_jobs.dispatcher"]
    if _in_service() and (scope := _scope()):
        failure = _spawn(settings, [*scope, *command], "")
        if not failure:
            return
    failure = _spawn(settings, command, note)
    if failure:
        raise _not_started(settings, failure)


def _spawn(settings: Jobs, command: list[str], note: str) -> str:
    """Run the launcher, which reads its settings from stdin (they may hold a password), says `ready` or why not, and detaches. Why it failed."""
    from jupyter_jobs.backends.local import runner_environment

    data_dir = Path(settings.data_dir)
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    values = {name: getattr(settings, name) for name in settings.trait_names(config=True)} | {"data_dir": str(data_dir.absolute())}
    environment = runner_environment(os.environ) | {name: value for name, value in os.environ.items() if name.startswith(("PG", "DBUS_"))}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=data_dir, env=environment, start_new_session=True
    ) as launcher:
        assert launcher.stdin is not None
        assert launcher.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            launcher.stdin.write(json.dumps({"settings": values, "note": note}).encode())
            launcher.stdin.close()
        said = _read_all(launcher.stdout.fileno())
        if said is None:
            launcher.kill()
            return f"it was not ready within {START_SECONDS:g} s"
    text = said.decode("utf-8", "replace").strip()
    return "" if text.endswith("ready") else text or f"it ended with exit code {launcher.returncode}"


def _read_all(descriptor: int) -> bytes | None:
    """What comes until the other side closes; None when that takes longer than `START_SECONDS`."""
    data = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while selector.select(START_SECONDS):
            piece = os.read(descriptor, 65536)
            if not piece:
                return data
            data += piece
    return None


def _in_service() -> bool:
    """Whether we belong to a unit of systemd whose stop ends all its processes."""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return False
    return any(line.endswith(".service") for line in groups)


def _scope() -> list[str]:
    """The command that starts another in a scope of its own under the user's systemd; nothing where there is none."""
    systemd_run = shutil.which("systemd-run")
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if systemd_run is None or not Path(runtime, "systemd", "private").exists():
        return []
    return [systemd_run, "--user", "--scope", "--quiet", "--collect", "--"]


def _not_started(settings: Jobs, why: str) -> JobsError:
    return Unavailable(
        f"The dispatcher could not be started: {why}.",
        code="dispatcher_not_started",
        mend=f"See {Path(settings.data_dir) / LOG}, or try `jupyter jobs dispatcher run`.",
    )
