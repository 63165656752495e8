"""What runs use is sampled, and one that uses more than it may is ended."""

from __future__ import annotations

import os

import psutil
import pytest

from jupyter_jobs.runner import rundir
from jupyter_jobs.runner.rundir import Resources, UsageSample
from jupyter_jobs.snapshot.workspace import probe_workspace
from tests.runner.runner_cells import code
from tests.runner.test_runner_cancel import nobody_left

MB = 1_000_000
HOG = """
import time
held = []
print("hungry", flush=True)
for _ in range(40):
    held.append(b"x" * 10_000_000)
print("full", flush=True)
time.sleep(600)
"""
CHILD = f"""
import subprocess, sys
print("before", flush=True)
subprocess.run([sys.executable, "-c", {HOG!r}], start_new_session=True)
"""


# the run's own samples, as a cell sees them in a workspace that is a copy
UNTIL = """
import json, pathlib, time
def until(seen):
    samples = pathlib.Path("../../usage.jsonl")
    while not (samples.exists() and any(seen(json.loads(line)) for line in samples.read_text().splitlines(True) if line.endswith("\\n"))):
        time.sleep(0.05)
"""


@pytest.fixture
def overlay(tmp_path):
    """A workspace that is one."""
    (tmp_path / "probe").mkdir()
    mode, note = probe_workspace(tmp_path / "probe", "auto")
    if mode != "overlay":
        pytest.skip(note)
    return {"mode": "overlay"}


def samples_of(run) -> list[UsageSample]:
    return rundir.read_records(run.path / rundir.USAGE, UsageSample)[0]


def breach_of(result) -> tuple[str, str, int]:
    error = result.error
    assert error is not None
    return error.code, error.detail["resource"], error.detail["asked"]


@pytest.mark.parametrize("cell", [HOG, CHILD], ids=["kernel", "child"])
def test_a_run_that_holds_more_memory_than_it_may_is_ended(execute, cell):
    run, result = execute([code("kept = 1; print(kept)", id="a"), code(cell, id="b"), code("1", id="c")], resources=Resources(memory=200 * MB))
    assert result.state == "failed"
    assert breach_of(result) == ("resource_limit_exceeded", "memory", 200 * MB)
    assert 200 * MB < result.error.detail["used"] <= result.peak_memory
    assert result.error.cell.id == "b"
    assert "--memory" in result.error.mend
    assert nobody_left(run)
    # what there was until then is kept
    assert run.cell("a").outputs[0].text == "1\n"
    assert run.cell("b").outputs[-1].ename == "ResourceLimitExceeded"
    assert run.cell("c").outputs == []
    assert result.cells.done == 1


def test_memory_that_processes_share_counts_once(execute):
    share = """
import os
held = b"x" * 120_000_000
gate, opened = os.pipe()
children = []
for _ in range(3):
    if (child := os.fork()) == 0:
        os.close(opened); os.read(gate, 1); os._exit(0)
    children.append(child)
until(lambda sample: sample[3] == 4)
os.close(opened)
for child in children: os.waitpid(child, 0)
"""
    run, result = execute([code(UNTIL + share)], resources=Resources(memory=350 * MB))
    assert (result.state, result.error) == ("complete", None)
    most = max(samples_of(run), key=lambda sample: sample.processes)
    assert (most.processes, most.measure) == (4, "pss")
    assert 120 * MB < most.memory < 350 * MB


WRITES = """
import os, time
with open("big.bin", "wb") as file:
    for _ in range(50):
        file.write(os.urandom(1_000_000))
"""


LATE = """
import atexit, os
def late():
    file = os.open("big.bin", os.O_CREAT | os.O_WRONLY)
    os.posix_fallocate(file, 0, 50_000_000)
    os._exit(0)
atexit.register(late)
"""


