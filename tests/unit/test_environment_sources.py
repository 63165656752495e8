"""Editable installs, `.pth` files and PYTHONPATH: code that lies outside the environment is frozen with it, or the job says that it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jupyter_jobs.model import Environment
from jupyter_jobs.snapshot.environment import freeze_environment, preview_environment, roots, verify_environment
from tests.venvs import kernel_of, make_venv

LIMIT = 1 << 20


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    place = tmp_path / "data" / "jobs"
    place.mkdir(parents=True)
    return place


@pytest.fixture
def python(tmp_path: Path) -> Path:
    return make_venv(tmp_path / "venv")


@pytest.fixture
def site(python: Path) -> Path:
    return next(python.parent.parent.glob("lib/python*/site-packages"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    package = tmp_path / "work" / "mylib" / "src" / "mylib"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("V = 1\n")
    (tmp_path / "work" / "mylib" / ".git").mkdir()
    (tmp_path / "work" / "mylib" / ".git" / "HEAD").write_text("ref")
    return package


def editable(site: Path, project: Path, name: str = "mylib") -> None:
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "direct_url.json").write_text(json.dumps({"url": project.as_uri(), "dir_info": {"editable": True}}))


def freeze(data_dir: Path, python: Path, project: Path | None = None) -> Environment:
    return freeze_environment(data_dir, kernel_of(python), copy_max_bytes=LIMIT, project=project)


def source_roots(data_dir: Path, environment: Environment) -> dict[str, str]:
    return {root: clone for root, clone in roots(data_dir, environment.digest) if root != environment.prefix}


def test_a_pth_editable_is_frozen_by_copy(data_dir: Path, python: Path, site: Path, source: Path) -> None:
    editable(site, source.parents[1])
    (site / "__editable__.mylib-1.0.pth").write_text(f"{source.parent}\n")
    environment = freeze(data_dir, python)
    found = source_roots(data_dir, environment)
    assert list(found) == [str(source.parent)]
    assert [(one.name, one.editable, one.frozen) for one in environment.distributions] == [("mylib", str(source.parents[1]), True)]
    assert environment.notes == []
    (source / "__init__.py").write_text("V = 2\n")
    assert Path(found[str(source.parent)], "mylib", "__init__.py").read_text() == "V = 1\n"
    assert verify_environment(data_dir, environment.digest) == []
    assert freeze(data_dir, python).digest != environment.digest


def test_an_import_hook_is_followed(data_dir: Path, python: Path, site: Path, source: Path) -> None:
    editable(site, source.parents[1])
    hook = f"from __future__ import annotations\nMAPPING: dict[str, str] = {{'mylib': {str(source)!r}}}\n"
    (site / "__editable___mylib_1_0_finder.py").write_text(hook)
    (site / "__editable__.mylib-1.0.pth").write_text("import __editable___mylib_1_0_finder\n")
    environment = freeze(data_dir, python)
    found = source_roots(data_dir, environment)
    assert list(found) == [str(source)]
    assert Path(found[str(source)], "__init__.py").read_text() == "V = 1\n"
    assert [one.frozen for one in environment.distributions] == [True]


def test_an_egg_link(data_dir: Path, python: Path, site: Path, source: Path) -> None:
    folder = source.parent
    (folder / "mylib.egg-info").mkdir()
    (folder / "mylib.egg-info" / "PKG-INFO").write_text("Metadata-Version: 1.0\nName: mylib\nVersion: 1.0\n")
    (site / "mylib.egg-link").write_text(f"{folder}\n.")
    (site / "easy-install.pth").write_text(f"{folder}\n")
    environment = freeze(data_dir, python)
    assert list(source_roots(data_dir, environment)) == [str(folder)]
    assert [(one.name, one.version, one.editable, one.frozen) for one in environment.distributions] == [("mylib", "1.0", str(folder), True)]


def test_the_project_itself_is_left_to_its_snapshot(data_dir: Path, python: Path, site: Path, source: Path) -> None:
    editable(site, source.parents[1])
    (site / "__editable__.mylib-1.0.pth").write_text(f"{source.parent}\n")
    environment = freeze(data_dir, python, project=source.parents[1])
    assert source_roots(data_dir, environment) == {}
    assert [one.frozen for one in environment.distributions] == [True]


def test_pythonpath_counts(data_dir: Path, python: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(source.parents[1]))
    environment = freeze(data_dir, python)
    found = source_roots(data_dir, environment)
    assert list(found) == [str(source.parents[1])]
    clone = Path(found[str(source.parents[1])])
    assert (clone / "src" / "mylib" / "__init__.py").exists()
    assert not (clone / ".git").exists()


def test_too_large_a_source_is_said_to_be_live(data_dir: Path, python: Path, site: Path, source: Path) -> None:
    editable(site, source.parents[1])
    (site / "__editable__.mylib-1.0.pth").write_text(f"{source.parent}\n")
    (source / "weights.bin").write_bytes(b"x" * (LIMIT + 1))
    environment = freeze(data_dir, python)
    assert source_roots(data_dir, environment) == {}
    assert [(one.code, one.level, one.path) for one in environment.notes] == [("source_not_frozen", "warning", str(source.parent))]
    assert [one.frozen for one in environment.distributions] == [False]
    preview = preview_environment(data_dir, kernel_of(python), copy_max_bytes=LIMIT)
    assert {one.code for one in preview.findings} == {"source_not_frozen"}


def test_a_source_around_the_store_is_never_frozen(data_dir: Path, python: Path, site: Path, tmp_path: Path) -> None:
    (site / "all.pth").write_text(f"{tmp_path}\n")
    environment = freeze(data_dir, python)
    assert source_roots(data_dir, environment) == {}
    assert [(one.code, one.path) for one in environment.notes] == [("source_not_frozen", str(tmp_path))]


def test_an_environment_inside_its_editable_source(data_dir: Path, source: Path) -> None:
    project = source.parents[1]
    python = make_venv(project / ".venv")
    site = next((project / ".venv").glob("lib/python*/site-packages"))
    editable(site, project)
    (site / "mylib.pth").write_text(f"{project}\n")
    environment = freeze(data_dir, python)
    found = dict(roots(data_dir, environment.digest))
    assert list(found) == [str(project), str(project / ".venv")]
    assert Path(found[str(project / ".venv")], "pyvenv.cfg").exists()
    assert verify_environment(data_dir, environment.digest) == []
