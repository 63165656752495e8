"""A run's own copy of its project: made before the kernel starts, looked through and cleared away after its end.

`overlay`: `work/upper` takes what the run writes, `work/env/<n>` what it writes into environments (thrown away). `copy`: `work/project` is a copy.
What is kept at the end lies in `artifact_root(run_dir)`: `work/upper` or `work/files`. Imports nothing of ours outside `runner`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jupyter_jobs.runner import namespace, rundir
from jupyter_jobs.runner.changes import changes_in_copy, changes_in_upper, scan
from jupyter_jobs.runner.rundir import Artifact, Bind, Link, WorkspaceSpec

_FICLONE = 0x40049409


class WorkspaceFailed(Exception):
    """The workspace cannot be made; the text names the path and the reason. The run fails with code `workspace_failed`."""


class Prepared(NamedTuple):
    """A workspace that is made. `argv` started in `cwd` with `additions` to its variables becomes the kernel in its place.

    For a kernel that is forked instead: `command` is what it would execute in the end, `place` the namespace to enter (None: none is needed, but
    `inside` to change into), `server_place` that of the server it is forked from, `shared` those of the additions that are the same for all runs, and
    `path` what of the others goes to the front of `sys.path`.
    """

    argv: list[str]
    cwd: str
    additions: dict[str, str]
    command: list[str]
    inside: str
    place: dict[str, Any] | None
    server_place: dict[str, Any] | None
    shared: dict[str, str]
    path: list[str]


def prepare(
    spec: WorkspaceSpec,
    run_dir: Path,
    argv: list[str],
    variables: Mapping[str, str] | None = None,
    *,
    user_namespace: Literal["auto", "always", "never"] = "auto",
) -> Prepared:
    """Make the workspace.

    `variables` are the run's so far (default: this process's); paths into an environment that cannot lie at its place are changed in what is
    returned. The kernel's own working directory is the notebook's folder in both modes. Raises WorkspaceFailed, OSError.
    """
    run_dir = run_dir.absolute()
    work = run_dir / "work"
    work.mkdir(exist_ok=True)
    variables = os.environ if variables is None else variables
    if spec.mode == "overlay":
        return _prepare_overlay(spec, work, argv, variables, user_namespace)
    return _prepare_copy(spec, work, argv, variables)


def collect(spec: WorkspaceSpec, run_dir: Path) -> list[Artifact]:
    """The files that the run created, changed or deleted in its project, sorted by path. Call it when all processes of the run are gone.

    A file that was written but holds what it held before is none; nor are `__pycache__`, `.ipynb_checkpoints`, directories, sockets and pipes.
    """
    root = run_dir / "work" / ("upper" if spec.mode == "overlay" else "project")
    if not root.is_dir():
        return []
    not_ours = {link.path for link in spec.links}
    project = spec.project.rstrip("/") + "/"
    for target in (*(bind.target for bind in spec.binds), *(mount.target for mount in spec.environment)):
        if target.startswith(project):
            not_ours.add(target.removeprefix(project))
    tree = Path(spec.tree)
    if spec.mode == "overlay":
        if spec.partial:
            binds, links = _rest_of(Path(spec.project), tree)
            not_ours.update(bind.target.removeprefix(project) for bind in binds)
            not_ours.update(link.path for link in links)
        found = changes_in_upper(root, tree, not_ours)
    else:
        found = changes_in_copy(root, tree, not_ours)
    return sorted(found, key=lambda artifact: artifact.path)


def clean(spec: WorkspaceSpec, run_dir: Path, artifacts: list[Artifact] | None = None) -> None:
    """Free everything below `work` but the files that the run created or changed (`artifacts`; None: look again). Raises OSError."""
    work = run_dir / "work"
    if not work.is_dir():
        return
    kept = {artifact.path for artifact in (collect(spec, run_dir) if artifacts is None else artifacts) if artifact.kind != "deleted"}
    root = artifact_root(run_dir)
    if spec.mode == "overlay":
        if root.is_dir():
            _keep_only(root, "", kept)
    else:
        root.mkdir(exist_ok=True)
        for path in kept:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (work / "project" / path).rename(root / path)
    for entry in list(work.iterdir()):
        if entry != root:
            _remove(entry)


def artifact_root(run_dir: Path) -> Path:
    """The directory that holds what the run produced, by paths relative to the project."""
    upper = run_dir / "work" / "upper"
    return upper if upper.is_dir() else run_dir / "work" / "files"


def copy_file(source: str, target: str) -> None:
    """Copy a regular file's content (sharing blocks where the file system can), mode and times. Raises OSError."""
    with open(source, "rb") as reader, open(target, "xb") as writer:  # noqa: PTH123 - on the hot path
        if not reflink(reader.fileno(), writer.fileno()):
            shutil.copyfileobj(reader, writer, 1 << 20)
    shutil.copystat(source, target)


