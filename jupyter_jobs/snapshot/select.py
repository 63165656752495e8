"""What belongs to a project's snapshot, and by which rule the rest does not.

In this order: what is never frozen, live paths, what the person asked for, `.jobsinclude`, `.jobsignore`, and the project's own rules (git's).
"""

from __future__ import annotations

import gc
import os
import posixpath
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jupyter_jobs.errors import NotFound
from jupyter_jobs.model import Finding, LivePath, ProjectChoice
from jupyter_jobs.snapshot import git
from jupyter_jobs.snapshot.collect import add_named, add_path, collect, status_of
from jupyter_jobs.snapshot.ignore import IgnoreRules, walk
from jupyter_jobs.snapshot.listing import Expected, Listing, live_names, nothing_expected, parents, relative_paths
from jupyter_jobs.snapshot.names import os_name, safe_text, shown

FILES_MODE_RULE = "only the notebook and what it names is frozen"


def list_project(
    data_dir: Path,
    choice: ProjectChoice,
    *,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    live: Sequence[LivePath] = (),
    enough: int = 0,
    expected: Callable[[], Expected] = nothing_expected,
) -> Listing:
    """List what a snapshot of the project holds, with one lstat per file and, inside a git work tree, one `git ls-files`.

    `exclude` and `include` are paths relative to the project; of two that concern a file the longer one wins. `enough` ends the walk outside git
    after so many files (0: never). `expected` waits for what is looked at meanwhile. Raises BadInput for paths that do not lie below the project.
    """
    directory = os_name(choice.directory)
    if not os.path.isdir(directory):
        raise NotFound(f"The project {shown(directory)} is no directory.", mend="Choose a directory that is there.", field="project")
    store = os.path.relpath(os.path.realpath(data_dir), os.path.realpath(directory))
    listing = Listing(
        directory,
        choice.mode,
        exclude=relative_paths(directory, exclude, "exclude"),
        include=relative_paths(directory, include, "include"),
        live=live_names(directory, live),
        jobsignore=IgnoreRules(directory, ".jobsignore"),
        jobsinclude=IgnoreRules(directory, ".jobsinclude"),
        store=store,
        expected=expected,
    )
    with _no_collections():
        truncated = _list(listing, choice, enough)
    return Listing(**{**vars(listing), "truncated": truncated, "expected": nothing_expected})


@contextmanager
def _no_collections() -> Iterator[None]:
    """Without the cyclic garbage collector, which would look at every new status again and again: a third of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _list(listing: Listing, choice: ProjectChoice, enough: int) -> bool:
    truncated = False
    if choice.mode == "files":
        for text in choice.files:
            add_named(listing, os_name(text))
    else:
        truncated = collect(listing, "", True, enough)
    _find_job_rules(listing)
    _apply_job_rules(listing)
    _take_back(listing)
    if choice.mode == "directory":
        for text in choice.files:  # the notebook, so that its folder is there
            if not any(listing.never(each, each.rpartition("/")[2], True) for each in parents(os_name(text))):
                add_named(listing, os_name(text))
    _drop_live(listing)
    _find_empty(listing)
    for path in list(listing.links):
        try:
            listing.targets[path] = os.readlink(f"{listing.directory}/{path}")
        except OSError:
            del listing.links[path]  # gone, or a link no more, since it was listed
    return truncated


def _find_job_rules(listing: Listing) -> None:
    """Where `.jobsignore` and `.jobsinclude` are, so that not every folder must be asked for one."""
    if listing.mode == "files":
        return
    left_out = {path for path, is_directory in listing.left_out if not is_directory}
    for rules in (listing.jobsignore, listing.jobsinclude):
        if rules is not None:
            names = ((folder, f"{folder}/{rules.file_name}" if folder else rules.file_name) for folder in ("", *listing.directories))
            rules.only = frozenset(folder for folder, name in names if name in listing.files or name in left_out)


def _apply_job_rules(listing: Listing) -> None:
    """Leave out what `.jobsignore` and the person's `exclude` say."""
    ignore, include = listing.jobsignore, listing.jobsinclude
    assert ignore is not None
    assert include is not None
    folders = {"", *listing.directories}
    ruled = any(ignore.chain(folder) for folder in folders)
    if not ruled and not listing.exclude:
        return
    gone: dict[str, bool] = {}

    def out(path: str, is_directory: bool) -> bool:
        asked = listing.asked(path)
        if asked == "exclude":
            gone.update((each, True) for each in parents(path, itself=True) if each in listing.exclude)
            return True
        if asked == "include" or include.hit(path, is_directory):
            return False
        hit = ignore.hit(path, is_directory) if ruled else None
        if hit is not None:
            gone[hit.path] = is_directory or hit.path != path
        return hit is not None

    for path in [path for path in listing.files if out(path, False)]:
        del listing.files[path]
    for path in [path for path in listing.links if out(path, False)]:
        del listing.links[path]
    listing.directories.difference_update([path for path in listing.directories if out(path, True)])
    listing.left_out[:] = [(path, is_directory) for path, is_directory in listing.left_out if not any(above in gone for above in parents(path))]
    known = {path for path, _ in listing.left_out}
    listing.left_out.extend((path, os.path.isdir(f"{listing.directory}/{path}")) for path in gone if path not in known)


