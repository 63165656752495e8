"""What a run left, as a browser gets it: pages in an origin of their own, files as downloads, nothing from elsewhere."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_jobs.transports import LocalTransport
from traitlets.config import Config

from jupyter_jobs.actions.places import run_dir
from jupyter_jobs.client import Client
from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.model import RunFile
from jupyter_jobs.runner.workspace import artifact_root
from jupyter_jobs.settings import Jobs
from jupyter_jobs.store import artifacts, runs
from tests.api.running import Dispatcher, Running, error_of
from tests.factories import bring_to, make_job, notebook

SANDBOX = "sandbox allow-scripts; frame-ancestors 'self'"


@pytest.fixture
def server_config() -> Config:
    """An administrator who weakens every header there is."""
    headers = {"Content-Security-Policy": "frame-ancestors *", "X-Content-Type-Options": "", "Cache-Control": "public"}
    return Config({"ServerApp": {"tornado_settings": {"headers": headers}}})


@pytest.fixture
async def run(dispatcher: Dispatcher, settings: Jobs) -> str:
    """A run that has ended, with an executed notebook and files."""
    job = dispatcher.write(make_job, runs_count=1)
    run = f"{job}-1"
    folder = run_dir(Path(settings.data_dir), run, 1)
    folder.mkdir(parents=True)
    executed = notebook(["print('hello')"])
    executed.cells[-1].outputs = [
        nbformat.v4.new_output("stream", text="hello\n"),
        nbformat.v4.new_output("display_data", {"text/html": "<script>parent.document.cookie</script>"}),
    ]
    nbformat.write(executed, folder / "output.ipynb")
    (folder / "run.json").write_text(json.dumps({"workspace": {"mode": "overlay"}}))
    root = artifact_root(folder)
    (root / "out").mkdir(parents=True)
    (root / "out" / "ünï “q” %41.html").write_text("<script>alert(1)</script>")
    (root / "big.bin").write_bytes(bytes(range(256)) * 4096 * 3)
    (root / "leak").symlink_to("/etc/passwd")
    dispatcher.write(bring_to, run, RunState.RUNNING)
    files = [RunFile(path=path, bytes=1, kind="created") for path in ("out/ünï “q” %41.html", "big.bin", "leak", "gone.txt")]
    dispatcher.write(artifacts.replace, run, files)
    dispatcher.write(runs.move, run, RunState.COMPLETE, attempt=1)
    return run


async def test_the_page_is_sandboxed_whatever_the_settings_say(server: Running, run: str) -> None:
    response = await server.get(f"runs/{run}/html")
    assert response.code == 200, response.body[:500]
    assert response.headers.get_list("Content-Security-Policy") == [SANDBOX]
    assert response.headers.get_list("X-Content-Type-Options") == ["nosniff"]
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "private" in response.headers["Cache-Control"]
    assert b"hello" in response.body
    assert b"the-token" not in response.body
    again = await server.ask("GET", f"runs/{run}/html", headers={"If-None-Match": response.headers["ETag"]})
    assert (again.code, again.body) == (304, b"")
    assert again.headers.get_list("Content-Security-Policy") == [SANDBOX]
    other = await server.ask("GET", f"runs/{run}/html", headers={"If-None-Match": '"other"'})
    assert other.code == 200
    dark = await server.get(f"runs/{run}/html", theme="dark")
    assert dark.code == 200
    assert (await server.get(f"runs/{run}/html", theme="pink")).code == 400


async def test_a_kept_page_is_answered_as_a_new_one(server: Running, dispatcher: Dispatcher, settings: Jobs, run: str) -> None:
    first = await server.get(f"runs/{run}/html")
    again = await server.get(f"runs/{run}/html")
    kept = list((Path(settings.data_dir) / "html").glob("*/*"))
    assert [page.read_bytes() for page in kept] == [first.body]
    assert (again.code, again.body) == (200, first.body)
    changing = ("Date", "Set-Cookie")
    assert [header for header in again.headers.get_all() if header[0] not in changing] == [
        header for header in first.headers.get_all() if header[0] not in changing
    ]
    assert again.headers.get_list("Content-Security-Policy") == [SANDBOX]
    # it is sent from there, and nothing is rendered again
    kept[0].write_bytes(b"kept")
    assert (await server.get(f"runs/{run}/html")).body == b"kept"
    job = dispatcher.write(make_job, runs_count=1)
    other = run_dir(Path(settings.data_dir), f"{job}-1", 1)
    other.mkdir(parents=True)
    (other / "output.ipynb").hardlink_to(run_dir(Path(settings.data_dir), run, 1) / "output.ipynb")
    (other / "run.json").write_text(json.dumps({"workspace": {"mode": "overlay"}}))
    dispatcher.write(bring_to, f"{job}-1", RunState.RUNNING)
    assert b"hello" in (await server.get(f"runs/{job}-1/html")).body
    deleted = run.rpartition("-")[0]
    assert (await server.ask("DELETE", f"jobs/{deleted}")).code == 204
    assert [folder.name for folder in (Path(settings.data_dir) / "html").iterdir()] == [job]


async def test_the_command_line_finds_the_servers_pages(server: Running, settings: Jobs, run: str) -> None:
    page = await server.get(f"runs/{run}/html", inline="true", theme="auto")
    (kept,) = (Path(settings.data_dir) / "html").glob("*/*")
    kept.write_bytes(b"kept")
    with Client(LocalTransport(settings)) as client:
        assert await asyncio.to_thread(client.html, run, inline=True) == "kept"
    assert b"hello" in page.body
    assert list((Path(settings.data_dir) / "html").glob("*/*")) == [kept]


async def test_the_page_of_a_run_under_way_is_not_kept_for_the_end(server: Running, dispatcher: Dispatcher, settings: Jobs) -> None:
    job = dispatcher.write(make_job, runs_count=1)
    folder = run_dir(Path(settings.data_dir), f"{job}-1", 1)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"workspace": {"mode": "overlay"}}))
    nbformat.write(notebook(["print('begun')"]), folder / "output.ipynb")
    dispatcher.write(bring_to, f"{job}-1", RunState.RUNNING)
    partial = await server.get(f"runs/{job}-1/html")
    assert b"jj-state-running" in partial.body
    dispatcher.write(runs.move, f"{job}-1", RunState.COMPLETE, attempt=1)
    ended = await server.ask("GET", f"runs/{job}-1/html", headers={"If-None-Match": partial.headers["ETag"]})
    assert ended.code == 200
    assert b"jj-state-complete" in ended.body


async def test_looking_at_a_run_starts_a_renderer(server: Running, run: str) -> None:
    assert (await server.get("jobs")).code == 200
    assert not server.jobs._renderers.started
    assert (await server.get(f"runs/{run}")).code == 200
    # nobody waits for it: ends when all that was begun is done
    await asyncio.to_thread(server.jobs._slow.shutdown)
    assert server.jobs._renderers.started
    assert await asyncio.to_thread(server.jobs._renderers.call, is_imported, "nbconvert.exporters")


def is_imported(module: str) -> bool:
    return module in sys.modules


async def test_files_are_downloads(server: Running, run: str) -> None:
    listed = json.loads((await server.get(f"runs/{run}/files")).body)["files"]
    assert [file["path"] for file in listed] == ["big.bin", "gone.txt", "leak", "out/ünï “q” %41.html"]
    response = await server.get(f"runs/{run}/files/out/%C3%BCn%C3%AF%20%E2%80%9Cq%E2%80%9D%20%2541.html")
    assert response.body == b"<script>alert(1)</script>"
    disposition = response.headers["Content-Disposition"]
    assert disposition == "attachment; filename*=UTF-8''%C3%BCn%C3%AF%20%E2%80%9Cq%E2%80%9D%20%2541.html"
    assert response.headers.get_list("Content-Security-Policy") == [SANDBOX]
    assert response.headers.get_list("X-Content-Type-Options") == ["nosniff"]
    big = await server.get(f"runs/{run}/files/big.bin")
    assert big.body == bytes(range(256)) * 4096 * 3
    assert big.headers["Content-Length"] == str(len(big.body))


async def test_only_the_runs_own_files_are_found(server: Running, run: str) -> None:
    for path in ("leak", "gone.txt", "../run.json", "%2e%2e/run.json", "out", "out/../../../run.json", "/etc/passwd", "%2fetc%2fpasswd"):
        response = await server.get(f"runs/{run}/files/{path}")
        assert response.code in (400, 404), path
        error_of(response)


async def test_the_executed_notebook_is_a_download(server: Running, run: str) -> None:
    response = await server.get(f"runs/{run}/notebook")
    assert nbformat.reads(response.body.decode(), 4).cells[-1].source == "print('hello')"
    assert f"{run}.ipynb" in response.headers["Content-Disposition"]


async def test_a_run_without_a_notebook(dispatcher: Dispatcher, server: Running) -> None:
    job = dispatcher.write(make_job, runs_count=1)
    for what in ("html", "notebook"):
        response = await server.get(f"runs/{job}-1/{what}")
        assert (response.code, error_of(response)["code"]) == (404, "no_notebook_yet")


async def test_libraries_need_no_login_and_can_be_read_from_a_sandbox(server: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tornado.httpclient import AsyncHTTPClient

    response = await AsyncHTTPClient().fetch(f"{server.url}static/jupyter_jobs/vendor/nothing.js", raise_error=False, follow_redirects=False)
    assert response.code == 404
    for path in ("../__init__.py", "%2e%2e/__init__.py"):
        response = await AsyncHTTPClient().fetch(f"{server.url}static/jupyter_jobs/{path}", raise_error=False, follow_redirects=False)
        assert response.code in (403, 404)


async def test_the_document_is_served(server: Running) -> None:
    response = await server.get("openapi.json")
    assert response.headers["Content-Type"] == "application/json"
    assert json.loads(response.body)["openapi"] == "3.1.0"
