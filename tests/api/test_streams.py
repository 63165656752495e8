"""Logs and events as they come: read in order, followed without polling, resumed where a connection broke, and let go when the reader goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from jupyter_jobs.actions.places import run_dir
from jupyter_jobs.api.streams import LogStream
from jupyter_jobs.client import Sent
from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.model import RunLine
from jupyter_jobs.remote import read_events
from jupyter_jobs.settings import Jobs
from jupyter_jobs.store import jobs, runs
from jupyter_jobs.store.runs import RunMark
from tests.api.running import SECONDS, TOKEN, Dispatcher, Running, error_of
from tests.factories import bring_to, make_job


def say(folder: Path, *texts: str, end: str = "\n", stream: str = "stdout") -> None:
    """Append lines to the log in a run directory, as a runner does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.jsonl").open("a") as log:
        for text in texts:
            log.write(json.dumps({"at": 1.5, "stream": stream, "text": text, "end": end, "cell": 2}) + "\n")


class Reader:
    """A client of one stream, over a connection of its own, as a browser's EventSource is."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.headers = b""

    async def begin(self) -> None:
        self.headers = await self._reader.readuntil(b"\r\n\r\n")

    async def next(self) -> Sent:
        """The next message; comments are passed over."""
        async with asyncio.timeout(SECONDS):
            while True:
                block = await self._reader.readuntil(b"\n\n")
                # chunked encoding puts its sizes on lines of their own
                lines = [line + b"\n" for line in block.replace(b"\r\n", b"\n").split(b"\n") if b":" in line]
                for sent in read_events(iter([*lines, b"\n"])):
                    return sent

    async def finished(self) -> None:
        """Return at the end of the answer, which is an empty chunk."""
        async with asyncio.timeout(SECONDS):
            await self._reader.readuntil(b"0\r\n\r\n")


@asynccontextmanager
async def listening(server: Running, path: str, **headers: str) -> AsyncIterator[Reader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    given = {"Host": "127.0.0.1", "Accept": "text/event-stream", "Authorization": f"token {TOKEN}", **headers}
    place = server.api.partition(str(server.port))[2] + path
    lines = [f"GET {place} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
    writer.write("\r\n".join(lines).encode())
    found = Reader(reader)
    async with asyncio.timeout(SECONDS):
        await found.begin()
    try:
        yield found
    finally:
        writer.close()


async def until(true: Callable[[], bool]) -> None:
    """Let the loop turn until something that nobody announces is so."""
    async with asyncio.timeout(SECONDS):
        while not true():  # noqa: ASYNC110 - there is no event for what is let go
            await asyncio.sleep(0)


def lines_of(*messages: Sent) -> list[tuple[str, str]]:
    return [(data["run"], data["line"]) for message in messages if message.event == "line" for data in [json.loads(message.data)]]


@pytest.fixture
def data_dir(settings: Jobs) -> Path:
    return Path(settings.data_dir)


async def test_a_run_is_followed_to_its_end(dispatcher: Dispatcher, server: Running, data_dir: Path) -> None:
    job = dispatcher.write(make_job, runs_count=1)
    run = f"{job}-1"
    async with listening(server, f"runs/{run}/logs") as reader:
        assert b"200 OK" in reader.headers
        assert b"text/event-stream" in reader.headers
        # nothing was there when we began: the start is told by the dispatcher, each line by the file system
        folder = run_dir(data_dir, run, 1)
        say(folder, "one")
        dispatcher.write(bring_to, run, RunState.RUNNING)
        first = await reader.next()
        assert json.loads(first.data) == {"run": run, "at": 1.5, "stream": "stdout", "line": "one", "end": "\n", "cell": 2}
        for text in ("two", "three", "ünï\n4"):
            say(folder, text)
            assert lines_of(await reader.next()) == [(run, text)]
        with (folder / "log.jsonl").open("a") as log:
            log.write('{"at": 1, "stream": "std')
        say(folder / "elsewhere", "no")
        with (folder / "log.jsonl").open("a") as log:
            log.write('err", "text": "half", "end": ""}\n')
        half = await reader.next()
        assert json.loads(half.data)["line"] == "half"
        say(folder, "last")
        dispatcher.write(runs.move, run, RunState.COMPLETE, attempt=1)
        assert lines_of(await reader.next()) == [(run, "last")]
        assert (await reader.next()).event == "end"
        await reader.finished()
    assert server.jobs.news.listeners == 0


async def test_a_broken_connection_goes_on_where_it_was(dispatcher: Dispatcher, server: Running, data_dir: Path) -> None:
    job = dispatcher.write(make_job, runs_count=3)
    for number in (1, 2, 3):
        say(run_dir(data_dir, f"{job}-{number}", 1), f"{number}a", f"{number}b")
        dispatcher.write(bring_to, f"{job}-{number}", RunState.RUNNING)
    dispatcher.write(runs.move, f"{job}-1", RunState.COMPLETE, attempt=1)
    seen: list[tuple[str, str]] = []
    last = ""
    # a new connection for each message: as bad as it can be
    for _ in range(6):
        async with listening(server, f"jobs/{job}/logs", **({"Last-Event-ID": last} if last else {})) as reader:
            sent = await reader.next()
            last = sent.id
            seen += lines_of(sent)
    assert seen == [(f"{job}-{number}", f"{number}{letter}") for number in (1, 2, 3) for letter in "ab"]
    async with listening(server, f"jobs/{job}/logs", **{"Last-Event-ID": last}) as reader:
        say(run_dir(data_dir, f"{job}-2", 1), "2c")
        assert lines_of(await reader.next()) == [(f"{job}-2", "2c")]
        for number in (2, 3):
            dispatcher.write(runs.move, f"{job}-{number}", RunState.COMPLETE, attempt=1)
        assert (await reader.next()).event == "end"


async def test_many_readers_leave_nothing_behind(dispatcher: Dispatcher, server: Running, data_dir: Path) -> None:
    job = dispatcher.write(make_job, runs_count=1)
    run = f"{job}-1"
    folder = run_dir(data_dir, run, 1)
    say(folder, "begun")
    dispatcher.write(bring_to, run, RunState.RUNNING)
    for _ in range(3):
        async with (
            listening(server, f"runs/{run}/logs") as one,
            listening(server, f"jobs/{job}/logs") as two,
            listening(server, "events/stream") as three,
        ):
            assert lines_of(await one.next(), await two.next()) == [(run, "begun")] * 2
            assert (await three.next()).event == "change"
            assert server.jobs.news.listeners == 3
            assert (await server.get("jobs")).code == 200
        await until(lambda: not server.jobs.news.listeners)
    assert not server.jobs.news._watched


async def test_logs_as_text(dispatcher: Dispatcher, server: Running, data_dir: Path) -> None:
    job = dispatcher.write(make_job, runs_count=2)
    for number in (1, 2):
        folder = run_dir(data_dir, f"{job}-{number}", 1)
        say(folder, "50%", end="\r")
        say(folder, "to", end="")
        say(folder, "gether")
        dispatcher.write(bring_to, f"{job}-{number}", RunState.RUNNING)
    response = await server.get(f"runs/{job}-1/logs")
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.body.decode() == "50%\rtogether\n"
    response = await server.get(f"jobs/{job}/logs", download=1)
    assert "attachment" in response.headers["Content-Disposition"]
    assert response.body.decode() == "".join(f"{job}-{number}: 50%\r{job}-{number}: together\n" for number in (1, 2))
    # what is there, without waiting for more
    response = await server.ask("GET", f"jobs/{job}/logs", headers={"Accept": "text/event-stream"}, follow="false")
    assert response.body.count(b"event: line") == 6
    assert response.body.endswith(b"event: end\ndata: {}\n\n")


async def test_a_deleted_job_ends_its_streams(dispatcher: Dispatcher, server: Running, data_dir: Path) -> None:
    job = dispatcher.write(make_job, runs_count=1)
    async with listening(server, f"jobs/{job}/logs") as reader:
        dispatcher.write(jobs.delete, job)
        assert (await reader.next()).event == "end"


async def test_a_stream_that_cannot_begin_is_an_error(server: Running) -> None:
    for path in ("runs/4f1c9a2b-1/logs", "jobs/4f1c9a2b/logs", "events/stream?job=4f1c9a2b"):
        response = await server.ask("GET", path, headers={"Accept": "text/event-stream"})
        assert response.code == 404, path
        error_of(response)


async def test_events_come_as_they_happen(dispatcher: Dispatcher, server: Running) -> None:
    job = dispatcher.write(make_job, runs_count=2)
    other = dispatcher.write(make_job, runs_count=1)
    async with listening(server, f"events/stream?job={job}") as reader:
        assert json.loads((await reader.next()).data)["kind"] == "job.created"
        dispatcher.write(bring_to, f"{other}-1", RunState.INIT)
        dispatcher.write(bring_to, f"{job}-2", RunState.INIT)
        sent = await reader.next()
        event = json.loads(sent.data)
        assert (event["job"], event["run"], event["state"]) == (job, f"{job}-2", "init")
        assert sent.id == str(event["seq"])
    dispatcher.write(runs.move, f"{job}-2", RunState.RUNNING, attempt=1)
    async with listening(server, f"events/stream?job={job}", **{"Last-Event-ID": sent.id}) as reader:
        assert json.loads((await reader.next()).data)["state"] == "running"


async def test_everyone_on_the_event_bus_gets_hints_and_no_more(dispatcher: Dispatcher, server: Running) -> None:
    heard: asyncio.Queue[dict[str, object]] = asyncio.Queue()

    async def listener(logger: object, schema_id: str, data: dict[str, object]) -> None:
        await heard.put(data)

    await server.get("jobs")
    server.app.event_logger.add_listener(schema_id="https://schema.jupyter.org/jupyter_jobs/change/v1", listener=listener)
    job = dispatcher.write(make_job, runs_count=1)
    dispatcher.write(bring_to, f"{job}-1", RunState.RUNNING)
    async with asyncio.timeout(SECONDS):
        found = [await heard.get() for _ in range(4)]
    assert [(hint["kind"], hint["state"]) for hint in found] == [
        ("job.created", "active"),
        ("run.state", "init"),
        ("run.state", "running"),
        ("run.progress", ""),
    ]
    assert all(set(hint) == {"job", "run", "state", "kind", "seq"} for hint in found)
    # a change by our own hand does not wait for the dispatcher
    await dispatcher.server.hang_up()
    response = await server.post(f"jobs/{job}/cancel")
    assert response.code == 200
    async with asyncio.timeout(SECONDS):
        assert (await heard.get())["kind"] == "run.cancel"


async def test_active_runs_keep_the_server_from_being_culled(dispatcher: Dispatcher, server: Running) -> None:
    assert not server.jobs.current_activity()
    job = dispatcher.write(make_job, runs_count=1)
    async with listening(server, f"events/stream?job={job}") as reader:
        await reader.next()
        dispatcher.write(bring_to, f"{job}-1", RunState.RUNNING)
        while json.loads((await reader.next()).data)["kind"] != "run.progress":
            continue
    await until(lambda: bool(server.jobs.current_activity()))
    assert server.app.web_app.settings["last_activity_times"]["jupyter_jobs"]
    dispatcher.write(runs.move, f"{job}-1", RunState.COMPLETE, attempt=1)
    await until(lambda: not server.jobs.current_activity())


def all_lines(stream: LogStream) -> list[RunLine]:
    found: list[RunLine] = []
    while True:
        batch = stream.read()
        found += [message.data for message in batch.messages if isinstance(message.data, RunLine)]
        if batch.ended or not batch.more:
            return found


def test_a_long_log_is_read_in_pieces_and_a_damaged_line_is_said(tmp_path: Path) -> None:
    mark = RunMark(id="a-1", number=1, attempt=1, ended=True)
    text = "x" * 1000
    say(tmp_path, *[f"{number} {text}" for number in range(1000)])
    with (tmp_path / "log.jsonl").open("ab") as log:
        log.write(b'{"at": \xff}\n')
    say(tmp_path, "after")
    stream = LogStream("a", lambda _: [mark], lambda *_: tmp_path, name="a", follow=True, last="", prefix=False)
    first = stream.read()
    assert first.more
    assert 200 < len(first.messages) < 400
    rest = all_lines(stream)
    lines = [message.data.text for message in first.messages if isinstance(message.data, RunLine)] + [line.text for line in rest]
    assert lines == [f"{number} {text}" for number in range(1000)] + ["(a damaged line of the log)", "after"]


def test_attempts_follow_each_other(tmp_path: Path) -> None:
    say(tmp_path / "1", "first")
    say(tmp_path / "2", "second")
    marks = [RunMark(id="a-1", number=1, attempt=2, ended=False)]
    stream = LogStream("a", lambda _: marks, lambda _, attempt: tmp_path / str(attempt), name="a", follow=True, last="", prefix=False)
    assert [line.text for line in all_lines(stream)] == ["first", "second"]
    assert stream.read().watch == {tmp_path / "2"}


def test_the_place_in_a_stream_stays_short(tmp_path: Path) -> None:
    for number in range(1, 301):
        say(tmp_path / str(number), "line")
    # the first run goes on and on while hundreds end
    marks = [RunMark(id=f"a-{number}", number=number, attempt=1, ended=number > 1) for number in range(1, 301)]

    def folder(mark: RunMark, _: int) -> Path:
        return tmp_path / str(mark.number)

    def ask(last: str) -> LogStream:
        return LogStream("a", lambda first: marks[first - 1 :], folder, name="a", follow=True, last=last, prefix=True)

    messages = ask("").read().messages
    assert len(messages) == 300
    assert max(len(message.id) for message in messages) < 60
    for index in (0, 1, 150, 299):
        assert len(all_lines(ask(messages[index].id))) == 299 - index
