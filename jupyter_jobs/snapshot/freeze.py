"""Making a snapshot of a project, and showing what it would hold."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from jupyter_jobs.errors import BadInput, NotFound, TooLarge
from jupyter_jobs.model import Finding, FolderSize, IgnoredPath, LivePath, ManifestEntry, ProjectChoice, Snapshot
from jupyter_jobs.snapshot.git import work_tree_above
from jupyter_jobs.snapshot.listing import Expected, Listing, nothing_expected, parents
from jupyter_jobs.snapshot.names import all_plain, os_name, safe_text, shown
from jupyter_jobs.snapshot.objects import PERMISSIONS, STAMP_BYTES, Copied, StatCache, copy_file, load_cache, may_trust, now_ns, save_cache, stamps_of
from jupyter_jobs.snapshot.project import read_project_rules
from jupyter_jobs.snapshot.room import room_for
from jupyter_jobs.snapshot.select import explain, list_project
from jupyter_jobs.snapshot.tree import Progress, building, fill

FEW_BYTES = 64 << 20
"""So much is read just to see whether the snapshot is there already; beyond it, reading and copying are one."""

SHOWN_FOLDERS = 300
SHOWN_LARGEST = 20
SHOWN_IGNORED = 300


class _Manifest(msgspec.Struct):
    created_at: datetime
    files: int
    bytes: int
    entries: list[ManifestEntry]


class _ManifestHead(msgspec.Struct):
    created_at: datetime


class ProjectPreview(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot made now would hold; the parts of `model.Preview` that are about the project, and the listing they come from.

    `folders` are the folders down to the second level with all below them, `largest` single files, `ignored` whole entries with their rule.
    """

    files: int
    bytes: int
    folders: list[FolderSize]
    largest: list[FolderSize]
    ignored: list[IgnoredPath]
    findings: list[Finding]
    listing: Listing


def tree_path(data_dir: Path, digest: str) -> Path:
    """Where the files of a snapshot are. Nobody may write there."""
    return Path(data_dir) / "snapshots" / digest / "tree"


def load_manifest(data_dir: Path, digest: str) -> list[ManifestEntry]:
    """What is in a snapshot, sorted by path; paths and link targets are JSON-safe texts (`names.os_name` gives the file names).

    Raises NotFound if there is no such snapshot.
    """
    try:
        text = (Path(data_dir) / "snapshots" / digest / "manifest.json").read_bytes()
    except FileNotFoundError:
        raise NotFound(f"There is no snapshot {digest[:12]} in {data_dir}.", mend="Make the job again.", digest=digest) from None
    return msgspec.json.decode(text, type=_Manifest).entries


def freeze_project(
    data_dir: Path,
    choice: ProjectChoice,
    *,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    live: Sequence[LivePath] = (),
    max_bytes: int,
    max_files: int,
    progress: Progress | None = None,
) -> Snapshot:
    """Freeze a project into `snapshots/<digest>/`. The same content gives the same snapshot, whoever makes it and how often.

    The project's own `.jobs.toml` is obeyed too. `max_bytes` and `max_files` of 0 mean no limit. Several processes may do this at once, and one that
    dies leaves nothing that is taken for a snapshot. Raises TooLarge, BadInput for files that cannot be read or never hold
    still, Unavailable when the disk is full.
    """
    data_dir = Path(data_dir)
    listing, cache = _list(data_dir, choice, exclude, include, live, max_files)
    return _freeze(data_dir, listing, cache, max_bytes, max_files, progress)


def freeze_listed(data_dir: Path, listing: Listing, *, max_bytes: int, max_files: int) -> Snapshot:
    """`freeze_project` of what was listed just now."""
    return _freeze(data_dir, listing, load_cache(data_dir, listing.directory), max_bytes, max_files, None)


def _freeze(data_dir: Path, listing: Listing, cache: StatCache, max_bytes: int, max_files: int, progress: Progress | None) -> Snapshot:
    check_limits(listing, max_bytes, max_files)
    check_readable(listing)
    notes = _notes(listing)
    stamps = stamps_of(listing.files.values())
    known: dict[str, str] = {}
    same = cache.stamps == stamps and cache.names == _names(listing.files)
    found = _unchanged(data_dir, listing, cache, notes) if same else None
    if found is None:
        known = _known(listing, cache, stamps)
        found = _nearly_unchanged(data_dir, listing, known, notes)
    if found is not None:
        if progress is not None:
            progress(len(listing.files), len(listing.files))
        return found
    size = human(sum(status.st_size for status in listing.files.values()))
    with room_for(f"a snapshot of {shown(listing.directory)} ({size})", data_dir), building(data_dir) as place:
        filled = fill(data_dir, f"{place}/tree", listing, known, progress)
        for path in sorted(listing.files.keys() - filled.keys()):
            notes.append(Finding(code="file_gone", level="note", message=f"{shown(path)} was gone before it could be read.", path=safe_text(path)))
        entries = _entries(listing, {path: copied for path, (copied, _) in filled.items()})
        snapshot = _publish(data_dir, place, listing, entries, notes)
    _remember(data_dir, listing, {path: copied for path, (copied, trusted) in filled.items() if trusted}, snapshot)
    return snapshot


