"""Freezing a kernel's environment.

An environment's identity is the content of its roots. `environments/index/` remembers what stat said when one was last frozen: an unchanged one costs
one stat of each path. A clone made of hard links shows what is written in place into the original: `verify_environment` finds that before a run.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from jupyter_jobs.model import Distribution, Environment, EnvironmentPreview, Finding, KernelInfo
from jupyter_jobs.snapshot import seen
from jupyter_jobs.snapshot.clone import Entry, Method, TooMuch, clone, digest_of, digests_of, entry_of, possible_method, remove_tree, walk
from jupyter_jobs.snapshot.drift import verify_environment
from jupyter_jobs.snapshot.frozen import (
    FrozenRoot,
    Interpreter,
    Manifest,
    Mode,
    Stored,
    environment_store,
    is_stored,
    load_environment,
    load_manifest,
    roots,
    skipped,
    write_struct,
)
from jupyter_jobs.snapshot.room import room_for
from jupyter_jobs.snapshot.roots import Answer, Root, as_distributions, ask_python, installed, plan_roots

__all__ = ["freeze_environment", "load_environment", "preview_environment", "roots", "verify_environment"]

_SOURCE_MAX_FILES = 100_000
_WEAKEST: tuple[Mode, ...] = ("reflink", "hardlink", "copy", "recorded")


def freeze_environment(
    data_dir: Path, kernel: KernelInfo, *, copy_max_bytes: int, freeze: bool = True, project: Path | None, answer: Answer | None = None
) -> Environment:
    """Freeze the environment of a kernel, or find it frozen already.

    `copy_max_bytes` bounds what is copied where files can be neither reflinked nor hard-linked; beyond it, and without `freeze`, the environment is
    recorded, to be checked before each run. Sources below `project` are left to the project's snapshot. `answer`: what the kernel's Python said,
    if it was asked already. Safe to call from several processes.
    Raises BadInput `environment_unreadable`, Unavailable `no_room`, OSError.
    """
    with room_for(f"the environment of {kernel.display_name or kernel.name}", data_dir):
        return _freeze(data_dir, kernel, copy_max_bytes, freeze, project, answer or ask_python(kernel))


def _freeze(data_dir: Path, kernel: KernelInfo, copy_max_bytes: int, freeze: bool, project: Path | None, answer: Answer | None) -> Environment:
    store = environment_store(data_dir)
    if answer is None:
        return _without_python(store, kernel)
    began = seen.now_ns()
    planned, notes = plan_roots(answer, data_dir, project)
    places = [(root.path, skipped(root, data_dir, project)) for root in planned]
    remembered = _index_path(store, answer, planned, freeze, copy_max_bytes).with_suffix(".seen")
    if (digest := seen.unchanged(remembered, places)) and is_stored(store, digest):
        return load_environment(data_dir, digest)
    walked = [_walk_root(root, data_dir, project, copy_max_bytes, notes) for root in planned]
    planned = [root for root, entries in zip(planned, walked, strict=True) if entries is not None]
    found = [entries for entries in walked if entries is not None]
    index = _index_path(store, answer, planned, freeze, copy_max_bytes)
    known = load_manifest(index)
    if known is not None and known.entries == found and is_stored(store, known.digest):
        _remember(remembered, known.digest, places, found, began)
        return load_environment(data_dir, known.digest)
    digests = _hash_all(planned, found, known)
    distributions = as_distributions(installed(answer), planned, project)
    notes += _unsaid(distributions, notes)
    interpreter = _interpreter(answer, planned)
    digest = _identity(answer, planned, found, digests, interpreter, freeze, notes)
    if is_stored(store, digest):
        write_struct(index, Manifest(digest, found, digests))
        _remember(remembered, digest, places, found, began)
        return load_environment(data_dir, digest)

    folder = Path(tempfile.mkdtemp(prefix=f".new-{os.getpid()}-", dir=store))
    try:
        frozen, placed = [], []
        for root, entries in zip(planned, found, strict=True):
            mode, there = _freeze_root(root, entries, folder, copy_max_bytes, freeze, notes)
            frozen.append(FrozenRoot(root, mode))
            placed.append(there)
        final = _checked(frozen, placed, folder, found, digests)
        digest = _identity(answer, planned, placed, final, interpreter, freeze, notes)
        environment = Environment(
            digest=digest,
            prefix=answer.prefix,
            python=answer.version,
            mode=max((one.mode for one in frozen if one.root.kind != "source"), key=_WEAKEST.index, default="none"),
            distributions=distributions,
            created_at=datetime.now(UTC),
            notes=notes,
        )
        write_struct(folder / "manifest.json", Manifest(digest, placed, final))
        write_struct(folder / "environment.json", Stored(environment, frozen, interpreter, answer.base_prefix))
        try:
            folder.rename(store / digest)
        except OSError:
            # another process was first; anything else is an error
            if not is_stored(store, digest):
                raise
    finally:
        if folder.exists():
            remove_tree(folder)
    originals = _originals(frozen, found, placed)
    write_struct(index, Manifest(digest, originals, digests))
    _remember(remembered, digest, places, originals, began)
    return load_environment(data_dir, digest)


def preview_environment(
    data_dir: Path, kernel: KernelInfo, *, copy_max_bytes: int, freeze: bool = True, project: Path | None = None
) -> EnvironmentPreview:
    """How the kernel's environment would be frozen here, without freezing it. Raises BadInput `environment_unreadable`, OSError."""
    answer = ask_python(kernel)
    if answer is None:
        return EnvironmentPreview(prefix="", python="", mode="none", distributions=0, findings=[_no_python(kernel)])
    planned, findings = plan_roots(answer, data_dir, project)
    modes: list[Mode] = []
    mode_of_all: Literal["reflink", "hardlink", "copy", "recorded", "none"]
    for root in planned:
        if root.kind == "source":
            _walk_root(root, data_dir, project, copy_max_bytes, findings)
            continue
        mode: Mode = possible_method(root, environment_store(data_dir)) if freeze else "recorded"
        if mode == "copy":
            try:
                walk(root, [str(data_dir)], max_bytes=copy_max_bytes)
            except TooMuch:
                mode = "recorded"
                findings.append(_recorded(root, copy_max_bytes))
        modes.append(mode)
    distributions = as_distributions(installed(answer), planned, project)
    findings += _unsaid(distributions, findings)
    mode_of_all = max(modes, key=_WEAKEST.index, default="none")
    return EnvironmentPreview(prefix=answer.prefix, python=answer.version, mode=mode_of_all, distributions=len(distributions), findings=findings)


