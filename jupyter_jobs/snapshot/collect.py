"""Collecting what a project's own rules keep: by git's answer in a work tree, by a walk elsewhere; nested work trees each by their own rules."""

from __future__ import annotations

import operator
import os
import stat
from collections.abc import Callable, Sequence
from itertools import filterfalse

from jupyter_jobs.model import Finding
from jupyter_jobs.snapshot import git
from jupyter_jobs.snapshot.ignore import IgnoreRules, walk
from jupyter_jobs.snapshot.listing import NEVER, QUIET, Listing, Region, parents
from jupyter_jobs.snapshot.names import safe_text


def add_named(listing: Listing, path: str) -> None:
    """Add one path that was named: a file, a link, or a folder with what its rules keep."""
    for above in reversed(parents(path, itself=True)):
        status = status_of(listing, above)
        if status is None:
            return
        if stat.S_ISLNK(status.st_mode):
            listing.links[above] = status
            return
    if status is not None and stat.S_ISREG(status.st_mode):
        listing.files[path] = status
    elif status is not None and stat.S_ISDIR(status.st_mode):
        listing.directories.add(path)
        collect(listing, f"{path}/", True, 0)


def status_of(listing: Listing, path: str) -> os.stat_result | None:
    try:
        return os.lstat(f"{listing.directory}/{path}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        listing.unreadable.append(path)
        return None


def collect(listing: Listing, prefix: str, ask_git: bool, enough: int) -> bool:
    """List the tree below `prefix` by its own rules, git's if possible. True: it was too much."""
    base = f"{listing.directory}/{prefix}".rstrip("/") or "/"
    answer = git.list_names(base) if ask_git else git.GitAnswer(None)
    if answer.note:
        listing.notes.append(Finding(code="git_not_asked", level="note", message=answer.note, path=safe_text(prefix)))
    if answer.names is not None:
        listing.regions.append(Region(prefix, None))
        return _add_git_names(listing, prefix, answer.names, enough)
    above, lead = git.rules_above(base) if answer.note or os.path.lexists(f"{base}/.git") else ((), b"")
    rules = IgnoreRules(base, ".gitignore", above, lead, prefix)
    listing.regions.append(Region(prefix, rules))
    found = walk(rules, base, "", _never(listing, prefix), enough)
    listing.directories.update(prefix + path for path in found.directories)
    listing.left_out.extend((prefix + path, is_directory) for path, is_directory in found.left_out)
    listing.special.extend(prefix + path for path in found.special)
    listing.unreadable.extend(prefix + path for path in found.unreadable)
    for path in found.names:
        add_path(listing, prefix + path)
    for path in found.nested:
        listing.directories.add(prefix + path)
        collect(listing, f"{prefix}{path}/", True, enough)
    return bool(enough) and len(found.names) > enough


def _never(listing: Listing, prefix: str) -> Callable[[str, str, bool], bool]:
    """`walk`'s question, with what is worth telling noted down."""

    told: set[str] = set()

    def never(path: str, name: str, is_directory: bool) -> bool:
        if not listing.never(prefix + path, name, is_directory) and not (is_directory and listing.prunes(prefix + path)):
            return False
        if name not in QUIET and path not in told:
            told.add(path)
            listing.left_out.append((prefix + path, is_directory))
        return True

    return never


def add_path(listing: Listing, path: str) -> os.stat_result | None:
    status = status_of(listing, path)
    if status is not None:
        if stat.S_ISREG(status.st_mode):
            listing.files[path] = status
        elif stat.S_ISLNK(status.st_mode):
            listing.links[path] = status
        elif not stat.S_ISDIR(status.st_mode):
            listing.special.append(path)
    return status


def _add_git_names(listing: Listing, prefix: str, names: Sequence[str], enough: int) -> bool:
    """Add what git listed, enter nested work trees, and look into every directory for what git does not list: empty ones, sockets.
    True: it was too much."""
    never = _never(listing, prefix)
    folders: dict[str, bool] = {"": True}

    joined = "\n".join(names)
    suspects = _virtual_environments(names, joined)
    pruning = bool(listing.live or listing.exclude) or ".jobsignore" in joined or os.path.lexists(f"{listing.directory}/.jobsignore")

    def wanted(folder: str) -> bool:
        known = folders.get(folder)
        if known is None:
            outer, _, last = folder.rpartition("/")
            doubtful = pruning or last in NEVER or folder in suspects or prefix + folder == listing.store
            known = wanted(outer) and not (doubtful and never(folder, last, True))
            folders[folder] = known
        return known

    base = f"{listing.directory}/{prefix}"
    before = len(listing.links)
    nested = [name.rstrip("/") for name in names if name.endswith("/")] if "/\n" in f"{joined}\n" else []
    plain = [name for name in names if not name.endswith("/")] if nested else names
    for folder in {name.rpartition("/")[0] for name in plain}:
        wanted(folder)
    nested = [path for path in nested if wanted(path.rpartition("/")[0]) and path.rpartition("/")[2] not in NEVER]
    if not all(folders.values()) or any(f"{word}\n" in f"{joined}\n" for word in NEVER):
        plain = [name for name in plain if folders[name.rpartition("/")[0]] and name.rpartition("/")[2] not in NEVER]
    if enough and len(listing.files) + len(plain) > enough:
        plain = plain[: enough - len(listing.files) + 1]
    if not _add_regular(listing, prefix, plain):
        nested += [name for name in plain if _add_any(listing, prefix + name)]
    if enough and len(listing.files) > enough:
        return True
    if len(listing.links) > before:
        _drop_behind_links(listing, prefix)
    kept = {folder for folder, keep in folders.items() if keep and prefix + folder not in listing.links}
    inner = [
        path
        for path in dict.fromkeys(nested)
        if os.path.lexists(f"{base}{path}/.git") or not any(folder == path or folder.startswith(f"{path}/") for folder in kept)
    ]
    for path in inner:
        if not never(path, path.rpartition("/")[2], True):
            listing.directories.add(prefix + path)
            collect(listing, f"{prefix}{path}/", os.path.lexists(f"{base}{path}/.git"), 0)
    listing.directories.update(prefix + folder for folder in kept if folder)
    _look_around(listing, prefix, kept, set(inner), never)
    return False


def _add_regular(listing: Listing, prefix: str, names: Sequence[str]) -> bool:
    """Add names that are all regular files, without a step of Python for each; False, and nothing is added, if they are not all."""
    expected = listing.expected()
    try:
        # looked at while git was asked
        as_expected = not prefix and expected.names == names
        statuses = expected.statuses if as_expected else list(map(os.lstat, map(f"{listing.directory}/{prefix}".__add__, names)))
    except OSError:
        return False
    if not all(map(stat.S_ISREG, map(operator.attrgetter("st_mode"), statuses))):
        return False
    listing.files.update(zip(map(prefix.__add__, names) if prefix else names, statuses, strict=True))
    return True


def _add_any(listing: Listing, path: str) -> bool:
    """Add a file or link; True for a directory, which git lists where a work tree is nested."""
    status = add_path(listing, path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _virtual_environments(names: Sequence[str], joined: str) -> set[str]:
    """The folders that, by the names in them, are virtual environments."""
    found: set[str] = set()
    if "/pyvenv.cfg" in joined:
        found.update(name.removesuffix("/pyvenv.cfg") for name in names if name.endswith("/pyvenv.cfg"))
    if "/conda-meta/" in joined:
        found.update(name.partition("/conda-meta/")[0] for name in names if "/conda-meta/" in name)
    return found


def _drop_behind_links(listing: Listing, prefix: str) -> None:
    """A tracked file whose directory has since become a link is deleted, as git sees it; the link is what there is."""
    for path in [path for path in listing.files if path.startswith(prefix) and any(above in listing.links for above in parents(path))]:
        del listing.files[path]


def _look_around(listing: Listing, prefix: str, kept: set[str], inner: set[str], never: Callable[[str, str, bool], bool]) -> None:
    files, links = listing.files, listing.links
    folders = sorted(kept)
    while folders:
        doubtful: dict[str, str] = {}
        for folder in folders:
            inside = f"{folder}/" if folder else ""
            before = prefix + inside
            try:
                unknown = list(filterfalse(files.__contains__, map(before.__add__, os.listdir(f"{listing.directory}/{prefix}{folder}"))))
            except PermissionError:
                listing.unreadable.append(prefix + folder)
                continue
            except (FileNotFoundError, NotADirectoryError):
                listing.directories.discard(prefix + folder)  # all that was tracked in it is deleted
                continue
            for whole in unknown:
                path = whole[len(prefix) :]
                if path in kept or path in inner or whole in links:
                    continue
                status = status_of(listing, whole)
                is_directory = status is not None and stat.S_ISDIR(status.st_mode)
                if status is None or never(path, path.rpartition("/")[2], is_directory):
                    continue
                ordinary = stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)
                doubtful[path] = "directory" if is_directory else "file" if ordinary else "special"
        ignored = git.explain(f"{listing.directory}/{prefix}", doubtful)
        folders = []
        for path, kind in doubtful.items():
            if kind == "file" or path in ignored:
                listing.left_out.append((prefix + path, kind == "directory"))
            elif kind == "special":
                listing.special.append(prefix + path)
            else:
                kept.add(path)
                listing.directories.add(prefix + path)
                folders.append(path)
