"""`%job run | list | show`: jobs from a notebook or an IPython session. Understands what `jupyter jobs` does."""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
from collections import Counter

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.display import display

from jupyter_jobs.cli import OK, build_parser, run_command
from jupyter_jobs.cli.again import add_combinations, queue_again, runs_of
from jupyter_jobs.cli.output import counts_text
from jupyter_jobs.cli.run import create, exit_code, make, refuse_inside_run
from jupyter_jobs.client import connect
from jupyter_jobs.errors import JobsError
from jupyter_jobs.model import Job
from jupyter_jobs.widgets import JobView, jobs_bundle

COMMANDS = ("run", "list", "show", "runs", "rerun", "add", "extend", "priority", "queue", "cancel")
RUN = "run:run"
EXAMPLE = "%job run report.ipynb -p alpha 1 -p alpha 2"


class JobNotComplete(Exception):
    """A job that was waited for has failed or canceled runs."""

    def _render_traceback_(self) -> list[str]:
        # asked for by IPython: where in our code it was raised helps nobody
        return [f"{type(self).__name__}: {self}"]


@magics_class
class JobMagics(Magics):
    """The `%job` magic."""

    @line_magic
    def job(self, line: str) -> None:
        """`%job run report.ipynb -p alpha 1 -p alpha 2` · `%job list` · `%job show ID`; `%job run --help` says more.

        Raises UsageError, one line with what to do, for anything that cannot be done. With `--wait` JobNotComplete: the cell fails as the runs did.
        """
        args = read_line(line)
        if args is None:
            return
        try:
            if getattr(self.shell, "kernel", None) is None or not _has_view(args):
                # a terminal shows no widgets, and some commands only say a line
                if args.command == RUN:
                    _expect_complete(make(args), args.url)
                else:
                    run_command(args)
            else:
                _display(args)
        except JobsError as error:
            raise UsageError(" ".join(str(error).split())) from error


def read_line(line: str) -> argparse.Namespace | None:
    """What is asked for, as `jupyter jobs` reads it; None where help was, which is printed. Raises UsageError."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"{str(error).removesuffix('.')} in: %job {line}") from None
    if not words or words[0] not in COMMANDS:
        what = f"There is no %job {words[0]}." if words else "%job what?"
        raise UsageError(f"{what} There are {', '.join(COMMANDS)}, as in: {EXAMPLE}")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            args = build_parser().parse_args(words)
    except SystemExit as end:
        text = said.getvalue().replace("jupyter jobs", "%job")
        if end.code:
            raise UsageError(text.strip().splitlines()[0]) from None
        print(text, end="")
        return None
    if args.json:
        raise UsageError(f"--json is for the command line: jupyter jobs {line}")
    return args


def _has_view(args: argparse.Namespace) -> bool:
    if args.command == "show:show":
        return "-" not in args.job_or_run
    return args.command in (RUN, "show:list_jobs", "again:rerun", "again:add")


def _display(args: argparse.Namespace) -> None:
    if args.command == "show:list_jobs":
        with connect(args.url) as client:
            page = client.jobs(status=args.status, search=args.search, limit=args.limit)
        display(jobs_bundle(page), raw=True)  # type: ignore[no-untyped-call]
    elif args.command == "show:show":
        display(JobView(args.job_or_run, url=args.url))  # type: ignore[no-untyped-call]
    else:
        refuse_inside_run()
        with connect(args.url) as client:
            if args.command == RUN:
                job, numbers = create(client, args), None
            else:
                job, numbers = {"again:rerun": queue_again, "again:add": add_combinations}[args.command](client, args)
        view = JobView(job.id, url=args.url)
        display(view)  # type: ignore[no-untyped-call]
        if args.wait:
            _expect_complete(view.wait(), args.url, numbers)


def _expect_complete(job: Job, url: str, numbers: range | None = None) -> None:
    """Raises JobNotComplete where the command line would end with another exit code than 0 (of runs of these `numbers` only), JobsError."""
    if exit_code(job.counts) == OK:
        return
    with connect(url) as client:
        failed = client.runs(job.id, state="failed", limit=1).runs
        if numbers is not None:
            ended = runs_of(client, job, numbers)
            failed = [run for run in ended if run.state == "failed"][:1]
            if exit_code(Counter(run.state for run in ended)) == OK:
                return
    why = "".join(f" Run {run.number}: {run.error.message}" for run in failed if run.error)
    raise JobNotComplete(f"job {job.id} {job.name}: {counts_text(job)}.{why}")


def load_ipython_extension(shell: object) -> None:
    """`%load_ext jupyter_jobs`."""
    shell.register_magics(JobMagics)  # type: ignore[attr-defined]
