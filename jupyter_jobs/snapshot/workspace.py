"""What a run will see: how it gets its own project here, and the `workspace` object of its `run.json`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from jupyter_jobs.model import Finding, IgnoredPath, KernelInfo, LivePath
from jupyter_jobs.runner import workspace as run_workspace
from jupyter_jobs.runner.namespace import ERROR_FILE
from jupyter_jobs.runner.rundir import Bind, Ignored, Link, Mount, WorkspaceSpec
from jupyter_jobs.snapshot import frozen
from jupyter_jobs.snapshot.clone import remove_tree
from jupyter_jobs.snapshot.objects import write_atomically

Mode = Literal["overlay", "copy"]

_SHARED = frozenset({"/", "/usr", "/usr/local", "/opt", "/opt/homebrew"})
_SWITCHES = (
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("user.max_user_namespaces", "0", "15000"),
)


@cache
def probe_workspace(data_dir: Path, wanted: Literal["auto", "overlay", "copy"]) -> tuple[Mode, str]:
    """How runs get their own project here, tried once per process on the store's file system; and why, in a sentence, where it is by copy.

    Raises OSError where the store cannot be written.
    """
    if wanted == "copy":
        return "copy", "Runs work on copies, as c.Jobs.workspace asks."
    if sys.platform != "linux":
        return "copy", "Runs work on copies: mount namespaces are Linux's."
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".probe-", dir=data_dir))
    try:
        reason = _try_overlay(folder)
    finally:
        remove_tree(folder)
    if not reason:
        return "overlay", ""
    asked = " although c.Jobs.workspace asks for overlays" if wanted == "overlay" else ""
    return "copy", f"Runs work on copies{asked}: {reason}.{_switch()}"


@cache
def expected_workspace(data_dir: Path, wanted: Literal["auto", "overlay", "copy"]) -> tuple[Mode, str]:
    """As `probe_workspace`, but where overlays worked for a process like this one since the machine started, they are not tried again: for those who
    only say beforehand what a run will see. Whoever starts runs tries it."""
    facts = _facts(data_dir) if wanted != "copy" else ""
    remembered = data_dir / "overlays-work"
    with contextlib.suppress(OSError):
        if facts and remembered.read_text("utf-8") == facts:
            return "overlay", ""
    mode, note = probe_workspace(data_dir, wanted)
    if facts and mode == "overlay":
        write_atomically(remembered, facts.encode())
    return mode, note


def _facts(data_dir: Path) -> str:
    """What decides whether this process may mount overlays there: boot, user, privileges, namespaces, settings, file system. Empty where that
    cannot be told."""
    try:
        status = Path("/proc/self/status").read_text("utf-8")
        facts = [
            Path("/proc/sys/kernel/random/boot_id").read_text("utf-8"),
            *(line for line in status.splitlines() if line.startswith(("Uid", "Gid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp"))),
            *(str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("user", "mnt")),
            *(place.read_text("utf-8") for place in (Path("/proc/sys", name.replace(".", "/")) for name, _, _ in _SWITCHES) if place.exists()),
            f"{os.path.realpath(data_dir)} {data_dir.stat().st_dev}",
        ]
    except OSError:
        return ""
    return "\n".join(facts)


def workspace_findings(mode: Mode, note: str) -> list[Finding]:
    """What to say before a run where workspaces are copies; takes what `probe_workspace` returns."""
    if mode == "overlay":
        return []
    message = (
        "Each run works on a copy of the project in another place: what the notebook writes by absolute path, or reads and writes through `../`, "
        f"is the original. {note}"
    )
    return [Finding(code="workspace_copy", level="warning", message=message.strip(), mend="Use paths relative to the notebook.")]


def workspace_spec(
    data_dir: Path,
    *,
    mode: Mode,
    project: Path,
    tree: Path,
    cwd: str = "",
    environment: str = "",
    kernel: KernelInfo | None = None,
    live: Sequence[LivePath] = (),
    ignored: Sequence[IgnoredPath] = (),
    keep: Sequence[Path] = (),
    partial: bool = False,
) -> WorkspaceSpec:
    """The `workspace` object of a run's `run.json`, made when the run is about to start.

    `cwd` is the notebook's folder relative to `project`, `environment` the digest of a frozen one, `keep` directories that the run must reach
    wherever they lie and write to (sockets, Jupyter's runtime directory; the store
    itself is read-only), `partial` for a snapshot of single files. What cannot be as wanted is said in `notes`.
    Raises NotFound when the environment is not in the store.
    """
    real = os.path.realpath(project)
    notes: list[str] = []
    if mode == "overlay" and not Path(real).is_dir():
        notes.append(f"The project's directory {project} is gone: the run works on a copy in another place.")
        mode = "copy"
    stored = frozen.stored_environment(data_dir, environment) if environment else None
    mounts = [Mount(source=source, target=target) for target, source in (frozen.roots(data_dir, environment) if stored else [])]
    for mount in mounts:
        if mode == "overlay" and not Path(mount.target).is_dir() and not mount.target.startswith(real + "/"):
            notes.append(f"The environment {mount.target} is gone: the run uses the frozen one at {mount.source}.")
    binds = _live_binds(real, live, notes)
    links: list[Link] = []
    if mode == "overlay":
        covers = [real, *(mount.target for mount in mounts)]
        interpreters = {os.path.realpath(place) for place in (sys.prefix, sys.base_prefix, stored.base_prefix if stored else "") if place}
        protected = [place for place in sorted(interpreters) if _is_other(place, covers, data_dir)]
        taken = {bind.target for bind in binds}
        binds += [Bind(source=place, target=place) for place in protected if place not in taken]
        store = os.path.realpath(data_dir)
        if store != real and store not in taken and Path(store).is_dir():
            # a run must change neither its own result nor what was frozen for others
            binds.append(Bind(source=store, target=store))
        for place in dict.fromkeys(os.path.realpath(place) for place in keep):
            if Path(place).is_dir() and any(place.startswith(cover + "/") for cover in (*covers, *protected, store)):
                binds.append(Bind(source=place, target=place, writable=True))
    if kernel and kernel.argv:
        links = _links(real, tree, [kernel.argv[0], stored.environment.prefix if stored else ""])
    return WorkspaceSpec(
        mode=mode,
        project=real,
        tree=str(tree),
        cwd=cwd,
        environment=mounts,
        binds=binds,
        links=links,
        partial=partial,
        notes=notes,
        ignored=[Ignored(path=one.path, rule=one.rule) for one in ignored],
    )


def _live_binds(project: str, live: Iterable[LivePath], notes: list[str]) -> list[Bind]:
    binds = []
    for one in live:
        place = os.path.normpath(os.path.join(project, os.path.expanduser(one.path)))  # noqa: PTH111, PTH118
        if Path(place).exists():
            binds.append(Bind(source=place, target=place, writable=one.writable, live=True))
        else:
            notes.append(f"The live path {one.path} does not exist: there is nothing at {place}.")
    return binds


def _is_other(place: str, covers: Sequence[str], data_dir: Path) -> bool:
    """Whether `place` is an environment that is not the run's own, so that `pip install` in the run must not reach it.

    One inside the project is read-only too: the snapshot leaves it out, and the interpreter may need it.
    """
    if place in _SHARED or not Path(place).is_dir():
        return False
    home = str(Path.home().resolve())
    if any(other == place or other.startswith(place + "/") for other in (covers[0], home)):
        return False
    return not any(place == cover or place.startswith(cover + "/") for cover in covers[1:])


def _links(project: str, tree: Path, wanted: Iterable[str]) -> list[Link]:
    """Links in the project through which the kernel's interpreter is named (`.venv -> /elsewhere`) and which the snapshot leaves out."""
    links: dict[str, Link] = {}
    for path in wanted:
        for place in (Path(path), *Path(path).parents) if path else ():
            if place.is_symlink() and (inside := f"{os.path.realpath(place.parent)}/{place.name}").startswith(project + "/"):
                relative = inside.removeprefix(project + "/")
                if not _in_environment(Path(project), relative) and not os.path.lexists(tree / relative):
                    links[relative] = Link(path=relative, target=str(place.readlink()))
    return list(links.values())


