"""`jupyter jobs …`: the parser. Commands are imported only when they run, so that `--help` is quick."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

OK, FAILED, BAD_INPUT, CANCELED = 0, 1, 2, 130


def main(argv: list[str] | None = None) -> int:
    """Run one command. Exit codes: 0 all complete, 1 a run failed, 2 bad input, 130 canceled."""
    args = build_parser().parse_args(argv)
    from jupyter_jobs.errors import JobsError

    try:
        return run_command(args)
    except JobsError as error:
        if getattr(args, "json", False):
            import json

            detail = {"code": error.code, "message": error.message, "mend": error.mend, "detail": error.detail}
            print(json.dumps(detail, indent=2, default=str), file=sys.stderr)
        else:
            print(f"jupyter jobs: {error.message}", file=sys.stderr)
            if error.mend:
                print(f"  → {error.mend}", file=sys.stderr)
        return BAD_INPUT if error.status < 500 else FAILED
    except KeyboardInterrupt:
        return CANCELED
    except BrokenPipeError:
        # the reader of our pipe (`head`) has seen enough
        sys.stderr.close()
        return OK


def run_command(args: argparse.Namespace) -> int:
    """Run what `build_parser` read; the exit code. Raises `JobsError`."""
    module, _, function = args.command.partition(":")
    return int(getattr(import_module(f"jupyter_jobs.cli.{module}"), function)(args))


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    about = "Run notebooks as jobs: frozen project and environment, one run per combination."
    parser = argparse.ArgumentParser(prog="jupyter jobs", description=about)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, function: str, help: str, *positional: tuple[str, str]) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(command=function)
        for metavar, text in positional:
            sub.add_argument(metavar.lower().replace("|", "_or_"), metavar=metavar, help=text)
        sub.add_argument("--json", action="store_true", help="print what the REST API returns")
        sub.add_argument("--url", default="", help="a server's URL (with ?token=…) instead of this machine's store")
        return sub

    _run_arguments(command("run", "run:run", "Freeze a notebook's project and environment and run every combination.", ("PATH", "the notebook")))

    sub = command("list", "show:list_jobs", "Jobs, newest first.")
    sub.add_argument("--status", default="", help="only jobs that are queued, running, complete, failed, canceled")
    sub.add_argument("--search", default="", help="only jobs whose name or notebook holds this text")
    sub.add_argument("--limit", type=int, default=30, help="at most so many (default 30)")
    command("show", "show:show_job", "One job: what was frozen, its runs by state.", ("JOB", "a job's id, or its beginning"))
    sub = command("runs", "show:list_runs", "The runs of a job, with parameters and recorded values.", ("JOB", "a job's id"))
    sub.add_argument("--state", default="", help="only runs in this state")
    sub.add_argument("--sort", default="number", help="number, state, duration; with - in front the other way round")
    sub = command("logs", "show:logs", "The log of a run, or of all runs of a job.", ("JOB|RUN", "an id"))
    sub.add_argument("-f", "--follow", action="store_true", help="go on until the end")
    sub = command("files", "show:files", "The files that a run made or changed.", ("RUN", "a run's id: <job>-<number>"))
    sub.add_argument("-o", "--output-dir", default="", metavar="DIR", help="copy them into this folder")
    sub = command("html", "show:html", "The executed notebook as one self-contained HTML page.", ("JOB|RUN", "an id; a job's pages go into a folder"))
    sub.add_argument("-o", "--output", default="", metavar="FILE", help="where to (default: <run>.html, <job>-html/; - for standard output)")
    command("cancel", "change:cancel", "Cancel a job or a run.", ("JOB|RUN", "an id"))
    sub = command("delete", "change:delete", "Delete a job with its runs and what only it had frozen.", ("JOB", "a job's id"))
    sub.add_argument("--cancel", action="store_true", help="cancel what still runs first")
    command("doctor", "service:doctor", "What is stored where, and what could be better.")

    dispatcher = commands.add_parser("dispatcher", help="The background process that starts runs.")
    verbs = dispatcher.add_subparsers(metavar="start|stop|status|run", required=True)
    for verb, text in (
        ("start", "start one in the background, unless one runs"),
        ("stop", "let it end; runs go on and the next one finds them"),
        ("status", "which one runs, since when, and what it does"),
        ("run", "be the dispatcher, in the foreground (for systemd or a container)"),
    ):
        sub = verbs.add_parser(verb, help=text, description=text)
        sub.set_defaults(command=f"service:dispatcher_{verb}")
        sub.add_argument("--json", action="store_true", help="print what the REST API returns")
    return parser


def _run_arguments(sub: argparse.ArgumentParser) -> None:
    parameters = sub.add_argument_group("parameters")
    parameters.add_argument(
        "-p",
        "--parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a value, read as papermill reads it; the same name again adds a value. Replaces the grid file's list",
    )
    parameters.add_argument("-r", "--parameters-raw", nargs=2, action="append", default=[], metavar=("NAME", "TEXT"), help="a text value, as it is")
    parameters.add_argument("-g", "--grid", default="", metavar="GRID.json", help="the parameters file (default: <name>.parameters.json beside it)")
    parameters.add_argument("--no-grid", action="store_true", help="leave the parameters file aside")
    parameters.add_argument("--only", default="", metavar="1,3-5", help="only these combinations")
    frozen = sub.add_argument_group("what is frozen")
    frozen.add_argument("--kernel", default="", metavar="NAME", help="another kernel than the notebook's")
    frozen.add_argument("--project", default="", metavar="DIR", help="the project directory (default: found, and shown)")
    frozen.add_argument("--include", action="append", default=[], metavar="PATH", help="freeze this although it is ignored")
    frozen.add_argument("--exclude", action="append", default=[], metavar="PATH", help="do not freeze this")
    frozen.add_argument("--live", action="append", default=[], metavar="PATH", help="read this in place, read-only, instead of freezing it")
    frozen.add_argument("--live-writable", action="append", default=[], metavar="PATH", help="the same, but runs may write there")
    frozen.add_argument("--accept-drift", action="store_true", help="run even if the environment is no longer as it was")
    results = sub.add_argument_group("results")
    results.add_argument("--record", action="append", default=[], metavar="NAMES", help="variables to keep after the last cell: auc,loss")
    results.add_argument("--output-dir", default="", metavar="DIR", help="copy the executed notebooks there as runs end")
    results.add_argument("--name", default="", help="the job's name")
    results.add_argument("--description", default="", help="a line about it")
    limits = sub.add_argument_group("limits")
    limits.add_argument("--time-limit", type=float, default=None, metavar="SECONDS", help="of a run")
    limits.add_argument("--cell-timeout", type=float, default=None, metavar="SECONDS", help="of a cell")
    sub.add_argument("--wait", action="store_true", help="show progress until all runs have ended")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from jupyter_jobs.version import __version__

        print(__version__)
        parser.exit()
