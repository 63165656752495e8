"""A project's files as they are now, what is never frozen, and the paths that a person named."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from jupyter_jobs.errors import BadInput
from jupyter_jobs.model import Finding, LivePath
from jupyter_jobs.snapshot.ignore import IgnoreRules
from jupyter_jobs.snapshot.names import os_name, safe_text, shown

QUIET = frozenset({".git", ".ipynb_checkpoints", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".tox", ".nox"})
NEVER = QUIET | {"node_modules"}


@dataclass(frozen=True)
class Region:
    """A part of the project with rules of its own: `prefix` (empty or with slash); `rules` None where git answers."""

    prefix: str
    rules: IgnoreRules | None


class Expected(NamedTuple):
    """The files that a project will probably have, and their status, looked at while git is asked."""

    names: list[str]
    statuses: list[os.stat_result]


def nothing_expected() -> Expected:
    return Expected([], [])


@dataclass(frozen=True)
class Listing:
    """A project as it is now. Paths are file names relative to `directory`; `targets` says where `links` lead, `empty`
    are directories with nothing in them that is frozen.

    `left_out` holds whole entries that the rules leave out (path, is a directory), `directories` all that are not left out.
    `truncated`: there were so many files that counting stopped.
    """

    directory: str
    mode: str
    files: dict[str, os.stat_result] = field(default_factory=dict)
    links: dict[str, os.stat_result] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    empty: dict[str, os.stat_result] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)
    left_out: list[tuple[str, bool]] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    exclude: frozenset[str] = frozenset()
    include: frozenset[str] = frozenset()
    live: frozenset[str] = frozenset()
    jobsignore: IgnoreRules | None = None
    jobsinclude: IgnoreRules | None = None
    store: str = ""
    truncated: bool = False
    expected: Callable[[], Expected] = nothing_expected

    def never(self, path: str, name: str, is_directory: bool) -> str:
        """Why a path is never frozen, its directories not considered; empty if it may be."""
        if name in NEVER:
            return f"never frozen: {name}"
        if path == self.store:
            return "never frozen: our own store"
        if is_directory:
            inside = f"{self.directory}/{path}"
            if os.path.lexists(f"{inside}/pyvenv.cfg") or os.path.lexists(f"{inside}/conda-meta"):
                return "never frozen: a virtual environment"
        return ""

    def asked(self, path: str) -> str:
        """`exclude` or `include` by the nearest directory (or itself) that the person named; empty where nothing was said."""
        here = path
        while here:
            if here in self.exclude:
                return "exclude"
            if here in self.include:
                return "include"
            here = here.rpartition("/")[0]
        return ""

    def prunes(self, path: str) -> bool:
        """Whether a directory need not be looked into: all in it is live or left out by the person or `.jobsignore` (what is taken back from it is
        looked up by itself)."""
        if path in self.live or path in self.exclude:
            return True
        return self.asked(path) != "include" and self.jobsignore is not None and self.jobsignore.own_hit(path, True) is not None

    def is_live(self, path: str) -> bool:
        """Whether a path is read from its original place."""
        return bool(self.live) and any(above in self.live for above in parents(path, itself=True))


def parents(path: str, itself: bool = False) -> list[str]:
    """The directories above a relative path, nearest first, the project itself not included."""
    found = [path] if itself else []
    while path := path.rpartition("/")[0]:
        found.append(path)
    return found


def relative_paths(directory: str, paths: Iterable[str], key: str) -> frozenset[str]:
    """Paths that a person named, as names relative to the project. Raises BadInput for one that does not lie below it."""
    found: set[str] = set()
    for text in paths:
        name = os_name(text)
        inside = posixpath.normpath(os.path.relpath(name, directory) if name.startswith("/") else name)
        if not text.strip() or "\0" in text or inside == "." or inside.split("/")[0] == "..":
            raise BadInput(
                f"{key}: {shown(text)!r} is no path below the project {shown(directory)}.",
                mend="Name a file or folder inside it.",
                field=key,
                path=safe_text(name),
            )
        found.add(inside)
    return frozenset(found)


def live_names(directory: str, live: Iterable[LivePath]) -> frozenset[str]:
    """The live paths that lie below the project, relative to it. Raises BadInput if one is the project or holds it."""
    found: set[str] = set()
    for each in live:
        inside = os.path.relpath(str(Path(directory) / os_name(each.path)), directory)
        if inside == "." or set(inside.split("/")) == {".."}:
            raise BadInput(
                f"live: {shown(each.path)!r} holds the whole project, so nothing would be frozen.",
                mend="Name the data inside it.",
                field="live",
                path=each.path,
            )
        if not inside.startswith("../"):
            found.add(inside)
    return frozenset(found)
