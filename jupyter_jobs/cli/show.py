"""`jupyter jobs list | show | runs | logs | files | html`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
from rich.table import Table
from rich.text import Text

from jupyter_jobs.cli import OK
from jupyter_jobs.cli.output import (
    ago_text,
    bytes_text,
    canceling_text,
    console,
    counts_text,
    live_text,
    print_findings,
    print_json,
    print_runs,
    seconds_text,
    state_text,
    strip_text,
    time_text,
)
from jupyter_jobs.client import Client, connect
from jupyter_jobs.errors import BadInput
from jupyter_jobs.lifecycle import FINAL
from jupyter_jobs.model import Job, RetryPolicy


def list_jobs(args: argparse.Namespace) -> int:
    """Jobs, newest first."""
    with connect(args.url) as client:
        page = client.jobs(status=args.status, search=args.search, limit=args.limit)
    if args.json:
        print_json(page)
        return OK
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("job", "name", "state", "runs", "", "created"):
        table.add_column(name, no_wrap=name != "name")
    for job in page.jobs:
        done = sum(job.counts.get(state, 0) for state in ("complete", "failed", "canceled"))
        table.add_row(job.id, job.name, state_text(job.status), f"{done}/{job.total}", strip_text(job.strip, 24), ago_text(job.created_at))
    console.print(table if page.jobs else "no jobs yet: jupyter jobs run NOTEBOOK")
    if page.page.next:
        console.print(f"{page.page.total} in all; --limit shows more", style="dim")
    return OK


def show(args: argparse.Namespace) -> int:
    """One job: what was frozen, its runs by state. One run: its attempts."""
    name: str = args.job_or_run
    with connect(args.url) as client:
        if "-" in name:
            return _show_run(client, name, as_json=args.json)
        job = client.job(name)
        canceling = canceling_text(client, job)
    if args.json:
        print_json(job)
        return OK
    console.print(f"[bold]{job.id}[/]", job.name, state_text(job.status), counts_text(job), canceling or "")
    console.print(strip_text(job.strip, 200))
    facts = {
        "notebook": f"{job.notebook} in {job.project}",
        "kernel": f"{job.kernel.display_name} ({job.kernel.name})",
        "snapshot": job.snapshot[:12],
        "environment": job.environment[:12],
        "created": f"{job.created_at.astimezone():%Y-%m-%d %H:%M:%S} by {job.created_by}",
        "live": "; ".join(live_text(path) for path in job.live),
        "variables": f"{len(job.variables)} of the submitter's",
        "limits": _limits_text(job),
        "queue": _queue_text(job),
        "retries": _retries_text(job.retries),
    }
    for name, value in facts.items():
        if value:
            console.print(f"  {name:12}{value}", markup=False)
    print_findings(job.notes)
    return OK


def _show_run(client: Client, name: str, *, as_json: bool) -> int:
    run, found = client.run(name), client.attempts(name)
    if as_json:
        print_json({"run": run, "attempts": found.attempts})
        return OK
    console.print(f"[bold]{run.id}[/]", Text(run.label), state_text(run.status))
    again = f"again {run.rerun_of}" if run.rerun_of else ""
    later = f"attempt {run.attempt + 1} not before {time_text(run.not_before)}" if run.not_before else ""
    longer = f"{seconds_text(run.extended)} longer than its time limit" if run.extended else ""
    for line in filter(None, (again, later, longer)):
        console.print(f"  {line}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("attempt", "state", "started", "time", ""):
        table.add_column(column)
    for attempt in found.attempts:
        took = (attempt.ended_at - attempt.started_at).total_seconds() if attempt.ended_at else None
        why = attempt.error.message if attempt.error else ""
        table.add_row(
            str(attempt.number), state_text(attempt.state or run.status), time_text(attempt.started_at), seconds_text(took), Text(why, "red")
        )
    if found.attempts:
        console.print(table)
    elif run.state in FINAL:
        console.print(f"{run.state} before it started" + (f": {run.error.message}" if run.error else ""), markup=False)
    else:
        console.print("not started yet")
    return OK


def _limits_text(job: Job) -> str:
    run = f"{seconds_text(job.time_limit)} a run" if job.time_limit else ""
    cell = f"{seconds_text(job.cell_timeout)} a cell" if job.cell_timeout else ""
    asked = job.resources
    cpu = f"{asked.cpu:g} core{'s' * (asked.cpu != 1)}" if asked.cpu else ""
    memory = f"{bytes_text(asked.memory)} of memory" if asked.memory else ""
    storage = f"{bytes_text(asked.storage)} of files" if asked.storage else ""
    return ", ".join(filter(None, (run, cell, cpu, memory, storage)))


def _queue_text(job: Job) -> str:
    facts = [f"priority {job.priority}" if job.priority else "", f"at most {job.max_parallel} at a time" if job.max_parallel else ""]
    return ", ".join(filter(None, [*facts, "ends with the first failure" if job.fail_fast else ""]))


def _retries_text(policy: RetryPolicy) -> str:
    if not policy.attempts:
        return ""
    after = ", ".join(policy.on) or "any failure"
    wait = (
        f", {seconds_text(policy.delay)} later{', then twice as long each time' if policy.backoff == 'exponential' else ''}" if policy.delay else ""
    )
    return f"{policy.attempts} after {after}{wait}"


def list_runs(args: argparse.Namespace) -> int:
    """The runs of a job, with parameters and recorded values."""
    with connect(args.url) as client:
        job = client.job(args.job)
        runs = client.runs(job.id, state=args.state, sort=args.sort, limit=1000)
    if args.json:
        print_json(runs)
    else:
        print_runs(job, runs.runs)
    return OK


def logs(args: argparse.Namespace) -> int:
    """Standard output and error of a run's cells as they were written, attempt by attempt; of a job, each line with its run."""
    name = _of_a_run(args)
    with connect(args.url) as client:
        several = "-" in name and not args.attempt and not args.json
        starts = [attempt.started_at.timestamp() for attempt in client.attempts(name).attempts] if several else []
        begun = 0
        for line in client.logs(name, follow=args.follow, attempt=args.attempt):
            if args.json:
                sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
                sys.stdout.flush()
                continue
            # a line is of the attempt that had begun when it was written
            while len(starts) > 1 and begun < len(starts) and line.at >= starts[begun]:
                begun += 1
                if begun == len(starts) or line.at < starts[begun]:
                    console.print(f"attempt {begun}", style="dim")
            stream = sys.stderr if line.stream == "stderr" else sys.stdout
            stream.write(line.text + line.end)
            stream.flush()
    return OK


