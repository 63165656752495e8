"""How long a project snapshot takes beside `cp -a` and `git status`, on a generated tree.

    python benchmarks/snapshot.py [--files 20000] [--megabytes 1024] [--rounds 3] [--place DIR]

First snapshots (an empty store each time) alternate with `cp -a`, unchanged ones with `git status`, so that a machine's moods meet both.
Prints medians and ratios. Everything is made in a temporary directory below `--place`, and deleted only at the end, because ext4
looks long for an inode while many have just been deleted. So room for the tree, times twice the rounds and one, is needed.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from jupyter_jobs.model import ProjectChoice
from jupyter_jobs.snapshot.freeze import freeze_project


def make_tree(place: Path, files: int, megabytes: int) -> None:
    """Files of mixed sizes, most of them small, 20 in a folder; the last fiftieth of them ignored by a nested rule."""
    chance = random.Random(7)
    sizes = [chance.lognormvariate(0, 1.5) for _ in range(files)]
    scale = megabytes * (1 << 20) / sum(sizes)
    block = chance.randbytes(1 << 20)
    for number, size in enumerate(sizes):
        folder = place / f"part{number // 1000}" / f"folder{number // 20}"
        if number % 20 == 0:
            folder.mkdir(parents=True)
        with (folder / f"file{number}.dat").open("wb") as stream:
            stream.write(number.to_bytes(8, "little"))
            left = int(size * scale)
            while left > 0:
                start = chance.randrange(1 << 16)
                left -= stream.write(block[start : start + left])
    (place / ".gitignore").write_text("*.tmp\n__pycache__/\n/build/\n*.log\n!keep.log\n.env\n*.egg-info/\n/dist/\n")


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def settle() -> None:
    """Let earlier writes reach the disk, so that they are not charged to the next measurement."""
    os.sync()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--place", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.place, prefix="snapshot-benchmark-") as name:
        measure(Path(name), options.files, options.megabytes, options.rounds)


def measure(place: Path, files: int, megabytes: int, rounds: int) -> None:
    tree = place / "tree"
    tree.mkdir()
    make_tree(tree, files, megabytes)
    choice = ProjectChoice(directory=str(tree), mode="directory", why="")

    def freeze(number: int = 0) -> None:
        freeze_project(place / f"store{number}", choice, max_bytes=0, max_files=0)

    times: dict[str, list[float]] = {}

    def note(what: str, action: Callable[[], object]) -> None:
        times.setdefault(what, []).append(timed(action))

    def status() -> None:
        run("git", "-C", str(tree), "status", "--porcelain")

    for number in range(rounds):
        settle()
        note("cp -a", partial(run, "cp", "-a", str(tree), str(place / f"copy{number}")))
        settle()
        note("first snapshot", partial(freeze, number))
    freeze()
    for _ in range(2 * rounds + 1):
        note("unchanged, outside git", freeze)
    run("git", "-C", str(tree), "init", "-q")
    run("git", "-C", str(tree), "add", "-A")
    run("git", "-C", str(tree), "-c", "user.name=a", "-c", "user.email=a@b", "-c", "gc.auto=0", "commit", "-q", "-m", "x")
    status()
    freeze()
    for _ in range(2 * rounds + 1):
        note("git status", status)
        note("unchanged, in a work tree", freeze)
    show(times, files, megabytes)


def show(times: dict[str, list[float]], files: int, megabytes: int) -> None:
    medians = {what: statistics.median(each) for what, each in times.items()}
    machine = f"{platform.system()} {platform.release()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"
    print(f"{files} files, {megabytes} MiB; {machine}, load {os.getloadavg()[0]:.1f}")
    rows = [
        ("cp -a", "", 0.0),
        ("first snapshot", "cp -a", 1.5),
        ("git status", "", 0.0),
        ("unchanged, in a work tree", "git status", 3.0),
        ("unchanged, outside git", "git status", 10.0),
    ]
    print(f"{'':28}{'median s':>10}{'ratio':>8}  goal")
    for what, against, goal in rows:
        ratio = f"{medians[what] / medians[against]:.2f}" if against else ""
        print(f"{what:28}{medians[what]:>10.3f}{ratio:>8}  {f'≤ {goal} × {against}' if against else ''}")


if __name__ == "__main__":
    main()
