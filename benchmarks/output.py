"""What a run costs that prints a million lines, or a gigabyte: time, the runner's peak memory, and what stays on disk.

    python -m benchmarks.output [--rounds 3]

The real runner and a real kernel, with the default limits. A row for each kind of output; medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

from jupyter_jobs.runner import capped, rundir
from jupyter_jobs.settings import Jobs

KINDS = {
    "nothing": "1",
    "10⁶ lines": "for i in range(1_000_000): print('line number', i)",
    "1 GB in lines of 1 kB": "line = 'x' * 999\nfor i in range(1_000_000): print(line)",
    "300 MB in one line": "print('x' * 300_000_000)",
    "10⁶ steps of a progress bar": "for i in range(1_000_000): print('\\rstep', i, end='')",
    "20,000 flushed lines": "for i in range(20_000): print('line number', i, flush=True)",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores; medians of {rounds}")
    print("| output | seconds | runner's CPU, s | its peak memory, MB | log, MB | notebook, MB |\n|---|---|---|---|---|---|")
    for kind, source in KINDS.items():
        measured = [measure(source) for _ in range(rounds)]
        print(f"| {kind} | " + " | ".join(f"{statistics.median(column):.1f}" for column in zip(*measured, strict=True)) + " |", flush=True)


def measure(source: str) -> tuple[float, ...]:
    """One run: seconds, CPU seconds and peak MB of the runner, MB of log and notebook."""
    with tempfile.TemporaryDirectory(prefix="jjb") as folder:
        place = Path(folder)
        for name in ("tree", "project", "run", "home"):
            (place / name).mkdir()
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), place / "notebook.ipynb")
        (place / "variables.json").write_text(json.dumps({"PATH": os.environ["PATH"], "HOME": str(place / "home")}))
        settings = Jobs(data_dir=folder)
        spec = rundir.RunSpec(
            run=f"{place.name}-1",
            job=place.name,
            notebook=str(place / "notebook.ipynb"),
            kernel=rundir.Kernel(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]),
            variables_file=str(place / "variables.json"),
            workspace=rundir.WorkspaceSpec(mode="copy", project=str(place / "project"), tree=str(place / "tree")),
            max_log_bytes=settings.max_log_bytes,
            max_stream_bytes=settings.max_stream_bytes,
        )
        directory = place / "run"
        rundir.write_spec(directory, spec)
        began = time.monotonic()
        runner = subprocess.Popen([sys.executable, "-m", "jupyter_jobs.runner", str(directory)], stdout=subprocess.DEVNULL)
        _, _, used = os.wait4(runner.pid, 0)
        seconds = time.monotonic() - began
        result = rundir.read_result(directory)
        assert result is not None
        assert result.state == "complete", result.error
        log = sum(part.path.stat().st_size for part in capped.parts(directory) if part.path.exists())
        # resident size in kibibytes, as Linux has it
        return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, log / 1e6, (directory / rundir.NOTEBOOK).stat().st_size / 1e6


if __name__ == "__main__":
    main()
