"""A forked kernel is the one that its command line would have started, knows nothing of earlier runs, and never outlives what it belongs to."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from jupyter_jobs.runner import rundir
from jupyter_jobs.runner.provisioner import imports_of, split_command
from tests.runner.conftest import Forks
from tests.runner.runner_cells import code


@pytest.fixture
def way() -> str:
    return "fork"


PROBE = """
def probe():
    import asyncio, builtins, gc, getpass, json, locale, logging, multiprocessing, os, signal, sys, tempfile, threading, warnings
    shell = get_ipython()
    mask = os.umask(0); os.umask(mask)
    kernel = shell.kernel
    def name(value):
        return value if isinstance(value, int) else getattr(value, "__qualname__", str(value))
    links = []
    for number in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink("/proc/self/fd/" + number).split(":")[0].split("/")[-1])
        except OSError:
            pass
    return {
        "argv": sys.argv[1:] and [part for part in sys.argv[1:] if "kernel.json" not in part],
        "path": sys.path,
        "flags": str(sys.flags),
        "prefix": [sys.prefix, sys.base_prefix, sys.executable],
        "environment": {k: v for k, v in sorted(os.environ.items()) if k not in ("JPY_PARENT_PID", "JUPYTER_JOBS_RUN")},
        "folder": os.path.basename(os.getcwd()),
        "mask": mask,
        "locale": locale.setlocale(locale.LC_ALL),
        "encodings": [sys.getdefaultencoding(), sys.getfilesystemencoding(), locale.getpreferredencoding()],
        "signals": [name(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP)],
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "shell": [type(shell).__name__, type(kernel).__name__, type(kernel.parent).__name__, kernel.shell is shell],
        "hooks": [type(sys.displayhook).__name__, type(shell.displayhook).__name__, type(shell.display_pub).__name__, name(sys.excepthook)],
        "streams": [type(sys.stdout).__name__, type(sys.__stdout__).__name__, sys.__stdout__.encoding, sys.__stdout__.line_buffering],
        "config": {k: {n: str(v) for n, v in value.items()} for k, value in shell.config.items() if k != "IPKernelApp"},
        "interactivity": shell.ast_node_interactivity,
        "started": shell.user_ns.get("started"),
        "main": [__name__, sys.modules["__main__"] is shell.user_module],
        "threads": sorted(thread.name.split("-")[0].rstrip("0123456789") for thread in threading.enumerate() if thread.name != "ParentPollerUnix"
                          and "Poller" not in type(thread).__name__),
        "multiprocessing": [multiprocessing.get_start_method(allow_none=True), multiprocessing.current_process().name],
        "input": [name(builtins.input), name(getpass.getpass)],
        "loop": type(asyncio.get_event_loop()).__name__,
        "logging": [logging.getLogger().level, len(logging.getLogger().handlers)],
        "warnings": [str(each[:3]) for each in warnings.filters],
        "descriptors": sorted(set(links)),
        "stdin": os.readlink("/proc/self/fd/0"),
        "history": type(shell.history_manager).__name__,
        "matplotlib": os.environ["MPLBACKEND"],
        "magics": sorted(shell.magics_manager.magics["line"]),
        "count": shell.execution_count,
        "session": os.getsid(0) == os.getpid(),
        "gc": gc.isenabled(),
        "temporary": tempfile.tempdir,
    }
__import__("json").dumps(probe(), sort_keys=True, default=str)
"""


def probed(run: Any) -> dict[str, Any]:
    text = run.cell("probe").outputs[0].data["text/plain"]
    found: dict[str, Any] = json.loads(eval(text))
    return found


def configure(home: Path) -> None:
    """A user's own configuration and startup file."""
    profile = home / ".ipython/profile_default"
    (profile / "startup").mkdir(parents=True)
    (profile / "startup/10-mine.py").write_text("import os\nstarted = ['startup', os.getcwd() != '/']\n")
    (profile / "ipython_kernel_config.py").write_text(
        "c.InteractiveShell.ast_node_interactivity = 'last_expr_or_assign'\nc.InteractiveShellApp.exec_lines = ['from_config = 1']\n"
        "c.InlineBackend.figure_formats = {'svg'}\nc.StoreMagics.autorestore = False\n"
    )


