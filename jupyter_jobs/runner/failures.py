"""Why a run failed: a stable code, a sentence that names the thing, and the mend."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from jupyter_jobs.runner import room
from jupyter_jobs.runner.rundir import CellRef, RunError, RunSpec

ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
QUOTED = re.compile(r"'((?:[^'\\]|\\.)+)'")
LONGEST = 100_000
PLENTY = 8 * 10**9
"""Bytes that no run takes between two looks at it."""

SYNTAX_ERRORS = {"SyntaxError", "IndentationError", "TabError"}
MISSING_FILE = {"FileNotFoundError", "NotADirectoryError"}


class RunFailed(Exception):
    """The run has failed for this reason."""

    def __init__(self, error: RunError) -> None:
        super().__init__(error.message)
        self.error = error


class Place(msgspec.Struct, frozen=True):
    """What the kernel knows of the exception that stopped it: its working directory and, of an OSError, number and file name."""

    cwd: str = ""
    errno: int | None = None
    filename: str = ""


def plain(text: str) -> str:
    """Text without terminal colour codes."""
    return ANSI.sub("", text)


def where(cell: CellRef) -> str:
    """How a cell is named in sentences."""
    return f"Cell {cell.number}" if cell.number else "The cell of injected parameters"


def exit_status(evalue: str) -> int:
    """The exit status that `sys.exit(evalue)` means; a text means 1."""
    value = evalue.strip()
    if value in ("", "None", "False"):
        return 0
    try:
        return int(value)
    except ValueError:
        return 1


def of_cell(spec: RunSpec, cell: CellRef, reply: Mapping[str, object], place: Place, project_seen: str) -> RunError:
    """The failure that a cell's own error means.

    `reply` is the kernel's execute_reply; `project_seen` is where the run sees the project (another place than `spec.workspace.project` in a copy).
    """
    ename, evalue = plain(str(reply.get("ename", ""))), plain(str(reply.get("evalue", "")))
    lines = reply.get("traceback")
    raw = "\n".join(str(line) for line in lines) if isinstance(lines, list) else ""
    code, message, mend, detail = _explain(spec, cell, ename, evalue, place, project_seen)
    return RunError(
        code=code,
        message=message,
        mend=mend,
        cell=cell,
        ename=ename,
        evalue=evalue[:LONGEST],
        traceback=plain(raw)[-LONGEST:],
        detail={**detail, "traceback_ansi": raw[-LONGEST:]},
    )


def _explain(spec: RunSpec, cell: CellRef, ename: str, evalue: str, place: Place, project_seen: str) -> tuple[str, str, str, dict[str, object]]:
    named = QUOTED.search(evalue)
    if ename == "ModuleNotFoundError":
        module = named.group(1) if named else evalue
        mend = "Install it in the kernel's environment and make a new job, or correct the import."
        return "module_not_found", f"{where(cell)} imports “{module}”, which the run's environment does not have.", mend, {"module": module}
    if ename in SYNTAX_ERRORS:
        return "syntax_error", f"{where(cell)} is not valid {spec.kernel.language.capitalize()}: {evalue}", "Correct the cell.", {}
    if ename == "StdinNotImplementedError":
        mend = "Give the value as a parameter instead of asking for it."
        return "input_requested", f"{where(cell)} asks for input, but nobody is there to answer.", mend, {}
    if ename == "SystemExit":
        status = exit_status(evalue)
        said = "" if evalue.strip() == str(status) else f": {evalue}"
        return "exit_code", f"{where(cell)} ended the run with exit status {status}{said}", "", {"status": status}
    if ename == "KeyboardInterrupt":
        return "keyboard_interrupt", f"{where(cell)} was interrupted from inside the run.", "", {}
    if ename == "MemoryError" or ename.endswith(("MemoryError", "OutOfMemoryError")):
        mend = "Use less data at a time, run fewer runs in parallel, or use a larger machine."
        return "memory_error", f"{where(cell)} ran out of memory: {evalue or ename}", mend, {}
    if place.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no_room", f"{where(cell)} could not write what it wanted: {evalue}", room.MEND, {}
    if ename in MISSING_FILE or place.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        name = place.filename or (named.group(1) if named else "")
        explained = _explain_path(spec, cell, name, ename, place, project_seen)
        if explained:
            return explained
    said = f"{ename}: {evalue}" if evalue else ename or "an error without a name"
    return "cell_error", f"{where(cell)} raised {said.splitlines()[0][:500]}", "", {}


def _explain_path(
    spec: RunSpec, cell: CellRef, name: str, ename: str, place: Place, project_seen: str
) -> tuple[str, str, str, dict[str, object]] | None:
    if not name or "://" in name:
        return None
    workspace = spec.workspace
    seen = os.path.normpath(str(Path(place.cwd or str(Path(project_seen, workspace.cwd)), name)))
    project = os.path.normpath(workspace.project)
    relative = _below(seen, os.path.normpath(project_seen)) or _below(seen, project)
    # in a copy a path that leaves the project ends up beside it, so look where it leads in the original
    original = os.path.normpath(str(Path(project, relative))) if relative else _original(seen, project_seen, project)
    detail: dict[str, object] = {"path": name}
    if ename not in MISSING_FILE:
        for bind in workspace.binds:
            if not bind.writable and (original == bind.target or _below(original, bind.target)):
                what = "is live data: the run may" if bind.live else "is not part of what was frozen: the run may"
                what = "is live data that this run may only read" if bind.live else "was not frozen, so this run may only read it"
                mend = "Write to another place, or make the job with this as a writable live path."
                message = f"{where(cell)} writes to “{name}”, but {bind.target} {what}."
                return "read_only_data", message, mend, {**detail, "live": bind.target}
        return None
    if relative:
        for ignored in workspace.ignored:
            path = ignored.path.strip("/")
            if relative == path or _below(relative, path):
                mend = f"Include it (a line “/{path}” in .jobsinclude, or --include {path}), or read it live (--live {path})."
                message = f"{where(cell)} reads “{name}”, which is not in the snapshot: {ignored.rule} leaves it out."
                return "input_not_in_snapshot", message, mend, {**detail, "ignored": path, "rule": ignored.rule}
        if os.path.lexists(original):
            mend = f"Make a new job, or read it live (--live {relative})."
            message = f"{where(cell)} reads “{name}”, which is in the project now but is not in the snapshot."
            return "input_not_in_snapshot", message, mend, detail
    elif workspace.mode == "copy" and os.path.lexists(original):
        mend = f"Move it into the project, or read it live (--live {original})."
        message = f"{where(cell)} reads “{name}”, which lies outside the project, where this run cannot see it."
        return "input_not_in_snapshot", message, mend, {**detail, "outside": original}
    mend = "Check the path; relative paths start in the notebook's folder."
    return "file_not_found", f"{where(cell)} reads “{name}”, which does not exist.", mend, detail


def _below(path: str, directory: str) -> str:
    """`path` relative to `directory`, or empty where it is not below it."""
    return path[len(directory) + 1 :] if path.startswith(directory.rstrip("/") + "/") else ""


def _original(seen: str, project_seen: str, project: str) -> str:
    away = os.path.relpath(seen, project_seen)
    # two levels up from a copy is still ours: only what leaves it by `..` has a counterpart
    return os.path.normpath(str(Path(project, away))) if away.startswith("..") and _below(seen, str(Path(project_seen).parents[1])) else seen


class MemoryFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that a run held and that the machine had left when somebody last looked, and whether the system has since said that memory ran out."""

    held: int
    free: int
    ran_out: bool


