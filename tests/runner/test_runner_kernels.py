"""Kernels of other environments and other languages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import venv
from pathlib import Path

import pytest

from jupyter_jobs.runner import rundir
from jupyter_jobs.runner.kernel import free_ports
from tests.runner.runner_cells import code

CACHE = Path(__file__).parents[2] / ".cache"

PARROT = """
import sys
from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel


class Parrot(Kernel):
    implementation = language = "parrot"
    implementation_version = language_version = "1"
    language_info = {"name": "R", "mimetype": "text/plain", "file_extension": ".r"}
    banner = "says what it hears"

    def do_execute(self, code, silent, store_history=True, user_expressions=None, allow_stdin=False):
        if not silent:
            if code == "auc":
                content = {"data": {"text/plain": "[1] 0.75"}, "metadata": {}, "execution_count": self.execution_count}
                self.send_response(self.iopub_socket, "execute_result", content)
            elif code == "fail":
                error = {"ename": "ERROR", "evalue": "parrots do not fail", "traceback": ["Error: parrots do not fail"]}
                self.send_response(self.iopub_socket, "error", error)
                return {"status": "error", "execution_count": self.execution_count, **error}
            elif code == "transport":
                self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": self.parent_app.transport})
            else:
                self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code + "\\n"})
        return {"status": "ok", "execution_count": self.execution_count, "payload": [], "user_expressions": {}}


class App(IPKernelApp):
    def init_kernel(self):
        super().init_kernel()
        self.kernel.parent_app = self


App.launch_instance(kernel_class=Parrot)
"""


@pytest.fixture
def parrot(tmp_path):
    """A kernel of another language (it says it is R), which answers no expressions."""
    script = tmp_path / "parrot.py"
    script.write_text(textwrap.dedent(PARROT))
    return {"argv": [sys.executable, str(script), "-f", "{connection_file}"], "name": "parrot", "language": "R", "interrupt_mode": "message"}


def test_another_language(execute, parrot):
    run, result = execute(
        [code("x <- 1", "parameters"), code("hello", id="h"), code("transport")], kernel=parrot, parameters={"x": "é", "y": True}, record=["auc"]
    )
    assert result.state == "complete", result.error
    assert run.cell("injected-parameters").source == '# Parameters\nx = "\\xe9"\ny = TRUE\n'
    assert result.records == {"auc": 0.75}
    assert "hello\n" in run.said("stdout")
    assert run.said("stdout").endswith("tcp")
    assert json.loads((run.path / rundir.NOTEBOOK).read_text())["metadata"]["language_info"]["name"] == "R"


def test_another_languages_error(execute, parrot):
    run, result = execute([code("fail", id="f"), code("never")], kernel=parrot, record=["auc"])
    assert (result.state, result.error.code) == ("failed", "cell_error")
    assert result.error.message == "Cell 1 raised ERROR: parrots do not fail"
    assert "never" not in run.said()


def test_ports_differ_and_can_be_bound():
    assert len(set(free_ports(5))) == 5


@pytest.fixture(scope="session")
def old_environment():
    """An environment of its own with nothing but ipykernel 6."""
    place = CACHE / "ipykernel6"
    python = place / "bin/python"
    if not (place / "ready").exists():
        CACHE.mkdir(exist_ok=True)
        venv.create(place, with_pip=True, symlinks=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "ipykernel==6.29.5"], check=True, env=dict(os.environ))
        (place / "ready").touch()
    return python


def test_an_environment_of_its_own_with_an_old_ipykernel(execute, old_environment):
    source = "import sys, importlib.util as u; print(sys.prefix, u.find_spec('papermill'), u.find_spec('jupyter_jobs'))"
    kernel = {"argv": [str(old_environment), "-m", "ipykernel_launcher", "-f", "{connection_file}"], "name": "theirs"}
    run, result = execute([code(source), code("import subprocess; subprocess.run(['echo', 'child'])\nauc = 0.5")], kernel=kernel, record=["auc"])
    assert result.state == "complete", result.error
    assert result.records == {"auc": 0.5}
    assert run.said("stdout").splitlines() == [f"{old_environment.parents[1]} None None", "child"]
