"""The folder in which a job's runs leave their notebooks and files: what a person may have meant, and what can only be a mistake."""

from __future__ import annotations

import os
from pathlib import Path

from jupyter_jobs.errors import BadInput
from jupyter_jobs.snapshot.names import os_name, safe_text

ANOTHER = "Choose another folder, such as one in the project."


def output_dir(directory: Path, asked: str, data_dir: Path) -> str:
    """The folder that was asked for, absolute, relative to the project `directory`; empty when none was. It need not exist.

    Raises BadInput `bad_output_dir`.
    """
    if not asked:
        return ""
    if "\0" in asked:
        raise _refused("The output folder's name holds a NUL.")
    folder = Path(os.path.abspath(directory / os.path.expanduser(os_name(asked))))  # noqa: PTH100, PTH111  (the folder need not exist)
    _check_sense(folder, data_dir)
    try:
        above = next(place for place in (folder, *folder.parents) if _exists(place))
    except OSError as error:
        raise _refused(f"{_shown(folder)} cannot be looked at: {error.strerror}.") from None
    if not above.is_dir():
        raise _refused(f"{_shown(above)} is no folder.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise _refused(f"{_shown(above)} is not writable.", "Choose a folder that you can write.")
    return safe_text(str(folder))


def _check_sense(folder: Path, data_dir: Path) -> None:
    """By its real place too: a link may lead there."""
    store = Path(os.path.realpath(data_dir))
    for place in (folder, Path(os.path.realpath(folder))):
        if place == place.parent:
            raise _refused(f"{place} is the root of the file system.")
        if place == Path("/dev") or place.is_relative_to("/proc") or place.is_relative_to("/sys"):
            raise _refused(f"{_shown(folder)} is a place of the system.")
        if place.is_relative_to(store):
            raise _refused(f"{_shown(folder)} is {'' if place == store else 'in '}the store of jupyter_jobs, which holds the runs already.")
    if ".git" in folder.parts:
        raise _refused(f"{_shown(folder)} is git's own.")
    if folder.suffix == ".ipynb" and not folder.exists():
        raise _refused(f"{_shown(folder)} is a notebook's name, and each run gets a folder of its own.", "Name a folder.")


def _exists(place: Path) -> bool:
    """Links that lead nowhere included. Raises OSError for what can neither be there nor be made."""
    try:
        place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _shown(place: Path) -> str:
    return safe_text(str(place))


def _refused(message: str, mend: str = ANOTHER) -> BadInput:
    return BadInput(message, code="bad_output_dir", mend=mend, field="output_dir")
