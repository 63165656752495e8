"""What a person does with the queue."""

from __future__ import annotations

import msgspec

from jupyter_jobs.actions.context import Context
from jupyter_jobs.actions.jobs import tell_dispatcher
from jupyter_jobs.actions.runs import find_run
from jupyter_jobs.model import Queue
from jupyter_jobs.requests import MoveRun
from jupyter_jobs.resources import usable_cores
from jupyter_jobs.store import events
from jupyter_jobs.store import queue as store
from jupyter_jobs.store.database import read, write


def show_queue(context: Context, *, after: str = "", limit: int = 100) -> Queue:
    """What runs, and a page of what waits, in order. Raises `BadInput` (`bad_page`)."""
    with read(context.engine) as conn:
        paused = store.paused(conn)
        waiting, page = store.list_page(conn, after=after, limit=limit)
        active = store.list_active(conn)
        parallel = context.settings.max_parallel_runs or usable_cores()
        if paused is None and len(active) < parallel and (head := store.first(conn)) is not None:
            # there is a place for it, and still it waits
            why = events.waits_for(conn, head.run)
            waiting = [msgspec.structs.replace(each, why=why) if each.run.id == head.run and not each.why else each for each in waiting]
    return Queue(
        paused=paused is not None,
        paused_at=paused[0] if paused else None,
        paused_by=paused[1] if paused else "",
        parallel=parallel,
        active=active,
        waiting=waiting,
        page=page,
    )


def pause_queue(context: Context) -> Queue:
    """Start nothing more, of any job, until somebody resumes the queue. What runs goes on."""
    return _set_paused(context, context.user)


def resume_queue(context: Context) -> Queue:
    """Let runs start again."""
    return _set_paused(context, None)


def move_run(context: Context, request: MoveRun) -> Queue:
    """Move a waiting run. Raises `NotFound`, `Conflict` (`run_not_waiting`, `other_priority`), `BadInput`."""
    with write(context.engine) as conn:
        before = find_run(conn, request.before).id if request.before else ""
        store.move(conn, find_run(conn, request.run).id, before=before, to=request.to)
    tell_dispatcher(context)
    return show_queue(context)


def _set_paused(context: Context, by: str | None) -> Queue:
    with write(context.engine) as conn:
        changed = store.set_paused(conn, by)
    if changed:
        tell_dispatcher(context)
    return show_queue(context)
