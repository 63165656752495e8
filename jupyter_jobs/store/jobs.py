"""The table of jobs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import (
    Connection,
    RowMapping,
    Select,
    Subquery,
    case,
    func,
    or_,
    select,
    update,
)
from sqlalchemy import (
    delete as delete_from,
)
from sqlalchemy import (
    insert as insert_into,
)
from sqlalchemy.exc import IntegrityError

from jupyter_jobs import retries
from jupyter_jobs.errors import BadInput, Unavailable
from jupyter_jobs.lifecycle import ACTIVE, FINAL, STATE_LETTERS, JobState, RunState, job_status
from jupyter_jobs.model import Finding, IgnoredPath, Job, JobList, KernelInfo, LivePath, ProjectChoice, Resources, RetryPolicy
from jupyter_jobs.requests import CreateJob
from jupyter_jobs.store import events
from jupyter_jobs.store.pages import Sort, Time, page_of
from jupyter_jobs.store.tables import jobs, runs

STRIP_LIMIT = 1000
SORTS = {"created": Sort([jobs.c.created_at, jobs.c.id], tuple[Time, str]), "name": Sort([jobs.c.name, jobs.c.id], tuple[str, str])}


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a job's runs need and no list shows. `request` is what was asked for, so that the job can be made again."""

    kernel: KernelInfo
    project: ProjectChoice
    request: CreateJob
    ignored: list[IgnoredPath] = []
    output_dir: str = ""
    accept_drift: bool = False


class _Request(msgspec.Struct, frozen=True):
    resources: Resources = Resources()


class _Spec(msgspec.Struct, frozen=True):
    """What of a `JobSpec` is shown; of the rest nothing is made."""

    request: _Request


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """What of a job never changes and its runs need."""

    id: str
    notebook: str
    project: str
    snapshot: str
    environment: str
    record: list[str]
    live: list[LivePath]
    time_limit: float | None
    cell_timeout: float | None
    spec: JobSpec


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job to insert. `file` is the notebook's absolute path; `environment` empty when none was frozen."""

    name: str
    notebook: str
    source: str
    file: str
    project: str
    snapshot: str
    kernel: KernelInfo
    spec: JobSpec
    created_by: str
    description: str = ""
    state: JobState = JobState.ACTIVE
    environment: str = ""
    parameter_names: list[str] = []
    record: list[str] = []
    variables: list[str] = []
    live: list[LivePath] = []
    notes: list[Finding] = []
    retries: RetryPolicy | None = None
    priority: int = 0
    max_parallel: int = 0
    fail_fast: bool = False
    time_limit: float | None = None
    cell_timeout: float | None = None


def insert(conn: Connection, new: NewJob, *, at: datetime | None = None, total: int = 0) -> str:
    """Insert a job with its event `job.created` and return the id that was drawn for it."""
    at = at or events.now()
    row = {name: getattr(new, name) for name in new.__struct_fields__ if name not in ("spec", "kernel", "environment")}
    row |= {
        "environment": new.environment or None,
        "kernel": msgspec.structs.replace(new.kernel, env=dict.fromkeys(new.kernel.env, "")),
        "spec": json.dumps(msgspec.to_builtins(new.spec), allow_nan=False, separators=(",", ":")),
        "record_names": new.record,
        "created_at": at,
        "seq": 0,
    }
    for _ in range(20):
        drawn = secrets.token_hex(4)
        text = _searched(drawn, new.name, new.notebook, new.description)
        try:
            with conn.begin_nested():
                conn.execute(insert_into(jobs).values(row | {"id": drawn, "search": text}))
        except IntegrityError:
            if conn.execute(select(jobs.c.id).where(jobs.c.id == drawn)).first() is None:
                raise
            continue
        events.append(conn, "job.created", drawn, state=new.state, data={"total": total}, at=at)
        return drawn
    raise Unavailable("No free job id was found.", code="ids_exhausted", mend="Delete jobs that are no longer needed.")


