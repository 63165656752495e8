"""`jupyter jobs …`: the parser. Commands are imported only when they run, so that `--help` is quick."""

from __future__ import annotations

import argparse
import gc
import re
import sys
from importlib import import_module
from typing import Any, NoReturn

from jupyter_jobs.cli.quantities import cores, delay, extension, job_id, memory, run_id, size, some_time, whole

OK, FAILED, BAD_INPUT, CANCELED = 0, 1, 2, 130
PRIORITIES, RETRIES, RUNS_AT_A_TIME, SHOWN, ATTEMPTS = (-100, 100), (0, 20), (0, 10_000), (1, 1000), (1, 100_000)
RUN_SORTS = ("number", "-number", "state", "duration", "-duration")


def main(argv: list[str] | None = None) -> int:
    """Run one command. Exit codes: 0 all complete, 1 a run failed, 2 bad input, 130 canceled. Without `argv` we are the whole program."""
    if argv is not None:
        return _command(argv)
    # what was imported lives to the end: looking for garbage in it, again and again and once more at exit, costs a quarter of a short life
    gc.set_threshold(50_000)
    try:
        return _command(sys.argv[1:])
    finally:
        gc.freeze()


def _command(argv: list[str]) -> int:
    args = build_parser(as_json="--json" in argv).parse_args(argv)
    from jupyter_jobs.errors import JobsError

    try:
        return run_command(args)
    except JobsError as error:
        _complain("jupyter jobs", error.code, error.message, error.mend, error.detail, as_json=getattr(args, "json", False))
        return BAD_INPUT if error.status < 500 else FAILED
    except KeyboardInterrupt:
        return CANCELED
    except BrokenPipeError:
        # the reader of our pipe (`head`) has seen enough
        sys.stderr.close()
        return OK


