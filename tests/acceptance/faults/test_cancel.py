"""A canceled run is gone with all that it started, whatever that does about it: through REST and a dispatcher, forked and spawned."""

from __future__ import annotations

import fcntl
from pathlib import Path

import nbformat
import psutil
import pytest

from jupyter_jobs.client import Client
from jupyter_jobs.model import LivePath, Run
from jupyter_jobs.requests import CreateJob
from tests.acceptance.faults.site import Site, made_site
from tests.acceptance.faults.victims import OF_A_RUN, found_in

HOLDS = """
import fcntl, os, signal, subprocess
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
file = open(lock, 'a')
fcntl.lockf(file, fcntl.LOCK_EX)
subprocess.run(['setsid', '-f', 'sleep', seconds], env={'PATH': os.environ['PATH']}, check=True)
subprocess.Popen(['sleep', seconds], start_new_session=True)
print('holds', flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize("settings", [{}, {"fork": False}, {"fork": False, "workspace": "copy"}], ids=["forked", "spawned", "copy"])
def test_a_cell_that_ignores_signals_daemonises_and_holds_a_lock(tmp_path: Path, settings: dict[str, object]) -> None:
    lock = tmp_path / "live" / "lock"
    lock.parent.mkdir()
    with made_site(tmp_path / "site", number=4, **settings) as site, site.client() as client:
        run = _begin(site, client, lock)
        # setsid -f has ended before its child becomes sleep
        while len(sleeping := _sleeping(site)) < 2:
            assert client.run(run).status == "running"
        client.cancel_run(run)
        assert client.wait(run.rpartition("-")[0]).status == "canceled"
        assert not [process for process in sleeping if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
        # a runner that has written its result may take a moment to end
        assert [each for each in found_in(site) if each.kind in OF_A_RUN and each.kind != "runner"] == []
        with lock.open("a") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ended: Run = client.run(run)
        assert ended.ended_at is not None
        assert "Canceled" in client.notebook(run).decode()
        site.close()


def _sleeping(site: Site) -> list[psutil.Process]:
    """What has washed its environment is known by its argument."""
    return [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == ["sleep", site.seconds]]


def _begin(site: Site, client: Client, lock: Path) -> str:
    """The run, once its cell holds the lock and its daemons live."""
    folder = site.home / "root" / "holds"
    folder.mkdir()
    (folder / ".jobs.toml").write_text("")
    source = f"lock, seconds = {str(lock)!r}, {site.seconds!r}\n{HOLDS}"
    kernel = {"name": "python3", "display_name": "python3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)], metadata={"kernelspec": kernel}), folder / "holds.ipynb")
    job = client.create(CreateJob(path="holds/holds.ipynb", live=[LivePath(path=str(lock.parent), writable=True)], accept_drift=True))
    for line in client.logs(job.id, follow=True):
        if line.text == "holds":
            return f"{job.id}-1"
    raise AssertionError(client.run(f"{job.id}-1").error)