# -- freezing ----------------------------------------------------------------------------------------------------------


def _walk_root(root: Root, data_dir: Path, project: Path | None, max_bytes: int, notes: list[Finding]) -> list[Entry] | None:
    """The entries of a root; None, with a note, for sources that are too large."""
    is_source = root.kind == "source"
    try:
        entries, unread = walk(
            root,
            skipped(root, data_dir, project),
            max_bytes=max_bytes if is_source else None,
            max_files=_SOURCE_MAX_FILES if is_source else None,
        )
    except TooMuch as much:
        notes.append(
            Finding(
                code="source_not_frozen",
                level="warning",
                message=f"The kernel imports from {root.path}, which is too large to be frozen (over {much.files} files or {much.bytes} bytes): "
                "later changes there reach the job's runs.",
                mend="Install the code as a package, or raise c.Jobs.environment_copy_max_bytes.",
                path=root.path,
            )
        )
        return None
    if unread:
        notes.append(
            Finding(
                code="environment_unread",
                level="note",
                message=f"{len(unread)} paths in {root.path} cannot be read and are left out, the first is {unread[0]}.",
                path=root.path,
            )
        )
    return entries


def _remember(file: Path, digest: str, places: list[tuple[str, list[str]]], found: list[list[Entry]], began: int) -> None:
    if len(places) == len(found):  # none was too large, and might be no more
        seen.remember(file, digest, [(*place, entries) for place, entries in zip(places, found, strict=True)], began)


def _hash_all(planned: list[Root], found: list[list[Entry]], known: Manifest | None) -> list[list[str]]:
    """Digests of all files; those that stat calls unchanged are taken from the index."""
    cached: dict[Entry, str] = {}
    if known is not None:
        for entries, digests in zip(known.entries, known.digests, strict=True):
            cached.update(zip(entries, digests, strict=True))
    wanted = [
        f"{root.path}/{entry.path}"
        for root, entries in zip(planned, found, strict=True)
        for entry in entries
        if entry.kind == "f" and entry not in cached
    ]
    fresh = iter(digests_of(wanted))
    return [[(cached[entry] if entry in cached else next(fresh)) if entry.kind == "f" else "" for entry in entries] for entries in found]


def _identity(
    answer: Answer,
    planned: list[Root],
    found: list[list[Entry]],
    digests: list[list[str]],
    interpreter: Interpreter | None,
    freeze: bool,
    notes: list[Finding],
) -> str:
    identity = hashlib.sha256()
    missing = sorted(note.path for note in notes if note.code == "source_not_frozen")
    identity.update(repr((1, answer.prefix, answer.version, interpreter and (interpreter.path, interpreter.digest), freeze, missing)).encode())
    for root, entries, sums in zip(planned, found, digests, strict=True):
        identity.update(repr((root.path, root.kind)).encode())
        for entry, digest in zip(entries, sums, strict=True):
            identity.update(f"{entry.path}\0{entry.kind}\0{entry.mode}\0{entry.size}\0{digest}{entry.target}\n".encode())
    return identity.hexdigest()


