"""The whole URL table, below `<base_url>jupyter-jobs/api/`, and its endpoints: plain functions `(context, request) -> answer`.

What making and listing jobs does not need is imported where it is used: the command line goes through this table too, and is waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from jupyter_jobs import model, requests
from jupyter_jobs.actions import create, inspect, jobs, runs
from jupyter_jobs.actions.context import Context
from jupyter_jobs.api.answers import Document, Stream, file_document
from jupyter_jobs.api.table import Route
from jupyter_jobs.model import Request

Limit = Annotated[int, Meta(ge=1, le=1000, description="how many at most")]
Number = Annotated[int, Meta(ge=0, le=2**31, description="an attempt's number, counted from 1; 0: the present one")]
Seq = Annotated[int, Meta(ge=0, le=2**53, description="the `seq` of the last event that is known")]


class Nothing(Request, frozen=True, kw_only=True):
    """A request without fields."""


class InspectPath(Request, frozen=True, kw_only=True):
    path: str


class AskCombinations(Request, frozen=True, kw_only=True):
    body: requests.CombinationsRequest


class AskPreview(Request, frozen=True, kw_only=True):
    body: requests.PreviewRequest


class ListJobs(Request, frozen=True, kw_only=True):
    """`status`: one or several, with commas; `search`: words that name, notebook or description hold; `notebook`: a contents path."""

    after: str = ""
    limit: Limit = 50
    status: str = ""
    search: str = ""
    notebook: str = ""
    sort: Literal["created", "-created", "name", "-name"] = "-created"


class MakeJob(Request, frozen=True, kw_only=True):
    body: requests.CreateJob


class OneJob(Request, frozen=True, kw_only=True):
    job: str


class DeleteJob(Request, frozen=True, kw_only=True):
    """`cancel`: cancel what is active first, instead of refusing."""

    job: str
    cancel: bool = False


class ListRuns(Request, frozen=True, kw_only=True):
    """`state`: one or several, with commas."""

    job: str
    after: str = ""
    limit: Limit = 100
    state: str = ""
    sort: Literal["number", "-number", "state", "duration", "-duration"] = "number"


class JobEvents(Request, frozen=True, kw_only=True):
    job: str
    after: Seq = 0


class JobLogs(Request, frozen=True, kw_only=True):
    """`follow`: wait for more until everything has ended. `last` is the id of the last message that was seen (`Last-Event-ID`)."""

    job: str
    follow: bool = True
    download: bool = False
    last: Annotated[str, Meta(max_length=20_000)] = ""


class OneRun(Request, frozen=True, kw_only=True):
    run: str


class RunAttempt(Request, frozen=True, kw_only=True):
    """`attempt`: an earlier one than the present."""

    run: str
    attempt: Number = 0


class AskQueue(Request, frozen=True, kw_only=True):
    after: str = ""
    limit: Limit = 100


class MoveInQueue(Request, frozen=True, kw_only=True):
    body: requests.MoveRun


class ChangeOneJob(Request, frozen=True, kw_only=True):
    job: str
    body: requests.ChangeJob


class AddJobRuns(Request, frozen=True, kw_only=True):
    job: str
    body: requests.AddRuns


class RerunJob(Request, frozen=True, kw_only=True):
    job: str
    body: requests.Rerun


class ExtendRun(Request, frozen=True, kw_only=True):
    run: str
    body: requests.Extend


class RunEvents(Request, frozen=True, kw_only=True):
    run: str
    after: Seq = 0


class RunLogs(Request, frozen=True, kw_only=True):
    """As `JobLogs`, for one run; of all its attempts, or of one `attempt`."""

    run: str
    attempt: Number = 0
    follow: bool = True
    download: bool = False
    last: Annotated[str, Meta(max_length=20_000)] = ""


class RunHtml(Request, frozen=True, kw_only=True):
    """`inline`: one page that needs nothing beside it, to save or send. `attempt`: an earlier one than the present."""

    run: str
    attempt: Number = 0
    inline: bool = False
    theme: Literal["auto", "light", "dark"] = "auto"


class RunFilePath(Request, frozen=True, kw_only=True):
    """`attempt`: an earlier one than the present."""

    run: str
    path: str
    attempt: Number = 0


class CopyRunFiles(Request, frozen=True, kw_only=True):
    run: str
    body: requests.CopyFiles


class AllEvents(Request, frozen=True, kw_only=True):
    after: Seq = 0


class FollowEvents(Request, frozen=True, kw_only=True):
    """Events as they happen, of one job or of all. `last` as in `JobLogs`: an event's `seq`."""

    after: Seq = 0
    job: str = ""
    last: Seq | None = None


# -- endpoints ---------------------------------------------------------------------------------------------------------


def get_health(context: Context, request: Nothing) -> model.Health:
    from jupyter_jobs.actions import health

    return health.health(context)


def inspect_notebook(context: Context, request: InspectPath) -> model.Inspection:
    return inspect.inspect_notebook(context, request.path)


