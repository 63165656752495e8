"""Pages that were rendered, kept as files in one folder for all jobs: `<job>/<run and attempt>-<look>-<content>.html`.

A page stands for a notebook's file as it is (inode, size, times of change), how it is shown, and the version of the renderer. The notebook of a run
that goes on is another file at each save, so a page of it is found only until the next.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from jupyter_jobs.errors import NotFound, Unavailable
from jupyter_jobs.reports.html import Look, digest, open_notebook, render_file, renderer_version, roots_of

GRACE_SECONDS = 10.0
"""A page that was asked for so recently may not have been opened yet, and is not removed."""


@dataclass(frozen=True)
class Shelf:
    """Where the pages of one attempt of a run belong. `folder`: of all pages; `job` and `attempt` as in file names; at most `max_bytes` are kept."""

    folder: Path
    job: str
    attempt: str
    max_bytes: int


def find_page(shelf: Shelf, notebook: Path, **look: Unpack[Look]) -> Path | None:
    """The file of a page that is there already. Takes no longer than looking at two files. Raises `NotFound` without the notebook."""
    try:
        page = _place(shelf, notebook.stat(), look)
    except FileNotFoundError as error:
        raise NotFound(f"There is no notebook {notebook.name} yet.", code="notebook_not_found", mend="Wait until its first cell has run.") from error
    if not page.is_file():
        return None
    with suppress(OSError):
        # the time of last use; where nothing can be written, nothing is removed either
        os.utime(page)
    return page


def make_page(shelf: Shelf, notebook: Path, **look: Unpack[Look]) -> Path:
    """Render a page; the file that holds it, written at once. Raises as `render_html`, and `Unavailable` where it cannot be written."""
    with open_notebook(notebook) as file:
        # of the file that is read, which another may have replaced since it was looked for
        page = _place(shelf, os.fstat(file.fileno()), look)
        text = render_file(file, **look)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=page.parent, prefix=".page-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as written:
                written.write(text)
            Path(temporary).replace(page)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _make_room(shelf, page)
    except OSError as error:
        mend = "Make room on the disk of the jobs' data directory."
        raise Unavailable(f"The page cannot be written: {error.strerror}.", code="page_not_written", mend=mend) from error
    return page


def _place(shelf: Shelf, facts: os.stat_result, look: Look) -> Path:
    """Where the page is, or will be."""
    shown: dict[str, object] = {**look}
    changing = {name: shown.pop(name, "") for name in ("banner", "title")}
    shown["files_root"] = [str(root) for root in roots_of(look.get("files_root"))]
    identity = [facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
    content = json.dumps([renderer_version(), identity, changing], sort_keys=True)
    name = f"{shelf.attempt}-{digest(json.dumps(shown, sort_keys=True), 8)}-{digest(content, 32)}.html"
    return shelf.folder / shelf.job / name


def _make_room(shelf: Shelf, page: Path) -> None:
    """Remove pages of an older state of the same run, then those that were not looked at for longest, until what is kept is small enough."""
    superseded = page.name.rpartition("-")[0]
    now = time.time()
    total = 0
    others: list[tuple[bool, float, int, Path]] = []
    for path in shelf.folder.glob("*/*"):
        try:
            facts = path.stat()
        except FileNotFoundError:
            continue  # another process has removed it meanwhile
        total += facts.st_size
        if path != page and facts.st_mtime < now - GRACE_SECONDS:
            is_old = path.parent == page.parent and path.name.rpartition("-")[0] == superseded
            others.append((not is_old, facts.st_mtime, facts.st_size, path))
    for keep, _, size, path in sorted(others):
        if keep and total <= shelf.max_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size
