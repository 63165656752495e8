"""From a path as JupyterLab knows it to the file on disk, by the server's contents manager and its rules."""

from __future__ import annotations

import os
import re
from pathlib import Path

from jupyter_core.paths import is_hidden
from jupyter_server.services.contents.fileio import FileManagerMixin
from jupyter_server.services.contents.manager import ContentsManager
from tornado.web import HTTPError

from jupyter_jobs.actions.context import Located
from jupyter_jobs.errors import BadInput, NotFound

COLLABORATION = "RTC:"
"""Before a path that is edited together; the file is the contents manager's own."""


def locate(contents: ContentsManager, path: str) -> Located:
    """The file of a contents path and the server's root. It need not exist.

    Raises `BadInput` (`contents_not_local`) when the contents are on no local disk, `NotFound` for a path outside the root or a hidden one.
    """
    if not isinstance(contents, FileManagerMixin):
        raise _not_local(f"The server's contents manager {type(contents).__name__} keeps notebooks elsewhere than on this machine's disk.")
    plain = path.removeprefix(COLLABORATION)
    root = os.path.abspath(contents.root_dir)  # noqa: PTH100 - as the contents manager does: links stay links
    try:
        file: str = contents._get_os_path(plain)  # type: ignore[no-untyped-call]
    except HTTPError:
        raise NotFound(f"{path} is not below the server's root.", code="outside_root", mend="Name a notebook that the file browser shows.") from None
    if (drive := re.match(r"[\w.-]+(?=:)", plain)) and not os.path.lexists(file):
        raise _not_local(f"{path} is on the drive {drive[0]}, which is not on this machine's disk.")
    try:
        hidden = not contents.allow_hidden and is_hidden(file, root)
    except OSError as error:
        # a name longer than the file system takes, a loop of links, a folder that may not be entered
        raise NotFound(f"{path} cannot be looked at: {error.strerror}.", mend="Name a notebook that the file browser shows.", field="path") from None
    if hidden:
        raise NotFound(f"{path} is hidden.", code="hidden", mend="Set `ContentsManager.allow_hidden` to work with hidden files.")
    return Located(Path(file), Path(root))


def _not_local(why: str) -> BadInput:
    return BadInput(why, code="contents_not_local", mend="Copy the project to a folder below the server's root and run it from there.", field="path")
