"""What a run leaves behind: its notebook, its log, its files."""

from __future__ import annotations

import mimetypes
import os
import re
import secrets
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import msgspec
from sqlalchemy import Engine

from jupyter_jobs.actions.context import Context
from jupyter_jobs.actions.jobs import job_id
from jupyter_jobs.actions.places import run_dir
from jupyter_jobs.actions.runs import check_attempt, find_run
from jupyter_jobs.errors import BadInput, Conflict, NotFound, TooLarge, Unavailable
from jupyter_jobs.lifecycle import FINAL
from jupyter_jobs.model import CopiedFiles, LogLine, Run, RunFile, RunFiles, SnapshotView
from jupyter_jobs.requests import CopyFiles
from jupyter_jobs.runner import capped, rundir
from jupyter_jobs.runner.workspace import artifact_root
from jupyter_jobs.snapshot.names import os_name
from jupyter_jobs.store import artifacts, jobs, snapshots
from jupyter_jobs.store.database import read

MAX_COPIED = 10_000
HALF = re.compile(r"\..*\.[0-9a-f]{8}\.part", re.DOTALL)
"""The name of a file that is being copied."""


def run_files(context: Context, run: str, attempt: int = 0) -> RunFiles:
    """The files that a run, or an earlier attempt of it, made, changed or deleted; none before its end. Raises `NotFound`."""
    return RunFiles(files=_files(context, run, attempt)[2])


def open_file(context: Context, run: str, path: str, attempt: int = 0) -> Path:
    """Where a file of a run lies, to be read. Only a file of the run's own list is found, and no link that leads elsewhere is followed.

    Raises `NotFound` (`file_not_found`, `attempt_not_found`), `BadInput` (`bad_path`).
    """
    found, number, files = _files(context, run, attempt)
    return _kept(run_dir(context.data_dir, found.id, number), found, _inside(path, "path"), {file.path: file for file in files})


def _files(context: Context, run: str, attempt: int) -> tuple[Run, int, list[RunFile]]:
    """The run, the number of its attempt, and that one's files: of an earlier attempt, which the store does not list, by its result."""
    with read(context.engine) as conn:
        found = find_run(conn, run)
        files = artifacts.list_of(conn, found.id)
    number = check_attempt(found, attempt)
    if number < found.attempt or (number and found.state not in FINAL):
        files = _files_of(run_dir(context.data_dir, found.id, number))
    return found, number, files


def _files_of(directory: Path) -> list[RunFile]:
    try:
        result = rundir.read_result(directory)
    except (OSError, msgspec.MsgspecError):
        # damaged, as `interrupted` says of that attempt
        result = None
    artifacts_ = [] if result is None else result.artifacts
    return [
        RunFile(path=each.path, bytes=each.bytes, kind=each.kind, media_type=mimetypes.guess_type(each.path)[0] or "")
        for each in sorted(artifacts_, key=lambda artifact: artifact.path)
    ]


def run_directory(context: Context, run: str, attempt: int = 0) -> Path:
    """The run directory of an attempt, by default the present one (of a run that was never started: where it will be). Raises `NotFound`."""
    with read(context.engine) as conn:
        found = find_run(conn, run)
    return run_dir(context.data_dir, found.id, max(1, check_attempt(found, attempt)))


def run_notebook(context: Context, run: str, attempt: int = 0) -> Path:
    """The file of a run's executed notebook, as far as it has come. Raises `NotFound` (`no_notebook_yet`, `attempt_not_found`)."""
    file = run_directory(context, run, attempt) / rundir.NOTEBOOK
    if not file.is_file():
        raise NotFound(
            f"Run {run} has no executed notebook.", code="no_notebook_yet", mend="It appears when the first cell has run; see the run's log."
        )
    return file


def read_log(directory: Path, offset: int = 0, limit: int = 1 << 20) -> tuple[list[LogLine], int]:
    """The lines of the log in a run directory from an offset on, some `limit` bytes of them, and the offset to go on from. A missing log has none."""
    lines = []
    following = offset
    for line, following in capped.read(directory, offset, limit):  # noqa: B007 - the last one is returned
        lines.append(LogLine(at=line.at, stream=line.stream, text=line.text, end=line.end, cell=line.cell))
    return lines, following


