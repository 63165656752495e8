"""Which directories make up a kernel's Python environment: its prefix, site directories elsewhere, and the sources of editable installs."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from string import Template
from typing import Literal
from urllib.parse import unquote, urlsplit

import msgspec

from jupyter_jobs.errors import BadInput
from jupyter_jobs.model import Distribution, Finding, KernelInfo

_PYTHON = re.compile(r"(python|pypy)[\d.]*(\.exe)?$", re.IGNORECASE)
_REDIRECTS = re.compile(r"_.*editable.*\.py$")
_MANY = 20


class Answer(msgspec.Struct, frozen=True):
    """What the kernel's Python says about itself (`interrogate.py`)."""

    executable: str
    version: str
    implementation: str
    prefix: str
    base_prefix: str
    base_executable: str
    stdlib: list[str]
    path: list[str]
    site: list[str]
    user_site: str
    scripts: str


class Root(msgspec.Struct, frozen=True):
    """A directory of an environment, by its real absolute path. `source`: somebody's own code, always copied, never linked."""

    path: str
    kind: Literal["prefix", "site", "source"]


class Installed(msgspec.Struct, frozen=True):
    """An installed distribution; `editable` is the directory that an editable one is imported from."""

    name: str
    version: str
    editable: str = ""


def ask_python(kernel: KernelInfo) -> Answer | None:
    """Ask the kernel's Python about itself; None for a kernel that no Python runs.

    Raises BadInput `environment_unreadable` when it does not start or does not answer within a minute.
    """
    command = python_command(kernel)
    if command is None:
        return None
    variables = dict(os.environ)
    variables.update({name: Template(value).safe_substitute(os.environ) for name, value in kernel.env.items()})
    with tempfile.TemporaryDirectory(prefix="jupyter-jobs-") as folder:
        place = Path(folder, "answer.json")
        try:
            done = subprocess.run(
                [*command, interrogate_path(), str(place)], cwd="/", env=variables, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
            )
            why = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            return msgspec.json.decode(place.read_bytes(), type=Answer)
        except FileNotFoundError:
            reason = why if Path(command[0]).exists() else f"{command[0]} is not there"
        except (OSError, subprocess.TimeoutExpired, msgspec.DecodeError) as error:
            reason = str(error)
    raise BadInput(
        f"The Python of the kernel {kernel.name!r} ({command[0]}) does not answer: {reason or 'it ended without a word'}.",
        code="environment_unreadable",
        mend="Try to start this kernel in JupyterLab, and mend or choose another one.",
        field="kernel",
    )


def interrogate_path() -> str:
    """The script to run in the kernel's Python."""
    return str(Path(__file__).absolute().with_name("interrogate.py"))


def python_command(kernel: KernelInfo) -> list[str] | None:
    """How the kernel's argv starts its Python: everything before the last `-m` or the first script, launchers such as `conda run` included."""
    argv = kernel.argv
    modules = [number for number, part in enumerate(argv) if part == "-m" and number]
    head = argv[: modules[-1]] if modules else argv[:1]
    programs = [part for part in head if not part.startswith("-")]
    if programs and _PYTHON.match(Path(programs[-1]).name):
        return head
    if kernel.language.casefold() == "python" and argv:
        # a compiled kernel such as xeus-python lies beside the interpreter of its environment
        beside = Path(argv[0]).parent / "python"
        if beside.exists():
            return [str(beside)]
    return None


def plan_roots(answer: Answer, data_dir: Path, project: Path | None) -> tuple[list[Root], list[Finding]]:
    """The directories to freeze, none below another unless as an environment of its own; and notes on those that cannot be.

    What lies in `project` is frozen with the project, unless it is the environment itself.
    """
    roots: list[Root] = []
    notes: list[Finding] = []
    prefix = os.path.realpath(answer.prefix)
    if _is_own(answer):
        roots.append(Root(prefix, "prefix"))
    sites = {os.path.realpath(place) for place in (*answer.site, answer.user_site) if place}
    stdlib = {os.path.realpath(place) for place in answer.stdlib if place}
    inside = os.path.realpath(project) if project else ""
    paths = [os.path.realpath(place) for place in answer.path]
    for place in dict.fromkeys((*paths, *sorted(sites))):
        if place in stdlib or not Path(place).is_dir() or _below(place, roots):
            continue
        if place in sites or Path(place).name in ("site-packages", "dist-packages"):
            roots.append(Root(place, "site"))
        else:
            _add_source(place, roots, notes, data_dir, inside)
    for place in sorted(_redirected(roots)):
        if not _below(place, roots):
            _add_source(place, roots, notes, data_dir, inside)
    return _disjoint(roots), notes


def installed(answer: Answer) -> list[Installed]:
    """The distributions that the kernel's Python finds, by name."""
    found: dict[str, Installed] = {}
    sites = {os.path.realpath(place) for place in (*answer.site, answer.user_site) if place}
    for distribution in metadata.distributions(path=answer.path):
        try:
            name, version = distribution.metadata["Name"], distribution.version
        except (KeyError, TypeError):
            # an unfinished uninstallation leaves a folder without metadata
            continue
        if not name or name.casefold() in found:
            continue
        editable = _editable(distribution)
        where = os.path.realpath(str(distribution.locate_file("")))
        if not editable and where not in sites and Path(where).name not in ("site-packages", "dist-packages"):
            editable = where
        found[name.casefold()] = Installed(name, version or "", editable)
    return [found[key] for key in sorted(found)]


