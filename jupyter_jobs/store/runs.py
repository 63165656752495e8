"""The table of runs. `move` is the only way from one state to another."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, Select, func, insert, select, update

from jupyter_jobs.errors import BadInput
from jupyter_jobs.lifecycle import ACTIVE, FINAL, JobState, RunState, sources_of
from jupyter_jobs.model import CellRef, Combination, Json, LivePath, Page, Progress, Run, RunError, RunList
from jupyter_jobs.store import events
from jupyter_jobs.store import jobs as jobs_store
from jupyter_jobs.store.pages import beyond, bounded, token_of, values_of
from jupyter_jobs.store.tables import attempts, jobs, runs

SORTS = ("number", "-number", "state", "-state", "duration", "-duration")
_WAITING = (RunState.CREATED, RunState.QUEUED)


class QueuedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that waits to start. `attempt` is the number that its next attempt gets."""

    run: str
    job: str
    number: int
    attempt: int


class ActiveRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run under way and the process that carries it. `pid` is None between the claim and the start."""

    run: str
    job: str
    number: int
    attempt: int
    state: RunState
    cancel_requested: bool
    host: str
    boot_id: str
    pid: int | None
    pid_started: int | None
    handle: str


class RunMark(msgspec.Struct, frozen=True, kw_only=True):
    """A run as a reader of logs needs it: attempts so far (0: never started), and whether it has ended."""

    id: str
    number: int
    attempt: int
    ended: bool


def run_id(job: str, number: int) -> str:
    """The id of a job's run."""
    return f"{job}-{number}"


def insert_many(
    conn: Connection,
    job: str,
    combinations: Sequence[Combination],
    *,
    state: RunState = RunState.QUEUED,
    at: datetime | None = None,
    first: int = 1,
    rerun_of: str = "",
) -> list[str]:
    """Insert a run for each combination, numbered from `first`, and return their ids. The event of the job's creation stands for theirs."""
    at = at or events.now()
    seq = conn.execute(select(jobs.c.seq).where(jobs.c.id == job)).scalar_one()
    rows = [
        {
            "id": run_id(job, number),
            "job": job,
            "number": number,
            "combination": combination.number,
            "parameters": combination.parameters,
            "label": combination.label,
            "state": state,
            "attempt": 0,
            "progress_done": 0,
            "progress_total": 0,
            "progress_cell_id": "",
            "progress_cell_number": 0,
            "records": {},
            "created_at": at,
            "queued_seq": seq,
            "workspace": "",
            "live": [],
            "rerun_of": rerun_of,
            "seq": seq,
        }
        for number, combination in enumerate(combinations, first)
    ]
    if rows:
        conn.execute(insert(runs), rows)
    return [str(row["id"]) for row in rows]


def get(conn: Connection, run: str) -> Run | None:
    """The run, or None."""
    row = conn.execute(select(runs).where(runs.c.id == run)).mappings().first()
    return _struct(row) if row else None


def list_page(conn: Connection, job: str, *, after: str = "", limit: int = 100, state: Iterable[str] = (), sort: str = "number") -> RunList:
    """A page of a job's runs. `state`: any of these. Raises `BadInput` (`bad_sort`, `bad_page`, `bad_state`)."""
    query: Select[Any] = select(runs).where(runs.c.job == job)
    wanted = set(state)
    if unknown := wanted - set(RunState):
        raise BadInput(f"There is no state `{min(unknown)}`.", code="bad_state", mend=f"States: {', '.join(RunState)}.", field="state")
    if wanted:
        query = query.where(runs.c.state.in_(sorted(wanted)))
    if sort not in SORTS:
        raise BadInput(f"Runs cannot be sorted by `{sort}`.", code="bad_sort", mend=f"Sorts: {', '.join(SORTS)}.", field="sort")
    descending, key = sort.startswith("-"), sort.lstrip("-")
    total = conn.execute(select(func.count()).select_from(query.subquery())).scalar() or 0
    # a run that has not ended sorts below any that has
    leading = {"number": runs.c.number, "state": runs.c.state, "duration": func.coalesce(runs.c.duration, -1.0)}[key]
    columns = [leading, runs.c.number]
    if after:
        shape = {"number": tuple[int, int], "state": tuple[str, int], "duration": tuple[float, int]}[key]
        query = query.where(beyond(columns, list(values_of(after, shape)), descending=descending))
    limit = bounded(limit)
    query = query.order_by(*(column.desc() if descending else column for column in columns)).limit(limit + 1)
    rows = list(conn.execute(query).mappings())
    following = ""
    if len(rows) > limit:
        rows = rows[:limit]
        last = rows[-1]
        value = -1.0 if last[key] is None else last[key]
        following = token_of([value, last["number"]])
    return RunList(runs=[_struct(row) for row in rows], page=Page(next=following, total=total))


def ids_of(conn: Connection, job: str, states: Collection[RunState] = frozenset(RunState)) -> list[str]:
    """Ids of a job's runs in any of `states`, in order."""
    query = select(runs.c.id).where(runs.c.job == job, runs.c.state.in_(list(states))).order_by(runs.c.number)
    return list(conn.execute(query).scalars())


