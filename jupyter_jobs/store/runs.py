"""The table of runs. `move` is the only way from one state to another."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, Select, bindparam, func, insert, or_, select, update

from jupyter_jobs.errors import BadInput
from jupyter_jobs.lifecycle import ACTIVE, FINAL, JobState, RunState, can_move
from jupyter_jobs.model import CellRef, Combination, Json, LivePath, Progress, Run, RunError, RunList
from jupyter_jobs.store import events
from jupyter_jobs.store import jobs as jobs_store
from jupyter_jobs.store.pages import Sort, Whole, page_of
from jupyter_jobs.store.tables import attempts, jobs, runs

SORTS = {
    "number": Sort([runs.c.number], tuple[Whole]),
    "state": Sort([runs.c.state, runs.c.number], tuple[str, Whole]),
    # a run that has not ended sorts below any that has
    "duration": Sort([func.coalesce(runs.c.duration, -1.0), runs.c.number], tuple[float, Whole]),
}
WAITING = (RunState.CREATED, RunState.QUEUED)
SPAN, GAP = 1 << 30, 1 << 12
"""A run's position in the queue: the event that queued it × `SPAN` + its place in what that event queued × `GAP`. In a gap others can be moved."""


_PRESENT = select(runs.c.job, runs.c.state, runs.c.attempt, runs.c.started_at).where(runs.c.id == bindparam("the_run"))
_CLAIM = (
    update(runs)
    .where(runs.c.id == bindparam("the_run"), runs.c.state == bindparam("the_old"), runs.c.attempt == bindparam("before"))
    .values(state=RunState.INIT, attempt=bindparam("the_attempt"), not_before=None, seq=bindparam("the_seq"))
)
_ATTEMPT = insert(attempts)


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
    extended: float


class RunMark(msgspec.Struct, frozen=True, kw_only=True):
    """A run as a reader of logs needs it: attempts so far (0: never started), and whether it has ended."""

    id: str
    number: int
    attempt: int
    ended: bool


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt told of itself. None: nothing, and what the store has stays. `workspace` as in `Run`; `peak_memory` in bytes."""

    started_at: datetime | None = None
    progress: Progress | None = None
    records: dict[str, Json] | None = None
    peak_memory: int | None = None
    workspace: str | None = None
    live: list[LivePath] | None = None


NO_FACTS = Facts()


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
    rerun_of: Sequence[str] = (),
) -> list[str]:
    """Insert a run for each combination, numbered from `first`, and return their ids. The event of the job's creation stands for theirs.

    `rerun_of`: the run that each of them repeats.
    """
    at = at or events.now()
    seq, rank, gated = conn.execute(select(jobs.c.seq, *_of_job()).where(jobs.c.id == job)).one()
    again = rerun_of or [""] * len(combinations)
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
            "workspace": "",
            "live": [],
            "rerun_of": repeated,
            "seq": seq,
            "rank": rank,
            "position": seq * SPAN + place * GAP,
            "gated": gated,
        }
        for place, (number, combination, repeated) in enumerate(zip(range(first, first + len(combinations)), combinations, again, strict=True))
    ]
    if rows:
        conn.execute(insert(runs), rows)
    return [str(row["id"]) for row in rows]


def get(conn: Connection, run: str) -> Run | None:
    """The run, or None."""
    row = conn.execute(select(runs).where(runs.c.id == run)).mappings().first()
    return struct_of(row) if row else None


def list_page(conn: Connection, job: str, *, after: str = "", limit: int = 100, state: Iterable[str] = (), sort: str = "number") -> RunList:
    """A page of a job's runs. `state`: any of these. Raises `BadInput` (`bad_sort`, `bad_page`, `bad_state`)."""
    query: Select[Any] = select(runs).where(runs.c.job == job)
    wanted = set(state)
    if unknown := wanted - set(RunState):
        raise BadInput(f"There is no state `{min(unknown)}`.", code="bad_state", mend=f"States: {', '.join(RunState)}.", field="state")
    if wanted:
        query = query.where(runs.c.state.in_(sorted(wanted)))
    rows, page = page_of(conn, query, SORTS, of="Runs", sort=sort, after=after, limit=limit)
    return RunList(runs=[struct_of(row) for row in rows], page=page)


def ids_of(conn: Connection, job: str, states: Collection[RunState] = frozenset(RunState)) -> list[str]:
    """Ids of a job's runs in any of `states`, in order."""
    query = select(runs.c.id).where(runs.c.job == job, runs.c.state.in_(list(states))).order_by(runs.c.number)
    return list(conn.execute(query).scalars())


def marks(conn: Connection, job: str, first: int = 1) -> list[RunMark]:
    """A job's runs from number `first` on, in order."""
    query = select(runs.c.id, runs.c.number, runs.c.attempt, runs.c.state).where(runs.c.job == job, runs.c.number >= first).order_by(runs.c.number)
    return [RunMark(id=run, number=number, attempt=attempt, ended=RunState(state) in FINAL) for run, number, attempt, state in conn.execute(query)]


