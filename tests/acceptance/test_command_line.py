"""The command line: what it prints, how it ends, what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat

from tests.acceptance.place import Place, write_notebook


def test_values_add_up_and_replace_the_files_list(place: Place, project: Path) -> None:
    notebook = write_notebook(project / "sum.ipynb", "total = a + b\nprint('total', total)", parameters="a = 1\nb = 10")
    (project / "sum.parameters.json").write_text('{"a": [1, 2, 3], "b": [10, 20]}')

    said = place.jobs("run", notebook, "-p", "a", "5", "-p", "a", "6", "--only", "2-3", "--record", "total", "--output-dir", "out", "--wait")

    assert "2 runs over a, b" in said
    (job,) = place.json("list", "--search", "sum")["jobs"]  # type: ignore[misc]
    runs = place.runs(job["id"])
    assert [(run["combination"], run["parameters"], run["records"]) for run in runs] == [
        (2, {"a": 5, "b": 20}, {"total": 25}),
        (3, {"a": 6, "b": 10}, {"total": 16}),
    ]
    # outputs lie where they were wanted, a folder for each run
    for run in runs:
        delivered = nbformat.read(project / "out" / str(run["id"]) / "sum.ipynb", 4)
        assert delivered.cells[-1].outputs[0].text == f"total {run['records']['total']}\n"  # type: ignore[index]
    assert place.jobs("logs", str(runs[0]["id"])) == "total 25\n"


def test_making_a_job_imports_nothing_that_it_does_not_need(place: Place, project: Path) -> None:
    notebook = write_notebook(project / "light.ipynb", "1")
    place.jobs("run", notebook, "--wait")  # so that the store is there
    heavy = "nbformat", "nbconvert", "jsonschema", "jupyter_client", "zmq", "tornado", "IPython", "alembic", "papermill", "psutil", "http.client"
    code = f"import sys; from jupyter_jobs.cli import main; main(['run', {str(notebook)!r}]); print({set(heavy)} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], env=place.variables, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_failed_run_ends_with_1_and_says_where(place: Place, project: Path) -> None:
    notebook = write_notebook(project / "fails.ipynb", "print('so far')", "1 / n", parameters="n = 0")
    said = place.jobs("run", notebook, "-p", "n", "0", "-p", "n", "1", "--wait", code=1)
    assert "Cell 3 raised ZeroDivisionError" in said
    (job,) = place.json("list", "--search", "fails")["jobs"]  # type: ignore[misc]
    assert job["counts"] == {"complete": 1, "failed": 1}
    assert job["status"] == "failed"
    failed = place.runs(job["id"])[0]
    assert failed["error"]["code"] == "cell_error"  # type: ignore[index]
    page = place.jobs("html", str(failed["id"]), "-o", "-")
    assert "so far" in page
    assert "ZeroDivisionError" in page


def test_bad_input_ends_with_2_and_makes_nothing(place: Place, project: Path) -> None:
    notebook = write_notebook(project / "refused.ipynb", "1", parameters="a = 1")
    broken = project / "broken.ipynb"
    broken.write_text("{")
    for words, code in [
        (["run", project / "missing.ipynb"], "notebook_not_found"),
        (["run", broken], "notebook_invalid"),
        (["run", "~nobody-of-this-name/missing.ipynb"], "notebook_not_found"),
        (["run", notebook, "--project", "~nobody-of-this-name"], "bad_input"),
        (["run", notebook, "--output-dir", "/"], "bad_output_dir"),
        (["run", notebook, "-p", "a", "nan"], "grid_invalid"),
        (["run", notebook, "-p", "a", "1", "--only", "7"], "no_such_combination"),
        (["run", notebook, "-g", project / "nowhere.json"], "grid_invalid"),
        (["show", "ffffffff"], "job_not_found"),
        (["logs", "ffffffff-1"], "job_not_found"),
        (["cancel", "ffffffff"], "job_not_found"),
    ]:
        error = json.loads(place.jobs(*words, "--json", code=2))
        assert error["message"], words
        assert error["code"] == code, (words, error)
    assert place.json("list", "--search", "refused")["jobs"] == []


def test_ignored_inputs_are_named_before_and_explained_after(place: Place, project: Path) -> None:
    (project / ".gitignore").write_text("data/\n")
    (project / "data").mkdir()
    (project / "data" / "train.csv").write_text("x\n1\n")
    notebook = write_notebook(project / "reads.ipynb", "text = open('data/train.csv').read()")

    said = place.jobs("run", notebook, "--wait", code=1)
    assert "warning: Cell 1 names data/train.csv, which is left out of the snapshot (.gitignore:1: data/)." in said
    (job,) = place.json("list", "--search", "reads")["jobs"]  # type: ignore[misc]
    error = place.runs(job["id"])[0]["error"]
    assert error["code"] == "input_not_in_snapshot"  # type: ignore[index]
    assert ".gitignore" in error["message"]  # type: ignore[index]

    included = place.json("run", notebook, "--include", "data/train.csv", "--record", "text", "--wait")
    assert place.runs(str(included["id"]))[0]["records"] == {"text": "x\n1\n"}

    live = place.json("run", notebook, "--live", "data", "--record", "text", "--wait")
    (run,) = place.runs(str(live["id"]))
    assert run["records"] == {"text": "x\n1\n"}
    (facts,) = run["live"]  # type: ignore[misc]
    assert (facts["files"], facts["bytes"]) == (1, 4)
    assert facts["modified"]


def test_interrupting_wait_cancels_and_ends_with_130(place: Place, project: Path) -> None:
    gate = project.parent / "gate-of-cancel"
    os.mkfifo(gate)
    notebook = write_notebook(project / "waits.ipynb", f"print('waiting', flush=True)\nopen({str(gate)!r}).read()")
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyter_jobs.cli", "run", notebook, "--wait", "--json"],
        env=place.variables,
        stdout=subprocess.PIPE,
        text=True,
    )
    # the run is under way once its cell has opened the pipe for reading
    writer = gate.open("w")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    writer.close()
    assert process.returncode == 130
    assert json.loads(said)["counts"] == {"canceled": 1}


def test_a_job_is_deleted_with_all_that_only_it_had(place: Place, project: Path) -> None:
    gate = project.parent / "gate-of-delete"
    os.mkfifo(gate)
    notebook = write_notebook(project / "deleted.ipynb", f"open({str(gate)!r}).read()")
    job = str(place.json("run", notebook)["id"])
    with gate.open("w"):
        assert json.loads(place.jobs("delete", job, "--json", code=2))["code"] == "job_active"
        place.jobs("delete", job, "--cancel")
        # ends when the job's last event has been told
        place.jobs("logs", job, "--follow", code=2)
    assert not (place.data / "runs" / job).exists()
    assert not (place.data / "jobs" / job).exists()


def test_status_doctor_and_help(place: Place) -> None:
    place.jobs("dispatcher", "start")
    status = place.json("dispatcher", "status")
    assert status["running"] is True
    os.kill(int(str(status["pid"])), 0)
    assert {"since", "version", "active", "queued"} <= set(status)
    assert "store" in place.jobs("doctor")
    place.jobs("dispatcher", "stop")
    assert place.json("dispatcher", "status")["running"] is False
    assert "run" in place.jobs("--help")
    assert "usage" in place.jobs("nonsense", code=2)


def test_attempts_re_runs_and_more_combinations(place: Place, project: Path) -> None:
    marks = project.parent / "marks"
    marks.mkdir()
    # fails in its first attempt of each combination below 3, and always for 3 as long as `bad` is there
    cell = f"""
