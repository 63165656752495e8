"""A job of 10,000 runs: what a run costs at the end beside the start, what the server's memory does, and how fast it answers meanwhile.

    python -m benchmarks.many [--runs 10000]

A real Jupyter server in a home of its own, and a job of three trivial cells. Meanwhile a page of 50 runs is asked for every tenth of a second, from
alternating ends of the list, and how many runs have ended every five seconds, with the processor time of all processes. The first and the last tenth
are compared, the first without what it takes to warm up (a hundredth). Idle is the same list afterwards. Figures go to `.cache/bench/many.json`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import notebooks
from benchmarks.environments import CACHE, make_environments, python
from benchmarks.latency import TOKEN, ask, percentile, server
from benchmarks.peers import SECONDS
from benchmarks.processes import commands, cpu_seconds, household

IDLE_REQUESTS = 500
SAMPLE_SECONDS, PAGE_SECONDS = 5.0, 0.1
STALLED_SECONDS = 300.0


@dataclass(frozen=True)
class Sample:
    """At a time: runs that have ended, processor seconds of everything so far, the server's memory in bytes."""

    at: float
    ended: int
    cpu: float
    memory: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    runs = parser.parse_args().runs
    make_environments()
    with tempfile.TemporaryDirectory(prefix="jjb") as folder, household():
        place = Path(folder)
        notebooks.write(place / "notebooks")
        with server(place, str(python("ours"))) as port:
            shutil.copytree(place / "notebooks" / "trivial", place / "work" / "trivial")
            measure(http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS), runs)


def measure(connection: http.client.HTTPConnection, runs: int) -> None:
    (pid,) = commands("-m jupyter_server")
    process = psutil.Process(pid)
    submit(connection, 2)
    while ask(connection, "GET", "jobs?status=queued,init,running")["jobs"]:
        time.sleep(0.5)
    before = process.memory_info().rss
    start = time.perf_counter()
    job = submit(connection, runs)
    submitted = time.perf_counter() - start
    samples, busy = follow(connection, job, process, runs)
    idle = [page(connection, job, number) for number in range(IDLE_REQUESTS)]
    tenth = max(runs // 10, 1)
    # during the last five seconds the runs came to their end
    full = samples[:-1] if len(samples) > 3 else samples
    first = part(full, runs // 100, tenth)
    last = part(full, runs - tenth, runs)
    p99, p99_idle = percentile(busy, 0.99), percentile(idle, 0.99)
    figures = {
        "runs": runs,
        "seconds": samples[-1].at - samples[0].at,
        "submitting": submitted,
        "first": first,
        "last": last,
        "time_ratio": last["seconds"] / first["seconds"],
        "cpu_ratio": last["cpu"] / first["cpu"],
        "growth": (max(sample.memory for sample in samples) - before) / 1e6,
        "p99": p99,
        "p99_idle": p99_idle,
        "p99_ratio": p99 / p99_idle,
        "pages": len(busy),
    }
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "many.json").write_text(json.dumps(figures | {"samples": [vars(sample) for sample in samples]}, indent=1))
    print(f"| a job of {runs:,} runs, {figures['seconds']:.0f} s (made in {submitted:.1f} s) | first tenth | last tenth | ratio | wanted |")
    print("|---|---|---|---|---|")
    print(f"| seconds a run | {first['seconds']:.3f} | {last['seconds']:.3f} | {figures['time_ratio']:.2f} | ≤ 1.2 |")
    print(f"| CPU seconds a run | {first['cpu']:.3f} | {last['cpu']:.3f} | {figures['cpu_ratio']:.2f} | ≤ 1.2 |")
    print(f"\nThe server grew by {figures['growth']:.0f} MB (wanted: at most 100). p99 of a page: {p99_idle:.1f} ms idle, {p99:.1f} ms meanwhile")
    print(f"({len(busy)} requests), {figures['p99_ratio']:.1f} times (wanted: at most 5).")


def submit(connection: http.client.HTTPConnection, runs: int) -> str:
    wanted = {"path": "trivial/trivial.ipynb", "parameters": {"n": list(range(runs))}, "accept_drift": True}
    return str(ask(connection, "POST", "jobs", wanted)["id"])


def follow(connection: http.client.HTTPConnection, job: str, process: psutil.Process, runs: int) -> tuple[list[Sample], list[float]]:
    """Samples until the last run has ended, and the seconds that each page took. Raises SystemExit when a run fails or nothing ends for long."""
    samples = [Sample(time.perf_counter(), 0, cpu_seconds(), process.memory_info().rss)]
    changed = samples[0]
    times: list[float] = []
    while samples[-1].ended < runs:
        until = samples[-1].at + SAMPLE_SECONDS
        while time.perf_counter() < until:
            times.append(page(connection, job, len(times)))
            time.sleep(PAGE_SECONDS)
        counts: Any = ask(connection, "GET", f"jobs/{job}")["counts"]
        if counts.get("failed") or counts.get("canceled"):
            raise SystemExit(f"not every run was complete: {counts}")
        samples.append(Sample(time.perf_counter(), counts.get("complete", 0), cpu_seconds(), process.memory_info().rss))
        if samples[-1].ended > changed.ended:
            changed = samples[-1]
        elif samples[-1].at - changed.at > STALLED_SECONDS:
            raise SystemExit(f"no run has ended for {STALLED_SECONDS:g} s: {counts}")
        print(f"{samples[-1].at - samples[0].at:.0f} s: {samples[-1].ended} runs", file=sys.stderr, flush=True)
    return samples, times


def part(samples: list[Sample], first: int, last: int) -> dict[str, float]:
    """Seconds and processor seconds a run, between the samples next to these numbers of runs."""
    begin = min((sample for sample in samples if sample.ended < samples[-1].ended), key=lambda sample: abs(sample.ended - first))
    end = min((sample for sample in samples if sample.ended > begin.ended), key=lambda sample: abs(sample.ended - last))
    runs = end.ended - begin.ended
    return {"seconds": (end.at - begin.at) / runs, "cpu": (end.cpu - begin.cpu) / runs}


def page(connection: http.client.HTTPConnection, job: str, number: int) -> float:
    """Seconds for a page of 50 runs, from the beginning or the end of the list."""
    start = time.perf_counter()
    connection.request(
        "GET", f"/jupyter-jobs/api/jobs/{job}/runs?limit=50&sort={'-' * (number % 2)}number", headers={"Authorization": f"token {TOKEN}"}
    )
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise SystemExit(f"a page of runs: {answer.status}")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
