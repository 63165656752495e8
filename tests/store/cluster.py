"""A PostgreSQL of our own, from the system's programs, for one session of tests."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ORDINARY = ("postgres", "nobody")
"""Users as which it runs where we are root, which it refuses."""


def programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`; None where there is no PostgreSQL. Debian keeps them out of the PATH."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name), default=None)


@contextmanager
def cluster(programs: Path) -> Iterator[str]:
    """The URL of its empty database. Only who may enter its folder can connect."""
    user = _ordinary_user()
    folder = Path(tempfile.mkdtemp(prefix="jj-pg-", dir="/tmp"))
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)

    def call(program: str, *arguments: str) -> None:
        who = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **who)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout

    try:
        call("initdb", "--username=jobs", "--auth=trust", "--locale=C", "--encoding=UTF8", "--no-sync")
        # listens nowhere but in its folder
        call("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", f"-c listen_addresses='' -k {folder} -F")
        try:
            yield f"postgresql+psycopg://jobs@/postgres?host={folder}"
        finally:
            call("pg_ctl", "stop", "-w", "-m", "immediate")
    finally:
        shutil.rmtree(folder)


def _ordinary_user() -> pwd.struct_passwd | None:
    """Who it runs as; None: as we do."""
    if os.getuid() != 0:
        return None
    return next(entry for entry in pwd.getpwall() if entry.pw_name in ORDINARY)
