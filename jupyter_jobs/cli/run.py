"""`jupyter jobs run`."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType

from jupyter_jobs import grid
from jupyter_jobs.cli import CANCELED, FAILED, OK
from jupyter_jobs.cli.output import console, counts_text, errors, print_findings, print_json, print_runs, waits_text
from jupyter_jobs.client import Client, connect
from jupyter_jobs.errors import BadInput, Conflict
from jupyter_jobs.grid_values import check_values
from jupyter_jobs.lifecycle import FINAL
from jupyter_jobs.model import Combinations, Event, Job, LivePath, Resources
from jupyter_jobs.requests import AskRetries, CombinationsRequest, CreateJob


def run(args: argparse.Namespace) -> int:
    """Make a job of a notebook; with --wait show its progress until the end."""
    return exit_code(make(args).counts)


def make(args: argparse.Namespace) -> Job:
    """The job that these arguments make, as it is now: with --wait at its end. Prints what a person wants to see meanwhile."""
    refuse_inside_run()
    with connect(args.url) as client:
        found = None if args.json else combinations(client, args)
        with errors.status("freezing the project and the environment …") if errors.is_terminal else nullcontext():
            job = create(client, args)
        if found is not None:
            count = len(grid.parse_numbers(args.only)) if args.only else found.total
            over = f" over {', '.join(found.names)}" if found.names else ""
            console.print(f"{args.path}: {count} run{'s' * (count != 1)}{over}", markup=False)
            console.print(f"job [bold]{job.id}[/], frozen from {job.project}", soft_wrap=True)
            print_findings(job.notes)
        say_if_paused(client)
        if not args.wait:
            print_json(job) if args.json else console.print(f"jupyter jobs show {job.id}", style="dim")
            return job
        job = wait(client, job, show=not args.json)
        if args.json:
            print_json(job)
        else:
            print_runs(job, client.runs(job.id, limit=1000).runs)
        return job


def say_if_paused(client: Client) -> None:
    """On standard error, also for --json: whoever waits would wait without a word."""
    if client.queue(limit=1).paused:
        errors.print("the queue is paused: `jupyter jobs queue resume`", style="yellow")


def refuse_inside_run() -> None:
    """Raises Conflict in a run: a notebook that starts itself as a job would never end."""
    if os.environ.get("JUPYTER_JOBS_RUN"):
        raise Conflict(
            "This notebook is itself running as a job, and a job starts no jobs.",
            code="inside_a_run",
            mend="Take that cell out of the notebook.",
        )


def combinations(client: Client, args: argparse.Namespace) -> Combinations:
    """The combinations that these arguments name."""
    parameters = read_parameters(args.parameters, args.parameters_raw)
    path, grid_path = _seen_by(client, args, args.path), _seen_by(client, args, args.grid)
    return client.combinations(CombinationsRequest(path=path, grid_path=grid_path, no_grid=args.no_grid, parameters=parameters))


def create(client: Client, args: argparse.Namespace) -> Job:
    """Freeze and queue what these arguments name."""
    live = [*(LivePath(path=name) for name in args.live), *(LivePath(path=name, writable=True) for name in args.live_writable)]
    return client.create(
        CreateJob(
            path=_seen_by(client, args, args.path),
            name=args.name,
            description=args.description,
            kernel=args.kernel,
            project=args.project if args.url or not args.project else os.path.abspath(_expanded(args.project)),  # noqa: PTH100  (links stay links)
            include=args.include,
            exclude=args.exclude,
            live=live,
            grid_path=_seen_by(client, args, args.grid),
            no_grid=args.no_grid,
            parameters=read_parameters(args.parameters, args.parameters_raw),
            only=grid.parse_numbers(args.only) if args.only else [],
            record=[name.strip() for names in args.record for name in names.split(",") if name.strip()],
            output_dir=args.output_dir,
            time_limit=args.time_limit,
            cell_timeout=args.cell_timeout,
            accept_drift=args.accept_drift,
            retries=retries(args),
            priority=args.priority,
            max_parallel=args.max_parallel,
            fail_fast=args.fail_fast,
            fork=not args.no_fork,
            preload=args.preload,
            learn_preload=not args.no_learn,
            resources=Resources(cpu=args.cpu, memory=args.memory, storage=args.storage),
        )
    )


def retries(args: argparse.Namespace) -> AskRetries | None:
    """The policy that these arguments name; None where they name none. Raises BadInput for options that mean nothing without --retries."""
    besides = {"--retry-delay": args.retry_delay, "--retry-backoff": args.retry_backoff, "--retry-on": args.retry_on}
    if args.retries is None:
        for option, value in besides.items():
            if value is not None:
                raise BadInput(f"{option} says nothing without --retries.", mend="Add --retries N.", field="retries")
        return None
    for option, value in besides.items():
        if args.retries == 0 and value is not None:
            raise BadInput(f"{option} says nothing with --retries 0.", mend="Leave one of them out.", field="retries")
    codes = [] if args.retry_on in (None, "any") else [code.strip() for code in args.retry_on.split(",") if code.strip()]
    return AskRetries(attempts=args.retries, delay=args.retry_delay or 0.0, backoff=args.retry_backoff or "fixed", on=codes)


def _seen_by(client: Client, args: argparse.Namespace, path: str) -> str:
    """A file as the client's other side knows it. With --url paths are that server's already."""
    root = os.environ.get("JUPYTER_JOBS_ROOT", "")
    return contents_path(path, root) if path and root and client.remote and not args.url else path


def contents_path(path: str, root: str) -> str:
    """A file named from the working directory as the contents path of the server in whose kernel or terminal we are.

    Raises BadInput (`outside_root`) for a file that is not below the server's root.
    """
    given = _expanded(path)
    # the working directory is known without links, while the root may be, or lead through, one
    for file, top in (
        (Path(os.path.abspath(given)), Path(os.path.abspath(root))),  # noqa: PTH100
        (Path(os.path.abspath(given)), Path(root).resolve()),  # noqa: PTH100
        (given.parent.resolve() / given.name, Path(root).resolve()),
    ):
        if file.is_relative_to(top):
            return file.relative_to(top).as_posix()
    raise BadInput(
        f"{file} is not below {root}, the root of the server that you are in.",
        code="outside_root",
        mend="Move it there, or pass the server by in a terminal: JUPYTER_JOBS_URL= jupyter jobs run …",
    )


def _expanded(path: str) -> Path:
    """`~` and `~user` replaced. What names no user stays: a file may be called so."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's own raises RuntimeError