def _freeze_root(root: Root, entries: list[Entry], folder: Path, max_bytes: int, freeze: bool, notes: list[Finding]) -> tuple[Mode, list[Entry]]:
    target = folder / "tree" / root.path.lstrip("/")
    if not freeze:
        return "recorded", entries
    method: Method = possible_method(root, folder)
    if root.kind == "source" and method == "hardlink":
        method = "copy"
    try:
        placed = clone(root, entries, target, method, max_bytes=max_bytes)
        if method == "hardlink":
            inodes = {entry.inode for entry in entries if entry.inode}
            method = "hardlink" if any(entry.inode in inodes for entry in placed) else "copy"
        return method, placed
    except TooMuch:
        remove_tree(target)
        notes.append(_recorded(root, max_bytes))
        return "recorded", entries


def _checked(
    frozen: list[FrozenRoot], placed: list[list[Entry]], folder: Path, found: list[list[Entry]], digests: list[list[str]]
) -> list[list[str]]:
    """Digests of what lies in the clone: hashed again where a file changed between hashing and cloning."""
    final = []
    for one, there, before, sums in zip(frozen, placed, found, digests, strict=True):
        known = {(entry.path, entry.size, entry.mtime_ns): digest for entry, digest in zip(before, sums, strict=True)}
        base = one.root.path if one.mode == "recorded" else f"{folder}/tree{one.root.path}"
        final.append(
            ["" if entry.kind != "f" else known.get((entry.path, entry.size, entry.mtime_ns)) or digest_of(f"{base}/{entry.path}") for entry in there]
        )
    return final


def _originals(frozen: list[FrozenRoot], found: list[list[Entry]], placed: list[list[Entry]]) -> list[list[Entry]]:
    """What stat says of the originals now: linking a file has changed its ctime."""
    now = []
    for one, before, there in zip(frozen, found, placed, strict=True):
        linked = {entry.path: entry for entry in there} if one.mode == "hardlink" else {}
        now.append([linked[entry.path] if entry.path in linked and linked[entry.path].inode == entry.inode else entry for entry in before])
    return now


def _interpreter(answer: Answer, planned: list[Root]) -> Interpreter | None:
    path = os.path.realpath(answer.executable)
    if any(path.startswith(root.path + "/") for root in planned):
        return None
    return Interpreter(path, answer.version, entry_of(path, ""), digest_of(path))


def _index_path(store: Path, answer: Answer, planned: list[Root], freeze: bool, copy_max_bytes: int) -> Path:
    interpreter = os.path.realpath(answer.executable)
    status = os.stat(interpreter)  # noqa: PTH116
    key = repr((answer.prefix, answer.version, interpreter, status.st_mtime_ns, status.st_size, planned, freeze, copy_max_bytes))
    return store / "index" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


# -- words -------------------------------------------------------------------------------------------------------------


def _without_python(store: Path, kernel: KernelInfo) -> Environment:
    digest = hashlib.sha256(repr(("none", kernel.name, kernel.argv)).encode()).hexdigest()
    if not is_stored(store, digest):
        environment = Environment(
            digest=digest, prefix="", python="", mode="none", distributions=[], created_at=datetime.now(UTC), notes=[_no_python(kernel)]
        )
        (store / digest).mkdir(exist_ok=True)
        write_struct(store / digest / "manifest.json", Manifest(digest, [], []))
        write_struct(store / digest / "environment.json", Stored(environment))
    return load_environment(store.parent, digest)


def _no_python(kernel: KernelInfo) -> Finding:
    return Finding(
        code="environment_not_python",
        level="note",
        message=f"The environment of {kernel.display_name or kernel.name} ({kernel.language}) is not frozen: only those of Python kernels are.",
        field="kernel",
    )


def _recorded(root: Root, max_bytes: int) -> Finding:
    return Finding(
        code="environment_recorded",
        level="warning",
        message=f"{root.path} can be neither reflinked nor hard-linked from here and is larger than {max_bytes} bytes: it is recorded and checked "
        "before each run, not frozen.",
        mend="Put the store on the same file system (c.Jobs.data_dir), or raise c.Jobs.environment_copy_max_bytes.",
        path=root.path,
    )


def _unsaid(distributions: list[Distribution], notes: list[Finding]) -> list[Finding]:
    """A note for each editable install that is not frozen and that no note speaks of yet."""
    said = [note.path for note in notes if note.path]
    places = [(one, os.path.realpath(one.editable)) for one in distributions if not one.frozen]
    return [_not_frozen(one) for one, place in places if not any(path == place or path.startswith(place + "/") for path in said)]


def _not_frozen(one: Distribution) -> Finding:
    return Finding(
        code="source_not_frozen",
        level="warning",
        message=f"{one.name} {one.version} is an editable install from {one.editable}, which is not frozen: "
        "later changes there reach the job's runs.",
        mend="Install it as a package, or raise c.Jobs.environment_copy_max_bytes.",
        path=one.editable,
    )