def reflink(source: int, target: int) -> bool:
    """Make the open file `target` share the blocks of `source`; False where the file system cannot."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EACCES):
            return False
        raise
    return True


# -- overlay -----------------------------------------------------------------------------------------------------------


def _prepare_overlay(spec: WorkspaceSpec, work: Path, argv: list[str], variables: Mapping[str, str], user_namespace: str) -> Prepared:
    if not Path(spec.project).is_dir():
        raise WorkspaceFailed(f"the project's directory {spec.project} is gone")
    overlays = [_layers(spec.tree, work / "upper", work / "overlay", spec.project) | {"name": rundir.place_name(work.parent)}]
    moved: list[tuple[str, str]] = []
    for number, mount in enumerate(spec.environment):
        target = mount.target
        if not (Path(target).is_dir() or target.startswith(spec.project + "/")):
            # nothing to mount on: the run uses the frozen environment where it lies, still with a layer of its own above it
            moved.append((mount.target, mount.source))
            target = mount.source
        layer = work / "env" / str(number)
        layer.mkdir(parents=True)
        overlays.append(_layers(mount.source, layer / "upper", layer / "overlay", target))
    binds, links = list(spec.binds), list(spec.links)
    if spec.partial:
        more_binds, more_links = _rest_of(Path(spec.project), Path(spec.tree))
        taken = {bind.target for bind in binds}
        binds += [bind for bind in more_binds if bind.target not in taken]
        links += more_links
    for link in links:
        _make_link(work / "upper", Path(spec.tree), link)
    description: dict[str, Any] = {
        "user_namespace": user_namespace,
        "cwd": str(Path(spec.project, spec.cwd)),
        "overlays": overlays,
        "binds": [{"source": bind.source, "target": bind.target, "writable": bind.writable} for bind in binds],
    }
    (work / "namespace.json").write_text(json.dumps(description), "utf-8")
    shared = _moved_variables(variables, moved)
    additions = dict(shared)
    if moved:
        additions["PATH"] = _moved_scripts(work / "bin", moved) + additions.get("PATH", variables.get("PATH", os.defpath))
    command = _moved(argv, moved)
    enter = [sys.executable, "-I", str(Path(namespace.__file__).absolute()), str(work / "namespace.json"), "--", *command]
    in_place = [mount for mount in spec.environment if (mount.target, mount.source) not in moved]
    server_place = {
        "user_namespace": user_namespace,
        "cwd": "/",
        "overlays": [],
        "binds": [{"source": mount.source, "target": mount.target, "writable": False} for mount in in_place],
    }
    return Prepared(enter, str(work.parent), additions, command, description["cwd"], description, server_place, shared, [])


def _layers(lower: str, upper: Path, overlay_work: Path, target: str) -> dict[str, str]:
    upper.mkdir()
    overlay_work.mkdir()
    below = os.stat(lower)  # noqa: PTH116
    if os.geteuid() == 0:
        os.chown(upper, below.st_uid, below.st_gid)
    shutil.copystat(lower, upper)
    return {"lower": lower, "upper": str(upper), "work": str(overlay_work), "target": target}


def _make_link(upper: Path, tree: Path, link: Link) -> None:
    if os.path.lexists(tree / link.path):
        return
    place = upper
    for part in Path(link.path).parts[:-1]:
        place /= part
        if not place.exists():
            place.mkdir()
            below = tree / place.relative_to(upper)
            if below.is_dir():
                shutil.copystat(below, place)
    (upper / link.path).symlink_to(link.target)


def _rest_of(project: Path, tree: Path, relative: str = "") -> tuple[list[Bind], list[Link]]:
    """Everything in the project that the tree does not hold, to be seen as it is: read-only, but for the top level's dot folders (configuration)."""
    binds: list[Bind] = []
    links: list[Link] = []
    for entry in os.scandir(project / relative):
        path = f"{relative}/{entry.name}" if relative else entry.name
        frozen = tree / path
        if entry.is_symlink():
            if not os.path.lexists(frozen):
                links.append(Link(path=path, target=os.readlink(entry.path)))  # noqa: PTH115
        elif entry.is_dir() and frozen.is_dir() and not frozen.is_symlink():
            more_binds, more_links = _rest_of(project, tree, path)
            binds += more_binds
            links += more_links
        elif not os.path.lexists(frozen) and (entry.is_dir() or entry.is_file()):
            binds.append(Bind(source=entry.path, target=entry.path, writable=path.startswith(".")))
    return binds, links


# -- copy --------------------------------------------------------------------------------------------------------------