def snapshot_view(context: Context, job: str) -> SnapshotView:
    """What was frozen for a job. Raises `NotFound`, `Unavailable` (`snapshot_missing`)."""
    from jupyter_jobs.snapshot.freeze import load_manifest

    with read(context.engine) as conn:
        found = jobs.get(conn, job_id(conn, job))
        snapshot = snapshots.get_snapshot(conn, found.snapshot) if found else None
        environment = snapshots.get_environment(conn, found.environment) if found and found.environment else None
    if snapshot is None:
        raise NotFound(f"There is no job {job}.", code="job_not_found", job=job)
    try:
        entries = load_manifest(context.data_dir, snapshot.digest)
    except FileNotFoundError as error:
        raise Unavailable(
            f"The snapshot of job {job} is no longer on disk.", code="snapshot_missing", mend="Make the job again.", snapshot=snapshot.digest
        ) from error
    return SnapshotView(snapshot=snapshot, environment=environment, entries=list(entries))


def copy_files(context: Context, run: str, request: CopyFiles, *, anywhere: bool = False) -> CopiedFiles:
    """Copy files of a run into its project, or into the folder `to` of it, under their paths. A folder among `paths` means all of the run's files
    in it. `anywhere`: `to` may be an absolute path outside.

    All is checked before anything is copied; where a disk refuses later, `copied` in the error's detail names what was done. Raises `NotFound`,
    `BadInput` (`bad_path`, `nothing_to_copy`), `Conflict` (`file_exists`, with `paths`), `TooLarge`, `Unavailable` (`not_copied`).
    """
    with read(context.engine) as conn:
        found = find_run(conn, run)
        job = jobs.frozen(conn, found.job)
        files = artifacts.list_of(conn, found.id)
    project = Path(os_name(job.project)) if job else Path()
    target = _target(project, request.to, anywhere)
    listed = {file.path: file for file in files}
    made = run_dir(context.data_dir, found.id, found.attempt)
    wanted = {path: _kept(made, found, path, listed) for asked in request.paths for path in _expanded(files, _inside(asked, "paths"))}
    if not wanted:
        raise BadInput(f"No file of run {found.id} was named.", code="nothing_to_copy", mend="Name files of its list.", field="paths")
    if len(wanted) > MAX_COPIED:
        raise TooLarge(f"{len(wanted)} files are too many to copy at once.", code="too_many_files", mend=f"Copy at most {MAX_COPIED}.", field="paths")
    fence = None if anywhere else project
    pairs = [(source, _destination(target, path, fence)) for path, source in wanted.items()]
    existing = [str(destination) for _, destination in pairs if os.path.lexists(destination)]
    if existing and not request.overwrite:
        raise _exists(existing)
    copied: list[str] = []
    for source, destination in pairs:
        try:
            _copy(source, destination, request.overwrite)
        except FileExistsError as error:
            if destination.parent.is_dir():
                raise _exists([str(destination)]) from error
            raise Unavailable(f"{destination.parent} is no folder.", code="not_copied", mend="Choose another folder.", copied=copied) from error
        except OSError as error:
            raise Unavailable(
                f"{destination} cannot be written: {error.strerror}.", code="not_copied", mend="Choose another folder.", copied=copied
            ) from error
        copied.append(str(destination))
    return CopiedFiles(copied=copied)


def copy_to_output_dir(engine: Engine, data_dir: Path, run: str) -> tuple[list[str], list[str]]:
    """Copy an ended run's notebook and files to `<the job's output_dir>/<run>/`, over what an earlier call left there. Returns the paths written, and
    those of its files that are no longer there, or lead elsewhere.

    Nothing happens for a job without `output_dir`. The dispatcher calls it after a run's end. Raises `NotFound`, `Unavailable` (`not_copied`).
    """
    with read(engine) as conn:
        found = find_run(conn, run)
        job = jobs.frozen(conn, found.job)
        files = artifacts.list_of(conn, found.id)
    if job is None or not job.spec.output_dir:
        return [], []
    target = Path(os_name(job.spec.output_dir)) / found.id
    listed = {file.path: file for file in files if file.kind != "deleted"}
    made = run_dir(data_dir, found.id, max(1, found.attempt))
    copies: dict[Path, Path] = {}
    missing: list[str] = []
    for path in listed:
        try:
            copies[target / os_name(path)] = _kept(made, found, path, listed)
        except NotFound:
            missing.append(path)
    executed = made / rundir.NOTEBOOK
    if executed.is_file():
        copies[target / os_name(job.notebook)] = executed
    for destination, source in copies.items():
        try:
            _copy(source, destination, overwrite=True)
        except OSError as error:
            mend = f"`jupyter jobs files {run} -o FOLDER` copies them elsewhere."
            raise Unavailable(f"{destination} cannot be written: {error.strerror}.", code="not_copied", mend=mend) from error
    _clear_halves(copies)
    return [str(destination) for destination in copies], missing


