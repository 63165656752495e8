"""Freezing onto a disk that is really full: a tiny one, mounted where only the freezing process sees it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.venvs import build_wheel, make_venv, unpack

ENTER = (["unshare", "-m"], ["unshare", "-U", "--map-root-user", "-m"])

FREEZE = """
import json, os, subprocess, sys
from pathlib import Path
what, options, disk, place = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=True)
from jupyter_jobs.errors import JobsError
from jupyter_jobs.model import KernelInfo, ProjectChoice
from jupyter_jobs.snapshot.environment import freeze_environment
from jupyter_jobs.snapshot.freeze import freeze_project
try:
    if what == "environment":
        kernel = KernelInfo(name="k", display_name="Theirs", language="python", argv=[place + "/bin/python", "-m", "ipykernel_launcher"])
        freeze_environment(Path(disk), kernel, copy_max_bytes=1 << 30, project=None)
    else:
        freeze_project(Path(disk), ProjectChoice(directory=place, mode="directory", why="asked"), max_bytes=0, max_files=0)
except JobsError as error:
    print(json.dumps([error.status, error.code, error.message, error.detail, [name for _, _, names in os.walk(disk) for name in names]]))
"""


def entering() -> list[str]:
    """How to enter a mount namespace here. Skips where there is none to be had."""
    for enter in ENTER:
        done = subprocess.run([*enter, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return enter
    pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


@pytest.mark.parametrize("options", ["size=128k", "nr_inodes=3"])
@pytest.mark.parametrize("what", ["environment", "project"])
def test_a_full_disk_is_named(tmp_path: Path, what: str, options: str) -> None:
    enter = entering()
    place, disk = tmp_path / "place", tmp_path / "disk"
    disk.mkdir()
    if what == "environment":
        unpack(make_venv(place), build_wheel(tmp_path, "large", "1.0", {"large.py": "#" * 300_000}))
    else:
        place.mkdir()
        (place / "large.csv").write_text("1" * 300_000)
    command = [*enter, sys.executable, "-c", FREEZE, what, options, str(disk), str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    status, code, message, detail, left = json.loads(done.stdout)
    assert (status, code, detail) == (503, "no_room", {"path": str(disk)})
    whose = "the environment of Theirs" if what == "environment" else f"a snapshot of {place}"
    assert message.startswith(f"There is no room in {disk} for {whose}")
    # what was begun is taken away: it would fill the disk for good
    assert left == []
