"""`%job` in real kernels: one of its own, one of a Jupyter server, a terminal's IPython, and one that is itself a run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from tests.acceptance.kernel import SECONDS, Kernel, started_kernel
from tests.acceptance.place import Place, write_notebook
from tests.acceptance.server import TOKEN, served


@pytest.fixture(scope="module")
def folder(place: Place) -> Path:
    """The project that the kernels are in."""
    made = place.home / "work" / "magic"
    made.mkdir(parents=True)
    (made / ".jobs.toml").write_text("")
    return made


@pytest.fixture(scope="module")
def kernel(place: Place, folder: Path) -> Iterator[Kernel]:
    with started_kernel(folder, place.variables, place.home / "kernel.json") as started:
        assert started.run("%load_ext jupyter_jobs").reply["status"] == "ok"
        yield started


def test_run_returns_at_once_and_its_view_follows_to_the_end(place: Place, folder: Path, kernel: Kernel) -> None:
    gate = place.home / "gate"
    os.mkfifo(gate)
    write_notebook(folder / "x.ipynb", f"open({str(gate)!r}).read()", "twice = 2 * alpha", parameters="alpha = 0")

    cell = kernel.run("%job run x.ipynb -p alpha 11 -p alpha 12 --record twice")

    assert cell.error == ""
    view = kernel.view(cell)
    # no run can end before the gate opens, so the cell did not wait
    assert (view.bar["value"], view.bar["max"]) == (0, 2)
    assert "0 of 2 complete" in view.html
    assert "<table" not in view.html
    assert re.fullmatch(r"job [0-9a-f]{8} x: 0 of 2 complete.*", view.text.strip("'"))
    kernel.until(lambda: "1 running" in view.html or "2 running" in view.html)
    opener = subprocess.Popen([sys.executable, "-c", f"while True: open({str(gate)!r}, 'w').close()"])
    try:
        kernel.until(lambda: "<table" in view.html)
    finally:
        opener.kill()
        opener.wait()
    assert (view.bar["value"], view.bar["bar_style"]) == (2, "success")
    assert "2 of 2 complete" in view.html
    for text in ("<th>alpha</th>", "<th>twice</th>", "<td>11</td>", "<td>22</td>", "<td>12</td>", "<td>24</td>"):
        assert text in view.html


def test_wait_blocks_and_list_and_show_find_the_job(place: Place, folder: Path, kernel: Kernel) -> None:
    write_notebook(folder / "waited.ipynb", "1 / n", parameters="n = 1")
    cell = kernel.run("n = 0\n%job run waited.ipynb --name 'a <b>' -p n 2 -p n {n} --wait\nafter = 1")
    # a notebook that waits for a job does not go on when it failed
    assert (cell.reply["status"], cell.reply["ename"]) == ("error", "JobNotComplete")
    assert cell.reply["evalue"].endswith("a <b>: 1 of 2 complete, 1 failed. Run 2: Cell 2 raised ZeroDivisionError: division by zero")
    assert cell.tracebacks == [f"JobNotComplete: {cell.reply['evalue']}"]
    assert "NameError" in kernel.run("after").error
    view = kernel.view(cell)
    # all that the view says was said before the cell ended
    assert (view.bar["value"], view.bar["bar_style"]) == (2, "danger")
    assert "1 of 2 complete, 1 failed" in view.html
    assert "ZeroDivisionError" in view.html
    assert "a &lt;b&gt;" in view.html
    assert "<b>a <b>" not in view.html

    (job,) = place.json("list", "--search", "waited")["jobs"]  # type: ignore[misc]
    listed = kernel.run("%job list --search waited")
    (shown,) = [output["data"] for output in listed.outputs]
    assert job["id"] in shown["text/html"]
    assert "a &lt;b&gt;" in shown["text/html"]
    assert job["id"] in shown["text/plain"]

    again = kernel.view(kernel.run(f"%job show {job['id'][:6]}"))
    kernel.until(lambda: "<table" in again.html)
    assert "ZeroDivisionError" in again.html


def test_its_button_cancels(place: Place, folder: Path, kernel: Kernel) -> None:
    gate = place.home / "gate-of-button"
    os.mkfifo(gate)
    write_notebook(folder / "canceled.ipynb", f"open({str(gate)!r}).read()")
    view = kernel.view(kernel.run("%job run canceled.ipynb"))
    kernel.until(lambda: "1 running" in view.html)
    view.click_cancel()
    kernel.until(lambda: "<table" in view.html)
    assert "1 canceled" in view.html


def test_interrupting_wait_cancels(place: Place, folder: Path, kernel: Kernel) -> None:
    gate = place.home / "gate-of-interrupt"
    os.mkfifo(gate)
    write_notebook(folder / "interrupted.ipynb", f"open({str(gate)!r}).read()")
    process = int(kernel.run("import os; print(os.getpid())").text)
    asked = kernel.client.execute("%job run interrupted.ipynb --name stopped --wait")
    with gate.open("w"):
        # the run is under way, so the cell waits; until it displays its view there is nothing to interrupt
        kernel.until(lambda: any("stopped" in str(state.get("value")) for state in kernel.widgets.values()))
        os.kill(process, signal.SIGINT)
        cell = kernel.finish(asked)
    (job,) = place.json("list", "--search", "stopped")["jobs"]  # type: ignore[misc]
    assert job["counts"] == {"canceled": 1}
    assert cell.tracebacks == [f"JobNotComplete: job {job['id']} stopped: 0 of 1 complete, 1 canceled."]


def test_warnings_are_shown_with_the_job(folder: Path, kernel: Kernel) -> None:
    (folder / ".jobsignore").write_text("left-out.csv\n")
    (folder / "left-out.csv").write_text("1")
    write_notebook(folder / "warned.ipynb", "open('left-out.csv').read()")
    view = kernel.view(kernel.run("%job run warned.ipynb --wait"))
    assert "warning: Cell 1 names left-out.csv" in view.html


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "%job what? There are run, list, show"),
        ("delete x", "There is no %job delete."),
        ("run", "the following arguments are required: PATH"),
        ("run missing.ipynb", "missing.ipynb"),
        ("run broken.ipynb", "broken.ipynb"),
        ("run good.ipynb -p alpha", "expected 2 arguments"),
        ("run good.ipynb -p alpha nan", "alpha"),
        ("run good.ipynb --only 7", "7"),
        ("run good.ipynb --nonsense", "--nonsense"),
        ("run 'good.ipynb", "No closing quotation"),
        ("show ffffffff", "ffffffff"),
        ("list --limit many", "--limit"),
        ("list --status odd", "odd"),
        ("list --json", "command line"),
        ("list --url nowhere", "http"),
    ],
)
def test_what_cannot_be_done_is_one_line(folder: Path, kernel: Kernel, line: str, said: str) -> None:
    (folder / "broken.ipynb").write_text("{")
    write_notebook(folder / "good.ipynb", "1", parameters="alpha = 1")
    cell = kernel.run(f"%job {line}")
    assert cell.reply["status"] == "error"
    assert cell.reply["ename"] == "UsageError"
    assert cell.tracebacks == []
    (shown,) = cell.text.strip().splitlines()
    assert shown.startswith("UsageError: ")
    assert said in shown


def test_help_is_no_error(kernel: Kernel) -> None:
    cell = kernel.run("%job run --help")
    assert cell.error == ""
    assert cell.text.startswith("usage: %job run")


def test_a_run_starts_no_jobs(place: Place, folder: Path) -> None:
    inner = "%load_ext jupyter_jobs\n%job run recurses.ipynb"
    notebook = write_notebook(folder / "recurses.ipynb", "!{__import__('sys').executable} -m jupyter_jobs.cli run recurses.ipynb", inner)
    job = place.json("run", notebook, "--wait", code=1)
    (run,) = place.runs(str(job["id"]))
    error = run["error"]
    assert isinstance(error, dict)
    assert error["ename"] == "UsageError"
    assert "itself running as a job" in error["evalue"]
    # the command line refuses as well
    assert place.jobs("logs", str(run["id"])).count("itself running as a job") >= 1
    assert len(place.json("list", "--search", "recurses")["jobs"]) == 1  # type: ignore[arg-type]


def test_a_terminals_ipython_shows_text_and_needs_no_server(place: Place, folder: Path) -> None:
    write_notebook(folder / "plain.ipynb", "print(alpha)", parameters="alpha = 1")
    lines = "\n".join(["%load_ext jupyter_jobs", "%job run plain.ipynb -p alpha 5 --wait", "%job list --search plain", "%job run gone.ipynb"])
    write_notebook(folder / "broken-in-a-cell.ipynb", "1 / 0")
    lines += "\n%job run broken-in-a-cell.ipynb --wait"
    command = [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit", "--colors=NoColor"]
    done = subprocess.run(command, input=lines, env=place.variables, cwd=folder, capture_output=True, text=True, timeout=SECONDS)
    said = done.stdout + done.stderr
    assert re.search(r"-1\s+✓ complete\s+5", said), said
    assert "UsageError: " in said
    assert re.search(r"JobNotComplete: job \w+ broken-in-a-cell: 0 of 1 complete, 1 failed. Run 1: Cell 1 raised ZeroDivisionError", said), said
    assert "Traceback" not in said
    assert "JobView" not in said
    (job,) = place.json("list", "--search", "plain")["jobs"]  # type: ignore[misc]
    assert job["id"] in said
    assert job["source"] == "plain.ipynb"


def test_in_a_servers_kernel_it_asks_the_server(place: Place, folder: Path) -> None:
    write_notebook(folder / "asked.ipynb", "print(alpha)", parameters="alpha = 1")
    (folder / "other.json").write_text('{"alpha": [3, 4]}')
    outside = write_notebook(place.home / "elsewhere" / "outside.ipynb", "1")
    root = place.home / "root"
    # as where homes are links: the kernel's working directory has none, the server's root does
    root.symlink_to(folder.parent)
    with served(place, root) as (url, log):
        body = json.dumps({"name": "", "path": "magic/asked.ipynb", "type": "notebook", "kernel": {"name": "python3"}}).encode()
        request = urllib.request.Request(f"{url}api/sessions", data=body, headers={"Authorization": f"token {TOKEN}"}, method="POST")
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            session = json.load(answer)
        client = BlockingKernelClient(connection_file=str(place.home / "runtime" / f"kernel-{session['kernel']['id']}.json"))
        client.load_connection_file()
        client.start_channels()
        client.wait_for_ready(timeout=SECONDS)
        try:
            kernel = Kernel(client)
            kernel.run("%load_ext jupyter_jobs")
            cell = kernel.run("%job run asked.ipynb -g other.json --wait")
            assert cell.error == ""
            assert "2 of 2 complete" in kernel.view(cell).html
            refused = kernel.run(f"%job run {outside}")
            assert "UsageError: " in refused.text
            assert "is not below" in refused.text
            unknown = kernel.run("%job run ~nobody-of-this-name/missing.ipynb")
            assert unknown.tracebacks == []
            assert "UsageError: There is no notebook " in unknown.text
            # a terminal of JupyterLab has the same variables as its kernels
            words = ["-m", "jupyter_jobs.cli", "run", "asked.ipynb", "--no-grid", "--json"]
            command = kernel.run(f"import subprocess, sys\nprint(subprocess.run([sys.executable, *{words}], capture_output=True, text=True).stdout)")
            assert json.loads(command.text)["source"] == "magic/asked.ipynb"
        finally:
            client.stop_channels()
    found = place.json("list", "--search", "asked")["jobs"]
    assert isinstance(found, list)
    assert [job["source"] for job in found] == ["magic/asked.ipynb"] * 2
    assert found[1]["project"] == str(root / "magic")
    assert TOKEN not in log.read_text()


def test_importing_the_package_is_light() -> None:
    heavy = ["sqlalchemy", "tornado", "rich", "IPython", "ipywidgets", "msgspec", "papermill", "nbformat", "jupyter_server", "zmq"]
    code = f"import sys, jupyter_jobs; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
