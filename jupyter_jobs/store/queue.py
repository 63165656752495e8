"""The queue: what starts next, in which order, and what a person changes about that.

Runs with the higher priority come first, then those that were queued or moved before others. Runs that may not start now (their job is not active,
or runs as many as it may; another attempt whose time has not come) are passed over. Each pick reads a few rows of the indexes that hold only what
waits, however many runs there are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from heapq import merge
from typing import Any

import msgspec
from sqlalchemy import BindParameter, Connection, RowMapping, and_, bindparam, delete, func, insert, literal, select, tuple_, update

from jupyter_jobs.errors import BadInput, Conflict
from jupyter_jobs.lifecycle import JobState, RunState
from jupyter_jobs.model import Json, Page, Resources, Run, WaitingRun
from jupyter_jobs.store import events, output
from jupyter_jobs.store import runs as runs_store
from jupyter_jobs.store.jobs import JobSpec
from jupyter_jobs.store.pages import Whole, bounded, not_a_page, token_of, values_of
from jupyter_jobs.store.runs import GAP, SPAN, struct_of
from jupyter_jobs.store.tables import jobs, pause, runs


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was just claimed, with what it is started with. `peak`: the most memory that a run of its job took; 0 if none is known."""

    run: str
    job: str
    attempt: int
    label: str
    parameters: dict[str, Json]
    peak: int


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The run whose turn it is, what was asked for it, and the most memory that a run of its job took; 0 if none is known."""

    run: str
    job: str
    asked: Resources
    peak: int


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What was claimed. `short`: the run whose turn it is and which does not fit. `not_before`: when the next that waits for a time may start."""

    claims: list[Claim]
    short: Head | None = None
    not_before: datetime | None = None


# literal, because SQLite uses an index with a condition only where it sees that condition
_QUEUED: BindParameter[str] = bindparam("queued", RunState.QUEUED, literal_execute=True)
_queued_now = and_(runs.c.state == _QUEUED, runs.c.not_before.is_(None))
_under_way = select(func.count()).where(runs.c.job == jobs.c.id, runs_store.under_way()).correlate(jobs).scalar_subquery()
_first_of_job = select(runs.c.id).where(runs.c.job == jobs.c.id, _queued_now).order_by(runs.c.position).limit(1).correlate(jobs).scalar_subquery()
_FREE = (
    select(runs.c.id, runs.c.rank, runs.c.position)
    .where(_queued_now, runs.c.gated.is_(False))
    .order_by(runs.c.rank, runs.c.position, runs.c.id)
    .limit(1)
)
_GATED = (
    select(runs.c.id, runs.c.rank, runs.c.position)
    .select_from(jobs)
    .join(runs, runs.c.id == _first_of_job)
    .where(jobs.c.max_parallel > bindparam("none", 0, literal_execute=True), jobs.c.state == JobState.ACTIVE, jobs.c.max_parallel > _under_way)
    .order_by(runs.c.rank, runs.c.position, runs.c.id)
    .limit(1)
)
_HEAD = (
    select(runs.c.id, runs.c.job, runs.c.attempt, runs.c.label, runs.c.parameters, jobs.c.peak_memory, jobs.c.spec)
    .join(jobs, jobs.c.id == runs.c.job)
    .where(runs.c.id == bindparam("the_run"))
)
_NEXT_TIME = select(func.min(runs.c.not_before)).where(runs.c.not_before.is_not(None))


def take(
    conn: Connection, count: int, *, host: str, boot_id: str, fits: Callable[[Head], bool] = lambda head: True, at: datetime | None = None
) -> Taken:
    """Claim up to `count` runs, in order, until one does not fit. Needs a transaction that may write."""
    at = at or events.now()
    if is_paused(conn):
        return Taken(claims=[])
    upcoming = release_due(conn, at)
    claims: list[Claim] = []
    while len(claims) < count:
        row = _first_row(conn)
        if row is None:
            break
        head = _head_of(row)
        if not fits(head):
            return Taken(claims=claims, short=head, not_before=upcoming)
        claimed = runs_store.claim(conn, row.id, row.attempt + 1, host=host, boot_id=boot_id, at=at)
        assert claimed, "what was just read as queued is queued"
        claims.append(Claim(run=row.id, job=row.job, attempt=row.attempt + 1, label=row.label, parameters=row.parameters, peak=head.peak))
    return Taken(claims=claims, not_before=upcoming)


