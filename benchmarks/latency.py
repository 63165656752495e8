"""How fast `GET jobs` answers while a large project is frozen and runs execute, beside an idle server.

    python benchmarks/latency.py [--files 20000] [--megabytes 1024] [--rounds 3]

A real `jupyter server` in a home of its own. One request after another over one connection, as a panel would ask. Each round: idle requests,
then a job is made of the tree (every file changed since the last round) while two runs of another job execute, and requests go on until that
job is there. Prints medians over the rounds of p50 and p99 and their ratio.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat

from benchmarks.snapshot import make_tree

TOKEN = "benchmark"
IDLE_REQUESTS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jjb") as place, server(Path(place)) as port:
        measure(Path(place), port, arguments.files, arguments.megabytes, arguments.rounds)


@contextmanager
def server(place: Path, python: str = sys.executable) -> Iterator[int]:
    """A Jupyter server whose root is `place/work`; its port. `python`: whose environment it is."""
    (place / "work").mkdir()
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "JPY_"))}
    variables |= {f"JUPYTER_{name}_DIR": str(place / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")} | {"HOME": str(place)}
    command = [python, "-m", "jupyter_server", "--no-browser", "--allow-root", "--port=0", f"--ServerApp.root_dir={place / 'work'}"]
    command += [f"--IdentityProvider.token={TOKEN}", "--ServerApp.jpserver_extensions={'jupyter_jobs': True}"]
    process = subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    port = 0
    for line in process.stderr:
        if "http://127.0.0.1:" in line:
            port = int(line.split("http://127.0.0.1:")[1].split("/")[0])
        if "jupyter_jobs: ready" in line:
            break
    drain = threading.Thread(target=lambda: [None for _ in process.stderr or ()], daemon=True)
    drain.start()
    try:
        yield port
    finally:
        subprocess.run([python, "-m", "jupyter_jobs.cli", "dispatcher", "stop"], env=variables, check=True, stdout=subprocess.DEVNULL)
        process.terminate()
        process.wait()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: object = None) -> dict[str, object]:
    headers = {"Authorization": f"token {TOKEN}", "Content-Type": "application/json"}
    connection.request(method, f"/jupyter-jobs/api/{path}", json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 400:
        raise SystemExit(f"{method} {path}: {answer.status} {text.decode()}")
    return json.loads(text)


def measure(place: Path, port: int, files: int, megabytes: int, rounds: int) -> None:
    work = place / "work"
    (work / "small").mkdir()
    (work / "small" / ".jobs.toml").touch()
    write_notebook(work / "small" / "busy.ipynb", "import time\nuntil = time.monotonic() + 5\nwhile time.monotonic() < until: sum(range(10000))")
    print(f"making {files} files, {megabytes} MiB …", file=sys.stderr)
    make_tree(work / "large", files, megabytes)
    (work / "large" / ".jobs.toml").touch()
    write_notebook(work / "large" / "report.ipynb", "1")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    # the environment is frozen once, so that the rounds measure the project
    ask(connection, "POST", "jobs", {"path": "small/busy.ipynb", "accept_drift": True})
    idle: list[list[float]] = []
    busy: list[list[float]] = []
    for number in range(rounds):
        while ask(connection, "GET", "jobs?status=queued,init,running")["jobs"]:
            time.sleep(1)
        idle.append([timed(connection) for _ in range(IDLE_REQUESTS)])
        for file in (work / "large").glob("part*/*/*"):
            with file.open("r+b") as stream:
                stream.write((number + 1 << 40).to_bytes(8, "little"))
        ask(connection, "POST", "jobs", {"path": "small/busy.ipynb", "accept_drift": True, "parameters": {"n": [number, -number - 1]}})
        done = threading.Event()

        def freeze(done: threading.Event = done) -> None:
            ask(http.client.HTTPConnection("127.0.0.1", port, timeout=600), "POST", "jobs", {"path": "large/report.ipynb", "accept_drift": True})
            done.set()

        freezing = threading.Thread(target=freeze)
        freezing.start()
        times: list[float] = []
        while not done.is_set():
            times.append(timed(connection))
        freezing.join()
        busy.append(times)
    show(idle, busy, files, megabytes)


def timed(connection: http.client.HTTPConnection) -> float:
    start = time.perf_counter()
    ask(connection, "GET", "jobs?limit=50")
    return time.perf_counter() - start


def write_notebook(path: Path, source: str) -> None:
    path.parent.mkdir(exist_ok=True)
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)], metadata=metadata), path)


def percentile(times: list[float], share: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


def show(idle: list[list[float]], busy: list[list[float]], files: int, megabytes: int) -> None:
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores; {files} files, {megabytes} MiB, {len(idle)} rounds")
    print("| GET jobs, ms | p50 | p99 | requests |")
    print("|---|---|---|---|")
    for name, rounds in (("idle", idle), ("while freezing, with 2 runs", busy)):
        p50, p99 = (statistics.median(percentile(times, share) for times in rounds) for share in (0.5, 0.99))
        print(f"| {name} | {p50:.1f} | {p99:.1f} | {sum(map(len, rounds))} |")
    ratio = statistics.median(percentile(b, 0.99) / percentile(i, 0.99) for i, b in zip(idle, busy, strict=True))
    print(f"\np99 while busy / idle p99: {ratio:.1f} (wanted: at most 5)")


if __name__ == "__main__":
    main()
