"""`jupyter jobs cancel | delete | extend | priority | queue`."""

from __future__ import annotations

import argparse

from rich.table import Table
from rich.text import Text

from jupyter_jobs.cli import OK
from jupyter_jobs.cli.output import ago_text, canceling_text, console, print_json, seconds_text, state_text, time_text, waits_text
from jupyter_jobs.client import connect, has_ended
from jupyter_jobs.errors import BadInput, Conflict
from jupyter_jobs.lifecycle import FINAL
from jupyter_jobs.model import Job, Run, WaitingRun


def cancel(args: argparse.Namespace) -> int:
    """Ask for a job's or a run's end; queued runs end at once, the others within seconds."""
    with connect(args.url) as client:
        name: str = args.job_or_run
        answer: Job | Run
        if "-" in name:
            run = client.run(name)
            kind, status, ended = "run", run.status, run.state in FINAL
            answer = client.cancel_run(name)
            state = state_text(answer.status)
        else:
            job = client.job(name)
            kind, status, ended = "job", str(job.status or "empty"), has_ended(job)
            answer = client.cancel_job(name)
            state = canceling_text(client, answer) or state_text(answer.status)
    if args.json:
        print_json(answer)
    elif ended:
        console.print(f"{kind} {answer.id} is {status} already; nothing to cancel")
    else:
        console.print(answer.id, state)
    return OK


def delete(args: argparse.Namespace) -> int:
    """Delete a job; refused while runs are active, unless --cancel."""
    with connect(args.url) as client:
        try:
            client.delete_job(args.job, cancel=args.cancel)
        except Conflict as error:
            if error.code == "job_active":
                error.mend = f"`jupyter jobs delete {args.job} --cancel` cancels first."
            raise
        if not args.json:
            console.print(f"deleted {args.job}")
    return OK


def extend(args: argparse.Namespace) -> int:
    """Let a run under way take longer than its time limit."""
    with connect(args.url) as client:
        run = client.extend_run(args.run, args.by)
        job = client.job(run.job)
    if args.json:
        print_json(run)
    else:
        console.print(f"{run.id} may take {seconds_text((job.time_limit or 0) + run.extended)}")
    return OK


def priority(args: argparse.Namespace) -> int:
    """Let a job's waiting runs start before or after those of others."""
    with connect(args.url) as client:
        job = client.change_job(args.job, priority=args.priority)
    if args.json:
        print_json(job)
    else:
        console.print(f"{job.id} has priority {job.priority}")
    return OK


def queue(args: argparse.Namespace) -> int:
    """What runs and what waits, in order; pause and resume it, and change the order."""
    _check_move(args)
    with connect(args.url) as client:
        if args.verb == "pause":
            client.pause_queue()
        elif args.verb == "resume":
            client.resume_queue()
        elif args.verb == "move":
            client.move_run(args.run, before=args.before or "", to=args.to)
        found = client.queue(limit=args.limit)
    if args.json:
        print_json(found)
        return OK
    if found.paused and found.paused_at:
        console.print(f"paused {ago_text(found.paused_at)} by {found.paused_by}: nothing starts until `jupyter jobs queue resume`", style="yellow")
    console.print(f"{len(found.active)} running (at most {found.parallel} at a time), {found.page.total} waiting")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "run", "state", "priority", "parameters", ""):
        table.add_column(name, no_wrap=name in ("run", "state"))
    for run in found.active:
        table.add_row("", run.id, state_text(run.status), "", Text(run.label), "")
    for each in found.waiting:
        table.add_row(
            str(each.position), each.run.id, state_text(each.run.status), str(each.priority or ""), Text(each.run.label), Text(_why(each), "dim")
        )
    if found.active or found.waiting:
        console.print(table)
    if found.page.next:
        console.print("--limit shows more", style="dim")
    return OK


def _check_move(args: argparse.Namespace) -> None:
    """Raises BadInput for `move` without a run or a place, and for either without `move`."""
    placed = bool(args.before or args.to)
    if (args.verb == "move") != bool(args.run) or (args.verb == "move") != placed:
        raise BadInput("A move takes a run and a place.", mend="`jupyter jobs queue move RUN --before OTHER`, or --first or --last.", field="verb")


def _why(waiting: WaitingRun) -> str:
    if waiting.why == "time" and waiting.run.not_before is not None:
        return f"attempt {waiting.run.attempt + 1}, not before {time_text(waiting.run.not_before)}"
    return "its job is paused, or runs as many as it may" if waiting.why == "job" else waits_text(waiting.why)