def get(conn: Connection, job: str) -> Job | None:
    """The job, or None."""
    row = conn.execute(select(jobs).where(jobs.c.id == job)).mappings().first()
    return _structs(conn, [row])[0] if row else None


def get_spec(conn: Connection, job: str) -> JobSpec | None:
    """What the job's runs need, or None when there is no such job."""
    text = conn.execute(select(jobs.c.spec).where(jobs.c.id == job)).scalar()
    return msgspec.json.decode(text, type=JobSpec) if text is not None else None


def frozen(conn: Connection, job: str) -> Frozen | None:
    """What the job's runs need of it, without counting them."""
    names = [name for name in Frozen.__struct_fields__ if name not in ("spec", "environment")]
    row = conn.execute(select(jobs.c.spec, jobs.c.environment, *(jobs.c[name] for name in names)).where(jobs.c.id == job)).mappings().first()
    if row is None:
        return None
    values = {name: row[name] for name in names}
    return Frozen(**values, environment=row["environment"] or "", spec=msgspec.json.decode(row["spec"], type=JobSpec))


def find(conn: Connection, prefix: str, limit: int = 10) -> list[str]:
    """Ids of jobs that begin with `prefix` (as a person shortens them), newest first."""
    query = select(jobs.c.id).where(jobs.c.id.startswith(prefix.lower(), autoescape=True)).order_by(jobs.c.created_at.desc(), jobs.c.id).limit(limit)
    return list(conn.execute(query).scalars())


def list_page(
    conn: Connection,
    *,
    after: str = "",
    limit: int = 50,
    status: Iterable[str] = (),
    search: str = "",
    notebook: str = "",
    file: str = "",
    sort: str = "-created",
) -> JobList:
    """A page of jobs with their counts. `status`: any of these shown states; `search`: words that name, notebook, description or id hold;
    `notebook`: its path as submitted, with which `file` may say the absolute one. Raises `BadInput` (`bad_sort`, `bad_page`, `bad_state`)."""
    query: Select[Any] = select(jobs)
    wanted = set(status)
    if unknown := wanted - set(RunState):
        raise BadInput(f"There is no state `{min(unknown)}`.", code="bad_state", mend=f"States: {', '.join(RunState)}.", field="status")
    if wanted:
        derived = _derived_status()
        query = query.join(derived, derived.c.job == jobs.c.id).where(derived.c.status.in_(sorted(wanted)))
    for word in search.casefold().split():
        query = query.where(jobs.c.search.contains(word, autoescape=True))
    if notebook:
        query = query.where(or_(jobs.c.source == notebook, jobs.c.file == (file or notebook)))
    rows, page = page_of(conn, query, SORTS, of="Jobs", sort=sort, after=after, limit=limit)
    return JobList(jobs=_structs(conn, rows), page=page)


def change(
    conn: Connection,
    job: str,
    *,
    name: str | None = None,
    description: str | None = None,
    priority: int | None = None,
    max_parallel: int | None = None,
    at: datetime | None = None,
) -> bool:
    """Change what is given (event `job.changed`); whether anything is now otherwise. Its runs that wait move to where the queue has them then."""
    given = {"name": name, "description": description, "priority": priority, "max_parallel": max_parallel}
    row = conn.execute(select(jobs).where(jobs.c.id == job)).mappings().first()
    if row is None:
        return False
    new = {key: value for key, value in given.items() if value is not None and value != row[key]}
    if not new:
        return False
    after = {**row, **new}
    conn.execute(update(jobs).where(jobs.c.id == job).values(new | {"search": _searched(job, after["name"], row["notebook"], after["description"])}))
    if "priority" in new or "max_parallel" in new:
        _place_runs(conn, job)
    events.append(conn, "job.changed", job, data={key: value for key, value in new.items() if key not in ("name", "description")}, at=at)
    return True


