"""Is everything as it should be, and if not, what mends it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from jupyter_jobs.actions.context import Context
from jupyter_jobs.backends import processes
from jupyter_jobs.backends.processes import Process
from jupyter_jobs.errors import JobsError
from jupyter_jobs.model import DispatcherStatus, Finding, Health
from jupyter_jobs.resources import usable_cores
from jupyter_jobs.runner.room import is_full
from jupyter_jobs.snapshot.kernels import resolve_kernel
from jupyter_jobs.snapshot.workspace import probe_workspace, workspace_findings
from jupyter_jobs.store import dispatcher, events, queue, runs
from jupyter_jobs.store.database import SCHEMA_VERSION, file_system_of, is_network_file_system, read
from jupyter_jobs.store.dispatcher import Lease
from jupyter_jobs.store.refusal import NOTHING_BYTES
from jupyter_jobs.version import __version__

LOW_DISK_BYTES = 1 << 30
SILENT_SECONDS = 120.0


def health(context: Context, closed: tuple[JobsError, DispatcherStatus] | None = None) -> Health:
    """What this installation is, and findings about what it lacks. `closed`: why its store did not open, and what the dispatcher says."""
    disk = _disk_findings(context)
    findings: list[Finding] = []
    try:
        mode, note = probe_workspace(context.data_dir, context.settings.workspace)
        findings += workspace_findings(mode, note)
    except OSError as error:
        if not is_full(error):
            raise
        mode, note = "copy", "What is possible cannot be tried: the disk is full."
    if closed is None:
        status, lease = dispatcher_status(context)
        findings += _dispatcher_findings(status, lease)
    else:
        why, status = closed
        if not any(finding.code == why.code for finding in disk):
            findings.append(Finding(code=why.code, level="error", message=why.message, mend=why.mend, path=str(context.data_dir)))
    return Health(
        version=__version__,
        schema=SCHEMA_VERSION,
        store=context.engine.url.render_as_string(hide_password=True),
        data_dir=str(context.data_dir),
        workspace=mode,
        workspace_note=note,
        dispatcher=status,
        findings=[*disk, *_kernel_findings(context), *findings],
    )


def dispatcher_status(context: Context) -> tuple[DispatcherStatus, Lease | None]:
    """What the store says of its dispatcher, and its lease."""
    with read(context.engine) as conn:
        lease = dispatcher.current(conn)
        active, queued, paused = runs.count_active(conn), queue.count(conn), queue.is_paused(conn)
    parallel = context.settings.max_parallel_runs or usable_cores()
    if lease is None or not lives(lease):
        return DispatcherStatus(running=False, active=active, queued=queued, parallel=parallel, paused=paused), lease
    return (
        DispatcherStatus(
            running=True,
            pid=lease.pid,
            host=lease.host,
            since=lease.since,
            version=lease.version,
            active=active,
            queued=queued,
            parallel=parallel,
            paused=paused,
        ),
        lease,
    )


def lives(lease: Lease) -> bool:
    """Whether the dispatcher that holds this lease lives, as far as this host can tell."""
    if lease.host != processes.here():
        return events.now() - lease.heartbeat_at < timedelta(seconds=SILENT_SECONDS)
    return processes.alive(Process(host=lease.host, boot=lease.boot_id, pid=lease.pid, started=int(lease.pid_started)))


def _disk_findings(context: Context) -> list[Finding]:
    findings = []
    is_sqlite = context.engine.dialect.name == "sqlite"
    kind = file_system_of(context.data_dir)
    if is_sqlite and is_network_file_system(kind):
        findings.append(
            Finding(
                code="store_on_network",
                level="warning",
                message=f"The store lies on a network file system ({kind}): it is slower there, and uses a rollback journal.",
                mend="Set `Jobs.data_dir` to a folder on a local disk, or `Jobs.db_url` to a PostgreSQL database.",
                path=str(context.data_dir),
            )
        )
    if problem := _no_hard_links(context.data_dir):
        findings.append(
            Finding(
                code="no_hard_links",
                level="warning",
                message=f"Hard links do not work in {context.data_dir} ({problem}): snapshots and environments are copied.",
                mend="Set `Jobs.data_dir` to a folder on another file system.",
                path=str(context.data_dir),
            )
        )
    elif _device(context.data_dir) != _device(Path(sys.prefix)):
        findings.append(
            Finding(
                code="environment_elsewhere",
                level="note",
                message=f"{sys.prefix} lies on another file system than {context.data_dir}: this environment can only be frozen by copying it.",
                mend="Set `Jobs.data_dir` to a folder on the environments' file system.",
                path=sys.prefix,
            )
        )
    free = shutil.disk_usage(context.data_dir).free
    if free < NOTHING_BYTES:
        message = f"The disk of {context.data_dir} is full: no run starts, and nothing can be stored."
        mend = "Delete jobs that are no longer needed (`jupyter jobs delete`), or make room otherwise."
        findings.append(Finding(code="no_room", level="error", message=message, mend=mend, path=str(context.data_dir)))
    elif free < LOW_DISK_BYTES:
        findings.append(
            Finding(
                code="disk_full",
                level="warning",
                message=f"Only {free >> 20} MiB are free where the store lies, {context.data_dir}.",
                mend="Delete jobs that are no longer needed (`jupyter jobs delete`), or set `Jobs.data_dir`.",
                path=str(context.data_dir),
            )
        )
    return findings


def _no_hard_links(folder: Path) -> str:
    """Why a hard link cannot be made in `folder`; empty if it can, or if a full disk does not let us try."""
    try:
        with tempfile.TemporaryDirectory(prefix=".probe-", dir=folder) as place:
            original = Path(place, "a")
            original.touch()
            Path(place, "b").hardlink_to(original)
    except OSError as error:
        return "" if is_full(error) else error.strerror or str(error)
    return ""


def _device(folder: Path) -> int:
    return folder.stat().st_dev


def _kernel_findings(context: Context) -> list[Finding]:
    findings = []
    names = sorted(context.kernel_specs.find_kernel_specs())
    for name in names:
        try:
            resolve_kernel(context.kernel_specs, name)
        except JobsError as error:
            findings.append(Finding(code=error.code, level="warning", message=error.message, mend=error.mend, field="kernel"))
    if not names:
        mend = "`python -m ipykernel install --sys-prefix` installs one."
        findings.append(Finding(code="no_kernels", level="error", message="There is no kernel here.", mend=mend, field="kernel"))
    return findings


def _dispatcher_findings(status: DispatcherStatus, lease: Lease | None) -> list[Finding]:
    if status.running and status.version != __version__:
        message = f"The dispatcher (pid {status.pid} on {status.host}) is of jupyter_jobs {status.version}, this is {__version__}."
        mend = "`jupyter jobs dispatcher stop`: the next job starts one of this version. Runs go on."
        return [Finding(code="dispatcher_of_other_version", level="note", message=message, mend=mend)]
    if not status.running and status.active:
        message = f"{status.active} runs are noted as active, but no dispatcher follows them."
        if lease is not None and lease.host != processes.here():
            message += f" The last one ran on {lease.host}."
        return [Finding(code="nobody_follows", level="warning", message=message, mend="`jupyter jobs dispatcher start` looks after them.")]
    return []
