"""Real virtual environments and real wheels, made without a network; and whether this machine allows overlays."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from jupyter_jobs.model import KernelInfo


def build_wheel(folder: Path, name: str, version: str, files: dict[str, str], command: str = "") -> Path:
    """A pure Python wheel of `files` (path → text); `command` makes a script of that name that calls `<name>:main`."""
    info = f"{name}-{version}.dist-info"
    content = dict(files)
    content[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    content[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    if command:
        content[f"{info}/entry_points.txt"] = f"[console_scripts]\n{command} = {name}:main\n"
    record = ""
    for path, text in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    content[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)
    return wheel


def make_venv(place: Path, *, pip: bool = False, python: str = sys.executable) -> Path:
    """A virtual environment; returns its python."""
    subprocess.run([python, "-m", "venv", *([] if pip else ["--without-pip"]), str(place)], check=True, capture_output=True)
    return place / "bin" / "python"


def pip(python: Path, *arguments: str) -> None:
    """Run the tests' own pip on another environment, without a network."""
    command = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "-q", *arguments]
    subprocess.run(command, check=True, capture_output=True)


def unpack(python: Path, *wheels: Path) -> None:
    """Put wheels without commands into an environment that has none of them yet; a second quicker than pip."""
    site = next(python.parent.parent.glob("lib/python*/site-packages"))
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)


def install(python: Path, *wheels: Path) -> None:
    pip(python, "install", "--no-index", "--no-deps", "--no-compile", *map(str, wheels))


def why_no_overlays(folder: Path) -> str:
    """Why overlays cannot be mounted in a folder, asked of util-linux and not of ourselves; empty where they can."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        for name in ("lower", "upper", "work", "merged"):
            Path(place, name).mkdir()
        options = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work"
        script = f"mount -t overlay overlay -o {options} {place}/merged || mount -t overlay overlay -o {options},userxattr {place}/merged"
        said = ""
        for enter in (["unshare", "-m"], ["unshare", "-U", "--map-current-user", "--keep-caps", "-m"]):
            done = subprocess.run([*enter, "sh", "-c", script], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return ""
            said = done.stderr.strip() or f"exit code {done.returncode}"
        return said


def kernel_of(python: Path, name: str = "tested") -> KernelInfo:
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    return KernelInfo(name=name, display_name="Tested", language="python", argv=argv)
