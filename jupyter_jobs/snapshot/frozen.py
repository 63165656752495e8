"""How frozen environments are kept: `environments/<digest>/{environment.json,manifest.json,tree/<original absolute path>/…}`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Literal

import msgspec

from jupyter_jobs.errors import NotFound
from jupyter_jobs.model import Environment
from jupyter_jobs.snapshot.clone import Entry
from jupyter_jobs.snapshot.roots import Root

Mode = Literal["reflink", "hardlink", "copy", "recorded"]


_VOLATILE = ("share/jupyter/runtime", "share/jupyter/nbsignatures.db", "share/jupyter/notebook_secret")


class FrozenRoot(msgspec.Struct, frozen=True):
    """A root and how it was frozen; `recorded`: not at all, its files are only known."""

    root: Root
    mode: Mode


class Interpreter(msgspec.Struct, frozen=True):
    """The program that a virtual environment only links to."""

    path: str
    version: str
    entry: Entry
    digest: str


class Stored(msgspec.Struct, frozen=True):
    """`environment.json`."""

    environment: Environment
    roots: list[FrozenRoot] = []
    interpreter: Interpreter | None = None
    base_prefix: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """`manifest.json` and the index: for each root its entries and, in the same order, the digests of files (else empty)."""

    digest: str
    entries: list[list[Entry]]
    digests: list[list[str]]


def environment_store(data_dir: Path) -> Path:
    """The directory of all frozen environments, made if missing. Raises OSError."""
    store = data_dir / "environments"
    (store / "index").mkdir(mode=0o700, parents=True, exist_ok=True)
    return store


def is_stored(store: Path, digest: str) -> bool:
    """Whether an environment is there, completely."""
    return (store / digest / "environment.json").is_file()


def skipped(root: Root, data_dir: Path, project: Path | None) -> list[str]:
    """Paths in a root that are no part of it: our own store, the project, what a server writes while it runs."""
    skip = [os.path.realpath(data_dir), *(f"{root.path}/{name}" for name in _VOLATILE)]
    if project and root.kind == "source":
        skip.append(os.path.realpath(project))
    return skip


def load_environment(data_dir: Path, digest: str) -> Environment:
    """A frozen environment. Raises NotFound."""
    return stored_environment(data_dir, digest).environment


def stored_environment(data_dir: Path, digest: str) -> Stored:
    """Everything that is kept of a frozen environment but its manifest. Raises NotFound."""
    try:
        return msgspec.json.decode((data_dir / "environments" / digest / "environment.json").read_bytes(), type=Stored)
    except FileNotFoundError:
        raise NotFound(
            f"The environment {digest[:12]} is not in the store.",
            code="environment_not_found",
            mend="Make the job again: that freezes the environment as it is now.",
        ) from None


def roots(data_dir: Path, digest: str) -> list[tuple[str, str]]:
    """The frozen directories: original absolute path, path of the clone. Empty where the environment is only recorded. Raises NotFound."""
    tree = data_dir / "environments" / digest / "tree"
    return [(one.root.path, f"{tree}{one.root.path}") for one in stored_environment(data_dir, digest).roots if one.mode != "recorded"]


def place_of(data_dir: Path, digest: str, one: FrozenRoot) -> str:
    """Where the files of a root are that runs see: its clone, or the original where it is only recorded."""
    return one.root.path if one.mode == "recorded" else f"{data_dir / 'environments' / digest / 'tree'}{one.root.path}"


def read_manifest(data_dir: Path, digest: str) -> Manifest:
    """What was frozen, file by file. Raises NotFound."""
    manifest = load_manifest(data_dir / "environments" / digest / "manifest.json")
    if manifest is None:
        raise NotFound(f"The environment {digest[:12]} is not in the store.", code="environment_not_found")
    return manifest


def write_manifest(data_dir: Path, manifest: Manifest) -> None:
    """Keep what stat says now, where the content was found unchanged. Raises OSError."""
    write_struct(data_dir / "environments" / manifest.digest / "manifest.json", manifest)


def load_manifest(path: Path) -> Manifest | None:
    """A manifest or an index; None where there is none. Raises OSError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None


def write_struct(path: Path, value: msgspec.Struct) -> None:
    """Write a struct as JSON, atomically. Raises OSError."""
    # a name of its own: several threads of a server may freeze one environment
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(value))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
