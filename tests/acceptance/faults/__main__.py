"""`make soak`: many sweeps, and what came of them in `docs/reliability.md`.

python -m tests.acceptance.faults [--seeds 20] [--runs 200] [--first 1]
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.acceptance.faults.sweep import Figures, full_disk, sweep
from tests.acceptance.place import ROOT

REPORT = ROOT / "docs" / "reliability.md"
WAYS: tuple[dict[str, object], ...] = ({}, {}, {"fork": False, "workspace": "copy"}, {}, {"fork": False})
"""The settings of one seed after the other: most as a person has them, some with processes that are started, on copies and on overlays."""

HEAD = """# Reliability

What `make soak` measured last. Each line is a job whose processes are killed with SIGKILL at moments that the seed chooses among its events: server
and dispatcher (both started again), runners, keepers, kernels, kernel servers, fork servers. Of each line that says `yes`, afterwards:

- every run is in a final state and every attempt has ended; what was not hit ended as its notebook says, with the right value and the right file;
  what was hit did so too, or says `interrupted`, `kernel_died` or `kernel_not_started`;
- no attempt ran twice, none that was given back ran at all (each writes a line outside, through a live path);
- no process of a run is left while server and dispatcher live, none at all after both have ended; no mount, no directory of a kernel's sockets;
- the events are numbered without repetition and lead each run along the lifecycle to what is stored; nothing is told twice;
- REST says what lies on the disk: state, reason, records, files with their content, notebook, log; the store passes its integrity check.

The tests are in `tests/acceptance/faults/`; `make test` runs two seeds of 40 runs. Every tenth run fails on purpose (`cell_error`).
"""


def main() -> int:
    """Sweeps, one after the other; the report is written after each, so that what was done is there whenever this ends. 1 if one failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--first", type=int, default=1)
    given = parser.parse_args()
    wanted: list[tuple[int, Callable[[Path], Figures]]] = [
        (seed, lambda home, seed=seed: sweep(home, seed, given.runs, most=given.runs, gap=8, **WAYS[seed % len(WAYS)]))  # type: ignore[misc]
        for seed in range(given.first, given.first + given.seeds)
    ]
    wanted.append((given.first + given.seeds, lambda home: full_disk(home, given.first + given.seeds, given.runs)))
    rows: list[str] = []
    failed = 0
    began = time.strftime("%Y-%m-%d")
    for seed, work in wanted:
        home = Path(tempfile.mkdtemp(prefix="jobs-soak-"))
        try:
            figures = work(home)
        except PermissionError as error:
            rows.append(f"| {seed} | full disk | – | – | – | – | not tried: {error.strerror} |")
        except Exception as error:  # noqa: BLE001 - the next seed is another matter
            failed += 1
            traceback.print_exc()
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200].replace("|", "/")
            rows.append(f"| {seed} | | {given.runs} | | | | **no**: {reason} |")
            print(f"what it left: {home}", file=sys.stderr)
            continue
        else:
            rows.append(_row(figures))
        shutil.rmtree(home)
        print(rows[-1], flush=True)
        REPORT.write_text(_report(rows, began, len(wanted)))
    REPORT.write_text(_report(rows, began, len(wanted)))
    return 1 if failed else 0


def _row(figures: Figures) -> str:
    took = f"{figures.seconds:.0f} s"
    cells = [figures.seed, figures.how, figures.runs, _counted(figures.kills), _counted(figures.outcomes), took, "yes"]
    return f"| {' | '.join(map(str, cells))} |"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "–"


def _report(rows: list[str], began: str, wanted: int) -> str:
    memory = psutil.virtual_memory().total / (1 << 30)
    cores = len(os.sched_getaffinity(0))
    machine = f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}, {cores} cores, {memory:.0f} GiB"
    table = "\n".join(["| seed | how | runs | killed | ended | took | all of it true |", "|---|---|---|---|---|---|---|", *rows])
    command = f"python -m tests.acceptance.faults {' '.join(sys.argv[1:])}".strip()
    return f"{HEAD}\n`{command}`, {began}, {machine}; {len(rows)} of {wanted} sweeps.\n\n{table}\n"


if __name__ == "__main__":
    sys.exit(main())
