"""The engine beside others that run notebooks: throughput, first result, processor time, memory, latency, idleness.

    python -m benchmarks.engine [--rounds 5] [--quick] [--whole] [--only PART,PART]

Ours, the `papermill` command, jupyter-scheduler and the limit (the cells in one warm kernel) alternate within each round. The peers with and
without `rfc3987_syntax`. They share nothing between runs, so a round measures few of them and the report scales their time to 20 and 200; one
whole measurement of 20 stands beside it, and `--whole` takes 20 and 200 each time (some hours). Parts:

    trivial   20 and 200 runs of three trivial cells, with the limit and the peers
    pandas    20 runs that import pandas and draw, with the limit and papermill
    output    one run with 50 MB of output, time and memory
    cells     one run of 200 short cells, time and memory
    one       one trivial run: time, memory, cold starts
    live      one run through REST, and how soon an event listener hears of it
    idle      the dispatcher with nothing to do

Figures go to `.cache/bench/engine.json` after each part; `benchmarks.report` makes table and plot of them (`engine.md`, `engine.svg` there).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from benchmarks import live, notebooks, ours, peers, report
from benchmarks.environments import CACHE, make_environments
from benchmarks.machine import describe
from benchmarks.peers import Measured, SchedulerServer
from benchmarks.processes import household, memory, settled, stat, watched

PARTS = ("trivial", "pandas", "output", "cells", "one", "live", "idle")
BOTH = {"": False, " without rfc3987": True}
FEW, FEW_AT_ONCE = 4, 6
"""Runs of papermill's command and of jupyter-scheduler that a round measures and the report scales."""


@dataclass(frozen=True)
class Bench:
    """Where everything is, how much is measured, and the records so far."""

    place: Path
    home: ours.Home
    servers: dict[str, SchedulerServer]
    quick: bool
    whole: bool
    records: list[dict[str, object]] = field(default_factory=list)

    def notebook(self, name: str) -> Path:
        return self.place / "work" / name / f"{name}.ipynb"

    def amount(self, runs: int) -> int:
        return 2 if self.quick else runs

    def note(self, part: str, who: str, runs: int, measured: Measured, **more: object) -> None:
        found = {"part": part, "who": who, "runs": runs, **asdict(measured), **more}
        self.records.append(found)
        figures = ", ".join(f"{name} {value:.2f}" for name, value in found.items() if isinstance(value, float))
        print(f"{time.strftime('%H:%M:%S')} {part}: {who}, {runs} runs: {figures}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round, two runs: does everything work?")
    parser.add_argument("--whole", action="store_true", help="the peers' 20 and 200 runs each time")
    parser.add_argument("--only", default=",".join(PARTS), metavar="PARTS")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")
    make_environments()
    with tempfile.TemporaryDirectory(prefix="jjb") as folder, household(), ExitStack() as stack:
        place = Path(folder)
        notebooks.write(place / "work")
        home = ours.make_home(place / "h")
        stack.callback(ours.stop, home)
        servers = {}
        for name, without in BOTH.items() if {"trivial", "live"} & set(chosen) else ():
            server = peers.scheduler_server(place / f"s{without:d}", place / "work", without=without)
            servers[name] = stack.enter_context(server)
        bench = Bench(place, home, servers, options.quick, options.whole)
        machine = describe()
        for number in range(1 if options.quick else options.rounds):
            for part in PARTS:
                # what has no alternation is measured once
                if part in chosen and (number == 0 or part != "idle"):
                    MEASURES[part](bench, number)
                    save(machine, bench)
    print(report.table(CACHE / "engine.json"))


def save(machine: dict[str, object], bench: Bench) -> None:
    """All figures so far, and what the report makes of them."""
    file = CACHE / "engine.json"
    file.write_text(json.dumps({"machine": machine, "quick": bench.quick, "records": bench.records}, indent=1))
    (CACHE / "engine.md").write_text(report.table(file))
    (CACHE / "engine.svg").write_text(report.plot(file))


def trivial(bench: Bench, number: int) -> None:
    notebook = bench.notebook("trivial")
    ours.run(bench.home, notebook, 1)
    for runs in (bench.amount(20), bench.amount(200)):
        bench.note("trivial", "ours", runs, ours.run(bench.home, notebook, runs))
        bench.note("trivial", "limit", runs, peers.limit(bench.place / "l", notebook, runs))
    command(bench, "trivial", number, 200)
    for name, server in bench.servers.items():
        work = "trivial/trivial.ipynb"
        amounts = [20] if bench.whole else [FEW_AT_ONCE, 20] if number == 0 else [FEW_AT_ONCE]
        for runs in dict.fromkeys(map(bench.amount, amounts)):
            bench.note("trivial", "jupyter-scheduler" + name, runs, peers.scheduler(server, work, runs))