def kernel_died(cell: CellRef | None, status: int, tail: str, memory: MemoryFacts | None = None) -> RunError:
    """The kernel's process ended in the middle. `status` as `subprocess` has it: negative is a signal."""
    doing = f"while {where(cell)[0].lower()}{where(cell)[1:]} ran" if cell else "after the last cell"
    detail: dict[str, object] = {"exit": status}
    if status >= 0:
        message = f"The kernel ended {doing}, with exit status {status}."
        return RunError(code="kernel_died", message=message, mend="Look at the log for what ended it.", cell=cell, traceback=tail, detail=detail)
    name = _signal_name(-status)
    detail["signal"] = name
    message, mend = f"The kernel was killed by {name} {doing}.", "Look at the log for what happened before."
    if -status == signal.SIGKILL:
        looked = f" The run held {size(memory.held)} when it was last looked at, and the machine had {size(memory.free)} left." if memory else ""
        if memory:
            detail |= {"used": memory.held, "free": memory.free}
        if memory and not memory.ran_out and memory.free > max(PLENTY, 2 * memory.held):
            mend = "Somebody did it, or a program that watches over this machine: its own log may say."
        else:
            why = "because" if memory and memory.ran_out else "most likely because"
            message = f"{message.removesuffix('.')}, {why} memory ran out.{looked}"
            mend = "Use less data at a time, run fewer runs in parallel, or use a larger machine."
    elif -status in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL):
        mend = "A compiled library crashed; look at the log, and check the versions of the libraries that this cell uses."
    return RunError(code="kernel_died", message=message, mend=mend, cell=cell, traceback=tail, detail=detail)


