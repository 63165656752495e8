"""Kernelspecs, resolved where a job is made: to an absolute argv, their own variables and their language."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Protocol

import msgspec

from jupyter_jobs.errors import BadInput
from jupyter_jobs.model import Finding, KernelInfo

if TYPE_CHECKING:
    from jupyter_client.kernelspec import KernelSpecManager

_OURS = frozenset({"python", f"python{sys.version_info[0]}", f"python{sys.version_info[0]}.{sys.version_info[1]}"})
NATIVE = "python3"
_FIELD = re.compile(r"\{([A-Za-z0-9_]+)\}")


class KernelSpec(Protocol):
    """What we need of a kernelspec."""

    argv: list[str]
    display_name: str
    language: str
    env: dict[str, str]
    interrupt_mode: str
    resource_dir: str


class KernelSpecs(Protocol):
    """What we need of a `KernelSpecManager`."""

    def find_kernel_specs(self) -> dict[str, str]:
        """The folders of all kernels by name."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Raises `NoSuchKernel`, which is a KeyError, and whatever a broken kernel.json makes it raise."""


class LocalKernelSpecs:
    """The kernels that `KernelSpecManager` finds where nothing is configured. It is asked itself, which takes a fifth of a second because it brings
    zmq and IPython along, only where the kernels' folders do not say it all."""

    def find_kernel_specs(self) -> dict[str, str]:
        found = self._folders
        theirs = Path(os.environ.get("IPYTHONDIR") or "~/.ipython").expanduser() / "kernels"
        return found if NATIVE in found and not theirs.is_dir() else self._manager.find_kernel_specs()

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        folder = self._folders.get(kernel_name.lower())
        try:
            plain = msgspec.json.decode(Path(folder, "kernel.json").read_bytes(), type=_PlainSpec) if folder else None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            plain = None
        if folder is None or plain is None or plain.interrupt_mode not in ("signal", "message") or "kernel_provisioner" in plain.metadata:
            return self._manager.get_kernel_spec(kernel_name)
        plain.resource_dir = folder
        return plain

    @cached_property
    def _folders(self) -> dict[str, str]:
        from jupyter_core.paths import jupyter_path

        found: dict[str, str] = {}
        for place in map(Path, jupyter_path("kernels")):
            for folder in place.iterdir() if place.is_dir() else ():
                if (folder / "kernel.json").is_file():
                    found.setdefault(folder.name.lower(), str(folder))
        return found

    @cached_property
    def _manager(self) -> KernelSpecManager:
        from jupyter_client.kernelspec import KernelSpecManager

        return KernelSpecManager()


class _PlainSpec(msgspec.Struct):
    argv: list[str]
    display_name: str = ""
    language: str = ""
    env: dict[str, str] = {}
    interrupt_mode: str = "signal"
    metadata: dict[str, object] = {}
    resource_dir: str = ""


def resolve_kernel(specs: KernelSpecs, name: str, language: str = "") -> KernelInfo:
    """The kernel `name`; with an empty name the first of `language` (default `python`), the server's default kernel before others.

    `{connection_file}` stays in argv. `${VARIABLE}` stays in `env`: what it stands for is a value of the submitter's. A bare `python` means this
    process's interpreter, as everywhere in Jupyter; other bare names are looked for in PATH. Raises BadInput: `kernel_not_found` lists what there is,
    `kernel_executable_missing` names the program that is not there, `kernel_spec_invalid` a spec that cannot be read.
    """
    if not name:
        return _by_language(specs, language or "python")
    try:
        spec = specs.get_kernel_spec(name)
    except KeyError:
        raise _not_found(specs, f"There is no kernel named {name!r} here.") from None
    except (ValueError, OSError, AttributeError, TypeError) as error:
        raise BadInput(
            f"The kernelspec {name!r} cannot be read: {error}.",
            code="kernel_spec_invalid",
            mend="Mend its kernel.json, or remove it with `jupyter kernelspec remove`.",
            field="kernel",
        ) from error
    return _info(name, spec)


