"""Virtual environments for the contenders, ours included, made once below `.cache/bench` with the versions of everything that this one has.

Each has a Jupyter server, as ours needs one. What jsonschema then finds, `rfc3987_syntax`, costs a process seconds to import; with `without` a
peer's processes do not find it. Ours is installed as a package: of an editable one the sources are frozen too, and they change.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

CACHE = Path(".cache/bench").absolute()
COMMON = ["jupyter_server", "ipykernel", "pandas", "matplotlib", "papermill"]
SCHEDULER = "jupyter-scheduler==2.12.1"
KEPT_OUT = "BENCH_WITHOUT_RFC3987"
PTH = f"import os, sys; os.environ.get('{KEPT_OUT}') and sys.modules.__setitem__('rfc3987_syntax', None)\n"
SECONDS = 600
"""Installing takes no longer."""


def make_environments() -> None:
    """Those that are not there yet, some minutes the first time; and this checkout, as it is now, in ours."""
    CACHE.mkdir(parents=True, exist_ok=True)
    constraints = CACHE / "constraints.txt"
    versions = {distribution.name: distribution.version for distribution in metadata.distributions()}
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in sorted(versions.items()) if name != "jupyter_jobs"))
    needed = [line for line in metadata.requires("jupyter_jobs") or [] if "extra ==" not in line]
    for name, more in (("papermill", []), ("jupyter-scheduler", [SCHEDULER]), ("ours", needed)):
        ready = CACHE / name / "ready"
        if ready.exists() and ready.read_text() == constraints.read_text():
            continue
        print(f"making the environment of {name} …", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(CACHE / name)], check=True)
        pip(name, "-c", str(constraints), *COMMON, *more)
        (site,) = (CACHE / name / "lib").glob("python*/site-packages")
        (site / "without_rfc3987.pth").write_text(PTH)
        ready.write_text(constraints.read_text())
    # what the labextension's build made is taken as it is
    build = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation", "--wheel-dir", str(CACHE / "wheel"), "."]
    subprocess.run(build, check=True, timeout=SECONDS, env=os.environ | {"HATCH_BUILD_NO_HOOKS": "true"})
    (wheel,) = (CACHE / "wheel").glob("jupyter_jobs-*.whl")
    pip("ours", "--no-deps", "--force-reinstall", str(wheel))


def pip(name: str, *arguments: str) -> None:
    subprocess.run([str(python(name)), "-m", "pip", "install", "-qq", *arguments], check=True, timeout=SECONDS)


def python(name: str) -> Path:
    return CACHE / name / "bin" / "python"


def variables(place: Path, name: str, *, without: bool = False) -> dict[str, str]:
    """What a contender's processes find: a home of its own, and nothing of this process's Jupyter."""
    left_out = ("JUPYTER", "JPY_", "VIRTUAL_ENV", "PYTHON", "XDG_")
    found = {variable: value for variable, value in os.environ.items() if not variable.startswith(left_out)}
    found |= {f"JUPYTER_{folder}_DIR": str(place / folder.lower()) for folder in ("CONFIG", "DATA", "RUNTIME")} | {"HOME": str(place)}
    return found | {"PATH": f"{python(name).parent}:{found['PATH']}"} | ({KEPT_OUT: "1"} if without else {})