@pytest.mark.parametrize("cell", [WRITES + "time.sleep(600)", LATE], ids=["while it runs", "with its last breath"])
def test_a_run_that_writes_more_than_it_may_is_ended(execute, cell):
    run, result = execute([code(cell)], files={"data.bin": "x" * 20 * MB}, resources=Resources(storage=10 * MB))
    assert result.state == "failed"
    assert breach_of(result) == ("resource_limit_exceeded", "storage", 10 * MB)
    assert result.error.detail["used"] > 10 * MB
    assert nobody_left(run)


def test_what_a_run_is_given_does_not_count_as_written(execute):
    cell = code("open('small.txt', 'w').write('x')")
    _, result = execute([cell], files={"data.bin": "x" * 20 * MB}, resources=Resources(storage=10 * MB))
    assert (result.state, result.error) == ("complete", None)


def test_samples_tell_cpu_memory_and_processes(execute):
    busy = """
import subprocess, sys
enough = time.process_time() + 0.8
held = b"x" * 60_000_000
while time.process_time() < enough: pass
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.5: pass"])
until(lambda sample: sample[1] >= 1.3)
"""
    run, result = execute([code(UNTIL + busy)])
    samples = samples_of(run)
    assert [sample.cpu for sample in samples] == sorted(sample.cpu for sample in samples)
    assert max(sample.memory for sample in samples) > 60 * MB
    assert min(sample.processes for sample in samples) >= 1
    # the child's too, although it has ended
    assert samples[-1].cpu >= 1.3
    assert result.cpu_seconds >= 1.3
    assert result.peak_memory >= max(sample.memory for sample in samples)


def test_what_a_run_used_is_known_however_short_it_was(execute):
    _, result = execute([code("import time\nwhile time.process_time() < 0.6: pass")])
    assert result.cpu_seconds >= 0.5
    assert result.peak_memory > 10 * MB


def test_a_run_keeps_to_its_cores(execute):
    show = """
import os, subprocess, sys
seen = {tuple(sorted(os.sched_getaffinity(int(thread)))) for thread in os.listdir("/proc/self/task")}
child = subprocess.run([sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"], capture_output=True, text=True).stdout
print(len(seen), len(seen.pop()), child)
"""
    run, _ = execute([code(show)], resources=Resources(cpu=0.5))
    assert run.said("stdout").split() == ["1", "1", "1"]
    # the runner keeps its own
    assert len(os.sched_getaffinity(0)) == psutil.cpu_count()


def test_the_exit_handlers_of_a_kernel_are_watched_too(execute):
    late = "import atexit, time\n@atexit.register\ndef late():\n    held = b'x' * 400_000_000\n    time.sleep(600)"
    run, result = execute([code(late)], resources=Resources(memory=200 * MB))
    assert breach_of(result) == ("resource_limit_exceeded", "memory", 200 * MB)
    assert result.cells.done == 1
    assert nobody_left(run)


def test_limits_hold_in_an_overlay_too(execute, overlay):
    source = "import subprocess, sys, time\nsubprocess.Popen(['sleep', '600'], start_new_session=True)\n" + WRITES + "time.sleep(600)"
    run, result = execute([code(source)], files={"data.bin": "x" * 20 * MB}, workspace=overlay, resources=Resources(storage=10 * MB))
    assert breach_of(result) == ("resource_limit_exceeded", "storage", 10 * MB)
    assert nobody_left(run)
    run, result = execute([code(HOG)], files={"a": ""}, workspace=overlay, resources=Resources(memory=200 * MB))
    assert breach_of(result) == ("resource_limit_exceeded", "memory", 200 * MB)
    assert nobody_left(run)


def test_a_kernel_that_was_killed_tells_what_it_held(execute):
    source = "import os\nheld = b'x' * 60_000_000\nuntil(lambda sample: sample[2] > 60_000_000)\nos.kill(os.getpid(), 9)"
    _, result = execute([code(UNTIL + source)])
    assert result.error.code == "kernel_died"
    assert "killed by SIGKILL" in result.error.message
    assert result.error.detail["used"] > 60 * MB
    assert result.error.detail["free"] > 0
