"""The parts below the handler: contents paths, worker processes, directory watches, the URL table."""

from __future__ import annotations

import os
import select
import threading
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from jupyter_server.services.contents.filecheckpoints import FileCheckpoints
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager, LargeFileManager
from jupyter_server.services.contents.manager import ContentsManager

from jupyter_jobs.api.contents import locate
from jupyter_jobs.api.kernelspecs import blocking
from jupyter_jobs.api.routes import ROUTES
from jupyter_jobs.api.table import MethodNotAllowed, decode, find_route
from jupyter_jobs.api.watch import DirectoryWatch, WatchfilesWatch
from jupyter_jobs.api.worker import LARGEST, Workers
from jupyter_jobs.errors import BadInput, Conflict, JobsError, NotFound, Unavailable
from tests.api.running import SECONDS


class RemoteManager(ContentsManager):
    """Notebooks in some database."""

    checkpoints_class = FileCheckpoints


class TestContents:
    @pytest.fixture(params=[LargeFileManager, AsyncLargeFileManager])
    def contents(self, request: pytest.FixtureRequest, tmp_path: Path) -> LargeFileManager:
        root = tmp_path / "root"
        for folder in ("sub", ".hidden"):
            (root / folder).mkdir(parents=True)
            (root / folder / "a.ipynb").write_text("{}")
        (root / "x:y.ipynb").write_text("{}")
        (tmp_path / "outside.ipynb").write_text("{}")
        (root / "link").symlink_to(tmp_path)
        made: LargeFileManager = request.param(root_dir=str(root))
        return made

    def test_paths_as_jupyterlab_knows_them(self, contents: LargeFileManager, tmp_path: Path) -> None:
        root = tmp_path / "root"
        for path in ("sub/a.ipynb", "/sub/a.ipynb", "RTC:sub/a.ipynb", "sub//a.ipynb"):
            found = locate(contents, path)
            assert (found.file, found.root) == (root / "sub" / "a.ipynb", root), path
        assert locate(contents, "x:y.ipynb").file == root / "x:y.ipynb"
        assert locate(contents, "not/yet.ipynb").file == root / "not" / "yet.ipynb"
        # a link is the administrator's or the person's own decision, as for the file browser
        assert locate(contents, "link/outside.ipynb").file == root / "link" / "outside.ipynb"

    def test_what_lies_outside_is_refused(self, contents: LargeFileManager) -> None:
        for path in ("../outside.ipynb", "sub/../../outside.ipynb", "RTC:../outside.ipynb", "a\0b"):
            with pytest.raises(NotFound) as caught:
                locate(contents, path)
            assert caught.value.code == "outside_root", path

    def test_hidden_files_only_if_allowed(self, contents: LargeFileManager) -> None:
        with pytest.raises(NotFound) as caught:
            locate(contents, ".hidden/a.ipynb")
        assert caught.value.code == "hidden"
        contents.allow_hidden = True
        assert locate(contents, ".hidden/a.ipynb").file.is_file()

    def test_what_is_elsewhere_is_refused_by_name(self, contents: LargeFileManager) -> None:
        with pytest.raises(BadInput) as caught:
            locate(RemoteManager(), "a.ipynb")
        assert caught.value.code == "contents_not_local"
        assert "RemoteManager" in caught.value.message
        with pytest.raises(BadInput) as caught:
            locate(contents, "s3:bucket/a.ipynb")
        assert caught.value.code == "contents_not_local"
        assert "s3" in caught.value.message


class SlowSpecs(KernelSpecManager):
    """A manager that answers on the event loop only, as a gateway's does."""

    async def get_all_specs(self) -> dict[str, Any]:  # type: ignore[override]
        return {"far": {"name": "far", "resource_dir": "/far", "spec": {}}}

    async def get_kernel_spec(self, kernel_name: str) -> KernelSpec:  # type: ignore[override]
        if kernel_name != "far":
            raise NoSuchKernel(kernel_name)
        return KernelSpec(argv=["far"])


async def test_a_manager_that_answers_on_the_loop() -> None:
    import asyncio

    plain = KernelSpecManager()
    assert blocking(plain, asyncio.get_running_loop()) is plain
    specs = blocking(SlowSpecs(), asyncio.get_running_loop())
    assert await asyncio.to_thread(specs.find_kernel_specs) == {"far": "/far"}
    assert (await asyncio.to_thread(specs.get_kernel_spec, "far")).argv == ["far"]
    with pytest.raises(NoSuchKernel):
        await asyncio.to_thread(specs.get_kernel_spec, "near")


