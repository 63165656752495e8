"""Notebooks that fight: whatever they do to their run, the store tells the truth about it and nothing of them stays."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.acceptance.place import Place, write_notebook

FORGE = """
import json, shutil
from pathlib import Path
refused = []
for directory in Path({store!r}).glob('runs/*/*/*'):
    forged = dict(state='complete', started_at=1, ended_at=2, records=dict(auc=1000), cells=dict(done=1, total=1))
    try:
        (directory / 'result.json').write_text(json.dumps(forged))
    except OSError:
        refused.append(directory)
    shutil.rmtree(directory, ignore_errors=True)
assert refused, 'the store was not in sight'
"""
KILL = """
import os, signal, time
def parent(pid): return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
kernel_server = parent(os.getppid())
fork_server = parent(kernel_server)
for child in open(f"/proc/{fork_server}/task/{fork_server}/children").read().split():
    if int(child) != kernel_server:
        os.kill(int(child), signal.SIGKILL)
time.sleep(600)
"""
DAEMONS = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.closerange(0, 200)
        os.execve('/bin/sleep', ['sleep', {seconds!r}], {{}})
    os._exit(0)
time.sleep(0.5)
"""


ASKS = """
import glob, json, os, socket, struct
answered = []
body = json.dumps({{"argv": [], "env": {{}}, "place": None, "cwd": "/", "path": [], "preload": []}}).encode()
for path in glob.glob({sockets!r} + "/**", recursive=True):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.settimeout(5)
        try:
            door.connect(path)
            reader, writer = os.pipe()
            rights = struct.pack("2i", writer, writer)
            door.sendmsg([struct.pack(">I", len(body))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            door.sendall(body)
            if b'"keeper"' in door.recv(1000):
                answered.append(os.path.basename(path))
        except OSError:
            pass
"""


@pytest.fixture(autouse=True)
def needs_overlays(place: Place) -> None:
    """Where runs work on copies there is no namespace that could keep them from the store."""
    health = place.json("doctor")
    if "copies" in str(health):
        pytest.skip("no mount namespaces here")


def test_a_forged_result_is_not_believed(place: Place, project: Path) -> None:
    store = str(place.data)
    honest = write_notebook(project / "forges.ipynb", FORGE.format(store=store), "auc = 0.5")
    job = place.json("run", honest, "--record", "auc", "--wait")
    [run] = place.runs(str(job["id"]))
    assert (run["state"], run["records"]) == ("complete", {"auc": 0.5})

    killed = write_notebook(project / "kills.ipynb", FORGE.format(store=store) + KILL)
    job = place.json("run", killed, "--wait", code=1)
    [run] = place.runs(str(job["id"]))
    assert run["state"] == "failed"
    assert run["error"]["code"] == "interrupted"  # type: ignore[index]
    assert run["records"] == {}


def test_a_run_gets_no_process_outside_its_own_place(place: Place, project: Path) -> None:
    """A warm kernel server forks processes that are in no run's place yet: a run must find none that listens to it."""
    asks = write_notebook(project / "asks.ipynb", ASKS.format(sockets=place.variables["XDG_RUNTIME_DIR"]), "found = answered")
    job = place.json("run", asks, "--record", "found", "--wait")
    [run] = place.runs(str(job["id"]))
    assert (run["state"], run["records"]) == ("complete", {"found": []})


def test_no_daemon_outlives_its_run(place: Place, project: Path) -> None:
    seconds = "86397"
    job = place.json("run", write_notebook(project / "forks.ipynb", DAEMONS.format(seconds=seconds)), "--wait")
    assert job["counts"] == {"complete": 1}
    assert not [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == ["sleep", seconds]]
