"""The Python client: one method for each endpoint, over HTTP or in this process. `%job` and `jupyter jobs` are built on it.

Light to import: a kernel that talks to its server needs neither the store nor a web framework.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Literal, Protocol, Self, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from jupyter_jobs import model, requests
from jupyter_jobs.errors import BadInput
from jupyter_jobs.lifecycle import FINAL
from jupyter_jobs.model import Event, Job, Run, RunLine

T = TypeVar("T")
Query = Mapping[str, str | int | bool | None]
ENDED_KINDS = ("job.created", "job.deleted", "job.runs", "run.state", "run.cancel")


class Sent(msgspec.Struct, frozen=True):
    """A message of a stream as it arrives: name, JSON, and the id to go on from."""

    event: str
    data: bytes
    id: str = ""


class Transport(Protocol):
    """How a request reaches an endpoint. Both methods raise `JobsError` as the endpoint raised it."""

    remote: bool

    def request(self, method: str, path: str, query: Query, body: bytes) -> bytes:
        """The answer's body."""

    def stream(self, path: str, query: Query) -> Iterator[Sent]:
        """Messages as they come. Closing the iterator ends the stream."""

    def close(self) -> None:
        """Release what it holds."""


class Client:
    """What a person can do with jobs. Ids of jobs may be shortened. Every method raises `JobsError`; `remote`: paths are a server's."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.remote = transport.remote

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    # -- before there is a job -------------------------------------------------------------------------------------

    def health(self) -> model.Health:
        return self._get("health", model.Health)

    def inspect(self, path: str) -> model.Inspection:
        return self._get("inspect", model.Inspection, path=path)

    def combinations(self, request: requests.CombinationsRequest) -> model.Combinations:
        return self._post("combinations", model.Combinations, request)

    def preview(self, request: requests.PreviewRequest) -> model.Preview:
        return self._post("preview", model.Preview, request)

    # -- jobs ------------------------------------------------------------------------------------------------------

    def jobs(
        self,
        *,
        after: str = "",
        limit: int = 50,
        status: str | Iterable[str] | None = None,
        search: str | None = "",
        notebook: str = "",
        sort: str = "-created",
    ) -> model.JobList:
        """A page of jobs; `status`: any of these."""
        return self._get("jobs", model.JobList, after=after, limit=limit, status=_joined(status), search=search, notebook=notebook, sort=sort)

    def create(self, request: requests.CreateJob) -> Job:
        return self._post("jobs", Job, request)

    def job(self, job: str) -> Job:
        return self._get(f"jobs/{_part(job)}", Job)

    def cancel_job(self, job: str) -> Job:
        return self._post(f"jobs/{_part(job)}/cancel", Job)

    def delete_job(self, job: str, *, cancel: bool = False) -> None:
        self._transport.request("DELETE", f"jobs/{_part(job)}", {"cancel": cancel}, b"")

    def change_job(
        self, job: str, *, name: str | None = None, description: str | None = None, priority: int | None = None, max_parallel: int | None = None
    ) -> Job:
        """Change what is given. Jobs of a higher priority (-100 to 100) start first; `max_parallel` 0: no limit of the job's own."""
        change = requests.ChangeJob(name=name, description=description, priority=priority, max_parallel=max_parallel)
        return self._send("PATCH", f"jobs/{_part(job)}", Job, change)

    def rerun_job(self, job: str, which: Literal["failed", "all"] | list[int] = "failed") -> Job:
        """Run combinations again: what has failed or was canceled by `fail_fast`, all that have ended, or those of these run numbers."""
        return self._post(f"jobs/{_part(job)}/rerun", Job, requests.Rerun(which=which))

    def add_runs(self, job: str, request: requests.AddRuns) -> Job:
        """Add combinations to a job, on what was frozen for it."""
        return self._post(f"jobs/{_part(job)}/runs", Job, request)

    def snapshot(self, job: str) -> model.SnapshotView:
        return self._get(f"jobs/{_part(job)}/snapshot", model.SnapshotView)

    # -- runs ------------------------------------------------------------------------------------------------------

    def runs(
        self, job: str, *, after: str = "", limit: int = 100, state: str | Iterable[str] | None = None, sort: str | None = "number"
    ) -> model.RunList:
        """A page of a job's runs; `state`: any of these."""
        return self._get(f"jobs/{_part(job)}/runs", model.RunList, after=after, limit=limit, state=_joined(state), sort=sort)

    def run(self, run: str) -> Run:
        return self._get(f"runs/{_part(run)}", Run)

    def usage(self, run: str) -> model.Usage:
        """CPU, memory and disk as the run went on."""
        return self._get(f"runs/{_part(run)}/usage", model.Usage)

    def cancel_run(self, run: str) -> Run:
        return self._post(f"runs/{_part(run)}/cancel", Run)

    def rerun_run(self, run: str) -> Run:
        """Run a run's combination again; the new run of the same job."""
        return self._post(f"runs/{_part(run)}/rerun", Run)

    def extend_run(self, run: str, seconds: float) -> Run:
        """Let a run under way take so many seconds more than its time limit."""
        return self._post(f"runs/{_part(run)}/extend", Run, requests.Extend(seconds=seconds))

    def attempts(self, run: str) -> model.AttemptList:
        return self._get(f"runs/{_part(run)}/attempts", model.AttemptList)

    def notebook(self, run: str, *, attempt: int = 0) -> bytes:
        """The executed notebook; here and below `attempt` is an earlier one than the present."""
        return self._transport.request("GET", f"runs/{_part(run)}/notebook", {"attempt": attempt}, b"")

    def html(self, run: str, *, inline: bool = False, theme: str = "auto", attempt: int = 0) -> str:
        """The executed notebook as a page; `inline`: one that needs nothing beside it."""
        return self._transport.request("GET", f"runs/{_part(run)}/html", {"inline": inline, "theme": theme, "attempt": attempt}, b"").decode()

    def files(self, run: str, *, attempt: int = 0) -> model.RunFiles:
        return self._get(f"runs/{_part(run)}/files", model.RunFiles, attempt=attempt)

    def file(self, run: str, path: str, *, attempt: int = 0) -> bytes:
        """The content of a file that the run made or changed."""
        return self._transport.request("GET", f"runs/{_part(run)}/files/{quote(path)}", {"attempt": attempt}, b"")

    def copy_files(self, run: str, request: requests.CopyFiles) -> model.CopiedFiles:
        return self._post(f"runs/{_part(run)}/files/copy", model.CopiedFiles, request)

    # -- the queue -------------------------------------------------------------------------------------------------

    def queue(self, *, after: str = "", limit: int = 100) -> model.Queue:
        """What runs, and a page of what waits, in order."""
        return self._get("queue", model.Queue, after=after, limit=limit)

    def pause_queue(self) -> model.Queue:
        """Start nothing more until it is resumed."""
        return self._post("queue/pause", model.Queue)

    def resume_queue(self) -> model.Queue:
        return self._post("queue/resume", model.Queue)

    def move_run(self, run: str, *, before: str = "", to: Literal["", "first", "last"] = "") -> model.Queue:
        """Move a waiting run among those of its priority: before another, or to the first or last place."""
        return self._post("queue/move", model.Queue, requests.MoveRun(run=run, before=before, to=to))

    # -- as it happens ---------------------------------------------------------------------------------------------

    def logs(self, name: str, *, follow: bool = False, attempt: int = 0) -> Iterator[RunLine]:
        """The log of a run (`<job>-<number>`; of all its attempts, or of one) or, merged, of a job; with `follow` until it has ended."""
        path = f"runs/{_part(name)}/logs" if "-" in name else f"jobs/{_part(name)}/logs"
        query: dict[str, str | int | bool | None] = {"follow": follow} | ({"attempt": attempt} if attempt else {})
        for message in self._transport.stream(path, query):
            if message.event == "end":
                return
            yield msgspec.json.decode(message.data, type=RunLine)

    def events(self, after: int = 0, *, job: str = "", run: str = "") -> model.EventList:
        """What happened after event `after`, to a job, to a run or at all."""
        path = f"runs/{_part(run)}/events" if run else f"jobs/{_part(job)}/events" if job else "events"
        return self._get(path, model.EventList, after=after)

    def changes(self, after: int = 0, *, job: str = "") -> Iterator[Event]:
        """Events after `after` as they happen, of a job or of all; without end."""
        for message in self._transport.stream("events/stream", {"after": after, "job": job}):
            yield msgspec.json.decode(message.data, type=Event)

    def follow(self, job: str, *, after: int | None = None, waiting: Callable[[Event], None] = lambda event: None) -> Iterator[Job]:
        """The job now and after each change of its runs' states, until all have ended. Raises `NotFound` if it is deleted meanwhile.

        `waiting` is called with each event after `after` (default: from now on) that says what a run waits for.
        """
        shown = self.job(job)
        yield shown
        if has_ended(shown):
            return
        for event in self.changes(shown.seq if after is None else min(after, shown.seq), job=shown.id):
            if event.kind == "run.waiting":
                waiting(event)
            # several events may be one change: what is shown already is not asked for again
            if event.kind not in ENDED_KINDS or event.seq <= shown.seq:
                continue
            shown = self.job(shown.id)
            yield shown
            if has_ended(shown):
                return

    def wait(self, job: str) -> Job:
        """The job once all its runs have ended."""
        *_, last = self.follow(job)
        return last

    # --------------------------------------------------------------------------------------------------------------

    def _get(self, path: str, answer: type[T], /, **query: str | int | bool | None) -> T:
        return msgspec.json.decode(self._transport.request("GET", path, query, b""), type=answer)

    def _post(self, path: str, answer: type[T], body: msgspec.Struct | None = None) -> T:
        return self._send("POST", path, answer, body)

    def _send(self, method: str, path: str, answer: type[T], body: msgspec.Struct | None) -> T:
        data = b"" if body is None else _encoded(body)
        return msgspec.json.decode(self._transport.request(method, path, {}, data), type=answer)