def _head_of(row: Any) -> Head:
    asked = msgspec.json.decode(row.spec, type=JobSpec).request.resources
    return Head(run=row.id, job=row.job, asked=asked, peak=row.peak_memory or 0)


def release_due(conn: Connection, at: datetime) -> datetime | None:
    """Let those start whose time has come, and return when the next one's comes."""
    upcoming: datetime | None = conn.execute(_NEXT_TIME).scalar()
    if upcoming is None or upcoming > at:
        return upcoming
    conn.execute(update(runs).where(runs.c.not_before <= at).values(not_before=None))
    return conn.execute(_NEXT_TIME).scalar()


def first(conn: Connection) -> Head | None:
    """The run that starts next, if any: for those who only look."""
    row = _first_row(conn)
    return None if row is None else _head_of(row)


def _first_row(conn: Connection) -> Any | None:
    found = [row for statement in (_FREE, _GATED) if (row := conn.execute(statement).first()) is not None]
    if not found:
        return None
    # two may have the same position since a priority was changed
    first = min(found, key=lambda row: (row.rank, row.position, row.id))
    return conn.execute(_HEAD, {"the_run": first.id}).first()


# -- what a person changes ---------------------------------------------------------------------------------------------


def is_paused(conn: Connection) -> bool:
    """Whether somebody paused the queue."""
    return conn.execute(select(pause.c.id)).first() is not None


def paused(conn: Connection) -> tuple[datetime, str] | None:
    """Since when the queue is paused, and by whom; None if it is not."""
    row = conn.execute(select(pause.c.at, pause.c.by)).first()
    return None if row is None else (row.at, row.by)


def set_paused(conn: Connection, by: str | None, *, at: datetime | None = None) -> bool:
    """Pause the queue (`by` a person), or with None resume it, with an event; whether that changed anything."""
    at = at or events.now()
    if (by is not None) == is_paused(conn):
        return False
    conn.execute(delete(pause) if by is None else insert(pause).values(id=1, at=at, by=by))
    events.append(conn, "queue.resumed" if by is None else "queue.paused", "", at=at)
    return True


def move(conn: Connection, run: str, *, before: str = "", to: str = "", at: datetime | None = None) -> None:
    """Move a waiting run `before` another of the same priority, or `to` the `first` or `last` place among them, with the event `run.moved`.

    Raises `Conflict` (`run_not_waiting`, `other_priority`), `BadInput` where both or neither are given.
    """
    if bool(before) == bool(to):
        raise BadInput("Say `before` which run, or `to` the first or the last place.", field="before" if before else "to")
    mine = _waiting(conn, run)
    if before == run:
        return
    seq = events.append(conn, "run.moved", mine.job, run=run, state=mine.state, data={"before": before} if before else {"to": to}, at=at)
    same = and_(runs.c.state == _QUEUED, runs.c.rank == mine.rank, runs.c.id != run)
    if before:
        other = _waiting(conn, before)
        if other.rank != mine.rank:
            raise Conflict(
                f"{before} has priority {-other.rank}, {run} has {-mine.rank}.",
                code="other_priority",
                mend="`jupyter jobs priority` changes a job's priority.",
                runs=[run, before],
            )
        position = _between(conn, same, other.position)
    elif to == "first":
        first = conn.execute(select(func.min(runs.c.position)).where(same)).scalar()
        position = mine.position if first is None else min(first - GAP, mine.position)
    else:
        position = seq * SPAN
    conn.execute(update(runs).where(runs.c.id == run).values(position=position))


def _waiting(conn: Connection, run: str) -> Any:
    row = conn.execute(select(runs.c.job, runs.c.state, runs.c.rank, runs.c.position).where(runs.c.id == run)).first()
    if row is None or row.state != RunState.QUEUED:
        raise Conflict(f"Run {run} does not wait in the queue.", code="run_not_waiting", mend="`jupyter jobs queue` shows those that do.", run=run)
    return row


def _between(conn: Connection, same: Any, position: int) -> int:
    """A free position right before `position`. Where there is none left, those before make room."""
    below = conn.execute(select(func.max(runs.c.position)).where(same, runs.c.position < position)).scalar()
    if below is None:
        return position - GAP
    if position - below > 1:
        return int(below + position) // 2
    conn.execute(update(runs).where(same, runs.c.position < position).values(position=runs.c.position - GAP))
    return position - GAP // 2


# -- looking -----------------------------------------------------------------------------------------------------------


