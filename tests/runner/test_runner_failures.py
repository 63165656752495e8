"""Runs that fail: each with its code, a sentence that names the cell, and the traceback kept in the notebook."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from jupyter_jobs.runner import failures, rundir
from tests.runner.runner_cells import code, text


def fail(execute, source, code_expected, **options):
    """Run a notebook whose third cell has this source; it must fail with this code, in that cell."""
    run, result = execute([text("# T"), code("before = 1", id="fine"), code(source, id="bad"), code("print('never')", id="after")], **options)
    assert result.state == "failed"
    assert result.error.code == code_expected, result.error
    assert result.error.cell == rundir.CellRef(id="bad", number=3)
    assert "Cell 3" in result.error.message or "cell 3" in result.error.message
    assert "never" not in run.said()
    assert [output for output in run.cell("bad").outputs if output.output_type == "error"]
    assert [cell.id for cell in run.cells[1:]] == ["fine", "bad", "after"]
    assert result.cells == rundir.CellCount(done=1, total=3)
    return run, result.error


def test_an_error_keeps_its_traceback(execute):
    run, error = fail(execute, "def f():\n    raise ValueError('wrong: 7')\nf()", "cell_error")
    assert (error.ename, error.evalue) == ("ValueError", "wrong: 7")
    assert error.message == "Cell 3 raised ValueError: wrong: 7"
    assert "raise ValueError" in error.traceback
    assert "\x1b" not in error.traceback
    assert "\x1b" in error.detail["traceback_ansi"]
    assert "raise ValueError" in run.said("stderr")
    assert run.cell("bad").metadata.papermill.status == "failed"
    assert run.cell("after").metadata.papermill.status == "pending"


def test_a_failing_injected_cell_is_number_0(execute):
    _, result = execute([code("x = 1", "parameters", id="p")], parameters={"class": 1})
    assert result.state == "failed"
    assert result.error.code == "syntax_error"
    assert result.error.cell == rundir.CellRef(id="injected-parameters", number=0)


@pytest.mark.parametrize(
    ("source", "expected", "says"),
    [
        ("import no_such_module.sub", "module_not_found", "no_such_module"),
        ("if True print(1)", "syntax_error", "not valid Python"),
        ("open('nowhere.csv')", "file_not_found", "nowhere.csv"),
        ("input('name? ')", "input_requested", "asks for input"),
        ("import getpass; getpass.getpass()", "input_requested", "asks for input"),
        ("import sys; sys.exit(3)", "exit_code", "exit status 3"),
        ("import sys; sys.exit('no data today')", "exit_code", "exit status 1: no data today"),
        ("raise KeyboardInterrupt", "keyboard_interrupt", "from inside the run"),
        ("raise MemoryError('no room')", "memory_error", "no room"),
        ("import numpy; numpy.ones(1 << 45)", "memory_error", "Unable to allocate"),
    ],
)
def test_the_notebooks_own_errors(execute, source, expected, says):
    _, error = fail(execute, source, expected)
    assert says in error.message


def test_a_file_that_the_rules_leave_out(execute, project):
    (project / "data").mkdir()
    (project / "data/x.csv").write_text("1")
    ignored = [rundir.Ignored(path="data", rule=".gitignore:3: data/")]
    _, error = fail(
        execute,
        "import os; os.chdir('..'); open('data/x.csv')",
        "input_not_in_snapshot",
        files={"deep/down.txt": ""},
        workspace={"cwd": "deep", "ignored": ignored},
    )
    assert ".gitignore:3: data/" in error.message
    assert "--include data" in error.mend
    assert "--live data" in error.mend
    assert error.detail["path"] == "data/x.csv"


def test_a_file_beside_the_project_cannot_be_seen_from_a_copy(execute, project):
    (project.parent / "beside.csv").write_text("1")
    _, error = fail(execute, "import pandas; pandas.read_csv('../beside.csv')", "input_not_in_snapshot")
    assert "outside the project" in error.message
    assert f"--live {project.parent / 'beside.csv'}" in error.mend


def test_a_file_that_came_after_the_snapshot(execute, project):
    (project / "new.csv").write_text("1")
    _, error = fail(execute, "open('new.csv')", "input_not_in_snapshot")
    assert "in the project now" in error.message


def test_live_data_that_may_only_be_read(execute, project, tmp_path):
    # a read-only file system by another name: what the run meets is the errno
    (tmp_path / "live").mkdir()
    target = f"{project}/data"
    source = f"raise OSError(30, 'Read-only file system', {target + '/new.txt'!r})"
    bind = rundir.Bind(source=str(tmp_path / "live"), target=target)
    _, error = fail(execute, source, "read_only_data", workspace={"binds": [bind]})
    assert target in error.message


@pytest.mark.parametrize(
    ("source", "status", "says"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, "SIGKILL"),
        ("import ctypes; ctypes.string_at(0)", -11, "SIGSEGV"),
        ("import os; os._exit(3)", 3, "exit status 3"),
    ],
)
def test_a_kernel_that_dies(execute, source, status, says):
    run, error = fail(execute, source, "kernel_died")
    assert says in error.message
    assert error.detail["exit"] == status
    assert rundir.read_result(run.path).kernel_exit == status
    assert run.cell("bad").outputs[-1].ename == "KernelDied"


def test_a_cell_that_takes_too_long_shows_where_it_was(execute):
    run, error = fail(execute, "import threading\nthreading.Event().wait()", "cell_time_limit_exceeded", cell_timeout=1.5)
    assert "1.5 s" in error.message
    assert [output.ename for output in run.cell("bad").outputs] == ["KeyboardInterrupt", "CellTimeLimitExceeded"]


def test_a_cell_that_takes_too_long_although_it_ignores_interrupts(execute):
    source = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(60)"
    run, _ = fail(execute, source, "cell_time_limit_exceeded", cell_timeout=1)
    assert [output.ename for output in run.cell("bad").outputs] == ["CellTimeLimitExceeded"]
    assert rundir.read_result(run.path).kernel_exit == -9


def test_a_cell_that_takes_too_long_and_shrugs_off_the_interrupt(execute):
    source = "import threading\ntry: threading.Event().wait()\nexcept KeyboardInterrupt: print('shrug')"
    run, _ = fail(execute, source, "cell_time_limit_exceeded", cell_timeout=1)
    assert [output.get("ename", output.get("text")) for output in run.cell("bad").outputs] == ["shrug\n", "CellTimeLimitExceeded"]


@pytest.mark.parametrize("limit", [0.001, 3])
def test_a_time_limit_reaches_a_kernel_that_never_answers(execute, limit):
    argv = [sys.executable, "-c", "import threading; threading.Event().wait()", "{connection_file}"]
    _, result = execute([code("1")], kernel={"argv": argv}, time_limit=limit)
    assert (result.state, result.error.code) == ("failed", "time_limit_exceeded")
    assert f"{limit:g} s" in result.error.message


def test_an_interpreter_that_is_gone(execute):
    _, result = execute([code("1")], kernel={"argv": ["/no/such/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]})
    assert (result.state, result.error.code) == ("failed", "kernel_not_started")
    assert "/no/such/python does not exist" in result.error.message
    assert result.cells == rundir.CellCount(done=0, total=1)


def test_an_environment_without_ipykernel(execute, tmp_path):
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    python = str(tmp_path / "bare/bin/python")
    _, result = execute([code("1")], kernel={"argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]})
    assert result.error.code == "kernel_not_started"
    assert f"{python} has no ipykernel" in result.error.message
    assert f"{python} -m pip install ipykernel" in result.error.mend
    assert "No module named ipykernel_launcher" in result.error.traceback


@pytest.mark.parametrize(
    "content", ["this is no JSON {", "[1, 2]", '"text"', "{}", '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [7]}']
)
def test_a_file_that_is_no_notebook(execute, tmp_path, content):
    bad = tmp_path / "bad.ipynb"
    bad.write_text(content)
    _, result = execute(bad)
    assert result.state == "failed"
    assert result.error.code == "notebook_invalid", result.error
    assert "notebook.ipynb" in result.error.message


def test_a_notebook_of_version_3_works(execute, tmp_path):
    old = tmp_path / "old.ipynb"
    cell = {"cell_type": "code", "language": "python", "collapsed": False, "metadata": {}, "input": ["print(6*7)"], "outputs": [], "prompt_number": 1}
    old.write_text(json.dumps({"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": "o"}, "worksheets": [{"cells": [cell], "metadata": {}}]}))
    run, result = execute(old, parameters={"x": 1})
    assert result.state == "complete"
    assert run.said("stdout") == "42\n"


def test_a_workspace_that_cannot_be_made(execute):
    _, result = execute([code("1")], workspace={"tree": "/no/such/tree"})
    assert (result.state, result.error.code) == ("failed", "workspace_failed")
    assert "/no/such/tree" in result.error.message


def test_variables_that_cannot_be_read(prepare):
    run = prepare([code("1")])
    Path(run.spec.variables_file).unlink()
    result = run.start().wait()
    assert result.state == "failed"
    assert run.spec.variables_file in result.error.message


def test_parameters_that_a_kernel_cannot_take(execute):
    _, result = execute([code("1")], parameters={"x": 1}, kernel={"language": "klingon", "name": "klingon"})
    assert (result.state, result.error.code) == ("failed", "parameters_not_possible")
    assert "klingon" in result.error.message


def test_a_run_directory_without_a_spec(prepare):
    run = prepare([code("1")]).start()
    run.wait()
    (run.path / rundir.RESULT).unlink()
    (run.path / rundir.SPEC).write_text("{}")

    ended = subprocess.run([sys.executable, "-m", "jupyter_jobs.runner", str(run.path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "run.json" in ended.stderr
    assert rundir.read_result(run.path) is None


@pytest.mark.parametrize(
    ("held", "free", "ran_out", "said"),
    [(18, 23_700, False, ""), (18, 900, False, "most likely"), (9_000, 12_000, False, "most likely"), (18, 23_700, True, "because memory")],
)
def test_memory_is_blamed_for_a_killed_kernel_only_where_it_may_be(held: int, free: int, ran_out: bool, said: str) -> None:
    error = failures.kernel_died(None, -9, "", failures.MemoryFacts(held=held * 10**6, free=free * 10**6, ran_out=ran_out))
    assert said in error.message
    assert ("memory ran out" in error.message) == bool(said)
    assert ("less data" in error.mend) == bool(said)
