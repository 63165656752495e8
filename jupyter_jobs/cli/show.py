"""`jupyter jobs list | show | runs | logs | files | html`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
from rich.table import Table

from jupyter_jobs.cli import OK
from jupyter_jobs.cli.output import (
    ago_text,
    bytes_text,
    console,
    counts_text,
    live_text,
    print_findings,
    print_json,
    print_runs,
    state_text,
    strip_text,
)
from jupyter_jobs.client import connect
from jupyter_jobs.errors import BadInput


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


def show_job(args: argparse.Namespace) -> int:
    """One job: what was frozen, its runs by state."""
    with connect(args.url) as client:
        job = client.job(args.job)
    if args.json:
        print_json(job)
        return OK
    console.print(f"[bold]{job.id}[/]", job.name, state_text(job.status), counts_text(job))
    console.print(strip_text(job.strip, 200))
    facts = {
        "notebook": f"{job.notebook} in {job.project}",
        "kernel": f"{job.kernel.display_name} ({job.kernel.name})",
        "snapshot": job.snapshot[:12],
        "environment": job.environment[:12],
        "created": f"{job.created_at.astimezone():%Y-%m-%d %H:%M:%S} by {job.created_by}",
        "live": "; ".join(live_text(path) for path in job.live),
        "variables": f"{len(job.variables)} of the submitter's",
    }
    for name, value in facts.items():
        if value:
            console.print(f"  {name:12}{value}", markup=False)
    print_findings(job.notes)
    return OK


def list_runs(args: argparse.Namespace) -> int:
    """The runs of a job, with parameters and recorded values."""
    with connect(args.url) as client:
        job = client.job(args.job)
        runs = client.runs(job.id, state=args.state, sort=args.sort, limit=1000)
    if args.json:
        print_json(runs)
    else:
        print_runs(job, runs)
    return OK


def logs(args: argparse.Namespace) -> int:
    """Standard output and error of a run's cells as they were written; of a job, each line with its run."""
    name: str = args.job_or_run
    with connect(args.url) as client:
        for line in client.logs(name, follow=args.follow):
            if args.json:
                sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
                sys.stdout.flush()
                continue
            stream = sys.stderr if line.stream == "stderr" else sys.stdout
            stream.write(line.text + line.end)
            stream.flush()
    return OK


def files(args: argparse.Namespace) -> int:
    """The files that a run made or changed; -o copies them."""
    with connect(args.url) as client:
        found = client.files(args.run)
        if args.output_dir:
            target = Path(args.output_dir)
            for file in found.files:
                if file.kind != "deleted":
                    path = target / file.path
                    if path.exists():
                        raise BadInput(f"{path} exists.", code="file_exists", mend="Choose an empty folder with -o.")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(client.file(args.run, file.path))
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
    name: str = args.job_or_run
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
        page = client.html(name, inline=True)
    if args.output == "-":
        sys.stdout.write(page)
    else:
        _write_page(Path(args.output or f"{name}.html"), page)
    return OK


def _write_page(path: Path, page: str) -> None:
    path.write_text(page, encoding="utf-8")
    console.print(str(path.absolute()), markup=False, soft_wrap=True)
