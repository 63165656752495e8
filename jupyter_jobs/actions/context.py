"""What actions need from the process that they run in: a server, a command line, the dispatcher."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from sqlalchemy import Engine

from jupyter_jobs.settings import Jobs
from jupyter_jobs.store.database import open_store

if TYPE_CHECKING:
    from jupyter_jobs.snapshot.kernels import KernelSpecs

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Located:
    """A notebook's file, and the server's root folder, above which no project lies; None where there is no server."""

    file: Path
    root: Path | None = None


class Heavy(Protocol):
    """Runs work that keeps a processor or a disk busy, and returns or raises what it did."""

    def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...


@dataclass(frozen=True)
class Context:
    """`locate` turns a path as a person gives it into a file; `user` is who asks; `render` is `heavy` for pages,
    which do not wait for other work; `nudge` tells the dispatcher that the store changed."""

    engine: Engine
    settings: Jobs
    data_dir: Path
    kernel_specs: KernelSpecs
    locate: Callable[[str], Located]
    user: str
    heavy: Heavy
    render: Heavy
    nudge: Callable[[], None]


def in_place(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """`Heavy` for processes that serve nobody else."""
    return function(*args, **kwargs)


def locate_file(path: str) -> Located:
    """`locate` for command lines: a file name, relative to the working directory."""
    return Located(Path(os.path.abspath(os.path.expanduser(path))))  # noqa: PTH100, PTH111  (links stay links: the project is where the person is)


def local_context(settings: Jobs, nudge: Callable[[], None], engine: Engine | None = None) -> Context:
    """The context of a process that is no server; `engine` in place of an opened store. Raises what `open_store` raises."""
    from jupyter_jobs.snapshot.kernels import LocalKernelSpecs

    data_dir = Path(settings.data_dir).absolute()
    return Context(
        engine=engine or open_store(data_dir, settings.db_url),
        settings=settings,
        data_dir=data_dir,
        kernel_specs=LocalKernelSpecs(),
        locate=locate_file,
        user=getpass.getuser(),
        heavy=in_place,
        render=in_place,
        nudge=nudge,
    )