class TestWorkers:
    def test_results_and_errors_come_back_whole(self) -> None:
        workers = Workers(1)
        try:
            assert workers.call(sorted, [3, 1, 2], reverse=True) == [3, 2, 1]
            process = workers.call(os.getpid)
            assert process != os.getpid()
            with pytest.raises(Conflict) as caught:
                workers.call(fail)
            assert (caught.value.code, caught.value.mend, caught.value.detail, caught.value.message) == ("c", "m", {"field": "f"}, "said")
            with pytest.raises(ZeroDivisionError):
                workers.call(divmod, 1, 0)
            # what a library prints is no answer
            assert workers.call(print_much) == 7
            assert workers.call(os.getpid) == process
        finally:
            workers.close()

    def test_one_that_dies_is_replaced(self) -> None:
        workers = Workers(1)
        try:
            process = workers.call(os.getpid)
            with pytest.raises(Unavailable) as caught:
                workers.call(os._exit, 3)
            assert caught.value.code == "worker_died"
            assert workers.call(os.getpid) != process
            with pytest.raises((AttributeError, TypeError)):
                workers.call(lambda: 1)
            assert workers.call(abs, -1) == 1
        finally:
            workers.close()

    def test_one_that_has_grown_is_replaced_after_its_answer(self) -> None:
        workers = Workers(1, "tests.api.test_parts:make_ready")
        try:
            process = workers.call(os.getpid)
            assert workers.call(grow, 100) == 100
            assert workers.call(os.getpid) == process
            assert workers.call(grow, LARGEST) == LARGEST
            assert workers.call(os.getpid) != process
            with pytest.raises(ProcessLookupError):
                os.kill(process, 0)
            assert workers.call(os.getenv, "PREPARED") == "yes"
            with pytest.raises(Conflict):
                workers.call(grow_and_fail, LARGEST)
            assert workers.call(abs, -1) == 1
        finally:
            workers.close()

    def test_one_is_started_before_it_is_needed(self) -> None:
        workers = Workers(2, "tests.api.test_parts:make_ready")
        try:
            assert not workers.started
            workers.ready()
            assert workers.started
            (process,) = workers._processes
            workers.ready()
            assert workers._processes == {process}
            assert workers.call(os.getpid) == process.pid
            assert workers.call(os.getenv, "PREPARED") == "yes"
        finally:
            workers.close()
        workers.ready()
        assert not workers.started

    def test_closing_ends_what_is_under_way(self, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        workers = Workers(2)
        outcome: list[BaseException] = []

        def call() -> None:
            try:
                workers.call(hold, str(gate))
            except JobsError as error:
                outcome.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        with gate.open("w"):
            assert workers.call(abs, -2) == 2
            workers.close()
            thread.join(SECONDS)
        assert [type(error) for error in outcome] == [Unavailable]
        with pytest.raises(Unavailable):
            workers.call(abs, -1)


def fail() -> None:
    raise Conflict("said", code="c", mend="m", field="f")


_grown: list[bytes] = []


def make_ready() -> None:
    os.environ["PREPARED"] = "yes"


def grow(size: int) -> int:
    _grown.append(b"x" * size)
    return size


def grow_and_fail(size: int) -> None:
    grow(size)
    fail()


def print_much() -> int:
    print("x" * 100_000)
    os.write(1, b"straight to the descriptor")
    return 7


def hold(gate: str) -> None:
    """Until the gate's other side is closed."""
    Path(gate).read_text()


@pytest.mark.parametrize("kind", [DirectoryWatch, WatchfilesWatch])
def test_a_directory_is_watched_without_what_is_below(kind: type[DirectoryWatch] | type[WatchfilesWatch], tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    watch = kind()
    try:
        assert watch.add(one)
        assert watch.add(two)
        assert not watch.add(tmp_path / "missing")
        write_until_told(watch, one / "log")
        assert changes(watch) == {one}
        watch.remove(one)
        (one / "log").write_text("more")
        write_until_told(watch, two / "log")
        assert changes(watch) == {two}
        assert watch.drain() == set()
    finally:
        watch.close()


def write_until_told(watch: DirectoryWatch | WatchfilesWatch, file: Path) -> None:
    """watchfiles begins to watch on a thread of its own, some time after it was asked to."""
    for count in range(int(SECONDS * 10)):
        file.write_text(str(count))
        if select.select([watch.fileno()], [], [], 0.1)[0]:
            return
    raise AssertionError("not told")


def changes(watch: DirectoryWatch | WatchfilesWatch) -> set[Path]:
    found = watch.drain()
    while select.select([watch.fileno()], [], [], 0.3)[0]:
        found |= watch.drain()
    return found


class TestTable:
    def test_every_route_finds_itself(self) -> None:
        for route in ROUTES:
            path = route.path.replace("{job}", "4f1c9a2b").replace("{run}", "4f1c9a2b-1").replace("{path}", "a/b%20c")
            found, values = find_route(ROUTES, route.method, path)
            assert found is route, route.name
            known = {"job": "4f1c9a2b", "run": "4f1c9a2b-1", "path": "a/b c"}
            assert values == {name: known[name] for name in route.path_fields}

    def test_methods(self) -> None:
        with pytest.raises(MethodNotAllowed) as caught:
            find_route(ROUTES, "PUT", "jobs")
        assert caught.value.detail["allow"] == ["GET", "POST"]

    def test_what_a_jupyter_client_adds_is_no_field(self) -> None:
        route, values = find_route(ROUTES, "GET", "jobs")
        request = decode(route, values, "1700000000000&token=x&limit=3&_xsrf=y&status=", b"")
        assert (request.limit, request.status) == (3, "")  # type: ignore[attr-defined]

    def test_numbers_and_texts_at_their_bounds(self) -> None:
        route, values = find_route(ROUTES, "GET", "events")
        assert decode(route, values, f"after={2**53}", b"").after == 2**53  # type: ignore[attr-defined]
        with pytest.raises(BadInput):
            decode(route, values, f"after={2**53 + 1}", b"")
        route, values = find_route(ROUTES, "POST", "combinations")
        long = "x" * 100_000
        assert decode(route, values, "", b'{"path": "a", "parameters": {"p": ["' + long.encode() + b'"]}, "grid_text": "' + long.encode() + b'"}')