def expand_combinations(context: Context, request: AskCombinations) -> model.Combinations:
    return inspect.expand_combinations(context, request.body)


def preview(context: Context, request: AskPreview) -> model.Preview:
    return create.preview(context, request.body)


def list_jobs(context: Context, request: ListJobs) -> model.JobList:
    return jobs.list_jobs(
        context,
        after=request.after,
        limit=request.limit,
        status=_several(request.status),
        search=request.search,
        notebook=request.notebook,
        sort=request.sort,
    )


def create_job(context: Context, request: MakeJob) -> model.Job:
    return create.create_job(context, request.body)


def show_job(context: Context, request: OneJob) -> model.Job:
    return jobs.show_job(context, request.job)


def delete_job(context: Context, request: DeleteJob) -> None:
    jobs.delete_job(context, request.job, cancel=request.cancel)


def change_job(context: Context, request: ChangeOneJob) -> model.Job:
    return jobs.change_job(context, request.job, request.body)


def add_runs(context: Context, request: AddJobRuns) -> model.Job:
    from jupyter_jobs.actions import rerun

    return rerun.add_runs(context, request.job, request.body)


def rerun_job(context: Context, request: RerunJob) -> model.Job:
    from jupyter_jobs.actions import rerun

    return rerun.rerun_job(context, request.job, request.body.which)


def rerun_run(context: Context, request: OneRun) -> model.Run:
    from jupyter_jobs.actions import rerun

    return rerun.rerun_run(context, request.run)


def extend_run(context: Context, request: ExtendRun) -> model.Run:
    return runs.extend_run(context, request.run, request.body.seconds)


def list_attempts(context: Context, request: OneRun) -> model.AttemptList:
    return runs.run_attempts(context, request.run)


def show_queue(context: Context, request: AskQueue) -> model.Queue:
    from jupyter_jobs.actions import queue

    return queue.show_queue(context, after=request.after, limit=request.limit)


def pause_queue(context: Context, request: Nothing) -> model.Queue:
    from jupyter_jobs.actions import queue

    return queue.pause_queue(context)


def resume_queue(context: Context, request: Nothing) -> model.Queue:
    from jupyter_jobs.actions import queue

    return queue.resume_queue(context)


def move_run(context: Context, request: MoveInQueue) -> model.Queue:
    from jupyter_jobs.actions import queue

    return queue.move_run(context, request.body)


def cancel_job(context: Context, request: OneJob) -> model.Job:
    return jobs.cancel_job(context, request.job)


def show_snapshot(context: Context, request: OneJob) -> model.SnapshotView:
    from jupyter_jobs.actions import results

    return results.snapshot_view(context, request.job)


def list_runs(context: Context, request: ListRuns) -> model.RunList:
    return runs.list_runs(context, request.job, after=request.after, limit=request.limit, state=_several(request.state), sort=request.sort)


def show_run(context: Context, request: OneRun) -> model.Run:
    return runs.show_run(context, request.run)


def show_usage(context: Context, request: OneRun) -> model.Usage:
    from jupyter_jobs.actions import usage

    return usage.run_usage(context, request.run)


def cancel_run(context: Context, request: OneRun) -> model.Run:
    return runs.cancel_run(context, request.run)


def list_events(context: Context, request: AllEvents) -> model.EventList:
    return jobs.events_after(context, after=request.after)


def list_job_events(context: Context, request: JobEvents) -> model.EventList:
    return jobs.job_events(context, request.job, after=request.after)


def list_run_events(context: Context, request: RunEvents) -> model.EventList:
    return runs.run_events(context, request.run, after=request.after)


def follow_events(context: Context, request: FollowEvents) -> Stream:
    from jupyter_jobs.api.streams import EventStream

    job = jobs.show_job(context, request.job).id if request.job else ""
    return EventStream(context, job, request.last if request.last is not None else request.after)


def follow_job_logs(context: Context, request: JobLogs) -> Stream:
    from jupyter_jobs.api.streams import job_log

    return job_log(context, request.job, follow=request.follow, last=request.last)


def follow_run_logs(context: Context, request: RunLogs) -> Stream:
    from jupyter_jobs.api.streams import run_log

    return run_log(context, request.run, follow=request.follow, last=request.last, attempt=request.attempt)


def show_html(context: Context, request: RunHtml) -> Document:
    from jupyter_jobs.api.pages import page_of

    page = page_of(context, request.run, inline=request.inline, theme=request.theme, attempt=request.attempt)
    return file_document(page, "text/html; charset=utf-8", etag=page.stem)


def get_notebook(context: Context, request: RunAttempt) -> Document:
    from jupyter_jobs.actions import results

    path = results.run_notebook(context, request.run, request.attempt)
    return file_document(path, "application/x-ipynb+json", attachment=f"{request.run}.ipynb")


def list_files(context: Context, request: RunAttempt) -> model.RunFiles:
    from jupyter_jobs.actions import results

    return results.run_files(context, request.run, request.attempt)