def _clear_halves(copies: Mapping[Path, Path]) -> None:
    """Remove what a process that was killed while it copied left beside these files."""
    for folder in {destination.parent for destination in copies}:
        for half in folder.glob(".*.part"):
            if half not in copies and HALF.fullmatch(half.name):
                half.unlink(missing_ok=True)


def _inside(path: str, field: str) -> str:
    """A path of a run's file in its plain form. Raises `BadInput` (`bad_path`) for one that leads out of the project."""
    pure = PurePosixPath(path)
    if not path or "\0" in path or pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise BadInput(f"{path!r} is no path below the project.", code="bad_path", mend="Use a path of the run's list of files.", field=field)
    return str(pure)


def _expanded(files: list[RunFile], path: str) -> list[str]:
    inside = [file.path for file in files if file.kind != "deleted" and file.path.startswith(f"{path}/")]
    return inside or [path]


def _kept(directory: Path, run: Run, path: str, files: Mapping[str, RunFile]) -> Path:
    listed = files.get(path)
    root = artifact_root(directory)
    file = root / os_name(path)
    try:
        # what a notebook wrote may hold links to anywhere: only what really lies in the run's own folder is shown
        real = file.resolve(strict=True)
        regular = real.is_relative_to(root.resolve(strict=True)) and stat.S_ISREG(real.lstat().st_mode)
    except (OSError, RuntimeError):
        regular = False
    if listed is None or listed.kind == "deleted" or not regular:
        mend = "The run deleted it." if listed is not None and listed.kind == "deleted" else "See the run's list of files."
        raise NotFound(f"Run {run.id} has no file {path}.", code="file_not_found", mend=mend, path=path)
    return real


def _target(project: Path, to: str, anywhere: bool) -> Path:
    if anywhere and to and Path(to).is_absolute():
        return Path(to)
    if not to:
        return project
    return project / os_name(_inside(to, "to"))


def _destination(target: Path, path: str, fence: Path | None) -> Path:
    destination = target / os_name(path)
    if fence is not None:
        # the folders on the way may be links; the file itself is replaced, not followed
        real = destination.parent.resolve() / destination.name
        if not real.is_relative_to(fence.resolve()):
            raise BadInput(f"{destination} lies outside the project {fence}.", code="bad_path", mend="Choose another folder.", field="to")
    if destination.is_dir() and not destination.is_symlink():
        raise Conflict(f"{destination} is a folder.", code="file_exists", mend="Choose another folder.", paths=[str(destination)])
    return destination


def _copy(source: Path, destination: Path, overwrite: bool) -> None:
    """Copy content, permissions and time. Whoever reads `destination` sees it whole if it is replaced."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    written = destination.with_name(f".{destination.name[:100]}.{secrets.token_hex(4)}.part") if overwrite else destination
    with source.open("rb") as reader, written.open("xb") as writer:
        try:
            shutil.copyfileobj(reader, writer, 1 << 20)
            facts = os.fstat(reader.fileno())
            os.fchmod(writer.fileno(), stat.S_IMODE(facts.st_mode) & 0o777)
            writer.flush()
            os.utime(written, ns=(facts.st_atime_ns, facts.st_mtime_ns))
            if overwrite:
                written.replace(destination)
        except BaseException:
            written.unlink(missing_ok=True)
            raise


def _exists(paths: list[str]) -> Conflict:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return Conflict(f"{paths[0]}{more} exists already.", code="file_exists", mend="Choose another folder, or overwrite.", paths=paths[:100])