def append(conn: Connection, job: str, combinations: Sequence[Combination], *, rerun_of: Sequence[str] = (), at: datetime | None = None) -> list[str]:
    """Queue more runs of a job, numbered on, each with its event `run.created`. `rerun_of`: the run that each repeats, which it supersedes with
    whatever ran of the combination before."""
    at = at or events.now()
    last = conn.execute(select(func.max(runs.c.number)).where(runs.c.job == job)).scalar() or 0
    if rerun_of:
        for combination in combinations:
            mine = (runs.c.job == job) & (runs.c.combination == combination.number) & ~runs.c.superseded
            conn.execute(update(runs).where(mine).values(superseded=True))
    # first, so that these come after all that was queued before
    events.append(conn, "job.runs", job, data={"first": last + 1, "total": len(combinations)}, at=at)
    ids = insert_many(conn, job, combinations, at=at, first=last + 1, rerun_of=rerun_of)
    events.append_for_runs(conn, "run.created", job, ids, state=RunState.QUEUED, at=at)
    return ids


def newest(conn: Connection, job: str) -> list[Run]:
    """The newest run of each of a job's combinations, in order of the runs."""
    query = select(runs).where(runs.c.job == job, ~runs.c.superseded).order_by(runs.c.number)
    return [struct_of(row) for row in conn.execute(query).mappings()]


def move(
    conn: Connection,
    run: str,
    new: RunState,
    *,
    attempt: int | None = None,
    error: RunError | None = None,
    at: datetime | None = None,
    sources: Collection[RunState] | None = None,
    facts: Facts = NO_FACTS,
    not_before: datetime | None = None,
    retried: int | None = None,
    how: dict[str, Json] | None = None,
    output_due: bool = False,
) -> bool:
    """Move a run to `new` if it is in a state that leads there (or one of `sources`, all of which must), with its event.

    `attempt` fences: only if that attempt is the run's present one. Whether it moved; nothing is written if not.
    A move to FAILED needs `error`; one to RUNNING or a final state may bring `facts`; one to QUEUED `not_before` and how often it was `retried`
    (then `error` says why, in the event); `how` goes into the event; `output_due`: its files are to be copied to the job's output folder. Needs a
    transaction that may write.
    """
    at = at or events.now()
    present = conn.execute(_PRESENT, {"the_run": run}).first()
    if present is None or (attempt is not None and present.attempt != attempt):
        return False
    old = RunState(present.state)
    if not can_move(old, new) or (sources is not None and old not in sources):
        return False
    data: dict[str, object] = {"attempt": present.attempt, **(how or {})}
    values: dict[str, object] = {"state": new, "ended_at": at if new in FINAL else None, "not_before": not_before}
    if output_due:
        values["output_due_since"] = at
    if new is not RunState.CANCELED or error is not None:
        # the reason of a cancel stands there since that was asked for
        values["error"] = error if new in FINAL else None
    if error is not None:
        data["code"] = error.code
    if new is RunState.QUEUED:
        values |= {"started_at": None, "cancel_requested_at": None, "progress_done": 0, "progress_total": 0, "records": {}, "live": []}
        values |= {"progress_cell_id": "", "progress_cell_number": 0, "extended": 0.0}
        values["rank"], values["gated"] = conn.execute(select(*_of_job()).where(jobs.c.id == present.job)).one()
        if retried is not None:
            values["retried"] = retried
        if not_before is not None:
            data["not_before"] = not_before.isoformat()
    elif new is RunState.RUNNING:
        values["started_at"] = at
    values |= {name: value for name, value in msgspec.structs.asdict(facts).items() if value is not None and name != "progress"}
    if facts.progress is not None:
        values |= _progress_values(facts.progress)
    if old in ACTIVE and new is not RunState.RUNNING:
        events.drop_progress(conn, run)
    seq = events.append(conn, "run.state", present.job, run=run, state=new, data=data, at=at, note_at_run=False)
    values["seq"] = seq
    if new is RunState.QUEUED:
        values["position"] = seq * SPAN
    elif new in FINAL and (started := facts.started_at or present.started_at) is not None:
        values["duration"] = max(0.0, (at - started).total_seconds())
    conn.execute(update(runs).where(runs.c.id == run, runs.c.state == old, runs.c.attempt == present.attempt).values(values))
    if facts.records:
        jobs_store.add_record_names(conn, present.job, facts.records)
    return True


