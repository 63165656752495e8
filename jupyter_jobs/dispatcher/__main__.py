"""A detached dispatcher: `ensure_dispatcher` runs this, gives settings on stdin, and reads `ready` or the reason why not."""

from __future__ import annotations

import asyncio
import json
import logging
import logging.handlers
import os
import sys
from pathlib import Path

from jupyter_jobs.dispatcher.process import LOG

LOG_BYTES = 1 << 20


def main() -> None:
    """Read the settings, leave the caller, serve."""
    given = json.loads(sys.stdin.read())
    # the first fork lets the caller's wait end, the session frees us from its terminal, the second gives that session no leader
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    data_dir = Path(given["settings"]["data_dir"])
    os.chdir(data_dir)
    caller = os.dup(1)
    os.set_inheritable(caller, False)
    _log_to(data_dir / LOG)

    from jupyter_jobs.dispatcher.service import serve
    from jupyter_jobs.errors import JobsError
    from jupyter_jobs.settings import Jobs

    def say(text: str) -> None:
        # the caller may have given up
        try:
            os.write(caller, text.encode())
        except BrokenPipeError:
            logging.getLogger(__name__).warning("nobody waits for this start any more")
        os.close(caller)

    try:
        asyncio.run(serve(Jobs(**given["settings"]), note=given["note"], ready=lambda: say("ready")))
    except JobsError as error:
        logging.getLogger(__name__).error("%s", error)
        say(str(error))
        sys.exit(1)


def _log_to(path: Path) -> None:
    """Our log, rotated; what Python itself says of a crash goes to the same file."""
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=2, encoding="utf-8")
    path.chmod(0o600)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    output = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)


if __name__ == "__main__":
    main()
