"""`jupyter jobs rerun | add`: more runs of a job that exists."""

from __future__ import annotations

import argparse
from pathlib import Path

from jupyter_jobs import grid
from jupyter_jobs.cli import OK
from jupyter_jobs.cli.output import console, counts_text, print_findings, print_json, print_runs
from jupyter_jobs.cli.run import exit_code, read_parameters, refuse_inside_run, wait
from jupyter_jobs.client import Client, connect
from jupyter_jobs.errors import BadInput
from jupyter_jobs.model import Job
from jupyter_jobs.requests import AddRuns


def rerun(args: argparse.Namespace) -> int:
    """Run the failed runs of a job again, all of them, or one run; with --wait show progress until the end."""
    refuse_inside_run()
    with connect(args.url) as client:
        return _shown(client, args, queue_again(client, args))


def queue_again(client: Client, args: argparse.Namespace) -> Job:
    """What these arguments name runs again; its job. Raises BadInput for `--failed` with a run."""
    name: str = args.job_or_run
    if "-" not in name:
        return client.rerun_job(name, "failed" if args.failed else "all")
    if args.failed:
        raise BadInput("--failed is for a whole job.", mend="Name the job, or leave --failed out.", field="failed")
    return client.job(client.rerun_run(name).job)


def add(args: argparse.Namespace) -> int:
    """Add combinations to a job; with --wait show progress until the end."""
    refuse_inside_run()
    with connect(args.url) as client:
        return _shown(client, args, add_combinations(client, args))


def add_combinations(client: Client, args: argparse.Namespace) -> Job:
    """Queue the combinations that these arguments name."""
    request = AddRuns(
        grid_text=grid.read_grid_file(Path(args.grid).expanduser()) if args.grid else "",
        parameters=read_parameters(args.parameters, args.parameters_raw),
        only=grid.parse_numbers(args.only) if args.only else [],
        duplicates=args.duplicates,
    )
    return client.add_runs(args.job, request)


def _shown(client: Client, args: argparse.Namespace, job: Job) -> int:
    if args.wait:
        job = wait(client, job, show=not args.json)
    if args.json:
        print_json(job)
    elif args.wait:
        print_runs(job, client.runs(job.id, limit=1000))
    else:
        print_findings(job.notes)
        console.print(f"job [bold]{job.id}[/]: {counts_text(job)}")
    return exit_code(job) if args.wait else OK
