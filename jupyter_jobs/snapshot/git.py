"""Asking git which files belong to a work tree and why others do not."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from jupyter_jobs.snapshot.ignore import RuleFile, read_rules

KEPT_VARIABLES = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_EXEC_PATH")


class GitAnswer(NamedTuple):
    """`names` as git prints them (a nested work tree ends with a slash), or None where git is not asked; `note` says why, where it matters."""

    names: list[str] | None
    note: str = ""


def _run(directory: str, *arguments: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes] | None:
    """Run git in a directory, whatever repository the caller's own GIT_* variables mean. None: git is not installed.

    No hook of the repository is run: `core.fsmonitor` may name a program.
    """
    program = shutil.which("git")
    if program is None:
        return None
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in KEPT_VARIABLES}
    variables |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    command = [program, "-c", "core.fsmonitor=false", "-C", directory, *arguments]
    return subprocess.run(command, env=variables, capture_output=True, check=False, input=given or b"")


def work_tree_above(directory: str) -> str:
    """The nearest directory, this one or above, that holds `.git`; empty where there is none."""
    for folder in (Path(directory), *Path(directory).parents):
        if os.path.lexists(folder / ".git"):
            return str(folder)
    return ""


def list_names(directory: str) -> GitAnswer:
    """The tracked and the untracked but not ignored names below a directory of a work tree, relative to it, in git's order.

    The answer has no names where the directory is in no work tree, where the work tree ignores the directory itself (a scratch folder, a home
    directory kept in git), where git is missing and where it refuses; the last two with a note.
    """
    real = os.path.realpath(directory)
    top = work_tree_above(real)
    if not top:
        return GitAnswer(None)
    if top != real:
        ignored = _run(real, "check-ignore", "-q", "--", real)
        if ignored is not None and ignored.returncode == 0:
            return GitAnswer(None)
    done = _run(real, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if done is None:
        return GitAnswer(
            None, "git is not installed, so its rules were read by us and files that are tracked although they are ignored are left out."
        )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()
        if "not a git repository" in said or "must be run in a work tree" in said:
            return GitAnswer(None)
        if "dubious ownership" in said or "unsafe repository" in said:
            return GitAnswer(None, f"git refuses to read {top}, which belongs to another user (safe.directory), so its rules were read by us.")
        return GitAnswer(None, f"git could not list {top} ({said.splitlines()[0] if said else done.returncode}), so its rules were read by us.")
    return GitAnswer(os.fsdecode(done.stdout).split("\0")[:-1])


def explain(directory: str, names: Iterable[str]) -> dict[str, str]:
    """Which of the names git ignores, and by which rule: `.gitignore:3: data/`. Rule files below the directory are named relative to it.

    No name may lie behind a symbolic link or in a nested work tree: git refuses these, and then says nothing about the others either.
    """
    wanted = list(names)
    if not wanted:
        return {}
    real = os.path.realpath(directory)
    done = _run(real, "check-ignore", "-v", "-z", "--stdin", given=b"".join(os.fsencode(f"./{name}") + b"\0" for name in wanted))
    if done is None or done.returncode not in (0, 1):
        return {}
    fields = os.fsdecode(done.stdout).split("\0")
    top = work_tree_above(real)
    rules: dict[str, str] = {}
    for source, line, pattern, name in zip(*[iter(fields)] * 4, strict=False):
        if not pattern.startswith("!"):
            rules[name.removeprefix("./")] = f"{_source(source, top, real)}:{line}: {pattern}"
    return rules


def _source(source: str, top: str, directory: str) -> str:
    """git names rule files relative to the top of the work tree, or absolutely."""
    return source if Path(source).is_absolute() else os.path.relpath(str(Path(top) / source), directory)


def rules_above(directory: str) -> tuple[tuple[RuleFile, ...], bytes]:
    """What git would read before `directory`'s own `.gitignore`, outermost first, and the directory's path seen from the top of its work tree."""
    real = os.path.realpath(directory)
    top = work_tree_above(real)
    if not top:
        return (), b""
    below = os.path.relpath(real, top)
    parts = [] if below == "." else below.split("/")
    found = [read_rules(f"{top}/.git/info/exclude", ".git/info/exclude")]
    for count in range(len(parts)):
        inside = "".join(f"{part}/" for part in parts[:count])
        found.append(read_rules(f"{top}/{inside}.gitignore", os.path.relpath(f"{top}/{inside}.gitignore", real), len(os.fsencode(inside))))
    return tuple(each for each in found if each), b"".join(os.fsencode(part) + b"/" for part in parts)