def _complain(who: str, code: str, message: str, mend: str, detail: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        import json

        text = json.dumps({"code": code, "message": message, "mend": mend, "detail": detail}, indent=2, default=str)
    else:
        text = f"{who}: {message}" + (f"\n  → {mend}" if mend else "")
    print(text, file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the words as every other error is said: without the list of all options, and as JSON where that is asked for."""

    def __init__(self, *args: Any, as_json: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.as_json = as_json

    def error(self, message: str) -> NoReturn:
        _complain(self.prog, "bad_option", message, f"See `{self.prog} --help`.", {}, as_json=self.as_json)
        self.exit(BAD_INPUT)


def run_command(args: argparse.Namespace) -> int:
    """Run what `build_parser` read; the exit code. Raises `JobsError`."""
    module, _, function = args.command.partition(":")
    return int(getattr(import_module(f"jupyter_jobs.cli.{module}"), function)(args))


def build_parser(*, as_json: bool = False) -> argparse.ArgumentParser:
    """The whole command line. `as_json`: what is wrong with it is told as JSON."""
    about = "Run notebooks as jobs: frozen project and environment, one run per combination."
    parser = _Parser(prog="jupyter jobs", description=about, as_json=as_json)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, function: str, help: str, *positional: tuple[str, str]) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help, as_json=as_json)
        sub.set_defaults(command=function)
        for metavar, text in positional:
            kind = {"JOB": job_id, "RUN": run_id}.get(metavar, str)
            sub.add_argument(metavar.lower().replace("|", "_or_"), metavar=metavar, help=text, type=kind)
        sub.add_argument("--json", action="store_true", help="print what the REST API returns")
        sub.add_argument("--url", default="", help="a server's URL (with ?token=…) instead of this machine's store")
        return sub

    _run_arguments(command("run", "run:run", "Freeze a notebook's project and environment and run every combination.", ("PATH", "the notebook")))

    sub = command("list", "show:list_jobs", "Jobs, newest first.")
    sub.add_argument("--status", default="", help="only jobs that are queued, running, complete, failed, canceled")
    sub.add_argument("--search", default="", help="only jobs whose name or notebook holds this text")
    sub.add_argument("--limit", type=whole(*SHOWN), default=30, help="at most so many (default 30)")
    command("show", "show:show", "A job: what was frozen, its runs by state. A run: its attempts.", ("JOB|RUN", "an id; a job's may be shortened"))
    sub = command("runs", "show:list_runs", "The runs of a job, with parameters and recorded values.", ("JOB", "a job's id"))
    sub.add_argument("--state", default="", help="only runs in this state")
    sub.add_argument("--sort", default="number", choices=RUN_SORTS, help="the order; --sort=-duration: the longest first")
    sub = command("logs", "show:logs", "The log of a run, or of all runs of a job.", ("JOB|RUN", "an id"))
    sub.add_argument("-f", "--follow", action="store_true", help="go on until the end")
    _attempt(sub)
    sub = command("files", "show:files", "The files that a run made or changed.", ("RUN", "a run's id: <job>-<number>"))
    sub.add_argument("-o", "--output-dir", default="", metavar="DIR", help="copy them into this folder")
    _attempt(sub)
    sub = command("html", "show:html", "The executed notebook as one self-contained HTML page.", ("JOB|RUN", "an id; a job's pages go into a folder"))
    sub.add_argument("-o", "--output", default="", metavar="FILE", help="where to (default: <run>.html, <job>-html/; - for standard output)")
    _attempt(sub)
    sub = command("rerun", "again:rerun", "Run again, on what was frozen: the failed runs of a job, all of them, or one.", ("JOB|RUN", "an id"))
    sub.add_argument("--failed", action="store_true", help="of a job: only what has failed, or was canceled by --fail-fast")
    sub.add_argument("--wait", action="store_true", help="show progress until all runs have ended")
    sub = command("add", "again:add", "Add combinations to a job, on what was frozen for it.", ("JOB", "a job's id"))
    _values(sub)
    sub.add_argument("-g", "--grid", default="", metavar="GRID.json", help="a parameters file")
    sub.add_argument("--only", default="", metavar="1,3-5", help="only these of the new combinations")
    sub.add_argument("--duplicates", action="store_true", help="also those that the job has already")
    sub.add_argument("--wait", action="store_true", help="show progress until all runs have ended")
    sub = command("extend", "change:extend", "Let a run under way take longer than its time limit.", ("RUN", "a run's id"))
    # -5m is a wrong time, and no option
    sub._negative_number_matcher = re.compile(r"-\d.*")
    sub.add_argument("by", type=extension, metavar="TIME", help="how much longer: 90s, 10m, 1h30m")
    sub = command("priority", "change:priority", "Let a job's waiting runs start before or after those of others.", ("JOB", "a job's id"))
    sub.add_argument("priority", type=whole(*PRIORITIES), metavar="N", help="-100 to 100; higher ones first, 0 is usual")
    sub = command("queue", "change:queue", "What runs and what waits, in order; pause and resume it, and change the order.")
    sub.add_argument("verb", nargs="?", choices=("pause", "resume", "move"), help="start nothing more, of any job; start again; move RUN")
    sub.add_argument("run", nargs="?", type=run_id, metavar="RUN", help="a run that waits, to be moved among those of its priority")
    place = sub.add_mutually_exclusive_group()
    place.add_argument("--before", type=run_id, metavar="RUN", help="move it before this one")
    place.add_argument("--first", dest="to", action="store_const", const="first", default="", help="move it to the first place")
    place.add_argument("--last", dest="to", action="store_const", const="last", help="move it to the last place")
    sub.add_argument("--limit", type=whole(*SHOWN), default=30, help="show at most so many that wait (default 30)")
    command("usage", "usage:usage", "What a run used: CPU, memory, disk.", ("RUN", "a run's id"))
    command("cancel", "change:cancel", "Cancel a job or a run.", ("JOB|RUN", "an id"))
    sub = command("delete", "change:delete", "Delete a job with its runs and what only it had frozen.", ("JOB", "a job's id"))
    sub.add_argument("--cancel", action="store_true", help="cancel what still runs first")
    sub = command("doctor", "doctor:doctor", "What is stored where, what is wrong or left over, and what mends it.")
    sub.add_argument("--repair", action="store_true", help="mend what can be mended safely, and say what was done")

    dispatcher = commands.add_parser("dispatcher", help="The background process that starts runs.", as_json=as_json)
    verbs = dispatcher.add_subparsers(metavar="start|stop|status|run", required=True)
    for verb, text in (
        ("start", "start one in the background, unless one runs"),
        ("stop", "let it end; runs go on and the next one finds them"),
        ("status", "which one runs, since when, and what it does"),
        ("run", "be the dispatcher, in the foreground (for systemd or a container)"),
    ):
        sub = verbs.add_parser(verb, help=text, description=text, as_json=as_json)
        sub.set_defaults(command=f"service:dispatcher_{verb}")
        sub.add_argument("--json", action="store_true", help="print what the REST API returns")
    return parser


def _run_arguments(sub: argparse.ArgumentParser) -> None:
    parameters = _values(sub.add_argument_group("parameters"))
    either = parameters.add_mutually_exclusive_group()
    either.add_argument("-g", "--grid", default="", metavar="GRID.json", help="the parameters file (default: <name>.parameters.json beside it)")
    either.add_argument("--no-grid", action="store_true", help="leave the parameters file aside")
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
    limits.add_argument("--time-limit", type=some_time, default=None, metavar="TIME", help="of a run: 90s, 10m, 1h30m, or seconds")
    limits.add_argument("--cell-timeout", type=some_time, default=None, metavar="TIME", help="of a cell")
    limits.add_argument(
        "--memory", type=memory, default=None, metavar="SIZE", help="of a run: 2G, 500Mi; kept free for it, and the most that it may hold"
    )
    limits.add_argument(
        "--cpu", type=cores, default=None, metavar="CORES", help="of a run: 1.5, 500m; kept free for it, and the most that it may use"
    )
    limits.add_argument("--storage", type=size, default=None, metavar="SIZE", help="the most that a run may write to its workspace")
    start = sub.add_argument_group("how kernels start (Python, on Linux)")
    start.add_argument("--preload", action="append", default=[], metavar="MODULE", help="import this beforehand, where kernels are forked from")
    start.add_argument("--no-learn", action="store_true", help="do not import beforehand what the notebook imports")
    start.add_argument("--no-fork", action="store_true", help="start each kernel by itself")
    queue = sub.add_argument_group("queue and failures")
    queue.add_argument("--priority", type=whole(*PRIORITIES), default=0, metavar="N", help="-100 to 100; jobs of a higher one start first")
    queue.add_argument("--max-parallel", type=whole(*RUNS_AT_A_TIME), default=0, metavar="N", help="at most so many runs of this job at a time")
    queue.add_argument("--fail-fast", action="store_true", help="the first run that fails for good ends the job")
    queue.add_argument(
        "--retries",
        type=whole(*RETRIES),
        default=None,
        metavar="N",
        help="so many more attempts of a run that fails (default: 1 after `interrupted`)",
    )
    queue.add_argument("--retry-delay", type=delay, default=None, metavar="TIME", help="before each of them (default: none)")
    queue.add_argument("--retry-backoff", choices=("fixed", "exponential"), default=None, help="exponential: twice as long each time")
    queue.add_argument("--retry-on", default=None, metavar="CODES", help="only after these error codes: kernel_died,memory_error (default: any)")
    sub.add_argument("--wait", action="store_true", help="show progress until all runs have ended")


def _attempt(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--attempt", type=whole(*ATTEMPTS), default=0, metavar="N", help="of a run: an earlier attempt (`show RUN` lists them)")


def _values(sub: argparse._ActionsContainer) -> argparse._ActionsContainer:
    sub.add_argument(
        "-p",
        "--parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a value, read as papermill reads it; the same name again adds a value. Replaces the grid file's list",
    )
    sub.add_argument("-r", "--parameters-raw", nargs=2, action="append", default=[], metavar=("NAME", "TEXT"), help="a text value, as it is")
    return sub


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from jupyter_jobs.version import __version__

        print(__version__)
        parser.exit()