def both(prepare: Any, cells: list[Any], **options: Any) -> tuple[Any, Any]:
    """The same notebook in a forked and in a spawned kernel."""
    runs = [prepare(cells, **options) for _ in range(2)]
    runs[1].forks = None
    for run, by in zip(runs, ("fork", "spawn"), strict=True):
        result = run.start().wait()
        assert result.state == "complete", result.error
        assert {name: way.by for name, way in result.ways.items()} == {"runner": by, "kernel": by}, result.ways
    return runs[0], runs[1]


@pytest.mark.parametrize("mode", ["copy", "overlay"])
def test_it_is_the_kernel_of_the_command_line(prepare, tmp_path, mode):
    configure(tmp_path / "home")
    cells = [code(PROBE, id="probe"), code("from_config, started", id="config")]
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), "IPYTHONDIR": str(tmp_path / "home/.ipython"), "LC_ALL": "C.UTF-8"}
    forked, spawned = both(prepare, cells, files={"sub/n.txt": ""}, workspace={"mode": mode, "cwd": "sub"}, variables=variables)
    found, expected = probed(forked), probed(spawned)
    for each in (found, expected):
        # a copy's own folder
        each["path"] = [path.replace("run1", "run").replace("run2", "run") for path in each["path"]]
        each["environment"] = {name: value.replace("run1", "run").replace("run2", "run") for name, value in each["environment"].items()}
    # the debugger's, which a forked kernel does without
    assert expected["environment"].pop("PYDEVD_USE_FRAME_EVAL") == "NO"
    assert found == expected
    assert found["started"] == ["startup", True]
    assert found["interactivity"] == "last_expr_or_assign"
    assert forked.cell("config").outputs == spawned.cell("config").outputs


MAGICS = """
import os
%cd /tmp
print(os.getcwd())
%gui asyncio
kept = 7
%store kept
%store
%matplotlib inline
%time 1
_i, In[1][:6], Out
"""
ERRORS = "def f():\n    return 1 / 0\nf()"


def test_magics_displays_and_errors_are_the_same(prepare):
    cells = [
        code("1 + 1", id="a"),
        code(MAGICS, id="magics"),
        code(ERRORS, "raises-exception", id="error"),
        code("from IPython.display import HTML, display; display(HTML('<b>x</b>')); __import__('sys').stderr.write('err'); None", id="shown"),
        code("exit()", id="exit"),
        code("print('not reached')", id="after"),
    ]
    forked, spawned = both(prepare, cells)
    for id in ("a", "error", "shown", "exit", "after"):
        assert plain(forked.cell(id).outputs) == plain(spawned.cell(id).outputs), id
    for id in ("magics",):
        lines = [[line for line in run.said("stdout").splitlines() if "time" not in line.lower() and "µs" not in line] for run in (forked, spawned)]
        assert lines[0] == lines[1], id
    assert forked.cell("exit").execution_count == 5
    assert forked.cell("after").execution_count is None


def plain(outputs: list[Any]) -> list[Any]:
    """Outputs without the numbers of processes, which name a cell's file in a traceback."""
    import re

    return json.loads(re.sub(r"ipykernel_\d+/\d+", "ipykernel", json.dumps(outputs)))


SPOIL = """
import asyncio, builtins, locale, logging, multiprocessing, os, random, signal, sys, warnings
os.environ["SPOILT"] = "yes"; os.environ["LC_ALL"] = "nonsense"; os.chdir("/"); os.umask(0)
sys.path.insert(0, "/spoilt"); sys.argv.append("spoilt"); sys.modules["json.spoilt"] = sys
random.seed(1); builtins.spoilt = 1; warnings.simplefilter("error"); logging.getLogger().setLevel(1)
signal.signal(signal.SIGTERM, signal.SIG_IGN); multiprocessing.set_start_method("spawn"); locale.setlocale(locale.LC_ALL, "C")
spoilt = open("/proc/self/status")
get_ipython().ast_node_interactivity = "none"
"""


