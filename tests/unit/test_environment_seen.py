"""What is remembered of an environment spares walking it, and hides nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jupyter_jobs.model import Environment
from jupyter_jobs.snapshot import seen
from jupyter_jobs.snapshot.environment import freeze_environment, roots, verify_environment
from tests.venvs import kernel_of, make_venv

LIMIT = 1 << 30


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    place = tmp_path / "data" / "jobs"
    place.mkdir(parents=True)
    return place


@pytest.fixture
def python(tmp_path: Path) -> Path:
    python = make_venv(tmp_path / "venv")
    site = site_of(tmp_path)
    (site / "pack").mkdir()
    (site / "pack" / "module.py").write_text("V = 1\n")
    (site / "other.py").write_text("V = 1\n")
    (site / "link.py").symlink_to("other.py")
    return python


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the environment had been made a while ago."""
    monkeypatch.setattr(seen, "now_ns", lambda: time.time_ns() + 60 * 10**9)


def site_of(tmp_path: Path) -> Path:
    return next((tmp_path / "venv").glob("lib/python*/site-packages"))


def freeze(data_dir: Path, python: Path, *, whole: bool = True) -> Environment:
    return freeze_environment(data_dir, kernel_of(python), copy_max_bytes=LIMIT, freeze=whole, project=None)


def remembered(data_dir: Path) -> list[Path]:
    return list((data_dir / "environments" / "index").glob("*.seen"))


def replace(file: Path) -> None:
    file.rename(file.with_name("moved"))
    file.write_text("V = 2\n")
    file.with_name("moved").unlink()


def overwrite(file: Path) -> None:
    """In place, same size, with the old time of change."""
    before = file.stat()
    file.write_text("V = 2\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def relink(file: Path) -> None:
    file.unlink()
    file.symlink_to("pack/module.py")


CHANGES: dict[str, Callable[[Path], object]] = {
    "overwritten": lambda site: overwrite(site / "pack" / "module.py"),
    "replaced": lambda site: replace(site / "other.py"),
    "new": lambda site: (site / "pack" / "new.py").write_text(""),
    "new folder": lambda site: (site / "pack" / "inner").mkdir(),
    "gone": lambda site: (site / "other.py").unlink(),
    "another link": lambda site: relink(site / "link.py"),
    "mode": lambda site: (site / "other.py").chmod(0o755),
}


@pytest.mark.usefixtures("later")
def test_an_unchanged_environment_is_not_even_walked(data_dir: Path, python: Path) -> None:
    first = freeze(data_dir, python)
    (index,) = (data_dir / "environments" / "index").glob("*.json")
    index.unlink()
    assert freeze(data_dir, python) == first
    assert not index.exists(), "what a walk finds would be kept there"


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_noticed(data_dir: Path, python: Path, tmp_path: Path, change: str) -> None:
    first = freeze(data_dir, python)
    assert remembered(data_dir)
    CHANGES[change](site_of(tmp_path))
    assert freeze(data_dir, python).digest != first.digest


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("change", ["overwritten", "replaced", "new", "gone", "another link", "mode"])
def test_every_drift_is_noticed(data_dir: Path, python: Path, tmp_path: Path, change: str) -> None:
    environment = freeze(data_dir, python, whole=False)
    assert verify_environment(data_dir, environment.digest) == []
    kept = data_dir / "environments" / environment.digest / "seen"
    stamp = kept.stat().st_mtime_ns
    assert verify_environment(data_dir, environment.digest) == []
    assert kept.stat().st_mtime_ns == stamp, "nothing to remember anew"
    CHANGES[change](site_of(tmp_path))
    assert [finding.code for finding in verify_environment(data_dir, environment.digest)] == ["environment_drifted"]


@pytest.mark.usefixtures("later")
def test_a_clone_is_looked_at_itself(data_dir: Path, python: Path, tmp_path: Path) -> None:
    environment = freeze(data_dir, python)
    assert verify_environment(data_dir, environment.digest) == []
    clone = Path(dict(roots(data_dir, environment.digest))[os.path.realpath(tmp_path / "venv")])
    module = clone / site_of(tmp_path).relative_to(tmp_path / "venv") / "other.py"
    overwrite(module)
    (finding,) = verify_environment(data_dir, environment.digest)
    assert finding.path.endswith("/other.py")


def test_what_changed_just_now_is_not_believed(data_dir: Path, python: Path) -> None:
    first = freeze(data_dir, python)
    assert remembered(data_dir) == []
    assert freeze(data_dir, python) == first


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"{}"])
def test_a_damaged_memory_is_none(data_dir: Path, python: Path, content: bytes) -> None:
    first = freeze(data_dir, python)
    (file,) = remembered(data_dir)
    whole = file.read_bytes()
    for damaged in (content, whole[: len(whole) // 2]):
        file.write_bytes(damaged)
        assert freeze(data_dir, python) == first