def count(conn: Connection) -> int:
    """How many runs wait."""
    now = conn.execute(select(func.count()).select_from(runs).where(_queued_now)).scalar() or 0
    later = conn.execute(select(func.count()).select_from(runs).where(runs.c.not_before.is_not(None))).scalar() or 0
    return now + later


class NextAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """A run that waits, and the number that its next attempt gets."""

    run: str
    attempt: int


def next_attempts(conn: Connection) -> list[NextAttempt]:
    """Of all runs that wait."""
    query = select(runs.c.id, runs.c.attempt).where(runs.c.state == RunState.QUEUED)
    return [NextAttempt(run=run, attempt=attempt + 1) for run, attempt in conn.execute(query)]


def demand(conn: Connection) -> int:
    """How many runs need a dispatcher: those under way, those whose files are to be copied, and those that wait unless the queue is paused."""
    return runs_store.count_active(conn) + output.count_due(conn) + (0 if is_paused(conn) else count(conn))


def list_active(conn: Connection) -> list[Run]:
    """The runs under way, oldest first."""
    query = select(runs).where(runs_store.under_way()).order_by(runs.c.seq)
    return [struct_of(row) for row in conn.execute(query).mappings()]


class Place(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A waiting run's place in the list, and its number there. `time`: `not_before` in ISO format, for one that waits for it."""

    time: str
    rank: Whole
    position: Whole
    run: str
    number: int


def list_page(conn: Connection, *, after: str = "", limit: int = 100) -> tuple[list[WaitingRun], Page]:
    """A page of the runs that wait, in the order in which they will start as far as that is known; those that wait for a time come last, by that.

    What is read is what is shown, by index, and as much again where some jobs hold their runs back. Raises `BadInput` (`bad_page`).
    """
    place = values_of(after, Place) if after else None
    limit = bounded(limit)
    rows = [] if place and place.time else _ready(conn, place, limit + 1)
    if len(rows) <= limit:
        rows += _later(conn, place if place and place.time else None, limit + 1 - len(rows))
    shown = _numbered(conn, rows[:limit], place.number if place else 0)
    following = ""
    if len(rows) > limit:
        last, time = rows[limit - 1], rows[limit - 1]["not_before"]
        following = token_of([time.isoformat() if time else "", *_key(last), shown[-1].position])
    return shown, Page(next=following, total=count(conn))


def _ready(conn: Connection, after: Place | None, most: int) -> list[RowMapping]:
    """Those that wait for no time. The index has those of jobs that may hold them back apart, as the dispatcher picks them."""
    columns = (runs.c.rank, runs.c.position, runs.c.id)
    found = []
    for gated in (False, True):
        query = select(runs).where(_queued_now, runs.c.gated.is_(gated)).order_by(*columns).limit(most)
        if after:
            query = query.where(tuple_(*columns) > tuple_(after.rank, after.position, after.run))
        found.append(conn.execute(query).mappings().all())
    return list(merge(*found, key=_key))[:most]


def _later(conn: Connection, after: Place | None, most: int) -> list[RowMapping]:
    """Those that wait for a time."""
    columns = (runs.c.not_before, runs.c.rank, runs.c.position, runs.c.id)
    query = select(runs).where(runs.c.not_before.is_not(None)).order_by(*columns).limit(most)
    if after:
        time = literal(_time(after.time), runs.c.not_before.type)
        query = query.where(tuple_(*columns) > tuple_(time, after.rank, after.position, after.run))
    return list(conn.execute(query).mappings())


def _key(row: RowMapping) -> tuple[int, int, str]:
    return row["rank"], row["position"], row["id"]


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError as error:
        raise not_a_page() from error


def _numbered(conn: Connection, rows: Sequence[RowMapping], before: int) -> list[WaitingRun]:
    full = _full(conn, {row["job"] for row in rows if row["gated"]})
    return [
        WaitingRun(
            position=number,
            priority=-row["rank"],
            why="time" if row["not_before"] is not None else "job" if row["job"] in full else "",
            run=struct_of(row),
        )
        for number, row in enumerate(rows, before + 1)
    ]


def _full(conn: Connection, of: Collection[str]) -> set[str]:
    """Those of these jobs that start nothing now."""
    held = (jobs.c.state != JobState.ACTIVE) | ((jobs.c.max_parallel > 0) & (jobs.c.max_parallel <= _under_way))
    return set(conn.execute(select(jobs.c.id).where(jobs.c.id.in_(list(of)), held)).scalars()) if of else set()
