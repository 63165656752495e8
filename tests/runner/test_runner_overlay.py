"""Runs whose project is where it was: the overlay in the kernel's own mount namespace, through the whole runner."""

from __future__ import annotations

import signal
import sys

import pytest

from jupyter_jobs.runner import rundir
from jupyter_jobs.snapshot.workspace import probe_workspace
from tests.runner.runner_cells import code


@pytest.fixture(autouse=True)
def namespaces(tmp_path):
    (tmp_path / "probe").mkdir()
    mode, note = probe_workspace(tmp_path / "probe", "auto")
    if mode != "overlay":
        pytest.skip(note)


def test_absolute_writes_stay_in_the_run(execute, project):
    (project / "in.txt").write_text("original")
    (project / "ignored.csv").write_text("ignored")
    source = f"""
import os
print(os.getcwd(), open("in.txt").read(), os.path.exists({str(project / "ignored.csv")!r}))
open({str(project / "in.txt")!r}, "w").write("overwritten")
open("new.txt", "w").write("made")
"""
    run, result = execute([code(source)], files={"in.txt": "frozen"}, workspace={"mode": "overlay"})
    assert result.state == "complete", result.error
    assert run.said("stdout") == f"{project} frozen False\n"
    assert [(artifact.path, artifact.kind) for artifact in result.artifacts] == [("in.txt", "changed"), ("new.txt", "created")]
    assert sorted((path.name, path.read_text()) for path in project.iterdir()) == [("ignored.csv", "ignored"), ("in.txt", "original")]
    assert run.file("new.txt").read_text() == "made"


def test_an_ignored_input_is_explained_by_its_place(execute, project):
    (project / "data").mkdir()
    (project / "data/x.csv").write_text("1")
    ignored = [rundir.Ignored(path="data/", rule=".gitignore:1: data/")]
    source = f"open({str(project / 'data/x.csv')!r})"
    _, result = execute([code(source)], workspace={"mode": "overlay", "ignored": ignored})
    assert (result.state, result.error.code) == ("failed", "input_not_in_snapshot")
    assert result.error.detail["ignored"] == "data"


def test_live_data_is_read_only_unless_asked(execute, project, tmp_path):
    live = project / "live"
    live.mkdir()
    (live / "x.txt").write_text("now")
    bind = rundir.Bind(source=str(live), target=str(live))
    source = "print(open('live/x.txt').read(), flush=True)\nopen('live/new.txt', 'w')"
    run, result = execute([code(source)], files={"a": ""}, workspace={"mode": "overlay", "binds": [bind]})
    assert run.said("stdout") == "now\n"
    assert (result.state, result.error.code) == ("failed", "read_only_data"), result.error
    assert list(live.iterdir()) == [live / "x.txt"]


def test_cancel_reaches_into_the_namespace(prepare):
    source = "import subprocess, sys, time\nsubprocess.Popen(['sleep', '600'], start_new_session=True)\nprint('on', flush=True)\ntime.sleep(600)"
    run = prepare([code(source)], files={"a": ""}, workspace={"mode": "overlay"}).start()
    run.until(lambda run: "on" in run.said())
    run.signal(signal.SIGTERM)
    result = run.wait()
    assert (result.state, result.artifacts) == ("canceled", [])


def test_a_mount_that_cannot_be_made(execute, project):
    _, result = execute([code("1")], workspace={"mode": "overlay", "tree": str(project / "nowhere")})
    assert (result.state, result.error.code) == ("failed", "workspace_failed")
    _, result = execute(
        [code("1")], workspace={"mode": "overlay", "binds": [rundir.Bind(source=str(project / "gone"), target=str(project / "gone"))]}
    )
    assert (result.state, result.error.code) == ("failed", "workspace_failed"), result.error
    assert "gone" in result.error.message


def test_an_interpreter_that_is_gone_from_an_overlay(execute):
    argv = ["/no/such/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    _, result = execute([code("1")], workspace={"mode": "overlay"}, kernel={"argv": argv})
    assert (result.state, result.error.code) == ("failed", "kernel_not_started"), result.error
    assert "/no/such/python" in result.error.message
    assert sys.executable not in result.error.message