def _of_a_run(args: argparse.Namespace) -> str:
    """The id that was given. Raises BadInput for --attempt with a job."""
    name: str = args.job_or_run
    if args.attempt and "-" not in name:
        raise BadInput(f"{name} is a job, and --attempt is of a run.", mend=f"Name a run of it, like {name}-1.", field="attempt")
    return name


def files(args: argparse.Namespace) -> int:
    """The files that a run made or changed; -o copies them."""
    with connect(args.url) as client:
        found = client.files(args.run, attempt=args.attempt)
        if args.output_dir:
            target = Path(args.output_dir)
            for file in found.files:
                if file.kind != "deleted":
                    path = target / file.path
                    if path.exists():
                        raise BadInput(f"{path} exists.", code="file_exists", mend="Choose an empty folder with -o.")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(client.file(args.run, file.path, attempt=args.attempt))
    if args.json:
        print_json(found)
        return OK
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("file", "bytes", ""):
        table.add_column(column)
    for file in found.files:
        table.add_row(file.path, bytes_text(file.bytes), file.kind)
    console.print(table if found.files else "this run made no files")
    return OK


def html(args: argparse.Namespace) -> int:
    """The executed notebook as one self-contained HTML page; of a job, a page for each run that has one, in the folder `-o`."""
    name = _of_a_run(args)
    # jsonschema would build a grammar with it, for a second, to check a format that nothing here has
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    with connect(args.url) as client:
        if "-" not in name:
            folder = Path(args.output or f"{client.job(name).id}-html")
            folder.mkdir(parents=True, exist_ok=True)
            for run in client.runs(name, limit=1000).runs:
                if run.started_at is not None:
                    _write_page(folder / f"{run.id}.html", client.html(run.id, inline=True))
            return OK
        page = client.html(name, inline=True, attempt=args.attempt)
    if args.output == "-":
        sys.stdout.write(page)
    else:
        _write_page(Path(args.output or f"{name}.html"), page)
    return OK


def _write_page(path: Path, page: str) -> None:
    path.write_text(page, encoding="utf-8")
    console.print(str(path.absolute()), markup=False, soft_wrap=True)