def _take_back(listing: Listing) -> None:
    """Add what `.jobsinclude` and the person's `include` name, wherever it lies."""
    include = listing.jobsinclude
    assert include is not None
    starts = set(listing.include)
    for folder in {"", *listing.directories}:
        chain = include.chain(folder)
        if chain and chain[-1].source == f"{folder}/{include.file_name}".lstrip("/"):
            for pattern in chain[-1].patterns:
                starts |= set() if pattern.negated else {_fixed_part(folder, pattern.text, pattern.by_name)}
    for start in starts:
        whole = f"{listing.directory}/{start}"
        if start and (any(listing.never(each, each.rpartition("/")[2], True) for each in parents(start, itself=True)) or not os.path.lexists(whole)):
            if start in listing.include:
                _say_include_fails(listing, start)
            continue
        if any(os.path.islink(f"{listing.directory}/{each}") for each in parents(start)):
            add_named(listing, start)
            continue
        found = (
            walk(None, listing.directory, start, lambda path, name, is_directory: bool(listing.never(path, name, is_directory)))
            if os.path.isdir(whole) and not os.path.islink(whole)
            else None
        )
        candidates = [start] if found is None else found.names
        for path in candidates:
            if path not in listing.files and path not in listing.links and _taken(listing, include, path, False):
                add_path(listing, path)
        listing.directories.update(path for path in (found.directories if found else ()) if _taken(listing, include, path, True))
    if starts:
        listing.left_out[:] = [
            each for each in listing.left_out if not (each[0] in listing.files or each[0] in listing.links or each[0] in listing.directories)
        ]


def _taken(listing: Listing, include: IgnoreRules, path: str, is_directory: bool) -> bool:
    asked = listing.asked(path)
    return asked == "include" or (not asked and include.hit(path, is_directory) is not None)


def _fixed_part(folder: str, pattern: str, by_name: bool) -> str:
    """The directory from which everything that a `.jobsinclude` line can mean is reached."""
    if by_name:
        return folder
    fixed: list[str] = []
    for part in pattern.strip("/").split("/"):
        if any(char in part for char in "*?[\\"):
            break
        fixed.append(part)
    return posixpath.normpath("/".join([folder, *fixed])).strip("/") if fixed else folder


def _say_include_fails(listing: Listing, path: str) -> None:
    why = next((reason for each in parents(path, itself=True) if (reason := listing.never(each, each.rpartition("/")[2], True))), "it does not exist")
    listing.notes.append(
        Finding(
            code="include_fails",
            level="warning",
            message=f"{shown(path)} cannot be included: {why}.",
            mend="Read it live instead.",
            field="include",
            path=safe_text(path),
        )
    )


def _drop_live(listing: Listing) -> None:
    """Live paths are not frozen; a live directory stays as an empty one, on which the original is mounted."""
    if not listing.live:
        return
    for paths in (listing.files, listing.links):
        for path in [path for path in paths if listing.is_live(path)]:
            del paths[path]
    listing.directories.difference_update([path for path in listing.directories if listing.is_live(path)])
    listing.directories.update(path for path in listing.live if os.path.isdir(f"{listing.directory}/{path}"))
    listing.left_out[:] = [each for each in listing.left_out if not listing.is_live(each[0])]


def _find_empty(listing: Listing) -> None:
    folders = {path.rpartition("/")[0] for paths in (listing.files, listing.links, listing.directories) for path in paths}
    full = {above for folder in folders if folder for above in parents(folder, itself=True)}
    listing.directories.update(full)
    for path in listing.directories - full:
        status = status_of(listing, path)
        if status is not None and stat.S_ISDIR(status.st_mode):
            listing.empty[path] = status


def explain(listing: Listing, paths: Iterable[str]) -> dict[str, str]:
    """By which rule each path is left out (`.gitignore:3: data/`); those that no rule leaves out are missing from the answer."""
    rules: dict[str, str] = {}
    for_git: dict[str, dict[str, list[str]]] = {}
    ignore, include = listing.jobsignore, listing.jobsinclude
    assert ignore is not None
    assert include is not None
    for path in paths:
        chain = parents(path, itself=True)
        is_directory = os.path.isdir(f"{listing.directory}/{path}")
        reason = next((said for each in chain if (said := listing.never(each, each.rpartition("/")[2], each != path or is_directory))), "")
        asked = listing.asked(path)
        hit = ignore.hit(path, is_directory)
        if not reason and asked == "exclude":
            reason = f"exclude: {next(each for each in chain if each in listing.exclude)}"
        elif not reason and (asked == "include" or include.hit(path, is_directory)):
            continue
        elif not reason and hit:
            reason = hit.rule
        if reason:
            rules[path] = reason
            continue
        region = max((each for each in listing.regions if f"{path}/".startswith(each.prefix)), key=lambda each: len(each.prefix), default=None)
        if region is None or (listing.mode == "files" and path == region.prefix.rstrip("/")):
            if listing.mode == "files":
                rules[path] = FILES_MODE_RULE
            continue
        inside = path[len(region.prefix) :]
        if region.rules is not None:
            found = region.rules.hit(inside, is_directory)
            if found:
                rules[path] = found.rule
        elif inside:
            for_git.setdefault(region.prefix, {}).setdefault(_before_link(listing, region.prefix, inside), []).append(path)
    for prefix, wanted in for_git.items():
        for name, rule in git.explain(f"{listing.directory}/{prefix}", wanted).items():
            source, separator, rest = rule.partition(":")
            named = source if source.startswith("/") else posixpath.normpath(prefix + source)
            rules.update((path, named + separator + rest) for path in wanted[name])
    return rules


def _before_link(listing: Listing, prefix: str, path: str) -> str:
    """The path up to its first link, behind which git does not answer."""
    return next((each for each in reversed(parents(path)) if os.path.islink(f"{listing.directory}/{prefix}{each}")), path)
