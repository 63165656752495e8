"""Backends by name: ours and those that other packages offer as entry points of the group `jupyter_jobs.backends`."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import cast

from jupyter_jobs.backends.base import Backend
from jupyter_jobs.errors import NotFound
from jupyter_jobs.settings import Jobs

GROUP = "jupyter_jobs.backends"


def backend_names() -> list[str]:
    """Names of all backends that are installed."""
    return sorted({"local", *(point.name for point in entry_points(group=GROUP))})


def make_backend(name: str, settings: Jobs) -> Backend:
    """The backend `name`; an entry point names a function of the settings. Raises `NotFound` with the names that there are."""
    if name == "local":
        from jupyter_jobs.backends.local import local_backend

        return local_backend(settings)
    for point in entry_points(group=GROUP, name=name):
        return cast(Callable[[Jobs], Backend], point.load())(settings)
    raise NotFound(f"There is no backend “{name}”.", code="backend_not_found", mend=f"Installed are: {', '.join(backend_names())}.", backend=name)
