"""`jupyter jobs usage`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import pairwise

from rich.table import Table

from jupyter_jobs.cli import OK
from jupyter_jobs.cli.output import bytes_text, console, print_json, seconds_text
from jupyter_jobs.client import connect
from jupyter_jobs.model import Run, Usage

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 48


def usage(args: argparse.Namespace) -> int:
    """CPU, memory and disk of a run, as curves and by cell."""
    with connect(args.url) as client:
        found, run = client.usage(args.run), client.run(args.run)
    if args.json:
        print_json(found)
        return OK
    if found.attempt > 1:
        console.print(f"attempt {found.attempt}", style="dim")
    console.print(_curves(found, _breach(run)))
    if not run.attempt:
        console.print("not started", style="dim")
    elif not found.samples and found.peak_memory is None and found.cpu_seconds is None:
        console.print("nothing was sampled: the run took less than half a second", style="dim")
    elif found.cells and found.samples:
        console.print(_cells(found))
    return OK


def _breach(run: Run) -> dict[str, int]:
    """What the run had used, in bytes, when it was ended for using too much: often more than any sample saw."""
    if run.error is None or run.error.code != "resource_limit_exceeded":
        return {}
    return {str(run.error.detail.get("resource")): int(str(run.error.detail.get("used", 0)))}


def _curves(found: Usage, breach: Mapping[str, int]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "most", "limit", "from start to end"):
        table.add_column(name, no_wrap=True)
    limits = found.limits
    busy = cores_of(found)
    seconds = "" if found.cpu_seconds is None else f", {seconds_text(found.cpu_seconds)} of CPU in all"
    cores = f"{max(busy):.1f} cores" if busy else ""
    table.add_row("cpu", (cores + seconds).removeprefix(", "), f"{limits.cpu:g}" if limits.cpu else "", spark(busy))
    memory = [sample.memory for sample in found.samples]
    most = max([found.peak_memory or 0, breach.get("memory", 0), *memory]) or None
    table.add_row("memory", bytes_text(most), bytes_text(limits.memory), spark(memory))
    storage = [sample.storage for sample in found.samples if sample.storage is not None]
    written = max([breach.get("storage", -1), *storage])
    table.add_row("storage", bytes_text(written) if written >= 0 else "", bytes_text(limits.storage), spark(storage))
    table.add_row("processes", str(max((sample.processes for sample in found.samples), default="")), "", spark([s.processes for s in found.samples]))
    return table


def _cells(found: Usage) -> Table:
    """The cells that took long enough to be sampled."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("cell", "time", "cpu", "memory"):
        table.add_column(name, justify="right")
    for cell in found.cells:
        until = found.samples[-1].at if cell.ended_at is None else cell.ended_at
        inside = [sample for sample in found.samples if cell.started_at <= sample.at <= until]
        if inside:
            before = max((sample.cpu for sample in found.samples if sample.at < cell.started_at), default=0.0)
            memory = max(sample.memory for sample in inside)
            table.add_row(str(cell.cell.number), seconds_text(until - cell.started_at), seconds_text(inside[-1].cpu - before), bytes_text(memory))
    return table


def cores_of(found: Usage) -> list[float]:
    """How many cores were busy between two samples."""
    return [(later.cpu - first.cpu) / (later.at - first.at) for first, later in pairwise(found.samples) if later.at > first.at]


def spark(values: Sequence[float]) -> str:
    """A curve from 0 to the largest value; of many values the largest of each stretch."""
    if len(values) > WIDTH:
        edges = [round(number * len(values) / WIDTH) for number in range(WIDTH + 1)]
        values = [max(values[start:end]) for start, end in pairwise(edges)]
    top = max(values, default=0)
    return "".join(BARS[round(value / top * (len(BARS) - 1))] if top > 0 else BARS[0] for value in values)
