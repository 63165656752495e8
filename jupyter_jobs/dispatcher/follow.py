"""Runs under way: what their files say goes into the store, in order, and at the end how they ended."""

from __future__ import annotations

import asyncio
import mimetypes
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from jupyter_jobs.backends.base import Exit
from jupyter_jobs.dispatcher.cancel import cancel
from jupyter_jobs.dispatcher.limits import limit
from jupyter_jobs.dispatcher.state import Active, Dispatch, log
from jupyter_jobs.lifecycle import FINAL, RunState
from jupyter_jobs.model import CellRef, Json, LivePath, Progress, RunError, RunFile
from jupyter_jobs.runner import room, rundir
from jupyter_jobs.runner.rundir import RunEvent, RunResult
from jupyter_jobs.store import artifacts, attempts, ending, events, reserve, runs
from jupyter_jobs.store.ending import Ended
from jupyter_jobs.store.runs import Facts

LOG_TAIL = 2000


class News(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has appended to its events. `started`: when its cells began; None if that is known already or not so yet."""

    offset: int
    began: float | None
    started: datetime | None
    progress: Progress | None
    records: dict[str, Json]


async def follow(dispatch: Dispatch, active: Active) -> Ended | None:
    """Follow a started run to its end and settle it in the store. Nothing that a run does ends this early; only cancelling the task does."""
    assert active.handle is not None
    ended = asyncio.ensure_future(dispatch.backend.wait(active.handle))
    canceling = asyncio.ensure_future(cancel(dispatch, active, ended))
    limiting = asyncio.ensure_future(limit(dispatch, active))
    try:
        while not ended.done() and not canceling.done():
            changed = asyncio.ensure_future(active.changed.wait())
            await asyncio.wait({changed, ended, canceling}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            if active.changed.is_set() and not ended.done():
                active.changed.clear()
                await take_in(dispatch, active)
                # what comes meanwhile sets `changed` again and is read in one go, so the last always lands
                await asyncio.wait({ended, canceling}, timeout=dispatch.limits.progress, return_when=asyncio.FIRST_COMPLETED)
        if ended.done() and (failure := ended.exception()) is not None:
            log.error("the backend lost %s: %s", active.run, failure)
        end = ended.result() if ended.done() and ended.exception() is None else Exit()
        return await settle(dispatch, active, end)
    finally:
        for task in (ended, canceling, limiting):
            task.cancel()
        await asyncio.gather(ended, canceling, limiting, return_exceptions=True)


async def settle(dispatch: Dispatch, active: Active, end: Exit) -> Ended | None:
    """Write how an ended attempt ended, from `result.json`, or that it was interrupted. Tries again at each heartbeat if the store refuses."""
    news, state, error, result = await asyncio.to_thread(_look_back, active, end)
    return await conclude(dispatch, active, state, error, news, result, end)


async def conclude(
    dispatch: Dispatch,
    active: Active,
    state: RunState,
    error: RunError | None,
    news: News | None = None,
    result: RunResult | None = None,
    end: Exit | None = None,
) -> Ended | None:
    """End an attempt with all that belongs to it, in one transaction; what came of its run, None if it is no longer its run's attempt."""
    while not active.abandoned:
        try:
            frozen = await dispatch.frozen_of(active.job)
            output_due = frozen is not None and bool(frozen.spec.output_dir)
            ended = await dispatch.ledger.write(_write_end, active, state, error, news, result, end or Exit(), output_due)
        except SQLAlchemyError as failure:
            if isinstance(failure, DBAPIError) and await asyncio.to_thread(reserve.give_up_for, dispatch.ledger.engine, failure):
                log.error("the disk is full: the end of %s is stored in the room that was kept", active.run)
                continue
            log.error("the end of %s could not be stored and is tried again: %s", active.run, _reason(failure))
            await dispatch.next_beat()
            continue
        if ended is None:
            log.warning("%s attempt %d is no longer in the store as an active run; its end was not stored", active.run, active.attempt)
            return None
        if result is not None and result.peak_memory is not None:
            dispatch.peaks[active.job] = max(result.peak_memory, dispatch.peaks.get(active.job, 0))
        log.info("%s attempt %d: %s%s", active.run, active.attempt, ended.state, f" ({error.code})" if error else "")
        return ended
    return None


def _write_end(
    conn: Connection,
    active: Active,
    state: RunState,
    error: RunError | None,
    news: News | None,
    result: RunResult | None,
    end: Exit,
    output_due: bool,
) -> Ended | None:
    _write_start(conn, active, news)
    how: dict[str, Json] | None = None
    if result is not None:
        how = {"ways": msgspec.to_builtins(result.ways), "phases": result.phases, "cpu_seconds": result.cpu_seconds}
    at = events.now() if result is None else _time(result.ended_at)
    facts = _facts(active, active if news is None else news, result)
    code = _exit_code(end)
    ended = ending.end(conn, active.run, active.attempt, state, error=error, exit_code=code, at=at, facts=facts, how=how, output_due=output_due)
    if ended is not None and ended.state in FINAL and result is not None and result.artifacts:
        artifacts.replace(conn, active.run, [_file(each) for each in result.artifacts])
    return ended


def _facts(active: Active, last: News | Active, result: RunResult | None) -> Facts:
    """What an ended attempt told: in its result, or by the `last` that was read of its events."""
    workspace = active.workspace or None
    if result is None:
        return Facts(progress=last.progress, records=last.records, workspace=workspace)
    return Facts(
        started_at=_time(result.started_at),
        progress=_final_progress(result, last.progress),
        records=dict(result.records),
        peak_memory=result.peak_memory,
        workspace=workspace,
        live=[_live(each) for each in result.live],
    )


async def take_in(dispatch: Dispatch, active: Active) -> None:
    """Store what the run has appended since last time, and its handle if that is not there yet. A refusal of the store is tried again at the next
    change."""
    news = await asyncio.to_thread(_read_news, active)
    if active.abandoned:
        return
    if not active.recorded or (news is not None and _changes(active, news)):
        try:
            await dispatch.ledger.write(_write_news, active, news)
        except SQLAlchemyError as failure:
            log.error("the progress of %s could not be stored and is tried again: %s", active.run, _reason(failure))
            return
        active.recorded = True
    if news is not None:
        _note(active, news)


def _note(active: Active, news: News) -> None:
    if active.began is None and news.began is not None:
        active.began = news.began
        active.relimit.set()
    active.offset, active.progress, active.records = news.offset, news.progress, news.records
    active.running = active.running or news.started is not None


def _changes(active: Active, news: News) -> bool:
    return news.started is not None or news.progress != active.progress or news.records != active.records


def _read_news(active: Active) -> News | None:
    """None when there are none, or they cannot be read."""
    try:
        found, offset = rundir.read_records(active.directory / rundir.EVENTS, RunEvent, active.offset)
    except (OSError, msgspec.MsgspecError) as failure:
        log.error("the events of %s cannot be read: %s", active.run, failure)
        return None
    if not found:
        return None
    started: datetime | None = None
    progress, records = active.progress, dict(active.records)
    for event in found:
        if event.kind == "state" and event.state == RunState.RUNNING and not active.running:
            started = _time(event.at)
        elif event.kind == "progress":
            progress = _progress(event)
        elif event.kind == "record":
            records[event.name] = event.value
    return News(offset=offset, began=found[0].at, started=started, progress=progress, records=records)


def _write_news(conn: Connection, active: Active, news: News | None) -> None:
    _write_start(conn, active, news)
    if news is None:
        return
    if news.progress is not None and news.progress != active.progress:
        runs.set_progress(conn, active.run, active.attempt, news.progress)
    if news.records != active.records:
        runs.set_records(conn, active.run, active.attempt, news.records)


def _write_start(conn: Connection, active: Active, news: News | None) -> None:
    """Store an attempt's handle, and that its cells have begun, as far as that is not there yet."""
    _write_handle(conn, active)
    if news is not None and news.started is not None:
        facts = Facts(started_at=news.started, workspace=active.workspace or None)
        runs.move(conn, active.run, RunState.RUNNING, attempt=active.attempt, facts=facts)


def _write_handle(conn: Connection, active: Active) -> None:
    if active.handle is None or active.recorded:
        return
    pid, started = active.handle.data.get("pid", 0), active.handle.data.get("started", 0)
    kept = msgspec.json.encode(active.handle).decode()
    attempts.record_handle(conn, active.run, active.attempt, pid=int(pid), pid_started=int(started), handle=kept)


def _look_back(active: Active, end: Exit) -> tuple[News | None, RunState, RunError | None, RunResult | None]:
    return _read_news(active), *_conclude(active, end)


def _conclude(active: Active, end: Exit) -> tuple[RunState, RunError | None, RunResult | None]:
    try:
        result = rundir.read_result(active.directory)
    except (OSError, msgspec.MsgspecError) as failure:
        log.error("the result of %s cannot be read: %s", active.run, failure)
        result = None
    if active.overdue is not None and (result is None or result.state != "complete"):
        return RunState.FAILED, active.overdue, result
    if result is not None:
        return RunState(result.state), _error(result), result
    end = _remember_exit(active.directory, end)
    if active.cancel.is_set():
        return RunState.CANCELED, None, None
    return RunState.FAILED, interrupted(active, end), None


def interrupted(active: Active, end: Exit) -> RunError:
    """Why a run without a result failed, as far as anybody knows."""
    detail: dict[str, object] = {}
    how = ""
    mend = "Run it again; the log shows how far it came."
    if end.signal is not None:
        how, detail["signal"] = f" by signal {end.signal}", end.signal
        if end.signal == 9:
            mend = "The system ends processes like this when memory runs out. Run it again with less data, or fewer runs at a time."
    elif end.code == room.EXIT_NO_ROOM:
        message = f"The disk is full: run {active.run} could not write anything."
        return RunError(code="no_room", message=message, mend=room.MEND)
    elif end.code is not None:
        how, detail["exit_code"] = f" with exit code {end.code}", end.code
    if tail := _tail(active.directory / rundir.RUNNER_LOG):
        detail["log"] = tail
    return RunError(code="interrupted", message=f"The process of run {active.run} ended{how} without a result.", mend=mend, detail=detail)


def _remember_exit(directory: Path, end: Exit) -> Exit:
    """Keep what only the parent learns, for a later dispatcher; or read what an earlier one kept."""
    file = directory / rundir.EXIT
    try:
        if end != Exit():
            rundir.write_atomic(file, msgspec.json.encode(end))
        elif file.exists():
            return msgspec.json.decode(file.read_bytes(), type=Exit)
    except (OSError, msgspec.MsgspecError) as failure:
        log.warning("%s: %s", file, failure)
    return end


def _error(result: RunResult) -> RunError | None:
    if result.error is not None:
        return msgspec.convert(msgspec.to_builtins(result.error), RunError)
    if result.state == "failed":
        return RunError(code="failed", message="The run failed without saying why.", mend="See its log.")
    return None


def _progress(event: RunEvent) -> Progress:
    cell = None if event.cell is None else CellRef(id=event.cell.id, number=event.cell.number)
    return Progress(done=min(event.done, event.total), total=event.total, cell=cell)


def _final_progress(result: RunResult, last: Progress | None) -> Progress:
    failed_at = None if result.error is None or result.error.cell is None else result.error.cell
    cell = CellRef(id=failed_at.id, number=failed_at.number) if failed_at else last.cell if last and result.state != "complete" else None
    return Progress(done=min(result.cells.done, result.cells.total), total=result.cells.total, cell=cell)


def _live(facts: rundir.LiveFacts) -> LivePath:
    modified = None if facts.modified is None else _time(facts.modified)
    return LivePath(path=facts.path, writable=facts.writable, files=facts.files, bytes=facts.bytes, modified=modified)


def _file(artifact: rundir.Artifact) -> RunFile:
    media_type = mimetypes.guess_type(artifact.path)[0] or ""
    return RunFile(path=artifact.path, bytes=artifact.bytes, kind=artifact.kind, media_type=media_type)


def _exit_code(end: Exit) -> int | None:
    return end.code if end.signal is None else -end.signal


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _tail(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - LOG_TAIL))
            return opened.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _reason(failure: SQLAlchemyError) -> str:
    # not str(failure), which shows the statement with its parameters
    return str(getattr(failure, "orig", None) or type(failure).__name__)
