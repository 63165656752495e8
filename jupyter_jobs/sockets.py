"""The private directory for sockets and locks: on local disk, ours alone (0700), with a path short enough for a socket's address."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path

from jupyter_jobs.errors import Unavailable

ADDRESS_BYTES = 107
"""Longest address of a Unix socket on Linux; macOS has 103."""
NAME_BYTES = 48
"""What is left for names below the directory: `k/` and a kernel's socket."""

DISPATCHER_SOCKET = "dispatcher.sock"
HINTS_SOCKET = "hints.sock"
LOCK = "lock"
START_LOCK = "start.lock"
KERNEL_SOCKETS = "k"


def socket_directory(data_dir: str | Path) -> Path:
    """The directory for the sockets and locks of the store in `data_dir`, created with 0700 if it is missing.

    Below the user's runtime directory, else below `/tmp`. Raises `Unavailable` when the directory belongs to someone else, is a link, or
    its path is too long for sockets.
    """
    directory = socket_path(data_dir)
    for part in (directory.parent, directory, directory / KERNEL_SOCKETS):
        _make_private(part)
    return directory


def socket_path(data_dir: str | Path) -> Path:
    """Where `socket_directory` is, without making it; for those who only look whether somebody answers."""
    name = hashlib.sha256(os.fsencode(Path(data_dir).resolve())).hexdigest()[:12]
    if runtime := _runtime_directory():
        return runtime / "jupyter-jobs" / name
    # not $TMPDIR, which differs between a person's sessions; owner and mode are checked
    return Path("/tmp") / f"jupyter-jobs-{os.getuid()}" / name


def check_address(path: Path) -> str:
    """`path` as a socket's address. Raises `Unavailable` when it is too long, because the system would cut it or fail without naming it."""
    if len(os.fsencode(path)) > ADDRESS_BYTES:
        raise Unavailable(
            f"The path {path} is too long for a socket ({len(os.fsencode(path))} bytes, at most {ADDRESS_BYTES}).",
            code="socket_path_too_long",
            mend="Set XDG_RUNTIME_DIR to a short directory of yours.",
            path=str(path),
        )
    return str(path)


def _runtime_directory() -> Path | None:
    """The user's runtime directory if it is really this user's: `su` and `sudo` keep another user's variable, cron and ssh have none."""
    for candidate in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.getuid()}"):
        if not candidate or len(os.fsencode(candidate)) + len("/jupyter-jobs/0123456789ab/") + NAME_BYTES > ADDRESS_BYTES:
            continue
        try:
            found = Path(candidate).stat()
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return Path(candidate)
    return None


def _make_private(directory: Path) -> None:
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise _refuse(directory, "is not a directory")
    if found.st_uid != os.getuid():
        raise _refuse(directory, "belongs to another user")
    if found.st_mode & 0o077:
        directory.chmod(0o700)


def _refuse(directory: Path, why: str) -> Unavailable:
    return Unavailable(
        f"{directory} {why}, so it cannot hold the sockets of jupyter_jobs.",
        code="socket_directory_refused",
        mend="Remove it, or set XDG_RUNTIME_DIR to a short directory of yours.",
        path=str(directory),
    )
