"""Stands in for the runner: `python stand_in.py RUN_DIR` does what the run's parameters say. Standard library only, so it starts at once."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

directory = Path(sys.argv[-1])
spec = json.loads((directory / "run.json").read_text())
does = spec["parameters"]
started = time.time()
# as `rundir.claim` does it
identity = {"pid": os.getpid(), "started": int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])}
claim = directory / f"claim-{os.getpid()}"
claim.write_text(json.dumps(identity))
try:
    os.link(claim, directory / "runner.json")
except FileExistsError:
    sys.exit(1)


def event(**fields):
    with (directory / "events.jsonl").open("a") as file:
        file.write(json.dumps({"at": time.time(), **fields}) + "\n")
    hint = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with contextlib.suppress(OSError):
        hint.sendto(json.dumps({"run": spec["run"], "attempt": spec["attempt"]}).encode(), spec["hints"])
    hint.close()


def result(state, error=None, done=0):
    total = does.get("cells", 0)
    (directory / "output.ipynb").write_text("{}")
    (directory / "work" / "files").mkdir(parents=True, exist_ok=True)
    (directory / "work" / "files" / "plot.png").write_text("image")
    body = {
        "state": state,
        "error": error,
        "started_at": started,
        "ended_at": time.time(),
        "records": {"answer": 42} if state == "complete" else {},
        "artifacts": [{"path": "plot.png", "bytes": 5, "kind": "created"}],
        "peak_memory": does.get("peak", 1000),
        "live": [],
        "kernel_exit": 0,
        "cells": {"done": done, "total": total},
    }
    (directory / "result.tmp").write_text(json.dumps(body))
    (directory / "result.tmp").replace(directory / "result.json")


def on_term(*_):
    result("canceled")
    sys.exit(0)


def on_usr1(*_):
    # what it was told, for a test to read
    limits = json.loads((directory / "limits.json").read_text())
    with (directory / "told").open("a") as file:
        file.write(f"{limits['time_limit']:g}\n")


what = does.get("do", "complete")
signal.signal(signal.SIGUSR1, on_usr1)
signal.signal(signal.SIGTERM, signal.SIG_IGN if what == "stubborn" else on_term)
(directory / "starts").open("a").write("x")
if what == "die":
    print("the stand-in dies", flush=True)
    sys.exit(7)
event(kind="state", state="running")
if what in ("stubborn", "orphan"):
    # a process that leaves the session, as a kernel's child may
    mark = {**os.environ, "JUPYTER_JOBS_RUN": spec["run"]}
    child = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.signal(15, signal.SIG_IGN); signal.pause()"], env=mark, start_new_session=True
    )
    (directory / "child").write_text(str(child.pid))
    event(kind="progress", done=0, total=1, cell={"id": "a", "number": 1})
    while True:
        signal.pause()
if "early" in does:
    event(kind="record", name="early", value=does["early"])
if "gate" in does:
    Path(does["gate"]).open("rb").close()
for number in range(does.get("cells", 0)):
    event(kind="progress", done=number + 1, total=does["cells"], cell={"id": f"c{number}", "number": number + 1})
if "then" in does:
    Path(does["then"]).open("rb").close()
if what == "fail" and spec["attempt"] <= does.get("times", 1000):
    code = does.get("code", "cell_failed")
    result("failed", {"code": code, "message": "A cell failed.", "ename": "ValueError", "cell": {"id": "c0", "number": 1}})
else:
    event(kind="record", name="answer", value=42)
    result("complete", done=does.get("cells", 0))