def get_file(context: Context, request: RunFilePath) -> Document:
    from jupyter_jobs.actions import results

    path = results.open_file(context, request.run, request.path, request.attempt)
    return file_document(path, "application/octet-stream", attachment=path.name)


def copy_files(context: Context, request: CopyRunFiles) -> model.CopiedFiles:
    from jupyter_jobs.actions import results

    return results.copy_files(context, request.run, request.body)


def get_openapi(context: Context, request: Nothing) -> Document:
    from jupyter_jobs.api.openapi import document_text

    text = document_text(ROUTES).encode()
    return Document("application/json", lambda: iter([text]))


def _several(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _routes() -> Iterator[Route]:
    yield Route("health", "GET", "health", get_health, Nothing, model.Health, "read")
    yield Route("inspect", "GET", "inspect", inspect_notebook, InspectPath, model.Inspection, "read", slow=True)
    yield Route("combinations", "POST", "combinations", expand_combinations, AskCombinations, model.Combinations, "read", slow=True)
    yield Route("preview", "POST", "preview", preview, AskPreview, model.Preview, "read", slow=True)
    yield Route("listJobs", "GET", "jobs", list_jobs, ListJobs, model.JobList, "read")
    yield Route("createJob", "POST", "jobs", create_job, MakeJob, model.Job, "execute", status=201, slow=True)
    yield Route("showJob", "GET", "jobs/{job}", show_job, OneJob, model.Job, "read")
    yield Route("changeJob", "PATCH", "jobs/{job}", change_job, ChangeOneJob, model.Job, "write")
    yield Route("deleteJob", "DELETE", "jobs/{job}", delete_job, DeleteJob, "nothing", "write", status=204, slow=True)
    yield Route("cancelJob", "POST", "jobs/{job}/cancel", cancel_job, OneJob, model.Job, "write")
    yield Route("rerunJob", "POST", "jobs/{job}/rerun", rerun_job, RerunJob, model.Job, "execute", status=201)
    yield Route("addRuns", "POST", "jobs/{job}/runs", add_runs, AddJobRuns, model.Job, "execute", status=201, slow=True)
    yield Route("listRuns", "GET", "jobs/{job}/runs", list_runs, ListRuns, model.RunList, "read")
    yield Route("followJobLogs", "GET", "jobs/{job}/logs", follow_job_logs, JobLogs, "stream", "read")
    yield Route("listJobEvents", "GET", "jobs/{job}/events", list_job_events, JobEvents, model.EventList, "read")
    yield Route("showSnapshot", "GET", "jobs/{job}/snapshot", show_snapshot, OneJob, model.SnapshotView, "read", slow=True)
    yield Route("showRun", "GET", "runs/{run}", show_run, OneRun, model.Run, "read")
    yield Route("cancelRun", "POST", "runs/{run}/cancel", cancel_run, OneRun, model.Run, "write")
    yield Route("rerunRun", "POST", "runs/{run}/rerun", rerun_run, OneRun, model.Run, "execute", status=201)
    yield Route("extendRun", "POST", "runs/{run}/extend", extend_run, ExtendRun, model.Run, "write")
    yield Route("listAttempts", "GET", "runs/{run}/attempts", list_attempts, OneRun, model.AttemptList, "read")
    yield Route("followRunLogs", "GET", "runs/{run}/logs", follow_run_logs, RunLogs, "stream", "read")
    yield Route("showUsage", "GET", "runs/{run}/usage", show_usage, OneRun, model.Usage, "read")
    yield Route("listRunEvents", "GET", "runs/{run}/events", list_run_events, RunEvents, model.EventList, "read")
    yield Route("showHtml", "GET", "runs/{run}/html", show_html, RunHtml, "document", "read", slow=True)
    yield Route("getNotebook", "GET", "runs/{run}/notebook", get_notebook, RunAttempt, "document", "read", slow=True)
    yield Route("listFiles", "GET", "runs/{run}/files", list_files, RunAttempt, model.RunFiles, "read")
    yield Route("getFile", "GET", "runs/{run}/files/{path}", get_file, RunFilePath, "document", "read", slow=True)
    yield Route("copyFiles", "POST", "runs/{run}/files/copy", copy_files, CopyRunFiles, model.CopiedFiles, "write", slow=True)
    yield Route("showQueue", "GET", "queue", show_queue, AskQueue, model.Queue, "read")
    yield Route("pauseQueue", "POST", "queue/pause", pause_queue, Nothing, model.Queue, "write")
    yield Route("resumeQueue", "POST", "queue/resume", resume_queue, Nothing, model.Queue, "write")
    yield Route("moveRun", "POST", "queue/move", move_run, MoveInQueue, model.Queue, "write")
    yield Route("listEvents", "GET", "events", list_events, AllEvents, model.EventList, "read")
    yield Route("followEvents", "GET", "events/stream", follow_events, FollowEvents, "stream", "read")
    yield Route("openapi", "GET", "openapi.json", get_openapi, Nothing, "document", "read")


ROUTES: tuple[Route, ...] = tuple(_routes())