def _place_runs(conn: Connection, job: str) -> None:
    """Note at a job's waiting runs what the queue asks of their job."""
    row = conn.execute(select(jobs.c.priority, jobs.c.max_parallel, jobs.c.state).where(jobs.c.id == job)).one()
    values = {"rank": -row.priority, "gated": row.max_parallel > 0 or row.state != JobState.ACTIVE}
    conn.execute(update(runs).where(runs.c.job == job, runs.c.state.in_((RunState.CREATED, RunState.QUEUED))).values(values))


def set_state(conn: Connection, job: str, new: JobState, sources: Iterable[JobState], *, at: datetime | None = None) -> bool:
    """Move a job from one of `sources` to `new`, with its event; whether it was in one of them."""
    changed = conn.execute(update(jobs).where(jobs.c.id == job, jobs.c.state.in_(list(sources))).values(state=new)).rowcount
    if changed:
        _place_runs(conn, job)
        events.append(conn, "job.state", job, state=new, at=at)
    return bool(changed)


def note_peak(conn: Connection, job: str, peak: int) -> None:
    """Keep the largest memory that a run of the job took."""
    larger = or_(jobs.c.peak_memory.is_(None), jobs.c.peak_memory < peak)
    conn.execute(update(jobs).where(jobs.c.id == job, larger).values(peak_memory=peak))


def peaks_of(conn: Connection, job_ids: Iterable[str]) -> dict[str, int]:
    """`{job: bytes}`: the largest peak memory of any run of each job so far; 0 where none is known."""
    query = select(jobs.c.id, jobs.c.peak_memory).where(jobs.c.id.in_(list(job_ids)))
    return {job: peak or 0 for job, peak in conn.execute(query)}


def add_record_names(conn: Connection, job: str, names: Iterable[str]) -> None:
    """Note that runs of the job recorded values of these names."""
    known: list[str] = conn.execute(select(jobs.c.record_names).where(jobs.c.id == job)).scalar() or []
    more = [name for name in names if name not in known]
    if more:
        conn.execute(update(jobs).where(jobs.c.id == job).values(record_names=known + more))


def delete(conn: Connection, job: str) -> bool:
    """Delete a job, its runs, attempts, artifacts and events; what stays is one event `job.deleted`."""
    if not conn.execute(delete_from(jobs).where(jobs.c.id == job)).rowcount:
        return False
    events.drop_job(conn, job)
    events.append(conn, "job.deleted", job)
    return True


def is_deleting(conn: Connection, job: str) -> bool:
    """Whether the job is to be deleted when its runs have ended."""
    return conn.execute(select(jobs.c.delete_requested_at).where(jobs.c.id == job)).scalar() is not None


def request_delete(conn: Connection, job: str, *, at: datetime | None = None) -> None:
    """Note that a job is to be deleted as soon as its runs have ended and their files were copied."""
    conn.execute(update(jobs).where(jobs.c.id == job, jobs.c.delete_requested_at.is_(None)).values(delete_requested_at=at or events.now()))


def to_delete(conn: Connection) -> list[str]:
    """Ids of jobs that are to be deleted and have no run that is active or whose files are still to be copied."""
    busy = select(runs.c.job).where(runs.c.state.in_(sorted(ACTIVE)) | runs.c.output_due_since.is_not(None))
    return list(conn.execute(select(jobs.c.id).where(jobs.c.delete_requested_at.is_not(None), jobs.c.id.not_in(busy))).scalars())


def ids(conn: Connection) -> set[str]:
    """Ids of all jobs."""
    return set(conn.execute(select(jobs.c.id)).scalars())


def counts_of(conn: Connection, job_ids: Iterable[str]) -> Mapping[str, dict[str, int]]:
    """`{job: {state: number}}` of several jobs at once: of the newest runs of their combinations."""
    newest = runs.c.job.in_(list(job_ids)) & ~runs.c.superseded
    query = select(runs.c.job, runs.c.state, func.count()).where(newest).group_by(runs.c.job, runs.c.state)
    found: dict[str, dict[str, int]] = {}
    for job, state, number in conn.execute(query):
        found.setdefault(job, {})[state] = number
    return found


