"""How long the page of a run takes, and what a notebook of 100 MB does to the server.

    python -m benchmarks.html [--rounds 5] [--megabytes 100]

A real `jupyter server` in a home of its own, and a run of its own whose executed notebook is replaced by ordinary and large ones. Prints medians
of the time until a page has come whole, and for each large notebook the growth of the server's memory and p99 of `GET health` while its page is
rendered and sent, beside the idle one.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import platform
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.latency import IDLE_REQUESTS, TOKEN, ask, percentile, server, write_notebook

MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jjb") as place, server(Path(place)) as port:
        measure(Path(place), port, arguments.rounds, arguments.megabytes)


def measure(place: Path, port: int, rounds: int, megabytes: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    (place / "work" / ".jobs.toml").touch()
    write_notebook(place / "work" / "report.ipynb", "1")
    job = ask(connection, "POST", "jobs", {"path": "report.ipynb", "accept_drift": True})["id"]
    while ask(connection, "GET", "jobs?status=queued,init,running")["jobs"]:
        time.sleep(0.2)
    executed = place / "data" / "jobs" / "runs" / str(job) / "1" / "1" / "output.ipynb"
    page = f"runs/{job}-1/html"
    (process,) = (child for child in psutil.Process().children() if "jupyter_server" in " ".join(child.cmdline()))

    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores; {rounds} rounds\n")
    print("| an ordinary notebook (40 cells, 4 pictures) | s | page, MB |")
    print("|---|---|---|")
    cold, warm, cached, unchanged = [], [], [], []
    for number in range(rounds):
        put(executed, ordinary(2 * number))
        end_workers(process)
        cold.append(fetched(connection, page))
        put(executed, ordinary(2 * number + 1))
        warm.append(fetched(connection, page))
        cached.append(fetched(connection, page))
        unchanged.append(fetched(connection, page, cached[-1][2]))
    for name, found in (("first, cold worker", cold), ("first, warm worker", warm), ("cached", cached), ("304", unchanged)):
        print(f"| {name} | {statistics.median(seconds for seconds, _, _ in found):.3f} | {found[0][1] / 1e6:.2f} |", flush=True)

    kinds: dict[str, Callable[[int], object]] = {"many outputs": many_outputs, "one stream": one_stream, "pictures": pictures}
    print(f"\n| {megabytes} MB as | first, s | cached, s | page, MB | server + MB | worker's peak, MB | p99 of health idle, ms | meanwhile | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, make in kinds.items():
        put(executed, make(megabytes * 1_000_000))
        end_workers(process)
        idle = percentile([timed(connection) for _ in range(IDLE_REQUESTS)], 0.99)
        with watched(process) as seen:
            times, first, again = meanwhile(connection, port, page)
        p99 = percentile(times, 0.99)
        growth, peak = (amount / 1e6 for amount in (seen["server"], seen["worker"]))
        print(
            f"| {name} | {first[0]:.1f} | {again[0]:.2f} | {first[1] / 1e6:.1f} | {growth:.0f} | {peak:.0f}"
            f" | {idle:.1f} | {p99:.1f} | {p99 / idle:.1f} |",
            flush=True,
        )


def meanwhile(connection: http.client.HTTPConnection, port: int, page: str) -> tuple[list[float], tuple[float, int, str], tuple[float, int, str]]:
    """Times of `GET health` while the page is fetched twice, and what the two took."""
    results: list[tuple[float, int, str]] = []

    def fetch() -> None:
        other = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        results.extend(fetched(other, page) for _ in range(2))

    thread = threading.Thread(target=fetch)
    thread.start()
    times = [timed(connection)]
    while thread.is_alive():
        times.append(timed(connection))
    thread.join()
    return times, results[0], results[1]


@contextmanager
def watched(process: psutil.Process) -> Iterator[dict[str, int]]:
    """By how much the server's memory grew at most, and the most that one of its workers held, in bytes; looked at every 20 ms."""
    before = process.memory_info().rss
    seen = {"server": 0, "worker": 0}
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            seen["server"] = max(seen["server"], process.memory_info().rss - before)
            for worker in workers(process):
                try:
                    seen["worker"] = max(seen["worker"], worker.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def workers(process: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in process.children():
        try:
            if "jupyter_jobs.api.worker" in child.cmdline():
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def end_workers(process: psutil.Process) -> None:
    """So that the next page is rendered by a process that starts for it."""
    ended = workers(process)
    for worker in ended:
        worker.kill()
    while any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in ended):
        time.sleep(0.01)


def timed(connection: http.client.HTTPConnection) -> float:
    start = time.perf_counter()
    ask(connection, "GET", "health")
    return time.perf_counter() - start


def fetched(connection: http.client.HTTPConnection, page: str, etag: str = "") -> tuple[float, int, str]:
    """Seconds until the page was there, its bytes, its ETag."""
    start = time.perf_counter()
    headers = {"Authorization": f"token {TOKEN}", **({"If-None-Match": etag} if etag else {})}
    connection.request("GET", f"/jupyter-jobs/api/{page}", headers=headers)
    answer = connection.getresponse()
    size = 0
    while chunk := answer.read(MIB):
        size += len(chunk)
    if answer.status != (304 if etag else 200):
        raise SystemExit(f"{page}: {answer.status}")
    return time.perf_counter() - start, size, answer.headers["ETag"]


def put(path: Path, notebook: object) -> None:
    """As the runner writes it: another file in its place."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(notebook))
    new.replace(path)


def ordinary(seed: int) -> object:
    cells: list[object] = []
    rows = "".join(f"<tr><th>{row}</th><td>{row * seed}</td><td>{row / 7:.3f}</td></tr>" for row in range(20))
    for number in range(20):
        prose = f"## Part {number}\n\nSome *text* with `code`, a [link](https://example.org) and $x^{number}$.\n\n- one\n- two\n"
        cells.append({"cell_type": "markdown", "id": f"m{number}", "metadata": {}, "source": prose})
        code = f"import pandas as pd\ndf = pd.read_csv('part{number}.csv')\ndf[df.a > {seed}].groupby('b').mean().head(20)"
        outputs = [stream("reading …\n" * 10), shown({"text/html": f"<table>{rows}</table>", "text/plain": "   a  b\n" * 20})]
        if number % 5 == 0:
            outputs.append(shown({"image/png": noise(seed * 100 + number, 40_000), "text/plain": "<Figure size 640x480 with 1 Axes>"}))
        cells.append(code_cell(f"c{number}", code, outputs))
    return document(cells)


def many_outputs(size: int) -> object:
    row = "<tr><td>" + "0123456789" * 98 + "</td></tr>"
    return document([code_cell(f"c{cell}", "display(…)", [shown({"text/html": row})] * (size // 10 // len(row))) for cell in range(10)])


def one_stream(size: int) -> object:
    line = "a line of a log that somebody forgot to turn off before the night\n"
    # as nbformat saves it: a list of lines
    return document([code_cell("c", "train()", [{"output_type": "stream", "name": "stdout", "text": [line] * (size // len(line))}])])


def pictures(size: int) -> object:
    each = MIB
    cells = [code_cell(f"c{number}", "plot()", [shown({"image/png": noise(number, each * 3 // 4)})]) for number in range(size // each)]
    return document(cells)


def noise(seed: int, size: int) -> str:
    return base64.b64encode(random.Random(seed).randbytes(size)).decode()


def stream(text: str) -> object:
    return {"output_type": "stream", "name": "stdout", "text": text}


def shown(data: dict[str, str]) -> object:
    return {"output_type": "display_data", "metadata": {}, "data": data}


def code_cell(name: str, source: str, outputs: list[object]) -> object:
    return {"cell_type": "code", "id": name, "metadata": {}, "execution_count": 1, "source": source, "outputs": outputs}


def document(cells: list[object]) -> object:
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}


if __name__ == "__main__":
    main()
