"""The client says the same over HTTP and in this process: results, errors, streams."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

import pytest

from jupyter_jobs.actions.places import run_dir
from jupyter_jobs.client import Client, connect
from jupyter_jobs.errors import BadInput, Conflict, JobsError, NotFound, Unavailable
from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.local import LocalTransport
from jupyter_jobs.model import Job
from jupyter_jobs.remote import HttpTransport, error_of, read_events
from jupyter_jobs.requests import CombinationsRequest, CopyFiles
from jupyter_jobs.settings import Jobs
from jupyter_jobs.store import runs
from tests.api.running import BASE, SECONDS, TOKEN, Dispatcher, Running
from tests.api.test_streams import say
from tests.factories import bring_to, make_job, notebook, write_project

T = TypeVar("T")


@pytest.fixture(params=["http", "local"])
def client(
    request: pytest.FixtureRequest, dispatcher: Dispatcher, server: Running, settings: Jobs, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Client]:
    monkeypatch.chdir(server.root)
    transport = HttpTransport(server.url, token=TOKEN) if request.param == "http" else LocalTransport(settings)
    with Client(transport) as client:
        yield client


async def ask(function: Callable[[], T]) -> T:
    """What the client says, asked on a thread: the server is on this one."""
    async with asyncio.timeout(SECONDS):
        return await asyncio.to_thread(function)


async def error_from(function: Callable[[], object]) -> JobsError:
    with pytest.raises(JobsError) as caught:
        await ask(function)
    return caught.value


async def test_jobs_and_runs(client: Client, dispatcher: Dispatcher) -> None:
    job = dispatcher.write(make_job, runs_count=3)
    found = await ask(lambda: client.jobs(status=None, search=None))
    assert [each.id for each in found.jobs] == [job]
    assert (await ask(lambda: client.jobs(status=["failed", "complete"]))).jobs == []
    assert (await ask(lambda: client.job(job[:6]))).total == 3
    page = await ask(lambda: client.runs(job, limit=2, sort="-number"))
    assert [run.number for run in page.runs] == [3, 2]
    rest = await ask(lambda: client.runs(job, limit=2, sort="-number", after=page.page.next))
    assert [run.number for run in rest.runs] == [1]
    canceled = await ask(lambda: client.cancel_run(f"{job}-1"))
    assert canceled.state == "canceled"
    assert (await ask(lambda: client.cancel_job(job))).counts == {"canceled": 3}
    events = await ask(lambda: client.events(job=job))
    assert [event.kind for event in events.events] == ["job.created", "run.state", "run.state", "run.state"]
    assert (await ask(lambda: client.events(events.last, run=f"{job}-1"))).events == []
    await ask(lambda: client.delete_job(job))
    assert (await error_from(lambda: client.job(job))).code == "job_not_found"


async def test_errors_are_the_same_both_ways(client: Client, dispatcher: Dispatcher) -> None:
    job = dispatcher.write(make_job, runs_count=1)
    dispatcher.write(bring_to, f"{job}-1", RunState.RUNNING)
    error = await error_from(lambda: client.delete_job(job))
    assert isinstance(error, Conflict)
    assert (error.code, error.detail["runs"]) == ("job_active", [f"{job}-1"])
    assert error.mend
    error = await error_from(lambda: client.jobs(limit=-1))
    assert isinstance(error, BadInput)
    assert error.detail["field"] == "limit"
    error = await error_from(lambda: client.run("../../etc"))
    assert isinstance(error, NotFound)
    error = await error_from(lambda: client.file(f"{job}-1", "../../run.json"))
    assert isinstance(error, BadInput | NotFound)
    error = await error_from(lambda: client.copy_files(f"{job}-1", CopyFiles(paths=["nothing.txt"])))
    assert error.code == "file_not_found"
    error = await error_from(lambda: list(client.logs(f"{job}-9")))
    assert error.code == "run_not_found"
    error = await error_from(lambda: client.inspect("nothing.ipynb"))
    assert isinstance(error, NotFound)


async def test_paths_are_the_roots_or_the_shells(client: Client, server: Running) -> None:
    write_project(server.root / "churn", {}, {"report.ipynb": notebook()})
    found = await ask(lambda: client.combinations(CombinationsRequest(path="churn/report.ipynb", parameters={"seed": [1, 2, 3]})))
    assert found.total == 3


async def test_a_job_is_followed_to_its_end(client: Client, dispatcher: Dispatcher, settings: Jobs) -> None:
    job = dispatcher.write(make_job, runs_count=2)
    seen: list[Job] = []
    said: list[str] = []
    first, begun = threading.Event(), threading.Event()

    def follow() -> None:
        for shown in client.follow(job):
            seen.append(shown)
            first.set()

    def read() -> None:
        for line in client.logs(job, follow=True):
            said.append(f"{line.run}: {line.text}")
            begun.set()

    following = [asyncio.ensure_future(asyncio.to_thread(each)) for each in (follow, read)]
    async with asyncio.timeout(SECONDS):
        await asyncio.to_thread(first.wait)
        for number in (1, 2):
            run = f"{job}-{number}"
            say(run_dir(Path(settings.data_dir), run, 1), "begins")
            dispatcher.write(bring_to, run, RunState.RUNNING)
            await asyncio.to_thread(begun.wait)
            say(run_dir(Path(settings.data_dir), run, 1), "ends")
            dispatcher.write(runs.move, run, RunState.COMPLETE, attempt=1)
        await asyncio.gather(*following)
    assert said == [f"{job}-{number}: {what}" for number in (1, 2) for what in ("begins", "ends")]
    assert (seen[0].status, seen[-1].status) == ("queued", "complete")
    assert [job.seq for job in seen] == sorted({job.seq for job in seen})
    assert (await ask(lambda: client.wait(job))).status == "complete"


async def test_a_stream_that_is_left_lets_go(client: Client, dispatcher: Dispatcher, server: Running) -> None:
    dispatcher.write(make_job, runs_count=1)
    before = set(threading.enumerate())

    def leave() -> str:
        changes = client.changes()
        kind = next(changes).kind
        changes.close()  # type: ignore[attr-defined]
        return kind

    assert await ask(leave) == "job.created"
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "jupyter_jobs stream"]


async def test_a_stream_goes_on_over_a_broken_connection(dispatcher: Dispatcher, server: Running, settings: Jobs) -> None:
    job = dispatcher.write(make_job, runs_count=1)
    run = f"{job}-1"
    folder = run_dir(Path(settings.data_dir), run, 1)
    say(folder, "one")
    dispatcher.write(bring_to, run, RunState.RUNNING)
    said: list[str] = []
    first = threading.Event()

    def read() -> None:
        for line in Client(HttpTransport(server.url, token=TOKEN)).logs(run, follow=True):
            said.append(line.text)
            first.set()

    reading = asyncio.ensure_future(asyncio.to_thread(read))
    async with asyncio.timeout(SECONDS):
        await asyncio.to_thread(first.wait)
        for handler in [task for task in asyncio.all_tasks() if "_send_batches" in repr(task)]:
            handler.cancel()
        say(folder, "two")
        dispatcher.write(runs.move, run, RunState.COMPLETE, attempt=1)
        await reading
    assert said == ["one", "two"]


async def test_a_wrong_token_and_a_wrong_server(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    error = await error_from(Client(HttpTransport(server.url, token="wrong")).jobs)
    assert (error.status, error.code) == (400, "forbidden")
    # the base URL forgotten: that is some other page
    error = await error_from(Client(HttpTransport(server.url.removesuffix(BASE), token=TOKEN)).jobs)
    assert error.code == "not_ours"
    for url in (f"{server.url}?token={TOKEN}", f"{server.url}lab?token={TOKEN}", f"{server.api}?token={TOKEN}"):
        assert (await ask(connect(url).jobs)).jobs == []
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert connect().remote
    assert (await ask(connect().jobs)).jobs == []
    with pytest.raises(BadInput):
        connect("localhost:8888")
    error = await error_from(connect("http://127.0.0.1:1").jobs)
    assert isinstance(error, Unavailable)
    assert "127.0.0.1:1" in error.message


def test_a_certificate_of_ones_own(tmp_path: Path) -> None:
    certificate = _certificate(tmp_path)

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"jobs": [], "page": {"next": "", "total": 0}}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return None

    web = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    web.socket = context.wrap_socket(web.socket, server_side=True)
    serving = threading.Thread(target=web.serve_forever, daemon=True)
    serving.start()
    try:
        url = f"https://127.0.0.1:{web.server_port}/"
        with pytest.raises(Unavailable) as caught:
            Client(HttpTransport(url)).jobs()
        assert (caught.value.code, "SSL_CERT_FILE" in caught.value.mend) == ("certificate_not_trusted", True)
        assert Client(HttpTransport(url, secret="s", certificate=str(certificate))).jobs().jobs == []
        other = tmp_path / "other"
        other.mkdir()
        with pytest.raises(Unavailable):
            Client(HttpTransport(url, secret="s", certificate=str(_certificate(other)))).jobs()
    finally:
        web.shutdown()
        web.server_close()


def _certificate(folder: Path) -> Path:
    file = folder / "server.pem"
    asked = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=elsewhere"]
    subprocess.run(["openssl", *asked, "-keyout", file, "-out", folder / "c.pem"], check=True, capture_output=True)
    file.write_text(file.read_text() + (folder / "c.pem").read_text())
    return file


def test_what_a_server_answers_that_is_not_ours() -> None:
    assert error_of(404, b"<html>").code == "not_ours"
    assert error_of(404, b'{"message": "Not found", "reason": null}').code == "not_ours"
    assert isinstance(error_of(302, b""), BadInput)
    error = error_of(503, b'{"code": "c", "message": "m", "mend": "n", "detail": {"code": 1, "field": "f", "self": 2}}')
    assert isinstance(error, Unavailable)
    assert (error.code, error.message, error.mend, error.detail) == ("c", "m", "n", {"field": "f"})


def test_events_are_read_as_they_may_be_written() -> None:
    lines = b": comment\n\nid: 7\nevent: line\ndata: {\ndata: }\n\ndata:x\n\nevent: end\n\nevent: cut".splitlines(keepends=True)
    found = [(sent.event, sent.data, sent.id) for sent in read_events(iter(lines))]
    assert found == [("line", b"{\n}", "7"), ("message", b"x", ""), ("end", b"", "")]


def test_importing_the_client_is_light() -> None:
    heavy = "sqlalchemy", "tornado", "jupyter_server", "nbformat"
    code = f"import sys, jupyter_jobs.client, jupyter_jobs.remote; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
