"""What has become of a frozen environment since: asked before every run, answered by one stat of each file where nothing has changed."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from jupyter_jobs.model import Distribution, Environment, Finding
from jupyter_jobs.snapshot import seen
from jupyter_jobs.snapshot.clone import Entry, digest_of, entry_of, walk
from jupyter_jobs.snapshot.frozen import (
    FrozenRoot,
    Interpreter,
    Manifest,
    Stored,
    place_of,
    read_manifest,
    skipped,
    stored_environment,
    write_manifest,
)
from jupyter_jobs.snapshot.roots import site_folders

_MANY = 100


def verify_environment(data_dir: Path, digest: str) -> list[Finding]:
    """How a frozen environment differs from what it was; empty when it does not.

    A file whose stat (ctime included) is as it was is as it was; others are hashed again. Findings with code `environment_drifted` and level `error`
    name the file, by its original path, or the distribution; `interpreter_changed` (`warning`) is another build of the same Python version below a
    virtual environment, `interpreter_missing` (`error`) none. Raises NotFound, OSError.
    """
    began = seen.now_ns()
    stored = stored_environment(data_dir, digest)
    places = [(place_of(data_dir, digest, one), skipped(one.root, data_dir, None) if one.mode == "recorded" else []) for one in stored.roots]
    remembered = data_dir / "environments" / digest / "seen"
    findings: list[Finding] = []
    if seen.unchanged(remembered, places) != digest:
        findings, now = _compare_all(data_dir, digest, stored)
        if not findings:
            seen.remember(remembered, digest, [(*place, entries) for place, entries in zip(places, now, strict=True)], began)
    if stored.interpreter:
        findings += _interpreter(stored.interpreter)
    if len(findings) > _MANY:
        rest = len(findings) - _MANY
        findings = [*findings[:_MANY], _finding(f"{rest} more files or packages have changed.", "")]
    return findings


def _compare_all(data_dir: Path, digest: str, stored: Stored) -> tuple[list[Finding], list[list[Entry]]]:
    """What has changed, and the entries with the stat of now where the content is unchanged."""
    manifest = read_manifest(data_dir, digest)
    findings: list[Finding] = []
    now: list[list[Entry]] = []
    for one, entries, digests in zip(stored.roots, manifest.entries, manifest.digests, strict=True):
        base = place_of(data_dir, digest, one)
        changes, entries_now = _compare(base, entries, digests)
        now.append(entries_now)
        if one.mode == "recorded":
            changes += _added(one, entries, data_dir)
            packages = _other_distributions(stored.environment, one)
            findings += packages
            if packages and changes:
                # what an upgrade does to files is said by the upgrade
                changes = [(f"{len(changes)} files", f"differ, the first is {one.root.path}/{changes[0][0]}")]
        findings += _told(one, base, changes)
    if manifest.entries != now:
        write_manifest(data_dir, Manifest(manifest.digest, now, manifest.digests))
    return findings, now


def _compare(base: str, entries: list[Entry], digests: list[str]) -> tuple[list[tuple[str, str]], list[Entry]]:
    """Changes (path and what happened), and the entries with the stat of now where the content is unchanged."""
    changes: list[tuple[str, str]] = []
    now = []
    for entry, digest in zip(entries, digests, strict=True):
        path = f"{base}/{entry.path}"
        kept = entry
        try:
            found = entry_of(path, entry.path)
            if found != entry:
                what = _difference(path, entry, found, digest)
                if what:
                    changes.append((entry.path, what))
                else:
                    kept = found
        except FileNotFoundError:
            changes.append((entry.path, "is gone"))
        now.append(kept)
    return changes, now


def _difference(path: str, entry: Entry, found: Entry, digest: str) -> str:
    """What happened to an entry whose stat differs; empty when nothing did."""
    if found.kind != entry.kind:
        return "is something else now"
    if entry.kind == "l":
        return f"leads to {found.target} now"
    # without a digest it could not be read before either
    if entry.kind == "f" and (found.size != entry.size or (digest and digest_of(path) != digest)):
        return "was overwritten in place" if found.inode == entry.inode else "was replaced"
    if found.mode != entry.mode:
        return f"has mode {found.mode:04o} now, had {entry.mode:04o}" if entry.kind == "f" else ""
    return ""


def _added(one: FrozenRoot, entries: list[Entry], data_dir: Path) -> list[tuple[str, str]]:
    before = {entry.path for entry in entries}
    there, _ = walk(one.root, skipped(one.root, data_dir, None))
    return [(entry.path, "is new") for entry in there if entry.kind != "d" and entry.path not in before]


def _other_distributions(environment: Environment, one: FrozenRoot) -> list[Finding]:
    """Distributions of a recorded root that are gone, of another version, or new."""
    folders = [str(Path(one.root.path, folder)) for folder in site_folders(one.root)]
    now: dict[str, str] = {}
    for distribution in metadata.distributions(path=folders):
        name = distribution.metadata["Name"]
        if name:
            now.setdefault(name.casefold(), distribution.version)
    findings = []
    for known in environment.distributions:
        version = now.get(known.name.casefold())
        if version is not None and version != known.version:
            findings.append(_finding(f"{known.name} was {known.version} when the environment was recorded and is {version} now.", ""))
        elif version is None and not known.editable and _lies_in(known, one, environment):
            findings.append(_finding(f"{known.name} {known.version} has been uninstalled.", ""))
    return findings


def _lies_in(known: Distribution, one: FrozenRoot, environment: Environment) -> bool:
    """With one root that is only recorded there is no doubt; otherwise only its own prefix is answered for."""
    return one.root.kind == "prefix" or one.root.path == environment.prefix


def _told(one: FrozenRoot, base: str, changes: list[tuple[str, str]]) -> Iterator[Finding]:
    owners = _owners(one, base, {path for path, _ in changes}) if changes else {}
    for path, what in changes:
        original = f"{one.root.path}/{path}" if not path.endswith(" files") else ""
        owner = owners.get(path)
        named = f"{original} ({owner})" if owner else original or path
        yield _finding(f"{named} {what} since the environment was {'recorded' if one.mode == 'recorded' else 'frozen'}.", original)


def _owners(one: FrozenRoot, base: str, wanted: Iterable[str]) -> dict[str, str]:
    """Which distribution each file belongs to."""
    paths = set(wanted)
    owners = {}
    for site in site_folders(one.root, base):
        for record in Path(base, site).glob("*.dist-info/RECORD"):
            name, _, version = record.parent.name.removesuffix(".dist-info").partition("-")
            with record.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
                for row in csv.reader(file):
                    path = os.path.normpath(os.path.join(site, row[0])) if row else ""  # noqa: PTH118
                    if path in paths:
                        owners[path] = f"{name} {version}"
    return owners


def _interpreter(known: Interpreter) -> list[Finding]:
    try:
        now = entry_of(known.path, "")
        if now == known.entry or digest_of(known.path) == known.digest:
            return []
    except FileNotFoundError:
        message = f"The interpreter below the environment, {known.path} (Python {known.version}), is gone."
        return [Finding(code="interpreter_missing", level="error", message=message, mend="Install it again, or make the job again.", path=known.path)]
    return [
        Finding(
            code="interpreter_changed",
            level="warning",
            message=f"The interpreter below the environment, {known.path}, is another build than when the environment was frozen.",
            path=known.path,
        )
    ]


def _finding(message: str, path: str) -> Finding:
    return Finding(
        code="environment_drifted",
        level="error",
        message=message,
        mend="Make the job again to freeze the environment as it is now, or accept the drift.",
        path=path,
    )
