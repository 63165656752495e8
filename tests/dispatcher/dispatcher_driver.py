"""A dispatcher whose runs are carried out by `stand_in.py`; also as a process: `python dispatcher_driver.py JSON`, which says `ready`."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

from jupyter_jobs.actions.results import copy_to_output_dir
from jupyter_jobs.backends.local import LocalBackend
from jupyter_jobs.dispatcher import aftermath
from jupyter_jobs.dispatcher.service import serve
from jupyter_jobs.dispatcher.socket import hello
from jupyter_jobs.dispatcher.state import Active, Dispatch, Limits
from jupyter_jobs.settings import Jobs
from jupyter_jobs.sockets import HINTS_SOCKET
from jupyter_jobs.store.database import SCHEMA_VERSION
from jupyter_jobs.store.jobs import Frozen

STAND_IN = Path(__file__).with_name("stand_in.py")


def stand_in_backend() -> LocalBackend:
    return LocalBackend([sys.executable, "-S", str(STAND_IN)])


def prepare(dispatch: Dispatch, active: Active, frozen: Frozen) -> str:
    """Write as much of `run.json` as the stand-in reads."""
    active.directory.mkdir(parents=True)
    hints = str(dispatch.sockets / HINTS_SOCKET)
    spec = {"run": active.run, "job": active.job, "attempt": active.attempt, "parameters": active.parameters, "hints": hints}
    (active.directory / "run.json").write_text(json.dumps(spec))
    return "copy"


def main() -> None:
    given = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO)
    me = None
    if version := given.get("version"):
        import msgspec

        me = msgspec.structs.replace(hello(given.get("schema", SCHEMA_VERSION)), version=version, oldest=given.get("oldest", 1))
    settings = Jobs(**given["settings"])
    if gate := given.get("gate_before_output"):
        aftermath.copy_to_output_dir = lambda *run: (Path(gate).open("rb").close(), copy_to_output_dir(*run))[1]
    limits = Limits(**given.get("limits", {}))
    say = lambda: print("ready", flush=True)  # noqa: E731
    asyncio.run(serve(settings, backend=stand_in_backend(), limits=limits, prepare=prepare, introduction=me, ready=say))


if __name__ == "__main__":
    main()