def test_nothing_of_one_run_is_seen_in_the_next(prepare):
    before = prepare([code(PROBE, id="probe")])
    assert before.start().wait().state == "complete"
    spoiling = prepare([code(SPOIL)])
    result = spoiling.start().wait()
    assert result.state == "complete", result.error
    after = prepare([code(PROBE, id="probe"), code("import sys, builtins; 'json.spoilt' in sys.modules, hasattr(builtins, 'spoilt')", id="more")])
    assert after.start().wait().ways["kernel"].by == "fork"
    found, expected = probed(after), probed(before)
    for each in (found, expected):
        each["path"] = [path.replace("run3", "run").replace("run1", "run") for path in each["path"]]
        each["environment"] = {name: value.replace("run3", "run").replace("run1", "run") for name, value in each["environment"].items()}
    assert found == expected
    assert after.cell("more").outputs[0].data["text/plain"] == "(False, False)"


# -- what is imported beforehand ---------------------------------------------------------------------------------------


def until_imported(prepare: Any, cells: list[Any], wanted: str, **options: Any) -> tuple[Any, rundir.RunResult]:
    """Run again until the kernel server had time to import `wanted` beforehand."""
    for _ in range(40):
        run = prepare(cells, **options)
        result = run.start().wait()
        assert result.state == "complete", result.error
        assert result.ways["kernel"].by == "fork", result.ways
        if wanted in result.ways["kernel"].imported:
            return run, result
    raise AssertionError(f"{wanted} was never imported")


def test_imports_of_the_notebook_are_learned_and_chances_are_each_run_s_own(prepare):
    cells = [code("import numpy as np, random\nprint(np.random.rand(), np.random.default_rng().random(), random.random())")]
    drawn = []
    for _ in range(3):
        run, _ = until_imported(prepare, cells, "numpy")
        drawn += run.said("stdout").split()
    assert len(set(drawn)) == 9


def test_nothing_is_learned_where_that_is_switched_off(prepare):
    run = prepare([code("import jsonschema")], learn_preload=False, variables={"PATH": os.environ["PATH"], "HOME": "/nowhere", "ONLY": "here"})
    for _ in range(2):
        assert run.start().wait().ways["kernel"].imported == []
        run = prepare([code("import jsonschema")], learn_preload=False, variables={"PATH": os.environ["PATH"], "HOME": "/nowhere", "ONLY": "here"})


def test_threads_of_numeric_libraries_are_as_many_as_the_run_was_given(prepare):
    source = """
import numpy as np, os
a = np.ones((700, 700)); (a @ a).sum()
print("threads", len(os.listdir("/proc/self/task")))
"""
    variables = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "OPENBLAS_NUM_THREADS": "2"}
    spawned = prepare([code(source)], variables=variables, fork=False)
    assert spawned.start().wait().ways["kernel"].by == "spawn"
    run, _ = until_imported(prepare, [code(source)], "numpy", variables=variables)
    # the spawned kernel has a thread that watches its parent
    assert int(run.said().split()[-1]) == int(spawned.said().split()[-1]) - 1


MODULES = {
    "starts_threads": "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n",
    "asks_for_the_shell": "from IPython import get_ipython\nshell = get_ipython()\n",
    "changes_variables": "import os\nos.environ['CHANGED'] = 'yes'\n",
    "cannot_be_imported": "raise RuntimeError('not here')\n",
    "opens_files": "file = open('/proc/self/status')\n",
    "harmless": "value = 1\n",
}


def test_only_what_leaves_no_trace_is_imported_beforehand(prepare, tmp_path):
    site = tmp_path / "lib/site-packages"
    site.mkdir(parents=True)
    for name, source in MODULES.items():
        (site / f"{name}.py").write_text(source)
    (tmp_path / "lib/a_project_module.py").write_text("")
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": f"{site}:{tmp_path / 'lib'}"}
    names = [*MODULES, "a_project_module"]
    # the harmless one comes last of all, so the others have been tried when it is there
    order = [name for name in names if name != "harmless"] + ["harmless"]
    _, result = until_imported(prepare, [code("1")], "harmless", variables=variables, preload=order)
    assert result.ways["kernel"].imported == ["harmless"]


# -- when it cannot be -------------------------------------------------------------------------------------------------


def test_another_command_line_is_started_as_it_says(prepare):
    argv = [sys.executable, "-c", "from ipykernel.kernelapp import main; main()", "-f", "{connection_file}"]
    run = prepare([code("print('here')")], kernel={"argv": argv})
    result = run.start().wait()
    assert (result.state, result.ways["runner"].by) == ("complete", "fork")
    assert result.ways["kernel"] == rundir.Way(by="spawn", why="its command line is not that of ipykernel")
    assert run.said("stdout") == "here\n"


