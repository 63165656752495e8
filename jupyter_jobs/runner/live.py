"""What lay at the live paths when a run started."""

from __future__ import annotations

import os
from pathlib import Path

from jupyter_jobs.runner.rundir import Bind, LiveFacts

MOST_ENTRIES = 50_000


def facts_of(bind: Bind) -> LiveFacts:
    """Number, bytes and newest modification of the files at a live path; None for what is too much to count or cannot be read."""
    files = size = entries = 0
    newest = 0.0
    waiting = [bind.source]
    try:
        while waiting:
            path = waiting.pop()
            facts = Path(path).stat(follow_symlinks=path == bind.source)
            newest = max(newest, facts.st_mtime)
            entries += 1
            if entries > MOST_ENTRIES:
                return LiveFacts(path=bind.target, writable=bind.writable)
            if Path(path).is_dir() and (path == bind.source or not Path(path).is_symlink()):
                waiting += (f"{path}/{name}" for name in os.listdir(path))  # noqa: PTH208 - names are enough
            else:
                files += 1
                size += facts.st_size
    except OSError:
        # the run itself will say what it cannot read
        return LiveFacts(path=bind.target, writable=bind.writable)
    return LiveFacts(path=bind.target, writable=bind.writable, files=files, bytes=size, modified=newest)
