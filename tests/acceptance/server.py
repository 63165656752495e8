"""A Jupyter server of its own process, with the extension."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.acceptance.place import Place

TOKEN = "a-token-of-the-tests"


class served:
    """A Jupyter server on a folder: its URL, and its log."""

    def __init__(self, place: Place, root: Path, *options: str) -> None:
        self._log = place.home / "server.log"
        command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--port=0", f"--ServerApp.root_dir={root}"]
        command += [f"--IdentityProvider.token={TOKEN}", *options]
        self._process = subprocess.Popen(command, env=place.variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)

    def __enter__(self) -> tuple[str, Path]:
        assert self._process.stdout
        said = ""
        for line in self._process.stdout:
            said += line.decode()
            found = re.search(r"(http://(?:localhost|127\.0\.0\.1):\d+/)\?token=", said)
            # the address is printed before anybody listens there
            if found and "jupyter_jobs: ready" in said:
                self._log.write_text(said)
                with self._log.open("ab") as output:
                    self._drain = subprocess.Popen(["cat"], stdin=self._process.stdout, stdout=output)
                return found[1], self._log
        raise AssertionError(f"the server did not start:\n{said}")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)
        self._drain.wait(60)
