"""How long a run's own view of its project takes to make and to take down, for a small and a large tree.

    python -m benchmarks.workspace [--rounds 15]

An overlay in a mount namespace around `true`: prepared, entered, looked through for what was written, cleared. Sizes alternate; prints medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from jupyter_jobs.runner import workspace
from jupyter_jobs.runner.rundir import WorkspaceSpec

SIZES = (100, 20_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="jjb") as folder:
        place = Path(folder)
        specs = {size: make(place / str(size), size) for size in SIZES}
        times: dict[int, list[float]] = {size: [] for size in SIZES}
        for number in range(rounds):
            for size, spec in specs.items():
                run_dir = place / f"run-{size}-{number}"
                run_dir.mkdir()
                times[size].append(timed(spec, run_dir))
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores; medians of {rounds}")
    print("| files in the tree | ms |\n|---|---|")
    for size, measured in times.items():
        print(f"| {size} | {statistics.median(measured) * 1000:.1f} |")
    small, large = (statistics.median(times[size]) for size in SIZES)
    print(f"\nlarge / small: {large / small:.2f} (wanted: independent of the size)")


def make(place: Path, size: int) -> WorkspaceSpec:
    """A frozen tree of empty files, 100 in a folder, and the project's place."""
    for number in range(size):
        folder = place / "tree" / str(number // 100)
        if number % 100 == 0:
            folder.mkdir(parents=True)
        (folder / f"{number}.txt").touch()
    (place / "project").mkdir()
    return WorkspaceSpec(mode="overlay", project=str(place / "project"), tree=str(place / "tree"))


def timed(spec: WorkspaceSpec, run_dir: Path) -> float:
    start = time.perf_counter()
    argv, cwd, additions, *_ = workspace.prepare(spec, run_dir, ["/bin/sh", "-c", "echo new > made.txt"])
    subprocess.run(argv, cwd=cwd, env=os.environ | additions, check=True)
    found = workspace.collect(spec, run_dir)
    workspace.clean(spec, run_dir)
    took = time.perf_counter() - start
    assert [artifact.path for artifact in found] == ["made.txt"], found
    return took


if __name__ == "__main__":
    main()
