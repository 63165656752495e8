"""What must be so after a storm: each run has ended once and truly, nothing of it is left, and REST says what lies on disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil

from jupyter_jobs.actions.places import run_dir
from jupyter_jobs.client import Client
from jupyter_jobs.lifecycle import FINAL, RunState, can_move
from jupyter_jobs.model import Event, Job, Run
from jupyter_jobs.runner import rundir
from jupyter_jobs.sockets import KERNEL_SOCKETS, socket_directory
from jupyter_jobs.store import attempts
from jupyter_jobs.store.attempts import Attempt
from jupyter_jobs.store.database import open_store, read
from tests.acceptance.faults.site import Site, fails_on_purpose
from tests.acceptance.faults.storm import Storm
from tests.acceptance.faults.victims import OF_A_RUN, found_in

KILLED = frozenset({"interrupted", "kernel_died", "kernel_not_started"})
"""What a run says of which a process was killed."""
END_SECONDS = 60.0
"""The most that processes may take to end once they were told."""


def check(site: Site, job: Job, storm: Storm, *, excused: frozenset[str] = frozenset()) -> Counter[str]:
    """Everything; returns how many runs ended how. `excused`: codes with which any run may have failed (a full disk)."""
    _processes_end(site, OF_A_RUN)
    with site.client() as client:
        runs = list(_all_runs(client, job))
        assert len(runs) == job.total
        tries = _attempts(site, runs)
        lines = Counter(site.witness.read_text().splitlines())
        for run in runs:
            _check_end(run, tries[run.id], storm, excused)
            _check_witness(site, run, tries[run.id], lines)
            _check_disk(client, site, run)
        _check_events(client, job, runs, tries)
    site.close()
    _processes_end(site, None)
    _check_mounts(site)
    _check_sockets(site)
    engine = open_store(site.settings.data_dir)
    with read(engine) as conn:
        assert conn.exec_driver_sql("PRAGMA integrity_check").scalars().all() == ["ok"]
    engine.dispose()
    return Counter(run.error.code if run.error else str(run.state) for run in runs)


def _all_runs(client: Client, job: Job) -> Iterator[Run]:
    after = ""
    while True:
        page = client.runs(job.id, after=after)
        yield from page.runs
        if not page.page.next:
            return
        after = page.page.next


def _attempts(site: Site, runs: list[Run]) -> dict[str, list[Attempt]]:
    engine = open_store(site.settings.data_dir)
    with read(engine) as conn:
        found = {run.id: attempts.list_of(conn, run.id) for run in runs}
    engine.dispose()
    return found


# -- how runs ended ----------------------------------------------------------------------------------------------------


def _check_end(run: Run, tries: list[Attempt], storm: Storm, excused: frozenset[str]) -> None:
    """Final, and true: what was not hit ended as its notebook says, what was hit either so or with a word about that."""
    said = f"{run.id}: {run.state} {run.error}"
    number = int(run.parameters["number"])  # type: ignore[call-overload]
    code = run.error.code if run.error else ""
    assert run.state in FINAL, said
    assert run.attempt == len(tries), said
    for each in tries:
        assert each.ended_at is not None, f"{said}: attempt {each.number} has not ended"
        # one that was given back before it started is no failure, and the only kind of attempt that is followed by another but for a retry
        hit = (number, each.number) in storm.hit
        ended = each.error.code if each.error else ""
        if each.state is RunState.FAILED and ended in KILLED:
            assert hit or ended in excused, f"attempt {each.number} of {said} says that it was killed, and was not: {each.error}"
        elif each.state is RunState.FAILED:
            assert ended in excused or (ended == "cell_error" and fails_on_purpose(number)), f"attempt {each.number} of {said}: {each.error}"
        elif each.state is RunState.CANCELED:
            assert each.number < run.attempt, said
        else:
            assert not fails_on_purpose(number), said
    last = tries[-1]
    assert (last.state, last.error.code if last.error else "") == (run.state, code), said
    if run.state is RunState.COMPLETE:
        assert run.records == {"value": number * number}, f"{said}: {run.records}"
        assert run.progress.done == run.progress.total, said


def _check_witness(site: Site, run: Run, tries: list[Attempt], lines: Counter[str]) -> None:
    """Each attempt's cells ran at most once, those of a complete one exactly once, those of one that was given back never."""
    for each in tries:
        place = rundir.socket_place("", run_dir(site.data, run.id, each.number))
        ran = lines[f"{run.id} {place}"]
        assert ran <= 1, f"attempt {each.number} of {run.id} ran {ran} times"
        code = each.error.code if each.error else ""
        if each.state is RunState.COMPLETE or code == "cell_error":
            assert ran == 1, f"attempt {each.number} of {run.id}, {each.state}, never ran"
        if each.state is RunState.CANCELED:
            assert ran == 0, f"attempt {each.number} of {run.id} ran, and was given back"


# -- REST and the disk -------------------------------------------------------------------------------------------------