def _prepare_copy(spec: WorkspaceSpec, work: Path, argv: list[str], variables: Mapping[str, str]) -> Prepared:
    project = work / "project"
    _copy_tree(spec.tree, str(project))
    inside = spec.project.rstrip("/") + "/"
    wanted = list(spec.links)
    wanted += [Link(path=bind.target.removeprefix(inside), target=bind.source) for bind in spec.binds if bind.target.startswith(inside)]
    for link in wanted:
        if not os.path.lexists(project / link.path):
            (project / link.path).parent.mkdir(parents=True, exist_ok=True)
            (project / link.path).symlink_to(link.target)
    moved = [(mount.target, mount.source) for mount in spec.environment]
    # the frozen environment is shared by all runs here
    shared = {**_moved_variables(variables, moved), "PYTHONDONTWRITEBYTECODE": "1"}
    additions = dict(shared)
    if moved:
        additions["PATH"] = _moved_scripts(work / "bin", moved) + additions.get("PATH", variables.get("PATH", os.defpath))
    packages = work / "site-packages"
    packages.mkdir()
    before = additions.get("PYTHONPATH", variables.get("PYTHONPATH", ""))
    additions["PYTHONPATH"] = f"{packages}{os.pathsep}{before}" if before else str(packages)
    additions["PIP_TARGET"] = str(packages)
    command, inside = _moved(argv, moved), str(project / spec.cwd)
    return Prepared(command, inside, additions, command, inside, None, None, shared, [str(packages)])


def _copy_tree(source: str, target: str) -> None:
    Path(target).mkdir()
    for entry in os.scandir(source):
        place = f"{target}/{entry.name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), place)  # noqa: PTH115, PTH211
            shutil.copystat(entry.path, place, follow_symlinks=False)
        elif entry.is_dir():
            _copy_tree(entry.path, place)
        else:
            copy_file(entry.path, place)
    shutil.copystat(source, target)


def _moved(argv: list[str], moved: list[tuple[str, str]]) -> list[str]:
    return [_moved_path(argument, moved) for argument in argv]


def _moved_path(path: str, moved: list[tuple[str, str]]) -> str:
    for old, new in moved:
        if path == old or path.startswith(old + "/"):
            return new + path[len(old) :]
    return path


def _moved_variables(variables: Mapping[str, str], moved: list[tuple[str, str]]) -> dict[str, str]:
    changed = {name: os.pathsep.join(_moved_path(part, moved) for part in value.split(os.pathsep)) for name, value in variables.items()}
    return {name: value for name, value in changed.items() if value != variables[name]}


def _moved_scripts(folder: Path, moved: list[tuple[str, str]]) -> str:
    """Scripts of the environments that start with an interpreter at its old place, made to start with the frozen one. Returns the start of PATH."""
    folder.mkdir()
    places = [str(folder)]
    for old, new in moved:
        scripts = Path(new, "bin")
        if not scripts.is_dir():
            continue
        places.append(str(scripts))
        for script in scripts.iterdir():
            if script.is_symlink() or not script.is_file() or not os.access(script, os.X_OK):
                continue
            with script.open("rb") as file:
                head = file.read(2)
                text = head + file.read() if head == b"#!" else b""
            first = text.split(b"\n", 1)[0].split(b" ", 1)[0][2:]
            lines = text.split(b"\n", 3)
            if first.startswith(os.fsencode(old) + b"/"):
                interpreter, rest = os.fsencode(new) + first[len(os.fsencode(old)) :], text.split(b"\n", 1)[1]
            elif first == b"/bin/sh" and len(lines) == 4 and lines[1].startswith(b"'''exec' ") and os.fsencode(old) + b"/" in lines[1]:
                name = lines[1].removeprefix(b"'''exec' ").split(b' "$0"')[0].strip(b'"')
                interpreter, rest = os.fsencode(new) + name[len(os.fsencode(old)) :], lines[3]
            else:
                continue
            # a first line may hold neither spaces nor more than some hundred bytes; this form, Python and shell at once, may
            (folder / script.name).write_bytes(b"#!/bin/sh\n'''exec' \"" + interpreter + b'" "$0" "$@"\n\' \'\'\'\n' + rest)
            (folder / script.name).chmod(0o755)
    return os.pathsep.join(places) + os.pathsep


# -- clearing away ----------------------------------------------------------------------------------------------------


def _keep_only(root: Path, relative: str, kept: set[str]) -> bool:
    """Remove what is not in `kept`; returns whether anything is left."""
    left = False
    for entry in scan(root / relative):
        path = f"{relative}/{entry.name}" if relative else entry.name
        if entry.is_dir(follow_symlinks=False):
            if _keep_only(root, path, kept):
                left = True
            else:
                _remove(Path(entry.path))
        elif path in kept:
            left = True
        else:
            _unlink(Path(entry.path))
    return left


def _unlink(path: Path) -> None:
    if not os.access(path.parent, os.W_OK):
        path.parent.chmod(0o700)
    path.unlink()


def _remove(path: Path) -> None:
    """Remove a file or a tree, also one whose directories may not be entered (the overlay's own has mode 000)."""
    if path.is_symlink() or not path.is_dir():
        _unlink(path)
        return
    path.chmod(0o700)
    with os.scandir(path) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                _remove(Path(entry.path))
            else:
                os.unlink(entry.path)  # noqa: PTH108
    path.rmdir()