def list_kernels(specs: KernelSpecs) -> list[KernelInfo]:
    """All kernels that could be started here, by display name; those whose program or kernel.json is broken are left out."""
    found = []
    for name in sorted(specs.find_kernel_specs()):
        try:
            found.append(resolve_kernel(specs, name))
        except BadInput:
            continue
    return sorted(found, key=lambda kernel: (kernel.display_name.casefold(), kernel.name))


def kernel_for(specs: KernelSpecs, metadata: Mapping[str, object]) -> tuple[KernelInfo, list[Finding]]:
    """The kernel that a notebook's metadata name, or one of the same language where that name does not exist here (then with a finding).

    Raises BadInput `kernel_not_found` where there is none of its language either.
    """
    kernelspec, language_info = metadata.get("kernelspec"), metadata.get("language_info")
    name, language = "", ""
    if isinstance(kernelspec, Mapping):
        name, language = str(kernelspec.get("name") or ""), str(kernelspec.get("language") or "")
    if not language and isinstance(language_info, Mapping):
        language = str(language_info.get("name") or "")
    if name and name in specs.find_kernel_specs():
        return resolve_kernel(specs, name), []
    kernel = _by_language(specs, language or "python", wanted=name)
    if not name:
        return kernel, []
    finding = Finding(
        code="kernel_replaced",
        level="warning",
        message=f"The notebook asks for the kernel {name!r}, which does not exist here; {kernel.display_name} ({kernel.name}) is used.",
        mend="Choose another kernel if this is not the right one.",
        field="kernel",
    )
    return kernel, [finding]


def _by_language(specs: KernelSpecs, language: str, wanted: str = "") -> KernelInfo:
    asked = language.casefold()
    kernels = [kernel for kernel in list_kernels(specs) if kernel.language.casefold() == asked]
    if not kernels:
        raise _not_found(
            specs, f"There is no kernel named {wanted!r} here and no other {language} kernel." if wanted else f"There is no {language} kernel."
        )
    default = getattr(specs, "default_kernel_name", "") or f"python{sys.version_info[0]}"
    return min(kernels, key=lambda kernel: (kernel.name not in (default, f"python{sys.version_info[0]}"), kernel.name))


def _not_found(specs: KernelSpecs, message: str) -> BadInput:
    names = sorted(specs.find_kernel_specs())
    there = f"There are: {', '.join(names)}." if names else "There are none at all: `python -m ipykernel install --user` makes one."
    return BadInput(f"{message} {there}", code="kernel_not_found", mend="Choose one of them, or install the kernel.", field="kernel", kernels=names)


def _info(name: str, spec: KernelSpec) -> KernelInfo:
    values = {"prefix": sys.prefix, "resource_dir": spec.resource_dir}
    argv = [_FIELD.sub(lambda match: values.get(match.group(1), match.group()), str(part)) for part in spec.argv]
    if not argv:
        raise BadInput(f"The kernelspec {name!r} has no argv.", code="kernel_spec_invalid", mend="Mend its kernel.json.", field="kernel")
    argv[0] = _program(name, argv[0], spec.env)
    return KernelInfo(
        name=name,
        display_name=spec.display_name or name,
        language=spec.language,
        argv=argv,
        env={str(key): str(value) for key, value in spec.env.items()},
        interrupt_mode="message" if spec.interrupt_mode == "message" else "signal",
        resource_dir=spec.resource_dir,
    )


def _program(name: str, program: str, variables: Mapping[str, str]) -> str:
    if program in _OURS:
        return sys.executable
    path = Template(variables.get("PATH", os.environ.get("PATH", os.defpath))).safe_substitute(os.environ)
    found = shutil.which(program, path=path)
    if not found:
        raise BadInput(
            f"The kernel {name!r} starts with {program}, which is not there or cannot be executed.",
            code="kernel_executable_missing",
            mend="Install it again, or choose another kernel.",
            field="kernel",
        )
    # not resolved: a virtual environment's python is a link, and its place is what makes it that environment's
    return str(Path(found).absolute())
