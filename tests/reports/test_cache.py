"""Rendered pages as they are kept: found again for the same notebook only, removed when there are too many."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from nbformat import v4, write

from jupyter_jobs.errors import NotFound, Unavailable
from jupyter_jobs.reports.cache import GRACE_SECONDS, Shelf, find_page, make_page


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return saved(tmp_path / "output.ipynb", "x = 1")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "html", "ab12", "1.1", 1 << 30)


def saved(path: Path, source: str) -> Path:
    """Written as the runner does: another file in its place."""
    write(v4.new_notebook(cells=[v4.new_code_cell(source, id="c")]), path.with_suffix(".new"))
    return path.with_suffix(".new").replace(path)


def make_old(shelf: Shelf) -> None:
    for page in shelf.folder.glob("*/*"):
        os.utime(page, (time.time() - 10 * GRACE_SECONDS,) * 2)


def test_a_page_is_found_for_the_same_file_shown_the_same_way(shelf: Shelf, notebook: Path) -> None:
    assert find_page(shelf, notebook, assets="/vendor") is None
    page = make_page(shelf, notebook, assets="/vendor", banner={"state": "running"})
    assert "1" in page.read_text(encoding="utf-8")
    assert find_page(shelf, notebook, assets="/vendor", banner={"state": "running"}) == page
    assert find_page(shelf, notebook, assets="/vendor", banner={"state": "complete"}) is None
    assert find_page(shelf, notebook, assets="/vendor", banner={"state": "running"}, theme="dark") is None
    other = Shelf(shelf.folder, "cd34", "1.1", shelf.max_bytes)
    assert find_page(other, notebook, assets="/vendor", banner={"state": "running"}) is None
    assert [path for path in shelf.folder.rglob("*") if path.is_file()] == [page]


def test_a_notebook_that_was_written_again_is_another(shelf: Shelf, notebook: Path) -> None:
    page = make_page(shelf, notebook, assets="/vendor")
    times = (notebook.stat().st_atime_ns, notebook.stat().st_mtime_ns)
    # as long as the old one, and it says that it is as old
    os.utime(saved(notebook, "x = 2"), ns=times)
    assert find_page(shelf, notebook, assets="/vendor") is None
    assert make_page(shelf, notebook, assets="/vendor") != page
    with notebook.open("r+b") as file:
        file.seek(notebook.read_bytes().index(b"x = 2"))
        file.write(b"y")
    os.utime(notebook, ns=times)
    assert find_page(shelf, notebook, assets="/vendor") is None


def test_pages_of_older_states_go(shelf: Shelf, notebook: Path) -> None:
    first = make_page(shelf, notebook, assets="/vendor")
    dark = make_page(shelf, notebook, assets="/vendor", theme="dark")
    second = make_page(shelf, saved(notebook, "x = 2"), assets="/vendor")
    assert first.exists(), "it was asked for a moment ago, and may not have been opened yet"
    make_old(shelf)
    third = make_page(shelf, saved(notebook, "x = 3"), assets="/vendor")
    assert sorted(shelf.folder.glob("*/*")) == sorted([dark, third])
    assert not second.exists()


def test_those_not_looked_at_for_longest_go_first(shelf: Shelf, notebook: Path) -> None:
    ages = {"a1": 30, "b2": 60, "c3": 20, "d4": 50, "e5": 40, "f6": 70}
    attempts = {job: Shelf(shelf.folder, job, "1.1", 1 << 30) for job in ages}
    pages = {job: make_page(attempts[job], notebook, assets="/vendor") for job in ages}
    for job, age in ages.items():
        os.utime(pages[job], (time.time() - age * GRACE_SECONDS,) * 2)
    assert find_page(attempts["f6"], notebook, assets="/vendor") == pages["f6"]
    room = 4 * pages["a1"].stat().st_size + 100
    newest = make_page(Shelf(shelf.folder, "g7", "1.1", room), notebook, assets="/vendor")
    assert sorted(shelf.folder.glob("*/*")) == sorted([pages["a1"], pages["c3"], pages["f6"], newest])


def test_two_that_render_at_once_leave_one_whole_page(shelf: Shelf, notebook: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from jupyter_jobs.reports.cache import Shelf, make_page\n"
        "from jupyter_jobs.reports.html import prepare\n"
        "prepare(); input(); print(make_page(Shelf(Path(sys.argv[1]), 'ab12', '1.1', 0), Path(sys.argv[2]), assets='/vendor'))"
    )
    command = [sys.executable, "-c", script, str(shelf.folder), str(notebook)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    threads = [threading.Thread(target=process.communicate, args=("\n",)) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.returncode for process in processes] == [0, 0]
    page = find_page(shelf, notebook, assets="/vendor")
    assert page is not None
    assert page.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert list(shelf.folder.glob("*/*")) == [page]


def test_what_cannot_be_read_or_written_is_named(shelf: Shelf, notebook: Path, tmp_path: Path) -> None:
    for ask in (find_page, make_page):
        with pytest.raises(NotFound, match=r"none\.ipynb"):
            ask(shelf, tmp_path / "none.ipynb", assets="/vendor")
    shelf.folder.write_text("a file where the folder should be")
    assert find_page(shelf, notebook, assets="/vendor") is None
    with pytest.raises(Unavailable) as caught:
        make_page(shelf, notebook, assets="/vendor")
    assert caught.value.code == "page_not_written"