def claim(conn: Connection, run: str, attempt: int, *, host: str, boot_id: str, at: datetime | None = None) -> bool:
    """Begin attempt number `attempt` of a queued run: the run goes to INIT and the attempt has a row. False if another was first
    or the run is no longer queued."""
    at = at or events.now()
    present = conn.execute(_PRESENT, {"the_run": run}).first()
    if present is None or present.attempt != attempt - 1 or not can_move(RunState(present.state), RunState.INIT):
        return False
    seq = events.append(conn, "run.state", present.job, run=run, state=RunState.INIT, data={"attempt": attempt}, at=at, note_at_run=False)
    conn.execute(_CLAIM, {"the_run": run, "the_old": present.state, "the_attempt": attempt, "before": attempt - 1, "the_seq": seq})
    conn.execute(_ATTEMPT, {"run": run, "number": attempt, "host": host, "boot_id": boot_id, "handle": "", "started_at": at})
    return True


def request_cancel(conn: Connection, run: str, *, error: RunError | None = None, at: datetime | None = None) -> bool:
    """Cancel a run that waits, or note that an active one is to be canceled (event `run.cancel`); whether anything changed.

    `error` is why, where it was no person who asked; a canceled run keeps it.
    """
    at = at or events.now()
    if move(conn, run, RunState.CANCELED, at=at, sources=WAITING, error=error):
        return True
    statement = update(runs).where(runs.c.id == run, runs.c.state.in_(sorted(ACTIVE)), runs.c.cancel_requested_at.is_(None))
    job = conn.execute(statement.values(cancel_requested_at=at, error=error).returning(runs.c.job)).scalar()
    if job is None:
        return False
    events.append(conn, "run.cancel", job, run=run, state="canceling", data={"code": error.code} if error else None, at=at)
    return True


def request_cancel_job(conn: Connection, job: str, *, error: RunError | None = None, at: datetime | None = None) -> int:
    """`request_cancel` for all runs of a job; how many changed."""
    at = at or events.now()
    waiting = ids_of(conn, job, WAITING)
    values = {"state": RunState.CANCELED, "ended_at": at, "not_before": None, "error": error}
    conn.execute(update(runs).where(runs.c.job == job, runs.c.state.in_(WAITING)).values(values))
    events.append_for_runs(conn, "run.state", job, waiting, state=RunState.CANCELED, data={"code": error.code} if error else None, at=at)
    return len(waiting) + sum(request_cancel(conn, run, error=error, at=at) for run in ids_of(conn, job, ACTIVE))


def extend(conn: Connection, run: str, seconds: float, *, at: datetime | None = None) -> bool:
    """Give an active run more time (event `run.extended`); False if it is not active, or to be canceled."""
    statement = update(runs).where(runs.c.id == run, runs.c.state.in_(sorted(ACTIVE)), runs.c.cancel_requested_at.is_(None))
    row = conn.execute(statement.values(extended=runs.c.extended + seconds).returning(runs.c.job, runs.c.extended)).first()
    if row is None:
        return False
    events.append(conn, "run.extended", row.job, run=run, data={"seconds": seconds, "extended": row.extended}, at=at)
    return True


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
    events.drop_records(conn, run)
    events.append(conn, events.RECORDS, job, run=run, data={"names": list(records)}, at=at)
    return True


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
            runs.c.extended,
        )
        .join(attempts, (attempts.c.run == runs.c.id) & (attempts.c.number == runs.c.attempt))
        .where(under_way())
        .order_by(attempts.c.started_at, runs.c.position)
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
            extended=row["extended"],
        )
        for row in conn.execute(query).mappings()
    ]


def count_active(conn: Connection) -> int:
    """How many runs of all jobs are under way."""
    return conn.execute(select(func.count()).select_from(runs).where(under_way())).scalar() or 0


def under_way() -> ColumnElement[bool]:
    """Runs in INIT or RUNNING, said so that their index is used."""
    return runs.c.state.in_(bindparam("under_way", sorted(ACTIVE), expanding=True, literal_execute=True))


def _update_active(conn: Connection, run: str, attempt: int, values: dict[str, object]) -> str | None:
    statement = update(runs).where(runs.c.id == run, runs.c.attempt == attempt, runs.c.state.in_(sorted(ACTIVE)))
    job: str | None = conn.execute(statement.values(values).returning(runs.c.job)).scalar()
    return job


def _of_job() -> tuple[ColumnElement[int], ColumnElement[bool]]:
    """A job's rank, and whether it is to be asked before each of its runs."""
    return -jobs.c.priority, or_(jobs.c.max_parallel > 0, jobs.c.state != JobState.ACTIVE)


def _progress_values(progress: Progress) -> dict[str, object]:
    cell = progress.cell
    return {
        "progress_done": progress.done,
        "progress_total": progress.total,
        "progress_cell_id": cell.id if cell else "",
        "progress_cell_number": cell.number if cell else 0,
    }


def struct_of(row: RowMapping) -> Run:
    """A row of the table as people see it."""
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
        not_before=row["not_before"],
        extended=row["extended"],
        superseded=row["superseded"],
    )
