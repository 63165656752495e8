"""Which directory is a notebook's project, and what `.jobs.toml` may say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jupyter_jobs.errors import BadInput
from jupyter_jobs.model import LivePath, ProjectChoice
from jupyter_jobs.snapshot.project import choose_project, read_project_rules


def put(file: Path, text: str = "") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def notebook(file: Path, *cells: str) -> Path:
    return put(
        file, json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code", "source": each} for each in cells]})
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    place = tmp_path / "home"
    place.mkdir()
    return place


def choose(file: Path, home: Path, root: Path | None = None, asked: str = "") -> ProjectChoice:
    return choose_project(file, root=root, data_dir=home / ".local/share/jupyter/jobs", asked=asked, home=home)


@pytest.mark.parametrize("marker", [".jobs.toml", ".git/HEAD", "pyproject.toml"])
def test_the_nearest_marked_directory(home: Path, marker: str) -> None:
    put(home / "work/.git/HEAD")
    put(home / "work/churn" / marker)
    chosen = choose(put(home / "work/churn/notebooks/a.ipynb"), home, root=home)
    assert (chosen.directory, chosen.mode) == (str(home / "work/churn"), "directory")
    assert marker.split("/")[0] in chosen.why
    assert chosen.alternatives == [str(home / "work"), str(home / "work/churn/notebooks")]


def test_a_work_trees_git_file_counts(home: Path) -> None:
    put(home / "sub/.git", "gitdir: elsewhere")
    assert choose(put(home / "sub/a.ipynb"), home).directory == str(home / "sub")


def test_nothing_above_the_servers_root(home: Path) -> None:
    put(home / "work/pyproject.toml")
    put(home / "work/root/inner/.git/HEAD")
    root = home / "work/root"
    chosen = choose(put(root / "plain/a.ipynb"), home, root=root)
    assert (chosen.directory, chosen.mode) == (str(root / "plain"), "files")
    assert choose(put(root / "inner/a.ipynb"), home, root=root).directory == str(root / "inner")


@pytest.mark.parametrize(
    ("place", "why"), [("", "your home directory"), (".local/share", "a directory that holds the store"), ("root", "the server's root")]
)
def test_never_silently(home: Path, place: str, why: str) -> None:
    put(home / place / ".git/HEAD")
    file = put(home / place / "sub/a.ipynb", "{}")
    chosen = choose(file, home, root=home / "root" if place == "root" else None)
    assert (chosen.mode, chosen.directory, chosen.files) == ("files", str(home / place / "sub"), ["a.ipynb"])
    assert why in chosen.why
    assert str(home / place) in chosen.alternatives
    asked = choose(file, home, root=home / "root" if place == "root" else None, asked=str(home / place))
    assert (asked.mode, asked.directory) == ("directory", str(home / place))


def test_home_behind_a_link(home: Path, tmp_path: Path) -> None:
    put(home / ".git/HEAD")
    (tmp_path / "link").symlink_to(home)
    file = put(home / "a.ipynb", "{}")
    assert choose(tmp_path / "link" / file.name, home).mode == "files"


def test_an_asked_directory_must_hold_the_notebook(home: Path) -> None:
    file = put(home / "a/nb.ipynb")
    (home / "b").mkdir()
    for bad, said in (("b", "does not hold"), ("none", "is no directory"), ("a/nb.ipynb", "is no directory")):
        with pytest.raises(BadInput, match=said) as caught:
            choose(file, home, root=home, asked=bad)
        assert caught.value.detail["field"] == "project"
    assert choose(file, home, root=home, asked="a/").directory == str(home / "a")
    assert choose(file, home, root=home, asked=".").directory == str(home)


def test_files_mode_follows_imports_and_names(home: Path) -> None:
    for path in (
        "helper.py",
        "pkg/__init__.py",
        "pkg/core.py",
        "data/x.csv",
        "data/y.csv",
        "plots/none",
        "tables/t1.csv",
        "lib/inner.py",
        "unused.py",
        "conf.yml",
    ):
        put(home / path)
    put(home / "helper.py", "import pkg.core\nCONF = open('conf.yml')\n")
    put(home / "../outside.csv")
    put(home / "script.py", "import inner\n")
    file = notebook(
        home / "nb.ipynb",
        "import numpy, helper, sys\nsys.path.append('lib')\nimport inner\n",
        "%run script.py\nfrom pathlib import Path\nDATA = Path('data')\ndf = read_csv(DATA / f'{name}.csv')\nopen('../outside.csv')",
        "import glob\nglob.glob('tables/*.csv')\ndf.to_csv('new.csv')",
    )
    chosen = choose(file, home)
    assert chosen.files == ["conf.yml", "data", "helper.py", "lib/inner.py", "nb.ipynb", "pkg", "script.py", "tables/t1.csv"]


def test_a_notebook_that_is_none(home: Path) -> None:
    for text in ("", "not json", "[]", '{"cells": 3}', '{"cells": [{"cell_type": "code"}, 4]}'):
        assert choose(put(home / "nb.ipynb", text), home).files == ["nb.ipynb"]


def test_rules(tmp_path: Path) -> None:
    assert read_project_rules(tmp_path) == ((), (), ())
    put(tmp_path / ".jobs.toml", 'live = ["data/", {path = "/mnt/x", writable = true}]\nexclude = ["a", "b/c"]\ninclude = ["d"]\n')
    rules = read_project_rules(tmp_path)
    assert rules.live == (LivePath(path="data/"), LivePath(path="/mnt/x", writable=True))
    assert (rules.exclude, rules.include) == (("a", "b/c"), ("d",))
    put(tmp_path / ".jobs.toml", '[live]\npath = "data"\nwritable = true\n')
    assert read_project_rules(tmp_path).live == (LivePath(path="data", writable=True),)
    put(tmp_path / ".jobs.toml", '[[live]]\npath = "a"\n[[live]]\npath = "b"\n')
    assert [each.path for each in read_project_rules(tmp_path).live] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "line", "key", "said"),
    [
        ("\nlive = [\n", 3, None, "Invalid"),
        ("exclud = []", 1, "exclud", "no such key"),
        ("# x\nexclude = 'a'\n", 2, "exclude", "is no list"),
        ("live = ['a']\ninclude = ['ok', 3]\n", 2, "include", "3 is no path"),
        ("exclude = ['../x']", 1, "exclude", "no path inside"),
        ("exclude = ['/x']", 1, "exclude", "no path inside"),
        ("live = [3]", 1, "live", "3 is no path"),
        ("live = ['']", 1, "live", "is no path"),
        ("[live]\npath = 'x'\nwritable = 'yes'\n", 3, "live.writable", "neither true nor false"),
        ("[[live]]\npath = 'x'\nwriteable = true\n", 3, "live.writeable", "no such key in live"),
    ],
)
def test_bad_rules_are_named(tmp_path: Path, text: str, line: int, key: str | None, said: str) -> None:
    file = put(tmp_path / ".jobs.toml", text)
    with pytest.raises(BadInput, match=said) as caught:
        read_project_rules(tmp_path)
    assert (caught.value.detail.get("line"), caught.value.detail.get("key"), caught.value.detail["file"]) == (line, key, str(file))
    assert f"line {line}" in caught.value.message
    assert caught.value.mend


def test_rules_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / ".jobs.toml").write_bytes(b"# a\n# \xff\n")
    with pytest.raises(BadInput, match="line 2: the file is not UTF-8"):
        read_project_rules(tmp_path)