def _names(paths: Iterable[str]) -> str:
    """Paths as JSON-safe texts, joined by NUL."""
    return "\0".join(paths if all_plain(paths) else map(safe_text, paths))


def _known(listing: Listing, cache: StatCache, stamps: bytes) -> dict[str, str]:
    """The digests of files that are as they were when they were last read."""
    old = cache.known()
    known: dict[str, str] = {}
    for at, path in enumerate(listing.files):
        stamp, digest = old.get(safe_text(path), (b"", ""))
        if stamp == stamps[at * STAMP_BYTES : (at + 1) * STAMP_BYTES]:
            known[path] = digest
    return known


def _remember(data_dir: Path, listing: Listing, read: Mapping[str, Copied], snapshot: Snapshot) -> None:
    # in the listing's order, so that an unchanged project is known by comparing texts
    trusted = [(path, read[path]) for path in listing.files if path in read]
    links, empty = _links_and_empty(listing)
    cache = StatCache(
        names=_names([path for path, _ in trusted]),
        stamps=stamps_of([copied.status for _, copied in trusted]),
        digests=b"".join(bytes.fromhex(copied.digest) for _, copied in trusted),
        links=links,
        empty=empty,
        snapshot=snapshot.digest if len(trusted) == len(listing.files) else "",
        created_at=snapshot.created_at,
    )
    with room_for(f"what is remembered of {shown(listing.directory)}", data_dir):
        save_cache(data_dir, listing.directory, cache)


def _links_and_empty(listing: Listing) -> tuple[dict[str, str], dict[str, int]]:
    links = {safe_text(path): safe_text(target) for path, target in listing.targets.items()}
    return links, {safe_text(path): status.st_mode & PERMISSIONS for path, status in listing.empty.items()}


def _unchanged(data_dir: Path, listing: Listing, cache: StatCache, notes: list[Finding]) -> Snapshot | None:
    """The snapshot that is remembered for a project whose files are all unchanged."""
    if not cache.snapshot or cache.created_at is None or (cache.links, cache.empty) != _links_and_empty(listing):
        return None
    if not (data_dir / "snapshots" / cache.snapshot / "manifest.json").exists():
        return None
    size = sum([status.st_size for status in listing.files.values()])
    return _snapshot(cache.snapshot, listing, len(listing.files), size, cache.created_at, notes)


def _nearly_unchanged(data_dir: Path, listing: Listing, known: dict[str, str], notes: list[Finding]) -> Snapshot | None:
    """The snapshot there is already, if what is known and the few files that are not give it."""
    doubtful = listing.files.keys() - known.keys()
    if (doubtful and not known) or sum(listing.files[path].st_size for path in doubtful) > FEW_BYTES:
        return None
    copies = {path: Copied(digest, listing.files[path]) for path, digest in known.items()}
    trusted = dict(copies)
    for path in doubtful:
        read_at = now_ns()
        try:
            copies[path] = copy_file(f"{listing.directory}/{path}", None)
        except FileNotFoundError:
            return None
        if may_trust(copies[path].status, read_at):
            trusted[path] = copies[path]
    found = _existing(data_dir, listing, _entries(listing, copies), notes)
    if found is not None:
        _remember(data_dir, listing, trusted, found)
    return found


def preview_project(
    data_dir: Path,
    choice: ProjectChoice,
    *,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    live: Sequence[LivePath] = (),
    max_bytes: int,
    max_files: int,
) -> ProjectPreview:
    """What `freeze_project` with the same arguments would freeze; what would make it fail is an `error` finding."""
    listing, _ = _list(Path(data_dir), choice, exclude, include, live, max_files)
    findings = _notes(listing)
    checks: list[Callable[[], None]] = [lambda: check_limits(listing, max_bytes, max_files), lambda: check_readable(listing)]
    for check in checks:
        try:
            check()
        except (TooLarge, BadInput) as error:
            findings.insert(0, Finding(code=error.code, level="error", message=error.message, mend=error.mend, field="project"))
    shown_first = sorted(listing.left_out, key=lambda each: (not each[1], each[0].count("/"), each[0]))[:SHOWN_IGNORED]
    rules = explain(listing, [path for path, _ in shown_first])
    largest = sorted(listing.files.items(), key=lambda each: -each[1].st_size)[:SHOWN_LARGEST]
    folders = [each for each in folder_sizes(listing) if each.path.count("/") < 2][:SHOWN_FOLDERS]
    return ProjectPreview(
        files=len(listing.files),
        bytes=sum(status.st_size for status in listing.files.values()),
        folders=sorted(folders, key=lambda each: each.path),
        largest=[FolderSize(path=safe_text(path), files=1, bytes=status.st_size) for path, status in largest],
        ignored=[IgnoredPath(path=safe_text(path), rule=safe_text(rules.get(path, "")), is_directory=is_dir) for path, is_dir in sorted(shown_first)],
        findings=findings,
        listing=listing,
    )