def _in_environment(project: Path, relative: str) -> bool:
    """Whether a path lies in an environment inside the project: that is frozen whole, links and all."""
    return any((project / parent / "pyvenv.cfg").exists() or (project / parent / "conda-meta").exists() for parent in Path(relative).parents)


def _try_overlay(folder: Path) -> str:
    """Do in `folder` what a run needs; returns what went wrong, empty when nothing did."""
    for name in ("project/live", "tree", "environment", "clone", "run"):
        (folder / name).mkdir(parents=True)
    (folder / "tree" / "frozen").write_text("old")
    (folder / "tree" / "gone").write_text("old")
    (folder / "clone" / "module").write_text("old")
    spec = WorkspaceSpec(
        mode="overlay",
        project=str(folder / "project"),
        tree=str(folder / "tree"),
        environment=[Mount(source=str(folder / "clone"), target=str(folder / "environment"))],
        binds=[Bind(source=str(folder / "project" / "live"), target=str(folder / "project" / "live"))],
    )
    script = 'rm gone && echo new >> frozen && echo new > made && echo new > "$1/module" && if (echo new > live/made) 2>/dev/null; then exit 3; fi'
    argv, cwd, *_ = run_workspace.prepare(spec, folder / "run", ["/bin/sh", "-c", script, "sh", str(folder / "environment")], {})
    done = subprocess.run(argv, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    said = folder / "run" / "work" / ERROR_FILE
    if said.exists():
        return str(json.loads(said.read_text("utf-8"))["message"]).replace(str(folder), "the store")
    if done.returncode:
        return done.stderr.strip().rpartition("\n")[2] or f"the try ended with exit code {done.returncode}"
    found = [(artifact.path, artifact.kind) for artifact in run_workspace.collect(spec, folder / "run")]
    if found != [("frozen", "changed"), ("gone", "deleted"), ("made", "created")]:
        return f"an overlay on the store's file system does not tell what was written ({found})"
    run_workspace.clean(spec, folder / "run")
    return ""


def _switch() -> str:
    """The system setting that forbids namespaces to ordinary users, if it is one."""
    for name, forbids, allows in _SWITCHES:
        place = Path("/proc/sys", name.replace(".", "/"))
        if place.exists() and place.read_text().strip() == forbids:
            return f" An administrator can allow overlays with `sysctl -w {name}={allows}`."
    return ""
