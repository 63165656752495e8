"""Cancel: the kernel and every process of the run end, whatever they do about it; the partial notebook stays."""

from __future__ import annotations

import signal
import sys

import psutil
import pytest

from jupyter_jobs.backends.processes import kill_run
from jupyter_jobs.runner.rundir import place_name, read_kernel
from tests.runner.runner_cells import code


def nobody_left(run) -> bool:
    """Whether no process carries the run's mark."""
    for process in psutil.process_iter():
        try:
            if process.environ().get("JUPYTER_JOBS_RUN") == run.spec.run and process.status() != psutil.STATUS_ZOMBIE:
                return False
        except psutil.Error:
            continue
    return True


def test_cancel_keeps_the_partial_notebook(prepare):
    run = prepare(
        [code("print('one'); open('half.txt', 'w').write('h')", id="a"), code("import time\nprint('two', flush=True)\ntime.sleep(600)", id="b")]
    )
    run.start().until(lambda run: "two" in run.said())
    run.signal(signal.SIGTERM)
    result = run.wait()
    assert result.state == "canceled"
    assert result.error is None
    assert result.cells.done == 1
    assert run.cell("a").outputs[0].text == "one\n"
    assert [output.get("ename", output.get("text")) for output in run.cell("b").outputs] == ["two\n", "KeyboardInterrupt", "Canceled"]
    assert run.file("half.txt").read_text() == "h"
    assert result.kernel_exit == 0
    assert nobody_left(run)


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)
hold = "import signal, time; [signal.signal(s, signal.SIG_IGN) for s in (1, 2, 15)]; print(1, flush=True); time.sleep(600)"
clean = {"PATH": os.environ["PATH"]}
children = [
    subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE),
    subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, start_new_session=True),
    subprocess.Popen([sys.executable, "-c", "import os; os.setsid(); os.fork() and os._exit(0); " + hold], stdout=subprocess.PIPE),
    subprocess.Popen([sys.executable, "-c", "import os; os.setsid(); os.fork() and os._exit(0); " + hold], stdout=subprocess.PIPE, env=clean),
]
for child in children: child.stdout.read(1)
print("pids", *(p.pid for p in __import__("psutil").Process().children(recursive=True)), flush=True)
while True: time.sleep(600)
"""


def test_nothing_survives_not_even_daemons_that_wash_their_environment(prepare):
    run = prepare([code(STUBBORN, id="a")]).start()
    run.until(lambda run: "pids" in run.said())
    family = run.family()
    # kernel, two children, and two daemons that the runner has taken in (or will, at the next look)
    assert len(family) >= 5
    run.signal(signal.SIGTERM)
    result = run.wait()
    assert result.state == "canceled"
    assert result.kernel_exit == -signal.SIGKILL
    assert [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    assert nobody_left(run)
    assert run.cell("a").outputs[-1].ename == "Canceled"


def test_whatever_a_killed_runner_leaves_is_found_by_its_overlay(prepare, way):
    run = prepare([code(STUBBORN, id="a")], workspace={"mode": "overlay"}).start()
    run.until(lambda run: "pids" in run.said())
    family = run.family()
    run.signal(signal.SIGKILL)
    run.process.wait()
    kill_run(run.spec.run, None, read_kernel(run.path), place_name(run.path))
    _, left = psutil.wait_procs(family, timeout=30)
    assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []


def test_a_second_cancel_does_not_wait(prepare):
    deaf = "signal.signal(signal.SIGINT, lambda *_: print('asked', flush=True))"
    run = prepare([code(f"import signal, time\n{deaf}\nprint('on', flush=True)\nwhile True: time.sleep(600)")])
    run.start().until(lambda run: "on\n" in run.said())
    run.signal(signal.SIGTERM)
    run.until(lambda run: "asked" in run.said())
    run.signal(signal.SIGTERM)
    result = run.wait()
    assert (result.state, result.kernel_exit) == ("canceled", -signal.SIGKILL)


def test_cancel_while_the_kernel_starts(prepare):
    argv = [sys.executable, "-c", "import sys, threading; print('starting', flush=True); threading.Event().wait()", "{connection_file}"]
    run = prepare([code("1")], kernel={"argv": argv}).start()
    run.until(lambda run: "starting" in run.said())
    run.signal(signal.SIGTERM)
    result = run.wait()
    assert (result.state, result.error, result.cells.total) == ("canceled", None, 1)
    assert nobody_left(run)


def test_cancel_before_anything_has_begun(prepare):
    run = prepare([code("1")], workspace={"notes": ["first of all"]}, files={f"d/{number}": "x" for number in range(3000)}).start()
    run.until(lambda run: "first of all" in run.said())
    run.signal(signal.SIGTERM)
    assert run.wait().state == "canceled"
    left = list((run.path / "work").iterdir()) if (run.path / "work").exists() else []
    assert [path.name for path in left] in ([], ["files"])


@pytest.mark.parametrize("ending", ["", "raise SystemExit(1)"])
def test_processes_do_not_outlive_a_run_that_ends_by_itself(execute, ending):
    source = "import subprocess, sys\nprint(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True).pid)"
    run, result = execute([code(source), code(ending or "1")])
    assert result.state == ("failed" if ending else "complete")
    pid = int(run.said("stdout"))
    assert not psutil.pid_exists(pid)
    assert nobody_left(run)


def test_orphans_that_end_are_collected_while_the_run_goes_on(execute):
    source = """
import os, subprocess, sys, psutil
runner = psutil.Process(os.getppid())
for _ in range(5):
    subprocess.run([sys.executable, "-c", "import os; os.fork() and os._exit(0)"])
gone, alive = psutil.wait_procs([p for p in runner.children() if p.pid != os.getpid()], timeout=30)
print("left", len(alive))
"""
    run, _ = execute([code(source)])
    assert run.said("stdout") == "left 0\n"
