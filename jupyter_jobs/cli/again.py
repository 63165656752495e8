"""`jupyter jobs rerun | add`: more runs of a job that exists."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from jupyter_jobs import grid
from jupyter_jobs.cli import OK
from jupyter_jobs.cli.output import console, counts_text, print_findings, print_json, print_runs
from jupyter_jobs.cli.run import exit_code, read_parameters, refuse_inside_run, say_if_paused, wait
from jupyter_jobs.client import Client, connect
from jupyter_jobs.errors import BadInput
from jupyter_jobs.model import Job, Run
from jupyter_jobs.requests import AddRuns


def rerun(args: argparse.Namespace) -> int:
    """Run the failed runs of a job again, all of them, or one run; with --wait show progress until they have ended."""
    refuse_inside_run()
    with connect(args.url) as client:
        return _shown(client, args, *queue_again(client, args))


def queue_again(client: Client, args: argparse.Namespace) -> tuple[Job, range]:
    """What these arguments name runs again; its job, and the numbers of the new runs. Raises BadInput for `--failed` with a run."""
    name: str = args.job_or_run
    if "-" in name:
        if args.failed:
            raise BadInput("--failed is for a whole job.", mend="Name the job, or leave --failed out.", field="failed")
        made = client.rerun_run(name)
        return client.job(made.job), range(made.number, made.number + 1)
    before = client.job(name)
    job = client.rerun_job(before.id, "failed" if args.failed else "all")
    return job, _made(client, before, job)


def add(args: argparse.Namespace) -> int:
    """Add combinations to a job; with --wait show progress until they have ended."""
    refuse_inside_run()
    with connect(args.url) as client:
        return _shown(client, args, *add_combinations(client, args))


def add_combinations(client: Client, args: argparse.Namespace) -> tuple[Job, range]:
    """Queue the combinations that these arguments name; the job, and the numbers of the new runs."""
    request = AddRuns(
        grid_text=grid.read_grid_file(Path(args.grid).expanduser()) if args.grid else "",
        parameters=read_parameters(args.parameters, args.parameters_raw),
        only=grid.parse_numbers(args.only) if args.only else [],
        duplicates=args.duplicates,
    )
    before = client.job(args.job)
    job = client.add_runs(before.id, request)
    return job, _made(client, before, job)


def runs_of(client: Client, job: Job, numbers: range) -> list[Run]:
    """The job's runs of these numbers, in order."""
    found: list[Run] = []
    after = ""
    while not found or (after and found[-1].number > numbers.start):
        page = client.runs(job.id, after=after, limit=1000, sort="-number")
        found += page.runs
        after = page.page.next
    return [run for run in reversed(found) if run.number in numbers]


def _made(client: Client, before: Job, job: Job) -> range:
    """The numbers of the runs whose making answered `job`: the last ones that it tells of, whoever else added some since `before`."""
    numbers, after = range(0), before.seq
    while after < job.seq and (page := client.events(after, job=job.id)).events:
        for event in page.events:
            if event.kind == "job.runs" and event.seq <= job.seq:
                first, total = int(str(event.data["first"])), int(str(event.data["total"]))
                numbers = range(first, first + total)
        after = page.last
    return numbers


def _shown(client: Client, args: argparse.Namespace, job: Job, numbers: range) -> int:
    say_if_paused(client)
    if not args.wait:
        if args.json:
            print_json(job)
        else:
            print_findings(job.notes)
            console.print(f"job [bold]{job.id}[/]: {counts_text(job)}")
        return OK
    job = wait(client, job, show=not args.json, only=numbers)
    ended = runs_of(client, job, numbers)
    print_json(job) if args.json else print_runs(job, ended)
    return exit_code(Counter(run.state for run in ended))