def _list(
    data_dir: Path, choice: ProjectChoice, exclude: Sequence[str], include: Sequence[str], live: Sequence[LivePath], max_files: int
) -> tuple[Listing, StatCache]:
    """The project as it is, and what is known of it."""
    directory = os_name(choice.directory)
    rules = read_project_rules(Path(directory))
    with ThreadPoolExecutor(1) as beside:
        # git is waited for meanwhile
        ask_git = choice.mode == "directory" and bool(work_tree_above(os.path.realpath(directory)))
        looking = beside.submit(_look, data_dir, directory, ask_git)
        listing = list_project(
            data_dir,
            choice,
            exclude=[*rules.exclude, *exclude],
            include=[*rules.include, *include],
            live=[*rules.live, *live],
            enough=20 * max_files,
            expected=lambda: looking.result()[1],
        )
    return listing, looking.result()[0]


def _look(data_dir: Path, directory: str, at_files: bool) -> tuple[StatCache, Expected]:
    """What is known of a project and, if wanted, the status of each file that it had; of none where one is gone."""
    cache = load_cache(data_dir, directory)
    if not at_files:
        return cache, nothing_expected()
    texts = cache.paths()
    names = texts if all_plain(texts) else list(map(os_name, texts))
    try:
        return cache, Expected(names, list(map(os.lstat, map(f"{directory}/".__add__, names))))
    except OSError:
        return cache, nothing_expected()


def folder_sizes(listing: Listing) -> list[FolderSize]:
    """Every folder with the files and bytes below it, largest first; `.` stands for what lies directly in the project."""
    files: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for path, status in listing.files.items():
        for folder in parents(path) or ["."]:
            files[folder] = files.get(folder, 0) + 1
            sizes[folder] = sizes.get(folder, 0) + status.st_size
    return [FolderSize(path=safe_text(path), files=files[path], bytes=sizes[path]) for path in sorted(files, key=lambda path: (-sizes[path], path))]


def check_limits(listing: Listing, max_bytes: int, max_files: int) -> None:
    """Raises TooLarge with the largest directories and how to leave them out. A limit of 0 is none."""
    count = len(listing.files) + len(listing.links) + len(listing.empty)
    size = sum(status.st_size for status in listing.files.values())
    too_big = bool(max_bytes) and size > max_bytes
    if not too_big and not listing.truncated and not (max_files and count > max_files):
        return
    ranked = folder_sizes(listing)
    if not too_big:
        ranked.sort(key=lambda each: -each.files)
    largest = ranked[:8]
    some = ", ".join(f"{shown(each.path)}/ ({human(each.bytes)} in {each.files} files)" for each in largest)
    more = "more than " if listing.truncated else ""
    limit = f"{human(max_bytes)}" if too_big else f"{max_files} files"
    name = "snapshot_max_bytes" if too_big else "snapshot_max_files"
    raise TooLarge(
        f"{shown(listing.directory)} has {more}{human(size)} in {more}{count} files; the limit is {limit}. Largest: {some}.",
        code="project_too_large",
        mend=f"Leave folders out (a line such as `{shown(largest[0].path if largest else 'data')}/` in .jobsignore, or exclude), read data live, "
        f"choose a smaller project, or raise c.Jobs.{name}.",
        field="project",
        files=count,
        bytes=size,
        max_files=max_files,
        max_bytes=max_bytes,
        folders=[{"path": each.path, "files": each.files, "bytes": each.bytes} for each in largest],
    )


def human(size: int) -> str:
    """A size for people: `1.5 GiB`."""
    amount = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError


def check_readable(listing: Listing) -> None:
    """Raises BadInput naming what this user may not read."""
    closed = sorted(
        {
            *listing.unreadable,
            *(
                path
                for path, status in listing.files.items()
                if status.st_mode & 0o444 != 0o444 and not os.access(f"{listing.directory}/{path}", os.R_OK)
            ),
        }
    )
    if closed:
        some = ", ".join(shown(path) for path in closed[:10]) + (f" and {len(closed) - 10} more" if len(closed) > 10 else "")
        raise BadInput(
            f"The project has files that cannot be read: {some}.",
            code="unreadable_files",
            mend="Give yourself the permission (chmod u+r), or leave them out (.jobsignore or exclude).",
            field="exclude",
            paths=[safe_text(path) for path in closed[:100]],
        )


def _notes(listing: Listing) -> list[Finding]:
    """What is not frozen as it is: links that lead outside or to what is left out, sockets and the like."""
    notes = list(listing.notes)
    real = os.path.realpath(listing.directory)
    for path in sorted(listing.links):
        whole = f"{listing.directory}/{path}"
        target = os.path.realpath(whole)
        inside = os.path.relpath(target, real)
        if inside == ".." or inside.startswith("../"):
            message = f"{shown(path)} is a link to {shown(target)}, outside the project: what it leads to is not frozen."
            notes.append(Finding(code="link_outside", level="note", message=message, mend="Put a copy into the project.", path=safe_text(path)))
        elif os.path.lexists(target) and not _is_frozen(listing, inside):
            message = f"{shown(path)} is a link to {shown(inside)}, which is left out: it will lead nowhere."
            notes.append(Finding(code="link_left_out", level="warning", message=message, mend="Include it or read it live.", path=safe_text(path)))
    for path in sorted(listing.special):
        message = f"{shown(path)} is a socket, pipe or device and is not frozen."
        notes.append(Finding(code="special_file", level="note", message=message, path=safe_text(path)))
    return notes


def _is_frozen(listing: Listing, path: str) -> bool:
    return path == "." or path in listing.files or path in listing.directories or path in listing.links or listing.is_live(path)


def _entries(listing: Listing, copies: dict[str, Copied]) -> list[ManifestEntry]:
    entries: list[ManifestEntry] = []
    for path, (digest, status) in copies.items():
        mode = status.st_mode & PERMISSIONS
        entries.append(ManifestEntry(path=safe_text(path), kind="file", mode=mode, mtime_ns=status.st_mtime_ns, size=status.st_size, digest=digest))
    for path, status in listing.links.items():
        target = safe_text(listing.targets[path])
        entries.append(ManifestEntry(path=safe_text(path), kind="link", mode=PERMISSIONS, mtime_ns=status.st_mtime_ns, target=target))
    for path, status in listing.empty.items():
        entries.append(ManifestEntry(path=safe_text(path), kind="directory", mode=status.st_mode & PERMISSIONS, mtime_ns=status.st_mtime_ns))
    entries.sort(key=lambda each: each.path)
    return entries


def manifest_digest(entries: Iterable[ManifestEntry]) -> str:
    """The identity of a snapshot: sha256 over path, kind, mode, size, digest and target, not over times."""
    text = "".join([f"{each.path}\0{each.kind}\0{each.mode:o}\0{each.size}\0{each.digest}\0{each.target}\0" for each in entries])
    return hashlib.sha256(text.encode()).hexdigest()


def _existing(data_dir: Path, listing: Listing, entries: list[ManifestEntry], notes: list[Finding]) -> Snapshot | None:
    digest = manifest_digest(entries)
    try:
        head = msgspec.json.decode((data_dir / "snapshots" / digest / "manifest.json").read_bytes(), type=_ManifestHead)
    except FileNotFoundError:
        return None
    return _snapshot(digest, listing, *_totals(entries), head.created_at, notes)


def _snapshot(digest: str, listing: Listing, files: int, size: int, created_at: datetime, notes: list[Finding]) -> Snapshot:
    return Snapshot(digest=digest, directory=safe_text(listing.directory), files=files, bytes=size, created_at=created_at, notes=notes)


def _totals(entries: list[ManifestEntry]) -> tuple[int, int]:
    sizes = [each.size for each in entries if each.kind == "file"]
    return len(sizes), sum(sizes)


def _publish(data_dir: Path, place: str, listing: Listing, entries: list[ManifestEntry], notes: list[Finding]) -> Snapshot:
    found = _existing(data_dir, listing, entries, notes)
    if found is not None:
        return found
    snapshot = _snapshot(manifest_digest(entries), listing, *_totals(entries), datetime.now(UTC), notes)
    manifest = _Manifest(snapshot.created_at, snapshot.files, snapshot.bytes, entries)
    Path(place, "manifest.json").write_bytes(msgspec.json.encode(manifest))
    try:
        Path(place).rename(data_dir / "snapshots" / snapshot.digest)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return _existing(data_dir, listing, entries, notes) or snapshot
    return snapshot
