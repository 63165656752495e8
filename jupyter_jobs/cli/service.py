"""`jupyter jobs dispatcher …` and `doctor`."""

from __future__ import annotations

import argparse

from jupyter_jobs.cli import FAILED, OK
from jupyter_jobs.cli.output import ago_text, console, print_findings, print_json
from jupyter_jobs.client import connect
from jupyter_jobs.dispatcher import process
from jupyter_jobs.model import DispatcherStatus
from jupyter_jobs.settings import load_settings


def dispatcher_start(args: argparse.Namespace) -> int:
    """Start one in the background and say what runs."""
    settings = load_settings()
    process.ensure_dispatcher(settings)
    return _print_status(process.dispatcher_status(settings), args.json)


def dispatcher_stop(args: argparse.Namespace) -> int:
    """Let it end. Its runs go on."""
    settings = load_settings()
    process.stop_dispatcher(settings)
    return _print_status(process.dispatcher_status(settings), args.json)


def dispatcher_status(args: argparse.Namespace) -> int:
    """Which one runs, since when, and what it does."""
    return _print_status(process.dispatcher_status(load_settings()), args.json)


def dispatcher_run(args: argparse.Namespace) -> int:
    """Be the dispatcher until told to end."""
    process.run_dispatcher(load_settings())
    return OK


def _print_status(status: DispatcherStatus, as_json: bool) -> int:
    if as_json:
        print_json(status)
    elif not status.running or status.since is None:
        console.print("no dispatcher is running; the next job starts one")
    else:
        console.print(f"dispatcher {status.version}: pid {status.pid} on {status.host}, started {ago_text(status.since)}")
        console.print(f"{status.active} running (at most {status.parallel} at a time), {status.queued} queued")
        if status.note:
            console.print(status.note)
    if not as_json and status.paused:
        console.print("the queue is paused: nothing starts until `jupyter jobs queue resume`", style="yellow")
    return OK


def doctor(args: argparse.Namespace) -> int:
    """What is stored where, and what could be better. Exit code 1 when something is wrong."""
    with connect(args.url) as client:
        health = client.health()
    if args.json:
        print_json(health)
    else:
        console.print(f"jupyter_jobs {health.version}, schema {health.schema}")
        console.print(f"store       {health.store}")
        console.print(f"data        {health.data_dir}")
        console.print(f"workspaces  {health.workspace}: {health.workspace_note}")
        _print_status(health.dispatcher, False)
        print_findings(health.findings)
        if not health.findings:
            console.print("nothing to mend", style="green")
    return FAILED if any(finding.level == "error" for finding in health.findings) else OK