def marks(conn: Connection, job: str, first: int = 1) -> list[RunMark]:
    """A job's runs from number `first` on, in order."""
    query = select(runs.c.id, runs.c.number, runs.c.attempt, runs.c.state).where(runs.c.job == job, runs.c.number >= first).order_by(runs.c.number)
    return [RunMark(id=run, number=number, attempt=attempt, ended=RunState(state) in FINAL) for run, number, attempt, state in conn.execute(query)]


def move(
    conn: Connection,
    run: str,
    new: RunState,
    *,
    attempt: int | None = None,
    error: RunError | None = None,
    at: datetime | None = None,
    sources: Collection[RunState] | None = None,
    started_at: datetime | None = None,
    progress: Progress | None = None,
    records: dict[str, Json] | None = None,
    peak_memory: int | None = None,
    workspace: str | None = None,
    live: list[LivePath] | None = None,
) -> bool:
    """Move a run to `new` if it is in a state that leads there (or one of `sources`, all of which must), with its event.

    `attempt` fences: only if that attempt is the run's present one. Whether it moved; nothing is written if not.
    A move to FAILED needs `error`; one to RUNNING or a final state may bring `started_at`; other fields are written as given.
    """
    at = at or events.now()
    allowed = sources_of(new)
    from_states = allowed if sources is None else [state for state in allowed if state in sources]
    values: dict[str, object] = {"state": new, "error": error if new in FINAL else None, "ended_at": at if new in FINAL else None}
    if new is RunState.QUEUED:
        values |= {"started_at": None, "cancel_requested_at": None, "progress_done": 0, "progress_total": 0, "records": {}, "live": []}
        values |= {"progress_cell_id": "", "progress_cell_number": 0}
    elif new is RunState.RUNNING:
        values["started_at"] = started_at or at
    elif started_at is not None:
        values["started_at"] = started_at
    if progress is not None:
        values |= _progress_values(progress)
    optional = {"records": records, "peak_memory": peak_memory, "workspace": workspace, "live": live}
    values |= {name: value for name, value in optional.items() if value is not None}
    statement = update(runs).where(runs.c.id == run, runs.c.state.in_(from_states))
    if attempt is not None:
        statement = statement.where(runs.c.attempt == attempt)
    row = conn.execute(statement.values(values).returning(runs.c.job, runs.c.attempt, runs.c.started_at)).first()
    if row is None:
        return False
    job, present, started = row
    data: dict[str, object] = {"attempt": present}
    if error is not None and new in FINAL:
        data["code"] = error.code
    if new is RunState.QUEUED or new in FINAL:
        events.drop_progress(conn, run)
    seq = events.append(conn, "run.state", job, run=run, state=new, data=data, at=at)
    if new is RunState.QUEUED:
        conn.execute(update(runs).where(runs.c.id == run).values(queued_seq=seq))
    elif new in FINAL and started is not None:
        conn.execute(update(runs).where(runs.c.id == run).values(duration=max(0.0, (at - started).total_seconds())))
    if records:
        jobs_store.add_record_names(conn, job, records)
    return True


def claim(conn: Connection, run: str, attempt: int, *, host: str, boot_id: str, at: datetime | None = None) -> bool:
    """Begin attempt number `attempt` of a queued run: the run goes to INIT and the attempt has a row. False if another was first
    or the run is no longer queued."""
    at = at or events.now()
    statement = update(runs).where(runs.c.id == run, runs.c.state.in_(sources_of(RunState.INIT)), runs.c.attempt == attempt - 1)
    job = conn.execute(statement.values(state=RunState.INIT, attempt=attempt).returning(runs.c.job)).scalar()
    if job is None:
        return False
    row = {"run": run, "number": attempt, "host": host, "boot_id": boot_id, "handle": "", "started_at": at}
    conn.execute(insert(attempts).values(row))
    events.append(conn, "run.state", job, run=run, state=RunState.INIT, data={"attempt": attempt}, at=at)
    return True


def request_cancel(conn: Connection, run: str, *, at: datetime | None = None) -> bool:
    """Cancel a run that waits, or note that an active one is to be canceled (event `run.cancel`); whether anything changed."""
    at = at or events.now()
    if move(conn, run, RunState.CANCELED, at=at, sources=_WAITING):
        return True
    statement = update(runs).where(runs.c.id == run, runs.c.state.in_(sorted(ACTIVE)), runs.c.cancel_requested_at.is_(None))
    job = conn.execute(statement.values(cancel_requested_at=at).returning(runs.c.job)).scalar()
    if job is None:
        return False
    events.append(conn, "run.cancel", job, run=run, state="canceling", at=at)
    return True


def request_cancel_job(conn: Connection, job: str, *, at: datetime | None = None) -> int:
    """`request_cancel` for all runs of a job; how many changed."""
    at = at or events.now()
    waiting = ids_of(conn, job, _WAITING)
    conn.execute(update(runs).where(runs.c.job == job, runs.c.state.in_(_WAITING)).values(state=RunState.CANCELED, ended_at=at))
    events.append_for_runs(conn, "run.state", job, waiting, state=RunState.CANCELED, at=at)
    return len(waiting) + sum(request_cancel(conn, run, at=at) for run in ids_of(conn, job, ACTIVE))


