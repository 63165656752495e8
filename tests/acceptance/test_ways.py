"""How a run came to life, from the command line to what its events say."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.place import Place, write_notebook

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks on Linux only")


def last_event(place: Place, name: str) -> dict[str, dict[str, object]]:
    """What the event of the run's end tells."""
    (job,) = place.json("list", "--search", name)["jobs"]  # type: ignore[misc]
    with closing(sqlite3.connect(place.data / "jobs.sqlite")) as store:
        ((text,),) = store.execute("SELECT data FROM events WHERE job = ? AND kind = 'run.state' AND state = 'complete'", (job["id"],))
    found: dict[str, dict[str, object]] = json.loads(text)
    return found


def test_runs_are_forked_unless_that_is_switched_off(place: Place, project: Path) -> None:
    forked = write_notebook(project / "forked.ipynb", "1")
    place.jobs("run", forked, "--wait")
    assert last_event(place, "forked")["ways"] == {"runner": {"by": "fork"}, "kernel": {"by": "fork"}}
    spawned = write_notebook(project / "spawned.ipynb", "1")
    place.jobs("run", spawned, "--no-fork", "--wait")
    told = last_event(place, "spawned")
    assert told["ways"]["kernel"] == {"by": "spawn", "why": "forking is switched off"}
    assert set(told["phases"]) >= {"workspace", "kernel", "cells", "shutdown", "clear"}


def test_what_is_no_module_makes_no_job(place: Place, project: Path) -> None:
    notebook = write_notebook(project / "odd.ipynb", "1")
    error = json.loads(place.jobs("run", notebook, "--preload", "not a module", "--json", code=2))
    assert (error["code"], error["detail"]["field"]) == ("bad_name", "preload")
