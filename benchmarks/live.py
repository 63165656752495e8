"""One run at a time through a Jupyter server: from the request to its end, and how soon a listener on the event stream hears of each state."""

from __future__ import annotations

import http.client
import json
import shutil
import statistics
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from benchmarks.environments import python
from benchmarks.latency import TOKEN, ask, server
from benchmarks.peers import SECONDS

SEEN = ("running", "complete")


@dataclass(frozen=True)
class Heard:
    """Seconds from the request to the run's end; the median of the seconds from the run's own time of a state to the listener."""

    seconds: float
    heard: float


def measure(place: Path, work: Path, runs: int) -> list[Heard]:
    """So many jobs of one run, one after another, in a home of their own; a first one that warms everything is not counted."""
    place.mkdir()
    found = []
    with server(place, str(python("ours"))) as port:
        shutil.copytree(work / "trivial", place / "work" / "trivial")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        stream = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        stream.request("GET", "/jupyter-jobs/api/events/stream", headers={"Authorization": f"token {TOKEN}"})
        came: SimpleQueue[tuple[float, dict[str, Any]]] = SimpleQueue()
        listener = threading.Thread(target=listen, args=(stream.getresponse(), came), daemon=True)
        listener.start()
        for number in range(runs + 1):
            start = time.time()
            wanted = {"path": "trivial/trivial.ipynb", "parameters": {"n": [number]}, "accept_drift": True}
            job = str(ask(connection, "POST", "jobs", wanted)["id"])
            states = follow(came, job)
            delays = [arrived - at for arrived, at in states.values()]
            found.append(Heard(states["complete"][1] - start, statistics.median(delays)))
    return found[1:]


def follow(came: SimpleQueue[tuple[float, dict[str, Any]]], job: str) -> dict[str, tuple[float, float]]:
    """When the states of a job's only run were heard of, and when they began by the run's own account, in seconds since the epoch."""
    states: dict[str, tuple[float, float]] = {}
    while "complete" not in states:
        arrived, event = came.get(timeout=SECONDS)
        if event["job"] != job or event["kind"] != "run.state":
            continue
        if event["state"] in SEEN:
            states[event["state"]] = (arrived, datetime.fromisoformat(event["at"]).timestamp())
        elif event["state"] in ("failed", "canceled"):
            raise SystemExit(f"the run {event['run']} has {event['state']}")
    return states


def listen(answer: http.client.HTTPResponse, came: SimpleQueue[tuple[float, dict[str, Any]]]) -> None:
    """Put each event there with the time at which its line came."""
    try:
        for line in answer:
            if line.startswith(b"data:"):
                came.put((time.time(), json.loads(line[5:])))
    except (OSError, http.client.HTTPException):
        # the server ends with the benchmark
        return