def set_progress(conn: Connection, run: str, attempt: int, progress: Progress, *, at: datetime | None = None) -> bool:
    """Note how far an active attempt is. Only the last progress event of a run is kept."""
    job = _update_active(conn, run, attempt, _progress_values(progress))
    if job is None:
        return False
    events.drop_progress(conn, run)
    events.append(conn, events.PROGRESS, job, run=run, data={"done": progress.done, "total": progress.total}, at=at)
    return True


def set_records(conn: Connection, run: str, attempt: int, records: dict[str, Json], *, at: datetime | None = None) -> bool:
    """Set the values that an active attempt has recorded so far. The event names them and holds no value."""
    job = _update_active(conn, run, attempt, {"records": records})
    if job is None:
        return False
    jobs_store.add_record_names(conn, job, records)
    events.append(conn, "run.records", job, run=run, data={"names": list(records)}, at=at)
    return True


def next_queued(conn: Connection, limit: int, *, exclude: Collection[str] = ()) -> list[QueuedRun]:
    """Runs that may start next, first in, first out; those of jobs in `exclude` and of jobs that are not active stay where they are."""
    query = (
        select(runs.c.id, runs.c.job, runs.c.number, runs.c.attempt)
        .join(jobs, jobs.c.id == runs.c.job)
        .where(runs.c.state == RunState.QUEUED, jobs.c.state == JobState.ACTIVE)
        .order_by(runs.c.queued_seq, runs.c.number)
        .limit(limit)
    )
    if exclude:
        query = query.where(runs.c.job.not_in(list(exclude)))
    return [QueuedRun(run=run, job=job, number=number, attempt=attempt + 1) for run, job, number, attempt in conn.execute(query)]


def active(conn: Connection) -> list[ActiveRun]:
    """All runs in INIT or RUNNING with their present attempts, oldest first."""
    query = (
        select(
            runs.c.id,
            runs.c.job,
            runs.c.number,
            runs.c.attempt,
            runs.c.state,
            runs.c.cancel_requested_at,
            attempts.c.host,
            attempts.c.boot_id,
            attempts.c.pid,
            attempts.c.pid_started,
            attempts.c.handle,
        )
        .join(attempts, (attempts.c.run == runs.c.id) & (attempts.c.number == runs.c.attempt))
        .where(runs.c.state.in_(sorted(ACTIVE)))
        .order_by(runs.c.queued_seq, runs.c.number)
    )
    return [
        ActiveRun(
            run=row["id"],
            job=row["job"],
            number=row["number"],
            attempt=row["attempt"],
            state=RunState(row["state"]),
            cancel_requested=row["cancel_requested_at"] is not None,
            host=row["host"],
            boot_id=row["boot_id"],
            pid=row["pid"],
            pid_started=row["pid_started"],
            handle=row["handle"],
        )
        for row in conn.execute(query).mappings()
    ]


def count(conn: Connection, states: Collection[RunState]) -> int:
    """How many runs of all jobs are in `states`."""
    return conn.execute(select(func.count()).select_from(runs).where(runs.c.state.in_(sorted(states)))).scalar() or 0


def largest_peaks(conn: Connection, job_ids: Iterable[str]) -> dict[str, int]:
    """`{job: bytes}`: the largest peak memory of any run of each job so far."""
    query = select(runs.c.job, func.max(runs.c.peak_memory)).where(runs.c.job.in_(list(job_ids)), runs.c.peak_memory.is_not(None))
    return {job: int(peak) for job, peak in conn.execute(query.group_by(runs.c.job))}


def _update_active(conn: Connection, run: str, attempt: int, values: dict[str, object]) -> str | None:
    statement = update(runs).where(runs.c.id == run, runs.c.attempt == attempt, runs.c.state.in_(sorted(ACTIVE)))
    job: str | None = conn.execute(statement.values(values).returning(runs.c.job)).scalar()
    return job


def _progress_values(progress: Progress) -> dict[str, object]:
    cell = progress.cell
    return {
        "progress_done": progress.done,
        "progress_total": progress.total,
        "progress_cell_id": cell.id if cell else "",
        "progress_cell_number": cell.number if cell else 0,
    }


def _struct(row: RowMapping) -> Run:
    state = RunState(row["state"])
    number = row["progress_cell_number"]
    return Run(
        id=row["id"],
        job=row["job"],
        number=row["number"],
        combination=row["combination"],
        parameters=row["parameters"],
        label=row["label"],
        state=state,
        status="canceling" if row["cancel_requested_at"] is not None and state in ACTIVE else str(state),
        attempt=row["attempt"],
        progress=Progress(
            done=row["progress_done"],
            total=row["progress_total"],
            cell=CellRef(id=row["progress_cell_id"], number=number) if number else None,
        ),
        records=row["records"],
        error=row["error"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        duration=row["duration"],
        peak_memory=row["peak_memory"],
        workspace=row["workspace"],
        live=row["live"],
        rerun_of=row["rerun_of"],
        seq=row["seq"],
    )