def add_parameter_names(conn: Connection, job: str, names: Iterable[str]) -> None:
    """Note that runs of the job have parameters of these names."""
    known: list[str] = conn.execute(select(jobs.c.parameter_names).where(jobs.c.id == job)).scalar() or []
    more = [name for name in names if name not in known]
    if more:
        conn.execute(update(jobs).where(jobs.c.id == job).values(parameter_names=known + more))


def _searched(*texts: str) -> str:
    return "\n".join(texts).casefold()


def _derived_status() -> Subquery:
    """`lifecycle.job_status` as SQL; a test holds the two together."""

    def some(*states: RunState) -> Any:
        return func.sum(case((runs.c.state.in_(states), 1), else_=0)) > 0

    started = some(*sorted(FINAL))
    status = case(
        (some(RunState.RUNNING), RunState.RUNNING),
        (some(RunState.INIT), case((started, RunState.RUNNING), else_=RunState.INIT)),
        (some(RunState.QUEUED), case((started, RunState.RUNNING), else_=RunState.QUEUED)),
        (some(RunState.CREATED), RunState.CREATED),
        (some(RunState.FAILED), RunState.FAILED),
        (some(RunState.CANCELED), RunState.CANCELED),
        else_=RunState.COMPLETE,
    )
    return select(runs.c.job, status.label("status")).where(~runs.c.superseded).group_by(runs.c.job).subquery()


def _structs(conn: Connection, rows: list[RowMapping]) -> list[Job]:
    """Rows as structs: what the runs say comes from two queries, however many jobs there are."""
    ids = [row["id"] for row in rows]
    counts = counts_of(conn, ids)
    ends = select(runs.c.job, func.max(runs.c.ended_at)).where(runs.c.job.in_(ids)).group_by(runs.c.job)
    ended: dict[str, datetime | None] = {row[0]: row[1] for row in conn.execute(ends)}
    short = [job for job in ids if sum(counts.get(job, {}).values()) <= STRIP_LIMIT]
    strips: dict[str, list[str]] = {}
    for job, state in conn.execute(select(runs.c.job, runs.c.state).where(runs.c.job.in_(short)).order_by(runs.c.job, runs.c.number)):
        strips.setdefault(job, []).append(STATE_LETTERS[RunState(state)])
    return [_struct(row, counts.get(row["id"], {}), ended.get(row["id"]), "".join(strips.get(row["id"], []))) for row in rows]


def _struct(row: RowMapping, counts: dict[str, int], last_end: datetime | None, strip: str) -> Job:
    total = sum(counts.values())
    done = total > 0 and sum(counts.get(state, 0) for state in FINAL) == total
    return Job(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        state=JobState(row["state"]),
        status=job_status(counts),
        notebook=row["notebook"],
        source=row["source"],
        project=row["project"],
        snapshot=row["snapshot"],
        environment=row["environment"] or "",
        kernel=row["kernel"],
        parameter_names=row["parameter_names"],
        record=row["record"],
        record_names=row["record_names"],
        variables=row["variables"],
        live=row["live"],
        counts=counts,
        total=total,
        strip=strip,
        created_at=row["created_at"],
        created_by=row["created_by"],
        ended_at=last_end if done else None,
        seq=row["seq"],
        notes=row["notes"],
        priority=row["priority"],
        max_parallel=row["max_parallel"],
        fail_fast=row["fail_fast"],
        retries=row["retries"] or retries.DEFAULT,
        time_limit=row["time_limit"],
        cell_timeout=row["cell_timeout"],
        resources=msgspec.json.decode(row["spec"], type=_Spec).request.resources,
    )
