"""Runs that end well: parameters, cells, files, environment, events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jupyter_jobs.runner import rundir
from tests.runner.runner_cells import code, text

EXACT = {
    "third": 1 / 3,
    "huge": 2**70,
    "tiny": 5e-324,
    "flag": True,
    "nothing": None,
    "words": "quote\" 'single' \\ back {brace} line\nbreak ünï 😀",
    "nested": {"a": [1, 2.5, "x", None, False], "b b": {}},
}


def test_parameters_are_injected_exactly_and_shift_no_number(execute):
    run, result = execute(
        [
            text("# Title"),
            code("third = 0", "parameters", id="params"),
            code("import json\nprint(json.dumps([third, huge, tiny, flag, nothing, words, nested]))", id="show"),
        ],
        parameters=EXACT,
    )
    assert result.state == "complete"
    assert result.error is None
    assert json.loads(run.said("stdout")) == list(EXACT.values())
    assert [cell.id for cell in run.cells][1:] == ["params", "injected-parameters", "show"]
    assert [line.cell for line in run.log] == [3]
    assert result.cells == rundir.CellCount(done=2, total=2)


def test_without_a_parameters_cell_they_come_first(execute):
    run, result = execute([code("x = 1", id="one"), code("print(y)", id="two")], parameters={"y": "given"})
    assert result.state == "complete"
    assert [cell.id for cell in run.cells] == ["injected-parameters", "one", "two"]
    assert [(line.text, line.cell) for line in run.log] == [("given", 2)]


def test_an_executed_notebook_runs_again_with_new_values(prepare):
    first = prepare([code("x = 1", "parameters", id="p"), code("print(x)", id="c")], parameters={"x": 2}).start()
    first.wait()
    again = prepare(first.path / rundir.NOTEBOOK, parameters={"x": 3}).start()
    assert again.wait().state == "complete"
    assert [cell.id for cell in again.cells] == ["p", "injected-parameters", "c"]
    assert again.said("stdout") == "3\n"


def test_what_a_run_leaves(execute, tmp_path):
    run, result = execute(
        [code("open('out.txt', 'w').write('result'); open('in.txt', 'a').write('more')")],
        files={"deep/in.txt": "input", "kept.txt": "as it was"},
        workspace={"cwd": "deep"},
    )
    assert [(artifact.path, artifact.kind) for artifact in result.artifacts] == [("deep/in.txt", "changed"), ("deep/out.txt", "created")]
    assert run.file("deep/in.txt").read_text() == "inputmore"
    assert (tmp_path / "run1/tree/deep/in.txt").read_text() == "input"
    assert sorted(path.name for path in run.path.iterdir() if path.name not in ("kernel.json", "usage.jsonl")) == [
        "events.jsonl",
        "log.jsonl",
        "output.ipynb",
        "result.json",
        "run.json",
        "runner.json",
        "runner.log",
        "work",
    ]
    assert (run.path / "runner.log").read_text() == ""
    assert {path.stat().st_mode & 0o077 for path in run.path.iterdir() if path.suffix in (".json", ".jsonl", ".ipynb")} == {0}
    assert result.peak_memory
    assert result.peak_memory > 20_000_000
    assert result.kernel_exit == 0
    assert list(Path(run.spec.socket_dir).iterdir()) == []


def test_events_tell_the_way(execute):
    run, result = execute([text("t"), code("a = 1", id="a"), code("b = 1", id="b"), code("", id="empty")])
    progress = [(event.done, event.total, event.cell and (event.cell.id, event.cell.number)) for event in run.events if event.kind == "progress"]
    assert progress == [(0, 3, ("a", 2)), (1, 3, ("b", 3)), (2, 3, ("empty", 4)), (3, 3, None)]
    assert [event.state for event in run.events if event.kind == "state"] == ["running"]
    assert {"imports", "workspace", "kernel", "cells", "shutdown", "clear"} <= {event.name for event in run.events if event.kind == "phase"}
    run.until(lambda run: len(run.hinted) > 0)
    assert run.hinted[0] == {"run": run.spec.run, "attempt": 1}
    assert result.started_at < run.events[0].at < result.ended_at


def test_the_kernel_gets_the_submitters_variables_and_nothing_else(execute, tmp_path):
    run, _ = execute(
        [code("import os, json; print(json.dumps(dict(os.environ)))")],
        variables={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "WHO": "submitter", "OVER": "submitter"},
        extra_env={"OMP_NUM_THREADS": "1"},
        kernel={"env": {"SPEC": "of ${WHO}", "OVER": "spec"}},
    )
    seen = json.loads(run.said("stdout"))
    assert seen["WHO"] == "submitter"
    assert seen["SPEC"] == "of submitter"
    assert seen["OVER"] == "spec"
    assert seen["OMP_NUM_THREADS"] == "1"
    assert seen["JUPYTER_JOBS_RUN"] == run.spec.run
    assert "RUNNERS_OWN_SECRET" not in seen


def test_braces_and_blanks_in_paths_are_only_characters(execute):
    run, result = execute(
        [code("import os; print(os.path.basename(os.getcwd()))")],
        files={"{prefix} {env} {x}/data.txt": ""},
        workspace={"cwd": "{prefix} {env} {x}"},
        parameters={"x": 1},
    )
    assert result.state == "complete"
    assert run.said("stdout") == "{prefix} {env} {x}\n"


def test_a_cell_may_be_allowed_to_fail_or_be_skipped(execute):
    run, result = execute([code("1/0", "raises-exception", id="a"), code("raise SystemExit(9)", "skip-execution"), code("print('on')")])
    assert result.state == "complete"
    assert result.cells.done == 3
    assert run.cell("a").outputs[0].ename == "ZeroDivisionError"
    assert run.said("stdout") == "on\n"


@pytest.mark.parametrize("leave", ["import sys; sys.exit(0)", "import sys; sys.exit()", "exit()", "quit()"])
def test_leaving_in_good_order_completes_the_run(execute, leave):
    run, result = execute([code("value = 7"), code(leave), code("print('never')")], record=["value"])
    assert result.state == "complete"
    assert result.error is None
    assert "never" not in run.said("stdout")
    assert "the cells after it were not run" in run.said("system")
    assert result.cells == rundir.CellCount(done=2, total=3)
    if "sys" in leave:
        assert result.records == {"value": 7}


def test_live_data_is_recorded_as_it_was(execute, tmp_path):
    data = tmp_path / "live"
    (data / "sub").mkdir(parents=True)
    (data / "sub/a.bin").write_bytes(b"12345")
    os.utime(data / "sub/a.bin", (5e9, 5e9))
    run, result = execute(
        [code("print(open('data/sub/a.bin').read())")],
        workspace={"binds": [rundir.Bind(source=str(data), target=f"{tmp_path}/project/data", live=True)]},
    )
    assert run.said("stdout") == "12345\n"
    assert result.live == [rundir.LiveFacts(path=f"{tmp_path}/project/data", files=1, bytes=5, modified=5e9)]


def test_a_second_runner_leaves_a_result_alone(prepare):
    run = prepare([code("1")]).start()
    result = run.wait()
    run.start()
    assert run.process.wait(60) == 1
    assert rundir.read_result(run.path) == result


def test_no_value_of_a_parameter_is_in_our_log(execute):
    run, _ = execute([code("1/0")], parameters={"password": "hunter2-secret"})
    assert "hunter2" not in (run.path / "runner.log").read_text()
    assert "hunter2" not in run.said()


THREAD = """
import threading
go = threading.Event()
def late():
    go.wait()
    print("late", flush=True)
thread = threading.Thread(target=late)
thread.start()
"""


def test_threads_that_go_on_are_heard(execute):
    run, _ = execute([code(THREAD), code("go.set(); thread.join(); print('own', flush=True)")])
    assert [line.text for line in run.log] == ["late", "own"]
    assert sum("late" in output.text for cell in run.cells for output in cell.outputs) == 1


def test_the_package_that_starts_in_a_dispatcher_is_light():
    script = "import jupyter_jobs.runner.rundir, sys; print([m for m in ('papermill', 'nbformat', 'zmq', 'jupyter_client') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
