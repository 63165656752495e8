"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from importlib import metadata
from pathlib import Path

import psutil

from benchmarks.environments import SCHEDULER
from jupyter_jobs import resources

NAMED = ("papermill", "ipykernel", "jupyter_client", "jupyter_server", "pandas", "matplotlib")


def describe() -> dict[str, object]:
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    versions = {name: metadata.version(name) for name in NAMED} | dict([SCHEDULER.split("==")])
    return {
        "date": time.strftime("%d %B %Y"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": resources.usable_cores(),
        "processor": model,
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
        "filesystem": file_system(Path(tempfile.gettempdir())),
        "load": round(os.getloadavg()[0], 1),
        "versions": versions,
    }


def file_system(place: Path) -> str:
    """Its kind, where `place` lies."""
    mounts = [mount for mount in psutil.disk_partitions(all=True) if place.resolve().is_relative_to(mount.mountpoint)]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else ""


def text(machine: dict[str, object]) -> str:
    """On one line."""
    versions = machine["versions"]
    assert isinstance(versions, dict)
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory']}, {machine['filesystem']}, {machine['system']}, "
        f"load {machine['load']} before; Python {machine['python']}, {said}; {machine['date']}."
    )