def read_parameters(values: list[list[str]], texts: list[list[str]]) -> dict[str, list[object]]:
    """`-p NAME VALUE` as papermill reads a value; a name given again adds a value to its list. Raises BadInput for what is no JSON."""
    parameters: dict[str, list[object]] = {}
    for name, text in values:
        parameters.setdefault(name, []).append(read_value(text))
    for name, text in texts:
        parameters.setdefault(name, []).append(text)
    return {name: check_values(name, given, field="parameters", key=name) for name, given in parameters.items()}


def read_value(text: str) -> object:
    """papermill's rule for `-p`: True, False, None, whole numbers, other numbers, else the text itself."""
    constants: dict[str, object] = {"True": True, "False": False, "None": None}
    if text in constants:
        return constants[text]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def wait(client: Client, job: Job, *, show: bool, only: range | None = None) -> Job:
    """Follow a job, or only its runs of these numbers, to the end. The first Ctrl-C cancels what is waited for, the second leaves it to itself."""
    # while the first run starts: at the end somebody waits
    import rich.table  # noqa: F401

    latest = job
    mine = None if only is None else [f"{job.id}-{number}" for number in only]
    said: set[str] = set()

    def say(event: Event) -> None:
        reason = waits_text(str(event.data.get("reason", "")))
        if reason and reason not in said:
            said.add(reason)
            errors.print(f"{event.run} {reason}", style="yellow", markup=False)

    with _progress(job) if show and errors.is_terminal else nullcontext(_nothing) as shown, _cancel_on_interrupt(client, job, mine):
        open_runs = list(mine or ())
        for latest in client.follow(job.id, after=job.seq, waiting=say):
            shown(latest)
            while open_runs and client.run(open_runs[-1]).state in FINAL:
                open_runs.pop()
            if mine is not None and not open_runs:
                break
    return latest


def _nothing(job: Job) -> None:
    """Where nobody looks on, no thread wakes to draw."""


@contextmanager
def _progress(job: Job) -> Iterator[Callable[[Job], None]]:
    """A bar on the terminal, with the time at a glance; gone afterwards."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, refresh_per_second=4) as progress:
        task = progress.add_task("queued", total=job.total)

        def show(latest: Job) -> None:
            ended = sum(latest.counts.get(state, 0) for state in FINAL)
            progress.update(task, completed=ended, description=counts_text(latest))

        yield show


@contextmanager
def _cancel_on_interrupt(client: Client, job: Job, runs: list[str] | None) -> Iterator[None]:
    def cancel(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        errors.print("canceling; once more leaves the job to itself", style="yellow")
        if runs is None:
            client.cancel_job(job.id)
        for run in runs or ():
            client.cancel_run(run)

    before = signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def exit_code(counts: Mapping[str, int]) -> int:
    """Of so many runs in each state: 1 a run failed, 130 canceled, else 0: all complete, or nobody waited."""
    if counts.get("failed"):
        return FAILED
    return CANCELED if counts.get("canceled") else OK
