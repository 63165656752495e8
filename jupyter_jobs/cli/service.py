"""`jupyter jobs dispatcher …`."""

from __future__ import annotations

import argparse
from pathlib import Path

from jupyter_jobs.cli import OK
from jupyter_jobs.cli.output import ago_text, console, print_json
from jupyter_jobs.dispatcher import process
from jupyter_jobs.model import DispatcherStatus
from jupyter_jobs.settings import Jobs, load_settings


def dispatcher_start(args: argparse.Namespace) -> int:
    """Start one in the background and say what runs."""
    settings = load_settings()
    process.ensure_dispatcher(settings)
    return print_status(_status(settings), args.json)


def dispatcher_stop(args: argparse.Namespace) -> int:
    """Let it end. Its runs go on."""
    settings = load_settings()
    ran = process.dispatcher_status(settings).running
    process.stop_dispatcher(settings)
    if ran and not args.json:
        console.print("stopped")
    return print_status(_status(settings), args.json)


def dispatcher_status(args: argparse.Namespace) -> int:
    """Which one runs, since when, and what it does."""
    return print_status(_status(load_settings()), args.json)


def _status(settings: Jobs) -> DispatcherStatus:
    """What it says of itself, or where there is none what the store says of runs. Starts none: whoever asks this wants to know how it is."""
    status = process.dispatcher_status(settings)
    if status.running or not Path(settings.data_dir).is_dir():
        return status
    from sqlalchemy.exc import DBAPIError

    from jupyter_jobs.actions.context import local_context
    from jupyter_jobs.actions.health import dispatcher_status
    from jupyter_jobs.store.database import shown
    from jupyter_jobs.store.refusal import refusal

    context = local_context(settings, lambda: None)
    try:
        return dispatcher_status(context)[0]
    except DBAPIError as error:
        raise refusal(shown(context.engine), error) from None
    finally:
        context.engine.dispose()


def dispatcher_run(args: argparse.Namespace) -> int:
    """Be the dispatcher until told to end."""
    process.run_dispatcher(load_settings())
    return OK


def print_status(status: DispatcherStatus, as_json: bool) -> int:
    """The dispatcher in words, or as JSON."""
    if as_json:
        print_json(status)
    elif not status.running or status.since is None:
        console.print("no dispatcher is running" + ("" if status.paused else "; the next job starts one"))
        if status.active or status.queued:
            what = f"{status.active} active and {status.queued} queued runs have none to look after them"
            console.print(what if status.paused and not status.active else f"{what}: `jupyter jobs dispatcher start`", style="yellow")
    else:
        console.print(f"dispatcher {status.version}: pid {status.pid} on {status.host}, started {ago_text(status.since)}")
        console.print(f"{status.active} running (at most {status.parallel} at a time), {status.queued} queued")
        if status.note:
            console.print(status.note)
    if not as_json and status.paused:
        console.print("the queue is paused: nothing starts until `jupyter jobs queue resume`", style="yellow")
    return OK
