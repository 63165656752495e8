"""Freezing real virtual environments and finding what became of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jupyter_jobs.errors import BadInput, NotFound
from jupyter_jobs.model import Environment, KernelInfo
from jupyter_jobs.snapshot import roots as roots_of
from jupyter_jobs.snapshot.environment import freeze_environment, load_environment, preview_environment, roots, verify_environment
from tests.venvs import build_wheel, install, kernel_of, make_venv, pip, unpack

LIMIT = 1 << 30


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    place = tmp_path / "data" / "jobs"
    place.mkdir(parents=True)
    return place


@pytest.fixture
def python(tmp_path: Path) -> Path:
    return make_venv(tmp_path / "venv")


def site_of(venv: Path) -> Path:
    return next(venv.glob("lib/python*/site-packages"))


def freeze(data_dir: Path, python: Path, **more: object) -> Environment:
    return freeze_environment(data_dir, kernel_of(python), copy_max_bytes=LIMIT, **({"project": None} | more))  # type: ignore[arg-type]


def cloned(data_dir: Path, environment: Environment, original: Path) -> Path:
    return Path(dict(roots(data_dir, environment.digest))[os.path.realpath(original)])


def test_what_is_frozen(data_dir: Path, python: Path, tmp_path: Path) -> None:
    install(python, build_wheel(tmp_path, "xpack", "1.0", {"xpack.py": "V = 1\n"}, command="xcmd"))
    site = site_of(tmp_path / "venv")
    (site / "__pycache__").mkdir()
    (site / "__pycache__" / "xpack.cpython-311.pyc").write_bytes(b"compiled")
    environment = freeze(data_dir, python)
    clone = cloned(data_dir, environment, tmp_path / "venv")
    assert environment.prefix == str(tmp_path / "venv")
    assert environment.python == ".".join(map(str, sys.version_info[:3]))
    assert [(one.name, one.version, one.frozen) for one in environment.distributions] == [("xpack", "1.0", True)]
    assert (clone / "bin" / "python").is_symlink()
    assert (clone / "bin" / "xcmd").stat().st_mode & 0o111
    assert (clone / site.relative_to(tmp_path / "venv") / "__pycache__" / "xpack.cpython-311.pyc").read_bytes() == b"compiled"
    assert load_environment(data_dir, environment.digest) == environment
    assert verify_environment(data_dir, environment.digest) == []
    if environment.mode == "hardlink":
        assert (site / "xpack.py").samefile(clone / site.relative_to(tmp_path / "venv") / "xpack.py")


def test_an_unchanged_environment_is_found_again(data_dir: Path, python: Path, tmp_path: Path) -> None:
    unpack(python, build_wheel(tmp_path, "xpack", "1.0", {"xpack.py": "V = 1\n"}))
    first = freeze(data_dir, python)
    index = list((data_dir / "environments" / "index").iterdir())
    stamp = index[0].stat().st_mtime_ns
    # a compiled cache is no change
    subprocess.run([python, "-c", "import xpack"], check=True)
    assert freeze(data_dir, python) == first
    assert index[0].stat().st_mtime_ns == stamp, "an unchanged environment needs a walk and nothing else"
    # other inodes, same content
    copy = site_of(tmp_path / "venv") / "xpack.py"
    copy.write_bytes((copy.rename(tmp_path / "moved")).read_bytes())
    assert freeze(data_dir, python).digest == first.digest
    assert sorted(entry.name for entry in (data_dir / "environments").iterdir()) == sorted([first.digest, "index"])


def test_upgraded_removed_and_overwritten(data_dir: Path, python: Path, tmp_path: Path) -> None:
    unpack(
        python,
        build_wheel(tmp_path, "xpack", "1.0", {"xpack.py": "V = 1\n"}),
        build_wheel(tmp_path, "ypack", "1.0", {"ypack.py": "V = 1\n"}),
        build_wheel(tmp_path, "zpack", "1.0", {"zpack.py": "V = 1\n"}),
    )
    site = site_of(tmp_path / "venv")
    (site / "unlisted.py").write_text("V = 1\n")
    first = freeze(data_dir, python)
    clone = cloned(data_dir, first, tmp_path / "venv") / site.relative_to(tmp_path / "venv")
    install(python, build_wheel(tmp_path, "xpack", "2.0", {"xpack.py": "V = 2\n"}))
    pip(python, "uninstall", "-y", "ypack")
    # nobody's file: copied, so an editor cannot reach the clone
    (site / "unlisted.py").write_text("V = 2\n")
    assert verify_environment(data_dir, first.digest) == []
    assert [(clone / f"{name}.py").read_text() for name in ("xpack", "ypack", "unlisted")] == ["V = 1\n"] * 3
    second = freeze(data_dir, python)
    assert second.digest != first.digest
    assert {one.name: one.version for one in second.distributions} == {"xpack": "2.0", "zpack": "1.0"}
    assert verify_environment(data_dir, first.digest) == []

    (site / "zpack.py").write_text("V = 2\n")
    findings = verify_environment(data_dir, first.digest)
    if first.mode == "hardlink":
        assert [(one.code, one.level, one.path) for one in findings] == [("environment_drifted", "error", str(site / "zpack.py"))]
        assert "zpack 1.0" in findings[0].message
        assert "overwritten in place" in findings[0].message
        assert verify_environment(data_dir, first.digest) == findings, "it stays drifted"
        (site / "zpack.py").write_text("V = 1\n")
        assert verify_environment(data_dir, first.digest) == []
    else:
        assert findings == []


def test_a_touched_file_is_hashed_once_and_no_drift(data_dir: Path, python: Path, tmp_path: Path) -> None:
    unpack(python, build_wheel(tmp_path, "xpack", "1.0", {"xpack.py": "V = 1\n"}))
    environment = freeze(data_dir, python)
    manifest = data_dir / "environments" / environment.digest / "manifest.json"
    before = manifest.read_bytes()
    (site_of(tmp_path / "venv") / "xpack.py").touch()
    assert verify_environment(data_dir, environment.digest) == []
    after = manifest.read_bytes()
    if environment.mode == "hardlink":
        assert after != before
    assert verify_environment(data_dir, environment.digest) == []
    assert manifest.read_bytes() == after


def test_a_clone_that_lost_a_file(data_dir: Path, python: Path, tmp_path: Path) -> None:
    environment = freeze(data_dir, python)
    (cloned(data_dir, environment, tmp_path / "venv") / "pyvenv.cfg").unlink()
    findings = verify_environment(data_dir, environment.digest)
    assert [one.path for one in findings] == [str(tmp_path / "venv" / "pyvenv.cfg")]


def test_only_recorded(data_dir: Path, python: Path, tmp_path: Path) -> None:
    unpack(python, build_wheel(tmp_path, "xpack", "1.0", {"xpack.py": "V = 1\n"}), build_wheel(tmp_path, "ypack", "1.0", {"ypack.py": "V = 1\n"}))
    site = site_of(tmp_path / "venv")
    environment = freeze(data_dir, python, freeze=False)
    assert environment.mode == "recorded"
    assert roots(data_dir, environment.digest) == []
    assert verify_environment(data_dir, environment.digest) == []
    (site / "xpack.py").write_text("V = 2\n")
    (site / "shadow.py").write_text("")
    told = verify_environment(data_dir, environment.digest)
    assert sorted(one.path for one in told) == [str(site / "shadow.py"), str(site / "xpack.py")]
    install(python, build_wheel(tmp_path, "xpack", "2.0", {"xpack.py": "V = 3\n"}))
    pip(python, "uninstall", "-y", "ypack")
    messages = " ".join(one.message for one in verify_environment(data_dir, environment.digest))
    assert "xpack was 1.0" in messages
    assert "is 2.0 now" in messages
    assert "ypack 1.0 has been uninstalled" in messages


def other_file_system(tmp_path: Path) -> Path | None:
    shm = Path("/dev/shm")
    return shm if shm.is_dir() and os.access(shm, os.W_OK) and shm.stat().st_dev != tmp_path.stat().st_dev else None


def test_another_file_system_means_copying_up_to_a_limit(python: Path, tmp_path: Path) -> None:
    shm = other_file_system(tmp_path)
    if shm is None:
        pytest.skip("no second file system that can be written")
    unpack(python, build_wheel(tmp_path, "xpack", "1.0", {"xpack.py": "V = 1\n"}))
    data_dir = shm / f"jupyter-jobs-test-{os.getpid()}"
    data_dir.mkdir()
    try:
        environment = freeze(data_dir, python)
        assert environment.mode == "copy"
        (site_of(tmp_path / "venv") / "xpack.py").write_text("V = 2\n")
        assert verify_environment(data_dir, environment.digest) == []
        assert preview_environment(data_dir, kernel_of(python), copy_max_bytes=100).mode == "recorded"
        small = freeze_environment(data_dir, kernel_of(python), copy_max_bytes=100, project=None)
        assert small.mode == "recorded"
        assert "environment_recorded" in [one.code for one in small.notes]
        assert roots(data_dir, small.digest) == []
    finally:
        shutil.rmtree(data_dir)


def test_several_at_once_make_one(data_dir: Path, python: Path, tmp_path: Path) -> None:
    unpack(python, build_wheel(tmp_path, "xpack", "1.0", {f"xpack/m{number}.py": "V = 1\n" for number in range(200)}))
    with ThreadPoolExecutor(4) as pool:
        digests = {environment.digest for environment in pool.map(lambda _: freeze(data_dir, python), range(4))}
    assert len(digests) == 1
    assert sorted(entry.name for entry in (data_dir / "environments").iterdir()) == sorted([*digests, "index"])
    assert verify_environment(data_dir, digests.pop()) == []


def test_preview(data_dir: Path, python: Path, tmp_path: Path) -> None:
    unpack(python, build_wheel(tmp_path, "xpack", "1.0", {"xpack.py": "V = 1\n"}))
    preview = preview_environment(data_dir, kernel_of(python), copy_max_bytes=LIMIT)
    assert (preview.prefix, preview.distributions, preview.findings) == (str(tmp_path / "venv"), 1, [])
    assert preview.mode == freeze(data_dir, python).mode
    assert preview_environment(data_dir, kernel_of(python), copy_max_bytes=LIMIT, freeze=False).mode == "recorded"


def test_other_languages_and_dead_pythons(data_dir: Path, tmp_path: Path) -> None:
    other = KernelInfo(name="ir", display_name="R", language="R", argv=["/usr/bin/R", "--slave", "-e", "IRkernel::main()"])
    environment = freeze_environment(data_dir, other, copy_max_bytes=LIMIT, project=None)
    assert environment.mode == "none"
    assert [one.code for one in environment.notes] == ["environment_not_python"]
    assert load_environment(data_dir, environment.digest) == environment
    assert verify_environment(data_dir, environment.digest) == []
    broken = tmp_path / "python3"
    broken.write_text("#!/bin/sh\necho 'no such thing' >&2\nexit 1\n")
    broken.chmod(0o755)
    for program, reason in ((broken, "no such thing"), (tmp_path / "gone" / "python", "not there")):
        with pytest.raises(BadInput, match=reason) as caught:
            freeze(data_dir, program)
        assert caught.value.code == "environment_unreadable"
    with pytest.raises(NotFound):
        load_environment(data_dir, "0" * 64)


def test_the_interpreter_below_a_virtual_environment(data_dir: Path, tmp_path: Path) -> None:
    base = tmp_path / "base" / "python3"
    base.parent.mkdir()
    shutil.copy(os.path.realpath(sys.executable), base)
    python = make_venv(tmp_path / "venv")
    (tmp_path / "venv" / "bin" / "python").unlink()
    (tmp_path / "venv" / "bin" / "python").symlink_to(base)
    environment = freeze(data_dir, python)
    base.touch()
    assert verify_environment(data_dir, environment.digest) == []
    with base.open("ab") as file:
        file.write(b"patched")
    assert [(one.code, one.level) for one in verify_environment(data_dir, environment.digest)] == [("interpreter_changed", "warning")]
    base.unlink()
    assert [(one.code, one.level) for one in verify_environment(data_dir, environment.digest)] == [("interpreter_missing", "error")]


def test_a_conda_like_prefix(data_dir: Path, tmp_path: Path) -> None:
    """Its own interpreter, records in conda-meta, other environments and the package cache inside."""
    base = Path(sys.base_prefix)
    prefix = tmp_path / "conda"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    (prefix / "lib").mkdir(parents=True)
    (prefix / "bin").mkdir()
    shutil.copy(os.path.realpath(sys.executable), prefix / "bin" / "python")
    for library in base.glob("lib/libpython*"):
        shutil.copy(library, prefix / "lib", follow_symlinks=False)
    shutil.copytree(
        Path(os.__file__).parent,
        prefix / "lib" / version,
        ignore=lambda folder, names: [
            name for name in names if name in ("site-packages", "dist-packages", "test", "idlelib", "tkinter", "__pycache__")
        ],
        symlinks=True,
    )
    # Debian's own interpreter looks into dist-packages
    ask = [prefix / "bin" / "python", "-c", "import site; print(site.getsitepackages()[-1])"]
    site = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
    site.mkdir(exist_ok=True)
    (site / "listed.py").write_text("V = 1\n")
    (prefix / "conda-meta").mkdir()
    record = {"name": "listed", "files": [str((site / "listed.py").relative_to(prefix))]}
    (prefix / "conda-meta" / "listed-1.0-0.json").write_text(json.dumps(record))
    for inside in ("pkgs/cache", "envs/other/conda-meta"):
        (prefix / inside).mkdir(parents=True)
        (prefix / inside / "large").write_text("x")
    environment = freeze(data_dir, prefix / "bin" / "python")
    assert [root for root, _ in roots(data_dir, environment.digest)] == [str(prefix)]
    clone = cloned(data_dir, environment, prefix)
    assert not (clone / "pkgs").exists()
    assert not (clone / "envs").exists()
    said = subprocess.run(
        [clone / "bin" / "python", "-c", "import listed, sys; print(listed.V, sys.prefix)"], capture_output=True, text=True, check=True
    )
    assert said.stdout == f"1 {clone}\n"


@pytest.mark.parametrize(
    ("argv", "head"),
    [
        (["/v/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"], ["/v/bin/python"]),
        (["/v/bin/python3.12", "-Xfrozen_modules=off", "-m", "ipykernel_launcher"], ["/v/bin/python3.12", "-Xfrozen_modules=off"]),
        (
            ["/c/bin/python", "-m", "nb_conda_kernels.runner", "/c", "/c/envs/x", "/c/envs/x/bin/python", "-m", "ipykernel_launcher"],
            ["/c/bin/python", "-m", "nb_conda_kernels.runner", "/c", "/c/envs/x", "/c/envs/x/bin/python"],
        ),
        (["/c/bin/conda", "run", "-n", "x", "python", "-m", "ipykernel_launcher"], ["/c/bin/conda", "run", "-n", "x", "python"]),
        (["/v/bin/python", "/v/start.py", "{connection_file}"], ["/v/bin/python"]),
        (["/bin/bash", "-c", "exec python -m ipykernel_launcher"], None),
        (["/usr/bin/R", "-e", "IRkernel::main()"], None),
    ],
)
def test_how_a_kernel_starts_its_python(argv: list[str], head: list[str] | None) -> None:
    assert roots_of.python_command(KernelInfo(name="k", display_name="K", language="python", argv=argv)) == head
