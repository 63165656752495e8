"""A real JupyterLab (or Notebook) on a copy of the example, and Chromium looking at it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-the-tests"
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Lab:
    """A JupyterLab that runs: where, on which folder, with which Jupyter directories."""

    url: str
    root: Path
    environment: dict[str, str]

    @property
    def project(self) -> Path:
        return self.root / "churn"


def jupyter_environment(home: Path) -> dict[str, str]:
    """This process's environment with all of Jupyter's directories below `home`, and no settings of whoever runs the tests."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "JPY_", "GIT_"))}
    for name in ("CONFIG", "DATA", "RUNTIME"):
        environment[f"JUPYTER_{name}_DIR"] = str(home / name.lower())
    return environment | {
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "XDG_RUNTIME_DIR": "",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
    }


@contextmanager
def serving(home: Path, module: str, *options: str) -> Iterator[Lab]:
    """A server of `python -m module` on a copy of the example, with a home of its own."""
    root = home / "work"
    shutil.copytree(ROOT / "examples" / "churn", root / "churn")
    environment = jupyter_environment(home)
    settings = home / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    command = [sys.executable, "-m", module, "--no-browser", "--allow-root", "--port=0", f"--notebook-dir={root}"]
    command += [f"--IdentityProvider.token={TOKEN}", *options]
    log = home / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        assert process.stdout
        url = ""
        for line in process.stdout:
            output.write(line)
            output.flush()
            if found := re.search(rb"(http://(?:localhost|127\.0\.0\.1):\d+/)(?:lab|tree)\?token=", line):
                url = found[1].decode()
                break
        assert url, f"{module} did not start:\n{log.read_text()}"
        drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=output)
        yield Lab(url, root, environment)
        subprocess.run([sys.executable, "-m", "jupyter_jobs.cli", "dispatcher", "stop"], env=environment, check=True, timeout=60)
        process.terminate()
        process.wait(30)
        drain.wait(30)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    options = ["--LabApp.expose_app_in_browser=True", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with serving(tmp_path_factory.mktemp("lab"), "jupyterlab", *options) as started:
        yield started


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert executable, "Chromium is missing: make system"
    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_FLAGS, headless="HEADED" not in os.environ)
        yield instance
        instance.close()


@pytest.fixture
def context(browser: Browser, lab: Lab) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    context.set_default_timeout(30_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, lab: Lab) -> Page:
    """JupyterLab, restored, with the example open; a new workspace each time."""
    page = context.new_page()
    page.goto(f"{lab.url}lab/workspaces/{os.urandom(4).hex()}/tree/churn/report.ipynb?token={TOKEN}")
    page.wait_for_function("window.jupyterapp && window.jupyterapp.restored.then(() => true)")
    page.wait_for_selector(".jp-NotebookPanel .jp-Notebook")
    return page
