"""`%job run | list | show`: jobs from a notebook or an IPython session. Understands what `jupyter jobs` does."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shlex
from pathlib import Path

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.display import display

from jupyter_jobs.cli import build_parser
from jupyter_jobs.cli.run import create
from jupyter_jobs.client import connect
from jupyter_jobs.errors import BadInput, JobsError
from jupyter_jobs.widgets import JobTable, JobView

COMMANDS = ("run", "list", "show")


@magics_class
class JobMagics(Magics):
    """The `%job` magic."""

    @line_magic
    def job(self, line: str) -> None:
        """`%job run report.ipynb -p alpha 1 -p alpha 2` · `%job list` · `%job show ID`.

        Raises UsageError, with what to do, for anything that cannot be done.
        """
        words = shlex.split(line)
        if not words or words[0] not in COMMANDS:
            raise UsageError(f"%job {' | '.join(COMMANDS)} …, as in: %job run report.ipynb -p alpha 1 -p alpha 2")
        if words[0] == "run" and os.environ.get("JUPYTER_JOBS_RUN"):
            raise UsageError("This notebook is itself running as a job; a job does not start jobs. Guard the cell, or leave it out of the notebook.")
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                args = build_parser().parse_args(words)
        except SystemExit:
            raise UsageError(said.getvalue().replace("jupyter jobs", "%job").strip()) from None
        try:
            if args.command == "run:run":
                self._run(args)
            elif args.command == "show:list_jobs":
                with connect(args.url) as client:
                    display(JobTable(client.jobs(status=args.status, search=args.search, limit=args.limit)))  # type: ignore[no-untyped-call]
            else:
                display(JobView(args.job, url=args.url))  # type: ignore[no-untyped-call]
        except JobsError as error:
            raise UsageError(str(error)) from error

    def _run(self, args: argparse.Namespace) -> None:
        with connect(args.url) as client:
            job = create(client, args, path=contents_path(args.path) if client.remote else None)
        view = JobView(job.id, url=args.url)
        display(view)  # type: ignore[no-untyped-call]
        if args.wait:
            view.wait()


def contents_path(path: str) -> str:
    """A file named from the kernel's working directory as the server's contents path.

    Raises BadInput for a file outside the server's root: the server would not show it.
    """
    root = os.environ.get("JUPYTER_JOBS_ROOT", "")
    if not root:
        return path
    file = Path(path).expanduser().resolve()
    try:
        return file.relative_to(Path(root).resolve()).as_posix()
    except ValueError:
        message = f"{file} lies outside the server's root {root}."
        raise BadInput(message, code="outside_root", mend="Move it below, or use `jupyter jobs run`.") from None


def load_ipython_extension(shell: object) -> None:
    """`%load_ext jupyter_jobs`."""
    shell.register_magics(JobMagics)  # type: ignore[attr-defined]