def as_distributions(distributions: list[Installed], roots: Iterable[Root], project: Path | None) -> list[Distribution]:
    """The wire form; an editable one is frozen where its source, or a part of it, lies in a frozen root or in the project."""
    places = [root.path for root in roots] + ([os.path.realpath(project)] if project else [])

    def frozen(source: str) -> bool:
        real = os.path.realpath(source)
        return any(real == place or real.startswith(place + "/") or place.startswith(real + "/") for place in places)

    return [
        Distribution(name=one.name, version=one.version, editable=one.editable, frozen=not one.editable or frozen(one.editable))
        for one in distributions
    ]


def is_nested_prefix(names: Iterable[str]) -> bool:
    """Whether a directory with these entries is an environment of its own."""
    return any(name in ("pyvenv.cfg", "conda-meta") for name in names)


def site_folders(root: Root, base: str = "") -> list[str]:
    """The site directories of a root, relative to it; `base` is where it lies now, if elsewhere."""
    if root.kind == "site":
        return [""]
    place = Path(base or root.path)
    found = [*place.glob("lib*/python*/site-packages"), *place.glob("lib*/pypy*/site-packages")]
    # lib64 is often a link to lib
    return sorted(
        {str(folder.relative_to(place)) for folder in found if folder.relative_to(place).parts[0] != "lib64" or not (place / "lib64").is_symlink()}
    )


def _is_own(answer: Answer) -> bool:
    """Whether the prefix holds this Python and nothing else, so that it can be frozen whole."""
    prefix = Path(os.path.realpath(answer.prefix))
    if (prefix / "pyvenv.cfg").is_file() or (prefix / "conda-meta").is_dir():
        return True
    home = Path.home().resolve()
    shared = {Path("/"), Path("/usr"), Path("/usr/local"), Path("/opt"), Path("/opt/homebrew"), Path("/opt/local"), home, home / ".local"}
    return (
        prefix not in shared and not prefix.is_relative_to("/nix/store") and not prefix.is_relative_to("/Library") and not home.is_relative_to(prefix)
    )


def _add_source(place: str, roots: list[Root], notes: list[Finding], data_dir: Path, inside: str) -> None:
    if inside and (place == inside or place.startswith(inside + "/")):
        return
    path = Path(place)
    if any(other.resolve().is_relative_to(path) for other in (Path.home(), data_dir, Path("/usr"))) or path.parent == path:
        notes.append(
            Finding(
                code="source_not_frozen",
                level="warning",
                message=f"The kernel imports from {place}, which holds too much to be frozen: later changes there reach the job's runs.",
                mend="Take it out of PYTHONPATH or the .pth file, or install the code as a package.",
                path=place,
            )
        )
        return
    roots.append(Root(place, "source"))


def _below(place: str, roots: Iterable[Root]) -> bool:
    return any(place == root.path or place.startswith(root.path + "/") for root in roots)


def _disjoint(roots: list[Root]) -> list[Root]:
    """Leave out what another root holds, except environments in a source directory: those are not cloned with it."""
    kept = []
    for root in roots:
        others = [other for other in roots if other is not root and (other.kind != "source" or root.kind != "prefix")]
        if not any(root.path.startswith(other.path + "/") for other in others):
            kept.append(root)
    return sorted(kept, key=lambda root: (root.path.count("/"), root.path))


def _redirected(roots: Iterable[Root]) -> Iterator[str]:
    """Directories that the import hooks of editable installs point to: absolute paths in the hooks' source."""
    for root in roots:
        if root.kind == "source":
            continue
        folders = [Path(root.path)] if root.kind == "site" else [*Path(root.path).glob("lib*/python*/site-packages")]
        for folder in folders:
            for hook in folder.iterdir():
                if _REDIRECTS.match(hook.name):
                    yield from _paths_in(hook)


def _paths_in(hook: Path) -> list[str]:
    try:
        tree = ast.parse(hook.read_text("utf-8", "replace"))
    except (SyntaxError, ValueError):
        # Python cannot import it either
        return []
    places: set[str] = set()
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("/") and len(node.value) > 1):
            continue
        path = Path(node.value)
        if path.is_dir():
            places.add(os.path.realpath(path))
        elif path.is_file():
            places.add(os.path.realpath(path.parent))
    if len(places) > _MANY:
        return [os.path.commonpath(places)]
    return [place for place in places if not any(place.startswith(other + "/") for other in places)]


def _editable(distribution: metadata.Distribution) -> str:
    """The directory of an editable install, from its `direct_url.json`; empty for an ordinary one."""
    text = distribution.read_text("direct_url.json")
    if not text:
        return ""
    try:
        origin = json.loads(text)
        if not origin.get("dir_info", {}).get("editable"):
            return ""
        return unquote(urlsplit(str(origin["url"])).path)
    except (ValueError, KeyError, AttributeError):
        return ""
