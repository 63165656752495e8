"""`jupyter jobs dispatcher …`."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from jupyter_jobs.cli import OK
from jupyter_jobs.cli.output import ago_text, console, print_json
from jupyter_jobs.client import connect
from jupyter_jobs.dispatcher import process
from jupyter_jobs.model import DispatcherStatus
from jupyter_jobs.settings import load_settings


def dispatcher_start(args: argparse.Namespace) -> int:
    """Start one in the background and say what runs."""
    settings = load_settings()
    process.ensure_dispatcher(settings)
    return print_status(process.dispatcher_status(settings), args.json)


def dispatcher_stop(args: argparse.Namespace) -> int:
    """Let it end. Its runs go on."""
    settings = load_settings()
    process.stop_dispatcher(settings)
    if not args.json:
        console.print("stopped")
    return print_status(process.dispatcher_status(settings), args.json)


def dispatcher_status(args: argparse.Namespace) -> int:
    """Which one runs, since when, and what it does."""
    settings = load_settings()
    status = process.dispatcher_status(settings)
    if not status.running and Path(settings.data_dir).is_dir():
        # a pause outlives the dispatcher, and then no job starts another
        with connect() as client:
            queue = client.queue(limit=1)
        status = msgspec.structs.replace(status, paused=queue.paused, queued=queue.page.total)
    return print_status(status, args.json)


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
    else:
        console.print(f"dispatcher {status.version}: pid {status.pid} on {status.host}, started {ago_text(status.since)}")
        console.print(f"{status.active} running (at most {status.parallel} at a time), {status.queued} queued")
        if status.note:
            console.print(status.note)
    if not as_json and status.paused:
        console.print("the queue is paused: nothing starts until `jupyter jobs queue resume`", style="yellow")
    return OK
