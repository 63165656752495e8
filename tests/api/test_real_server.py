"""The extension in a real `jupyter server` of its own process, found by its installed configuration, with a real dispatcher and kernel."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_jobs.client import Client
from jupyter_jobs.dispatcher.process import stop_dispatcher
from jupyter_jobs.remote import HttpTransport
from jupyter_jobs.requests import CreateJob
from jupyter_jobs.settings import Jobs
from tests.api.running import TOKEN
from tests.factories import notebook, tree_of, write_project

CONFIGURATION = Path(__file__).parents[2] / "jupyter-config" / "jupyter_server_config.d"


@pytest.fixture
def server_url(places: Path, settings: Jobs) -> Iterator[str]:
    shutil.copytree(CONFIGURATION, places / "config" / "jupyter_server_config.d")
    write_project(places / "root" / "churn", {"input.txt": "41"}, {"report.ipynb": notebook(["print(int(open('input.txt').read()) + seed)"])})
    options = [f"--IdentityProvider.token={TOKEN}", "--ServerApp.base_url=/base/", "--ServerApp.port=0", f"--ServerApp.root_dir={places / 'root'}"]
    # the environment is frozen in tests of its own
    options += ["--Jobs.freeze_environment=False"]
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=places, env=dict(os.environ), start_new_session=True) as process:
        assert process.stderr is not None
        said = ""
        while "jupyter_jobs: ready" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        found = re.search(r"http://127\.0\.0\.1:(\d+)/base/", said)
        assert found, said
        try:
            yield found[0]
        finally:
            process.send_signal(signal.SIGTERM)
            print(process.stderr.read())  # shown by pytest when the test fails
    stop_dispatcher(settings)


def test_a_job_from_rest_to_result(server_url: str, places: Path) -> None:
    before = tree_of(places / "root")
    with Client(HttpTransport(server_url, token=TOKEN)) as client:
        assert client.jobs().jobs == []
        job = client.create(CreateJob(path="RTC:churn/report.ipynb", parameters={"seed": [1, 2]}, accept_drift=True))
        lines = [f"{line.run} {line.text}" for line in client.logs(job.id, follow=True) if line.stream == "stdout"]
        ended = client.wait(job.id)
        assert ended.status == "complete", [run.error for run in client.runs(job.id).runs]
        assert sorted(lines) == [f"{job.id}-1 42", f"{job.id}-2 43"]
        assert "43" in client.html(f"{job.id}-2")
        assert client.health().dispatcher.running
    assert tree_of(places / "root") == before


def test_a_dispatcher_that_is_killed_is_replaced_and_no_run_is_lost(server_url: str, places: Path) -> None:
    gate = places / "gate"
    os.mkfifo(gate)
    held = notebook(["print('begun', flush=True)", f"print(open({str(gate)!r}).read(), flush=True)"])
    write_project(places / "root" / "held", {}, {"held.ipynb": held})
    with Client(HttpTransport(server_url, token=TOKEN)) as client:
        job = client.create(CreateJob(path="held/held.ipynb", accept_drift=True))
        lines = client.logs(job.id, follow=True)
        first = next(lines, None)
        assert first is not None, client.run(f"{job.id}-1").error
        assert first.text == "begun"
        os.kill(client.health().dispatcher.pid, signal.SIGKILL)
        # opening waits for a reader, for ever if the run is lost
        threading.Thread(target=gate.write_text, args=("gone on",), daemon=True).start()
        assert [line.text for line in lines if line.stream == "stdout"] == ["gone on"]
        assert client.wait(job.id).status == "complete"