def _check_disk(client: Client, site: Site, run: Run) -> None:
    assert client.run(run.id) == run
    directory = run_dir(site.data, run.id, run.attempt)
    result = rundir.read_result(directory)
    if result is None:
        assert run.state is RunState.FAILED, f"{run.id} is {run.state} without a result"
        assert not client.files(run.id).files
        return
    assert (str(run.state), run.error.code if run.error else "") == (result.state, result.error.code if result.error else ""), run.id
    assert run.records == result.records
    files = client.files(run.id).files
    assert sorted((file.path, file.bytes, file.kind) for file in files) == sorted((each.path, each.bytes, each.kind) for each in result.artifacts)
    if not (directory / rundir.NOTEBOOK).exists():
        assert run.state is RunState.FAILED, f"{run.id} has no notebook"
        return
    notebook = client.notebook(run.id)
    assert notebook == (directory / rundir.NOTEBOOK).read_bytes()
    read_back = nbformat.reads(notebook.decode(), 4)  # type: ignore[no-untyped-call]
    if run.state is RunState.COMPLETE:
        number = run.parameters["number"]
        assert [(file.path, file.kind) for file in files] == [(f"out/{number}.txt", "created")]
        assert client.file(run.id, f"out/{number}.txt") == str(number * number).encode()  # type: ignore[operator]
        # a kernel that was started, not forked, may say something of its debugger on the other stream
        outputs = [output for cell in read_back.cells if cell.cell_type == "code" for output in cell.outputs]
        printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
        assert printed == f"begun {number}\nvalue {number * number}\n", f"{run.id} printed {printed!r}"  # type: ignore[operator]
        lines = list(client.logs(run.id))
        if any(line.stream == "system" and "could not be written" in line.text for line in lines):
            # on a full disk, and it says so
            return
        logged = [line.text for line in lines if line.stream == "stdout"]
        # those of earlier attempts come before
        assert logged[-2:] == printed.splitlines(), f"{run.id} logged {logged}"
        assert run.attempt > 1 or len(logged) == 2, f"{run.id} logged {logged}"


# -- events ------------------------------------------------------------------------------------------------------------


def _check_events(client: Client, job: Job, runs: list[Run], tries: dict[str, list[Attempt]]) -> None:
    """None is missing and none is there twice: replayed, they lead along the lifecycle to what is stored."""
    found = list(_all_events(client, job))
    numbers = [event.seq for event in found]
    assert numbers == sorted(set(numbers))
    by_run: dict[str, list[Event]] = {run.id: [] for run in runs}
    for event in found:
        if event.run:
            by_run[event.run].append(event)
    for run in runs:
        path = [RunState(event.state) for event in by_run[run.id] if event.kind == "run.state"]
        for old, new in zip([RunState.QUEUED, *path], path, strict=False):
            assert can_move(old, new), f"{run.id}: {path}"
        assert path[-1] == run.state, f"{run.id}: {path}"
        assert path.count(RunState.INIT) == len(tries[run.id]), f"{run.id}: {path}"
        # a value that is recorded once is told once in an attempt, whoever adopted the run meanwhile
        told = [json.dumps([event.data.get("names"), _attempt_at(by_run[run.id], event)]) for event in by_run[run.id] if event.kind == "run.records"]
        assert len(told) == len(set(told)), f"{run.id}: {told}"


def _attempt_at(events: list[Event], event: Event) -> int:
    return sum(each.kind == "run.state" and each.state == RunState.INIT and each.seq < event.seq for each in events)


def _all_events(client: Client, job: Job) -> Iterator[Event]:
    after = 0
    while page := client.events(after, job=job.id).events:
        yield from page
        after = page[-1].seq


# -- what is left ------------------------------------------------------------------------------------------------------


def _processes_end(site: Site, kinds: tuple[str, ...] | None) -> None:
    """No process of these kinds is left (None: none at all), once those that are about to end have done so."""
    with contextlib.suppress(TimeoutError):
        asyncio.run(_ended(site, kinds))
    left = [each for each in found_in(site) if kinds is None or each.kind in kinds]
    assert not left, [(each.kind, each.attempt, _command(each.process.pid)) for each in left]


async def _ended(site: Site, kinds: tuple[str, ...] | None) -> None:
    from jupyter_jobs.backends import processes

    living = [each.process for each in found_in(site) if kinds is None or each.kind in kinds]
    async with asyncio.timeout(END_SECONDS):
        await asyncio.gather(*(processes.ended(each) for each in living))


def _command(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())[:200]
    except psutil.Error:
        return "gone"


def _check_mounts(site: Site) -> None:
    """No process sees a mount of a run: a namespace that somebody holds open would show here."""
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            mounts = Path(f"/proc/{pid}/mountinfo").read_text()
            assert str(site.data / "runs") not in mounts, f"{pid}: {_command(pid)}"


def _check_sockets(site: Site) -> None:
    directory = socket_directory(site.settings.data_dir)
    assert list((directory / KERNEL_SOCKETS).iterdir()) == []
