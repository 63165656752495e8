"""`jupyter jobs cancel` and `delete`."""

from __future__ import annotations

import argparse

from jupyter_jobs.cli import OK
from jupyter_jobs.cli.output import console, print_json, state_text
from jupyter_jobs.client import connect


def cancel(args: argparse.Namespace) -> int:
    """Ask for a job's or a run's end; queued runs end at once, the others within seconds."""
    with connect(args.url) as client:
        name: str = args.job_or_run
        answer = client.cancel_run(name) if "-" in name else client.cancel_job(name)
        if args.json:
            print_json(answer)
        else:
            console.print(answer.id, state_text(answer.status))
    return OK


def delete(args: argparse.Namespace) -> int:
    """Delete a job; refused while runs are active, unless --cancel."""
    with connect(args.url) as client:
        client.delete_job(args.job, cancel=args.cancel)
        if not args.json:
            console.print(f"deleted {args.job}")
    return OK