def test_a_python_without_ipykernel_says_so(prepare, tmp_path):
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    result = prepare([code("1")], kernel={"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]}).start().wait()
    assert result.error is not None
    assert result.error.code == "kernel_not_started"
    assert "ipykernel" in result.error.message + result.error.traceback + str(result.error.detail)
    assert result.ways["kernel"].by == "spawn"


def test_command_lines():
    assert split_command(["/x/python3", "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "c"]) == (
        ["/x/python3", "-Xfrozen_modules=off"],
        ["-f", "c"],
    )
    for other in (
        ["/x/python", "-X", "dev", "-m", "ipykernel_launcher"],
        ["/x/R", "-m", "ipykernel"],
        ["/x/python", "-m", "xeus"],
        ["/x/python", "-m"],
        [],
    ):
        assert split_command(other) is None


def test_imports():
    cells = [
        "import numpy as np, os\n%matplotlib inline\nfrom pandas.io import json",
        "from . import x\nimport a.b",
        "not python (",
        "if 1:\n    import late",
    ]
    assert imports_of(cells) == ["numpy", "pandas.io", "a.b"]


# -- ends --------------------------------------------------------------------------------------------------------------

LEAVES = """
import atexit, gzip, os, sys, threading, time, types, weakref
sys.path.insert(0, os.getcwd())
import mine
def left(name, mode="w", kind=open):
    file = kind(os.path.join(where, name), mode)
    file.write("held" if "b" not in mode else b"held")
    return file
plain, packed, both = left("plain"), left("packed", "wb", gzip.open), left("both", "w+")
mine.file = left("module")
mine.packed = left("module-packed", "wb", gzip.open)
sys.late = left("in-sys")
circle = [left("circle")]; circle.append(circle)
class Last:
    def __init__(self, name): self.path = os.path.join(where, name)
    def __del__(self, open=open):
        with open(self.path, "w") as file: file.write("__del__")
last = Last("global")
mine.last = Last("module-global")
around = Last("around"); around.me = around
def error():
    kept = Last("traceback")
    raise ValueError
weakref.finalize(mine, left("finalizer").close)
atexit.register(lambda: left("atexit").write(str(sorted(each for each in globals() if each == "plain"))))
def later():
    time.sleep(0.3)
    left("thread")
threading.Thread(target=later).start()
import logging
logging.getLogger("x").addHandler(handler := logging.FileHandler(os.path.join(where, "log")))
logging.getLogger("x").warning("logged")
import concurrent.futures
pool = concurrent.futures.ThreadPoolExecutor()
pool.submit(later)
"""
DAEMON = "import threading, time\nthreading.Thread(target=lambda sleep=time.sleep: [sleep(0.001) for _ in iter(int, 1)], daemon=True).start()\n"


@pytest.mark.parametrize("more", ["", DAEMON], ids=["alone", "daemon thread"])
@pytest.mark.parametrize("failing", [False, True])
def test_what_a_run_left_open_is_written_as_at_any_python_s_end(prepare, tmp_path, more, failing):
    left = []
    for fork in (True, False):
        where = tmp_path / f"left{fork}"
        where.mkdir()
        cells = [code(f"where = {str(where)!r}\n{more}{LEAVES}"), *([code("error()")] if failing else [])]
        run = prepare(cells, files={"mine.py": ""}, fork=fork, workspace={"mode": "copy"})
        result = run.start().wait()
        assert (result.state, result.kernel_exit) == ("failed" if failing else "complete", 0), result.error
        assert result.ways["kernel"].by == ("fork" if fork else "spawn")
        left.append({file.name: content_of(file) for file in where.iterdir()})
        # what Python says of exceptions in finalizers, and of those in threads
        assert "Exception" not in run.said("stderr").replace("Exception:", "")
    assert left[0] == left[1]
    assert len(left[1]) == 14


def content_of(file: Path) -> bytes:
    content = file.read_bytes()
    return gzip.decompress(content) if "packed" in file.name else content


BUSY = """
import os, subprocess, sys
clean = {"PATH": os.environ["PATH"]}
hold = "import os, signal; [signal.signal(s, signal.SIG_IGN) for s in (1, 2, 15)]; os.setsid(); os.fork() and os._exit(0)"
hold += "; print(1, flush=True); signal.pause()"
child = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, env=clean)
child.stdout.read(1)
if os.fork() == 0:
    os.setsid()
    import signal
    while True: signal.pause()
print("busy", flush=True)
while True: subprocess.run(["sleep", "60"])
"""


def gone(family: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(family, timeout=30)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize("mode", ["copy", "overlay"])
def test_a_killed_runner_leaves_nothing(prepare, mode):
    run = prepare([code(BUSY)], workspace={"mode": mode}).start()
    run.until(lambda run: "busy" in run.said())
    family = [psutil.Process(json.loads((run.path / "kernel.json").read_bytes())["keeper"]["pid"]), *run.family()]
    assert len(family) >= 4
    run.signal(signal.SIGKILL)
    gone(family)
    assert run.process.wait() == -signal.SIGKILL
    assert json.loads((run.path / "exit.json").read_bytes()) == {"signal": 9}


@pytest.mark.parametrize("mode", ["copy", "overlay"])
def test_a_killed_keeper_takes_everything_with_it_and_the_run_says_so(prepare, mode):
    run = prepare([code(BUSY, id="busy")], workspace={"mode": mode}).start()
    run.until(lambda run: "busy" in run.said())
    family = run.family()
    os.kill(json.loads((run.path / "kernel.json").read_bytes())["keeper"]["pid"], signal.SIGKILL)
    result = run.wait()
    assert result.error is not None
    assert result.error.code == "kernel_died"
    gone(family)


def test_a_killed_keeper_whose_server_was_killed_leaves_nothing(prepare):
    variables = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "ONLY": "a server to kill"}
    run = prepare([code(BUSY, id="busy")], workspace={"mode": "overlay"}, variables=variables).start()
    run.until(lambda run: "busy" in run.said())
    family = run.family()
    keeper = psutil.Process(json.loads((run.path / "kernel.json").read_bytes())["keeper"]["pid"])
    server = keeper.parent()
    assert server is not None
    server.kill()
    gone([server])
    # its orphans come to the fork server, which does not know them
    keeper.kill()
    result = run.wait()
    assert result.error is not None
    assert result.error.code == "kernel_died"
    gone(family)


def test_a_killed_kernel_server_ends_no_kernel_and_another_takes_its_place(prepare):
    variables = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "ONLY": "this server"}
    gate = "import os\nos.mkfifo('/tmp/' + tag)\nprint('waits', flush=True)\nopen('/tmp/' + tag).read()"
    tag = f"jobs-gate-{os.getpid()}"
    run = prepare([code("tag = ''", "parameters"), code(gate), code("print('on')")], variables=variables, parameters={"tag": tag}).start()
    run.until(lambda run: "waits" in run.said())
    keeper = psutil.Process(json.loads((run.path / "kernel.json").read_bytes())["keeper"]["pid"])
    server = keeper.parent()
    assert server is not None
    server.kill()
    gone([server])
    Path("/tmp", tag).write_text("")
    Path("/tmp", tag).unlink()
    assert run.wait().state == "complete"
    after = prepare([code("print('again')")], variables=variables)
    result = after.start().wait()
    assert (result.state, result.ways["kernel"].by) == ("complete", "fork")


def servers_of(forks: Any) -> list[psutil.Process]:
    """The kernel servers; runners have the fork server's own command line."""
    children = psutil.Process(forks.server.pid).children()
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE and "-c" in child.cmdline()]


def test_the_least_recently_used_server_goes_when_there_is_no_memory_but_never_under_a_kernel(prepare, tmp_path):
    with tempfile.TemporaryDirectory(prefix="jj-") as place:
        forks = Forks(Path(place), memory=1)
        try:
            gate = tmp_path / "gate"
            os.mkfifo(gate)
            holding = prepare([code(f"print('holds', flush=True); open({str(gate)!r}).read()")], variables={"PATH": os.environ["PATH"], "ONE": "1"})
            holding.forks = forks
            holding.start().until(lambda run: "holds" in run.said())
            (first,) = servers_of(forks)
            other = prepare([code("1")], variables={"PATH": os.environ["PATH"], "TWO": "2"})
            other.forks = forks
            assert other.start().wait().ways["kernel"].by == "fork"
            assert len(servers_of(forks)) == 2, "the one with a kernel lives as long as that"
            gate.write_text("")
            assert holding.wait().state == "complete"
            gone([first])
        finally:
            forks.close()