import os
mark = os.path.join({str(marks)!r}, f"tried-{{n}}")
first = not os.path.exists(mark)
open(mark, "w").close()
assert not first if n < 3 else not os.path.exists({str(marks / "bad")!r}), n
"""
    (marks / "bad").write_text("")
    notebook = write_notebook(project / "again.ipynb", cell, parameters="n = 0")
    said = place.jobs(
        "run", notebook, "-p", "n", "1", "-p", "n", "3", "--retries", "1", "--retry-delay", "0s", "--retry-on", "cell_error", "--wait", code=1
    )
    assert "attempt 2" in said
    (job,) = place.json("list", "--search", "again")["jobs"]  # type: ignore[misc]
    assert job["counts"] == {"complete": 1, "failed": 1}
    shown = place.json("show", f"{job['id']}-1")
    assert [attempt["state"] for attempt in shown["attempts"]] == ["failed", "complete"]  # type: ignore[attr-defined]
    assert "AssertionError" in place.jobs("show", f"{job['id']}-1")
    (marks / "bad").unlink()
    assert place.json("rerun", job["id"], "--failed", "--wait")["counts"] == {"complete": 2}
    assert [(run["number"], run["rerun_of"]) for run in place.runs(job["id"])] == [(1, ""), (2, ""), (3, f"{job['id']}-2")]
    added = place.json("add", job["id"], "-p", "n", "4", "--wait")
    assert (added["counts"], added["snapshot"]) == ({"complete": 3}, job["snapshot"])
    error = json.loads(place.jobs("add", job["id"], "-p", "n", "4", "--json", code=2))
    assert error["code"] == "combination_exists"


def test_the_queue_is_paused_reordered_and_resumed(place: Place, project: Path) -> None:
    assert place.json("queue", "pause")["paused"] is True
    notebook = write_notebook(project / "queued.ipynb", "print('ran')")
    first, second = place.json("run", notebook, "--time-limit", "10m"), place.json("run", notebook, "--cell-timeout", "1m30s", "--max-parallel", "1")
    assert (first["time_limit"], second["cell_timeout"]) == (600, 90)
    place.jobs("priority", str(second["id"]), "7")
    said = place.jobs("queue")
    assert "nothing starts" in said
    assert said.index(f"{second['id']}-1") < said.index(f"{first['id']}-1")
    place.jobs("priority", str(second["id"]), "0")
    for to, order in ((["--first"], [first, second]), (["--last"], [second, first]), (["--before", f"{second['id']}-1"], [first, second])):
        moved = place.json("queue", "move", f"{first['id']}-1", *to)
        assert [waiting["run"]["job"] for waiting in moved["waiting"]] == [job["id"] for job in order]  # type: ignore[attr-defined]
    for words in (["move"], ["move", f"{first['id']}-1"], ["move", "--first"], ["pause", "--last"], ["resume", f"{first['id']}-1"]):
        assert json.loads(place.jobs("queue", *words, "--json", code=2))["mend"].startswith("`jupyter jobs queue move RUN")
    assert json.loads(place.jobs("extend", f"{first['id']}-1", "10m", "--json", code=2))["code"] == "run_not_active"
    assert "paused" in place.jobs("dispatcher", "status")
    assert place.json("queue", "resume")["paused"] is False
    assert place.json("rerun", f"{place.json('run', notebook, '--wait')['id']}-1", "--wait")["counts"] == {"complete": 1}
    for words in (["run", notebook, "--time-limit", "soon"], ["run", notebook, "--retry-delay", "3s"], ["priority", str(first["id"]), "101"]):
        place.jobs(*words, code=2)
