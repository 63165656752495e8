"""What a full disk is to whoever freezes something."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jupyter_jobs.errors import Unavailable


@contextmanager
def room_for(what: str, data_dir: Path) -> Iterator[None]:
    """Raises Unavailable `no_room` where the disk, or one's quota of it, has no room left. Other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = f"There is no room in {data_dir} for {what}."
        raise Unavailable(message, code="no_room", mend="Delete old jobs, or free some space.", path=str(data_dir)) from error
