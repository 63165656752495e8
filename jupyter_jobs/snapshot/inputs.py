"""What a notebook reads: which of the paths it names are frozen, live, left out, outside or missing."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from jupyter_jobs.model import Finding, LivePath, NamedInput, ProjectChoice
from jupyter_jobs.snapshot.listing import Listing, parents
from jupyter_jobs.snapshot.names import os_name, safe_text, shown
from jupyter_jobs.snapshot.references import Reference, expand, reach
from jupyter_jobs.snapshot.select import explain

COUNTED_ENTRIES = 100_000
EXPANDED = 50
SYSTEM = ("/dev", "/proc", "/sys", "/bin", "/sbin", "/usr", "/lib", "/lib64")

State = Literal["ignored", "outside", "missing", "frozen", "live"]


def named_inputs(
    cells: Sequence[tuple[int, str]],
    folder: Path,
    choice: ProjectChoice,
    listing: Listing,
    *,
    live: Sequence[LivePath] = (),
    also: Sequence[str] = (),
) -> list[NamedInput]:
    """The paths that code cells (number, source) name when they run in `folder`, the notebook's own, each once, as they would be in a run.

    Their `path` is relative to the project, as `include` and `live` want it (absolute where it lies outside and was written so).
    `listing` is what would be frozen (`ProjectPreview.listing`), `live` what is read live besides, `also` strings that may be paths (values of
    parameters; they get cell 0). A path to write to counts where its folder exists but is left out.
    """
    directory = os_name(choice.directory)
    found = reach(cells, folder)
    named = [*found.references, *_from_values(also, folder)]
    written = {each.location for each in named if each.use == "write"}
    lives = _live_locations(directory, live)
    states: dict[str, tuple[Reference, State, str]] = {}
    for location, cell in found.modules:
        path = os.path.relpath(location, folder)
        _add(states, Reference(path, location, cell, "named"), directory, listing, lives, written)
    for reference in named:
        if reference.pattern:
            for location in expand(reference.location, EXPANDED):
                one = reference._replace(path=os.path.relpath(location, folder), location=location)
                _add(states, one, directory, listing, lives, written)
        else:
            _add(states, reference, directory, listing, lives, written)
    rules = explain(listing, sorted({inside for _, state, inside in states.values() if state == "ignored"}))
    return [
        NamedInput(
            path=safe_text(_path_shown(directory, reference, location, inside)),
            cell=reference.cell,
            state=state,
            rule=safe_text(rules.get(inside, "")) if state == "ignored" else "",
            bytes=_bytes(location),
        )
        for location, (reference, state, inside) in states.items()
    ]


def _path_shown(directory: str, reference: Reference, location: str, inside: str) -> str:
    if inside:
        return inside
    return location if reference.path.startswith(("/", "~")) else os.path.relpath(location, directory)


def _from_values(values: Sequence[str], folder: Path) -> list[Reference]:
    found: list[Reference] = []
    for value in values:
        if value.strip("./ ") and len(value) < 1000 and not set(value) & {"\0", "\n"} and "://" not in value:
            location = os.path.normpath(folder / os.path.expanduser(value))
            if os.path.lexists(location) and ("/" in value or Path(location).is_file()):
                found.append(Reference(value, location, 0, "named"))
    return found


def _live_locations(directory: str, live: Sequence[LivePath]) -> tuple[str, ...]:
    return tuple(os.path.normpath(os.path.join(directory, os_name(each.path))) for each in live)


def _inside(directory: str, location: str) -> str:
    """The path below the project, `.` for the project; empty where it lies outside."""
    for base, path in (
        (directory, location),
        (os.path.realpath(directory), os.path.realpath(os.path.dirname(location)) + f"/{os.path.basename(location)}"),
    ):
        inside = os.path.relpath(path, base)
        if inside.split("/")[0] != "..":
            return inside
    return ""


def _add(
    states: dict[str, tuple[Reference, State, str]],
    reference: Reference,
    directory: str,
    listing: Listing,
    lives: tuple[str, ...],
    written: set[str],
) -> None:
    location = reference.location
    if location in states:
        return
    inside = _inside(directory, location)
    if any(f"{location}/".startswith(f"{each}/") for each in lives) or (inside and listing.is_live(inside)):
        if os.path.lexists(location) or reference.use == "read":
            states[location] = (reference, "live", inside)
        return
    exists = os.path.lexists(location)
    if not inside:
        if exists and not f"{location}/".startswith(tuple(f"{each}/" for each in SYSTEM)) and location != "/":
            states[location] = (reference, "outside", "")
        elif not exists and reference.use == "read" and location not in written:
            states[location] = (reference, "missing", "")
        return
    if inside == ".":
        return
    behind = any(each in listing.links for each in parents(inside, itself=True))
    if exists and behind and not _inside(os.path.realpath(directory), os.path.realpath(location)):
        states[location] = (reference, "outside", "")
        return
    if exists and reference.use != "write":
        states[location] = (reference, "frozen" if _is_frozen(listing, inside) else "ignored", inside)
        return
    folder = next((each for each in parents(inside) if os.path.lexists(f"{directory}/{each}")), "")
    if folder and not _is_frozen(listing, folder):
        place = f"{directory}/{folder}"
        states.setdefault(place, (reference, "ignored", folder))
    elif not exists and reference.use == "read" and location not in written:
        states[location] = (reference, "missing", inside)


def _is_frozen(listing: Listing, path: str) -> bool:
    """Whether a path is there in the snapshot, maybe behind a link."""
    return path in listing.files or path in listing.directories or any(each in listing.links for each in parents(path, itself=True))


def _bytes(location: str) -> int | None:
    try:
        status = os.stat(location)
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def escaping_paths(cells: Sequence[tuple[int, str]], folder: Path, choice: ProjectChoice, *, live: Sequence[LivePath] = ()) -> list[Finding]:
    """Paths that lead out of a run's own copy, each once, as warnings: `absolute_path` into the project (in a workspace that is a copy it means the
    original), `outside_path` to elsewhere, absolute or by `../`. What is declared live is meant so."""
    directory = os_name(choice.directory)
    lives = _live_locations(directory, live)
    findings: dict[str, Finding] = {}
    for reference in reach(cells, folder).references:
        location = reference.location
        inside = _inside(directory, location)
        absolute = reference.path.startswith(("/", "~"))
        known = any(f"{location}/".startswith(f"{each}/") for each in (*lives, *SYSTEM)) or location == "/"
        if known or location in findings or (inside and not absolute) or (reference.use == "named" and not os.path.lexists(location)):
            continue
        does = "writes to" if reference.use == "write" else "names"
        if inside:
            message = f"Cell {reference.cell} {does} {shown(reference.path)}, an absolute path into the project."
            mend = "Name it relative to the notebook's folder."
        else:
            message = f"Cell {reference.cell} {does} {shown(reference.path)}, outside the project."
            mend = "Put it into the project, or declare it live."
        findings[location] = Finding(
            code="absolute_path" if inside else "outside_path",
            level="warning",
            message=message,
            mend=mend,
            cell=reference.cell,
            path=safe_text(reference.path),
        )
    return list(findings.values())


def live_facts(path: LivePath | Path | str, *, project: Path | None = None) -> LivePath:
    """A live path with what is there now: files, bytes and the newest time of change.

    A relative path is one of `project`. Nothing is filled in where there is nothing; files and bytes are not where there are more than 100,000
    entries (counting would take longer than the answer is worth), nor is what cannot be read counted.
    """
    live = path if isinstance(path, LivePath) else LivePath(path=safe_text(str(path)))
    place = Path(os.path.expanduser(os_name(live.path)))
    place = place if project is None else project / place
    try:
        status = os.stat(place)
    except OSError:
        return live
    newest = status.st_mtime
    if not stat.S_ISDIR(status.st_mode):
        return LivePath(path=live.path, writable=live.writable, files=1, bytes=status.st_size, modified=datetime.fromtimestamp(newest, UTC))
    files = size = seen = 0
    folders = [str(place)]
    while folders and seen <= COUNTED_ENTRIES:
        try:
            with os.scandir(folders.pop()) as stream:
                for entry in stream:
                    seen += 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                        continue
                    try:
                        found = entry.stat()
                    except OSError:
                        continue  # a broken link, or gone since
                    newest = max(newest, found.st_mtime)
                    files += 1
                    size += found.st_size
        except PermissionError:
            continue
    whole = seen <= COUNTED_ENTRIES
    return LivePath(
        path=live.path,
        writable=live.writable,
        files=files if whole else None,
        bytes=size if whole else None,
        modified=datetime.fromtimestamp(newest, UTC),
    )