def command(bench: Bench, part: str, number: int, most: int) -> None:
    """papermill's command on a part's notebook."""
    notebook = bench.notebook(part)
    first = [FEW, 20] if part == "trivial" else [FEW]
    amounts = [20, most] if bench.whole else first if number == 0 else [FEW]
    for name, without in BOTH.items():
        for runs in dict.fromkeys(map(bench.amount, amounts)):
            bench.note(part, "papermill" + name, runs, peers.papermill(bench.place, notebook, runs, without=without))


def pandas(bench: Bench, number: int) -> None:
    notebook, runs = bench.notebook("pandas"), bench.amount(20)
    ours.run(bench.home, notebook, 1)
    if number == 0:
        # matplotlib's list of fonts is made once in each home
        peers.papermill(bench.place, notebook, 1, without=True)
    bench.note("pandas", "ours", runs, ours.run(bench.home, notebook, runs))
    bench.note("pandas", "limit", runs, peers.limit(bench.place, notebook, runs))
    command(bench, "pandas", number, 20)


def large(part: str, bench: Bench, number: int) -> None:
    """One run, the memory looked at meanwhile."""
    notebook = bench.notebook(part)
    if number == 0:
        ours.run(bench.home, notebook, 1)
    for name, action in (
        ("ours", partial(ours.run, bench.home, notebook, 1)),
        ("papermill", partial(peers.papermill, bench.place, notebook, 1, without=False)),
    ):
        standing = {"standing": memory(ours.dispatcher(bench.home)) / 1e6} if name == "ours" else {}
        with watched() as held:
            measured = action()
        bench.note(part, name, 1, measured, **held, **standing)
    bench.note(part, "limit", 1, peers.limit(bench.place / "l", notebook, 1))


def one(bench: Bench, number: int) -> None:
    notebook = bench.notebook("trivial")
    ours.run(bench.home, notebook, 1)
    bench.note("one", "ours", 1, ours.run(bench.home, notebook, 1))
    for name, without in BOTH.items():
        with watched() as held:
            measured = peers.papermill(bench.place, notebook, 1, without=without)
        bench.note("one", "papermill" + name, 1, measured, **held)
    # the looking takes time, so that ours, which is short, is looked at by itself
    standing = memory(ours.dispatcher(bench.home)) / 1e6
    with watched(0.02) as held:
        measured = ours.run(bench.home, notebook, 1)
    bench.note("one", "ours, watched", 1, measured, **held, standing=standing)
    bench.note("one", "ours, no dispatcher", 1, ours.cold(bench.home, notebook))
    bench.note("one", "ours, empty store", 1, ours.empty(bench.place / "e", notebook))


def through_rest(bench: Bench, number: int) -> None:
    for found in live.measure(bench.place / f"v{number}", bench.place / "work", bench.amount(20)):
        bench.note("live", "ours", 1, Measured(found.seconds, found.seconds, 0.0), heard=found.heard)
    for name, server in bench.servers.items():
        bench.note("live", "jupyter-scheduler" + name, 1, peers.scheduler(server, "trivial/trivial.ipynb", 1))


def idle(bench: Bench, number: int) -> None:
    """The dispatcher, and the fork servers that it keeps, a while after their last run."""
    ours.run(bench.home, bench.notebook("trivial"), 1)
    pid = ours.dispatcher(bench.home)
    seconds = 10.0 if bench.quick else 60.0
    settled()
    before, forks, woken = used(pid), used(*ours.fork_servers(bench.home)), wakeups(pid)
    time.sleep(seconds)
    cpu, beside = used(pid) - before, used(*ours.fork_servers(bench.home)) - forks
    rate = (wakeups(pid) - woken) / seconds
    bench.note("idle", "ours", 0, Measured(seconds, 0.0, cpu), percent=100 * cpu / seconds, forks=100 * beside / seconds, wakeups=rate)


def used(*pids: int) -> float:
    """Processor seconds of processes so far. Raises SystemExit when one has ended."""
    found = [stat(pid) for pid in pids]
    if None in found:
        raise SystemExit(f"of the processes {pids} one has ended while it was to be idle")
    return sum(one.cpu for one in found if one)


def wakeups(pid: int) -> int:
    """How often a process's threads have slept so far."""
    texts = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("voluntary_ctxt"))


MEASURES: dict[str, Callable[[Bench, int], None]] = {
    "trivial": trivial,
    "pandas": pandas,
    "output": partial(large, "output"),
    "cells": partial(large, "cells"),
    "one": one,
    "live": through_rest,
    "idle": idle,
}

if __name__ == "__main__":
    main()