def kernel_not_started(spec: RunSpec, reason: str, tail: str, status: int | None = None) -> RunError:
    """The kernel never answered. `tail` is the end of what its process wrote."""
    name = spec.kernel.display_name or spec.kernel.name
    interpreter = spec.kernel.argv[0] if spec.kernel.argv else ""
    mend = "Start this kernel in JupyterLab to see whether it works there, then make a new job."
    if re.search(r"No module named '?ipykernel", tail):
        reason = f"{interpreter} has no ipykernel"
        mend = f"Install it: {interpreter} -m pip install ipykernel"
    elif interpreter and not Path(interpreter).exists():
        reason = f"its interpreter {interpreter} does not exist"
        mend = "Choose another kernel, or repair this one's environment, then make a new job."
    return RunError(
        code="kernel_not_started",
        message=f"The kernel “{name}” did not start: {reason}.",
        mend=mend,
        traceback=plain(tail),
        detail={} if status is None else {"exit": status},
    )


def time_limit(code: str, limit: float, cell: CellRef | None) -> RunError:
    """`code` is `time_limit_exceeded` (the run's) or `cell_time_limit_exceeded`; `limit` in seconds."""
    if code == "cell_time_limit_exceeded" and cell:
        message = f"{where(cell)} took longer than the {limit:g} s that a cell may take."
    else:
        during = f" {where(cell)} was running." if cell else ""
        message = f"The run took longer than the {limit:g} s that it may take.{during}"
    return RunError(code=code, message=message, mend="Allow more time, or make the notebook faster.", cell=cell, detail={"limit": limit})


def resource_limit(resource: str, asked: int, used: int, cell: CellRef | None) -> RunError:
    """The run used more `memory` or `storage` than it may, in bytes."""
    during = f" while {where(cell)[0].lower()}{where(cell)[1:]} ran" if cell else ""
    if resource == "memory":
        what, mend = f"held {size(used)} of memory", "Allow more (--memory), or use less data at a time."
    else:
        what, mend = f"had written {size(used)} of files", "Allow more (--storage), write less, or write to a live path, which does not count."
    message = f"The run {what}{during}, and may not use more than {size(asked)}."
    return RunError(
        code="resource_limit_exceeded", message=message, mend=mend, cell=cell, detail={"resource": resource, "asked": asked, "used": used}
    )


def size(count: int) -> str:
    """`3.1 MB`, in powers of 1000."""
    scaled = float(count)
    for unit in ("B", "kB", "MB"):
        if scaled < 1000:
            return f"{scaled:.0f} {unit}" if unit == "B" else f"{scaled:.1f} {unit}"
        scaled /= 1000
    return f"{scaled:.1f} GB"


def joined(lines: Sequence[str]) -> str:
    """A traceback's lines as the log shows them."""
    return plain("\n".join(lines)).rstrip("\n") + "\n"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