def _encoded(body: msgspec.Struct) -> bytes:
    # msgspec would send NaN as null: another value than the one that was meant
    try:
        return json.dumps(msgspec.to_builtins(body), allow_nan=False).encode()
    except ValueError as error:
        raise BadInput("A value is NaN or infinite, which JSON does not know.", mend="Give a finite number, or a text.") from error


def has_ended(job: Job) -> bool:
    """Whether every run of the job is in a final state."""
    return sum(job.counts.get(state, 0) for state in FINAL) >= job.total


def connect(url: str = "", *, token: str = "") -> Client:
    """A client of the server at `url` (a Jupyter server's, `?token=` allowed); else of the server whose kernel this is; else of the store itself.

    The latter works without any server. Raises `BadInput` for a URL that is none, `Unavailable` when the store cannot be opened.
    """
    secret = os.environ.get("JUPYTER_JOBS_SECRET", "")
    mine = os.environ.get("JUPYTER_JOBS_URL", "")
    if not url and not (mine and secret):
        from jupyter_jobs.local import LocalTransport

        return Client(LocalTransport())
    from jupyter_jobs.remote import HttpTransport

    if url:
        return Client(HttpTransport(url, token=token))
    return Client(HttpTransport(mine, secret=secret, certificate=os.environ.get("JUPYTER_JOBS_CERTIFICATE", "")))


def query_text(query: Query) -> str:
    """A query string; what is empty or None is left out."""
    given = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in query.items() if value not in (None, "")}
    return urlencode(given, quote_via=quote)


def _joined(values: str | Iterable[str] | None) -> str:
    return values if isinstance(values, str) else ",".join(values or ())


def _part(text: str) -> str:
    return quote(text, safe="")
