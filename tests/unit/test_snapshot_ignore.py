"""Our reading of gitignore rules against git itself."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyter_jobs.model import ProjectChoice
from jupyter_jobs.snapshot.ignore import IgnoreRules, parse_rules
from jupyter_jobs.snapshot.listing import Listing
from jupyter_jobs.snapshot.select import explain, list_project

COMMON = ["a", "b", "foo", "foo.txt", "bar.log", "data"]
NAMES = ["a", "b", "foo", "foo.txt", "bar.log", "a.b", "A", "data", " x", "y ", "é", "#c", "!d", "[z]", "back\\slash", "-"]
RULE_LINES = [
    "*",
    "!*",
    "*.txt",
    "!*.txt",
    "foo",
    "!foo",
    "foo/",
    "!foo/",
    "/foo",
    "/data/*",
    "!/data/a",
    "**/b",
    "a/**",
    "a/**/b",
    "**/data/**",
    "**",
    "!**/",
    "a/b",
    "!a/b",
    "/*",
    "!/a",
    "*/",
    "?",
    "??",
    "[ab]",
    "[!ab]",
    "[^ab]",
    "[a-c]*",
    "[[:upper:]]",
    "[[:alpha:]]*",
    "foo.*",
    "\\#c",
    "#c",
    "\\!d",
    "!!d",
    "é",
    "\\[z\\]",
    "[",
    "[a",
    "a[",
    "\\",
    "back\\\\slash",
    "/",
    "!",
    "//",
    "a//b",
    "***",
    "a/*/b",
    "*a*",
    "a**b",
    "data",
    "!data/",
    "data/*",
    "!data/foo",
    "!data/foo.txt",
    "[[:nope:]]",
    "[z-a]",
    "[]-]",
    "[\\]z]",
    "f?o",
    "**/foo/bar.log",
    "./a",
    "a/.",
    "-",
]
LINES = st.one_of(
    st.sampled_from([*RULE_LINES, "y\\ ", "y ", " x", "", "\tfoo", "foo\t", "foo\r"]),
    st.text("ab*?/![]-\\f.", min_size=1, max_size=6).filter(lambda text: "**" not in text.strip("!/") or "/" not in text.strip("!/")),
)  # fmt: skip
RULES = st.lists(LINES, max_size=6)
PATHS = st.lists(st.sampled_from(COMMON * 4 + NAMES), min_size=1, max_size=4).map("/".join)


def git(directory: Path, *arguments: str) -> bytes:
    variables = {"PATH": os.environ["PATH"], "HOME": str(directory), "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
    return subprocess.run(["git", "-C", str(directory), *arguments], check=True, capture_output=True, env=variables).stdout


def make_tree(top: Path, files: list[str], rules: dict[str, list[str]]) -> None:
    for path in files:
        file = top / path
        if not any(above.is_file() for above in file.parents) and not file.is_dir():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("x")
    for folder, lines in rules.items():
        if (top / folder).is_dir():
            (top / folder / ".gitignore").write_bytes("\n".join(lines).encode())


def listed(directory: Path, data: Path) -> Listing:
    return list_project(data, ProjectChoice(directory=str(directory), mode="directory", why=""))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(files=st.lists(PATHS, min_size=10, max_size=30, unique=True), top=RULES, deep=RULES, deeper=RULES)
def test_we_and_git_agree(files: list[str], top: list[str], deep: list[str], deeper: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        place, store = Path(name) / "tree", Path(name) / "store"
        make_tree(place, files, {".": top, "a": deep, "data": deep, "foo": deeper, "a/b": deeper})
        ours = listed(place, store)
        left_out = [path for path, _ in ours.left_out]
        our_rules = explain(ours, left_out)
        git(place, "init", "-q", "--template=")
        expected = os.fsdecode(git(place, "ls-files", "-z", "--others", "--exclude-standard")).split("\0")[:-1]
        assert sorted(ours.files) == sorted(expected)
        theirs = listed(place, store)
        assert (theirs.files.keys(), theirs.directories, theirs.empty.keys()) == (ours.files.keys(), ours.directories, ours.empty.keys())
        assert sorted(theirs.left_out) == sorted(ours.left_out)
        assert explain(theirs, left_out) == our_rules


@pytest.mark.parametrize(
    ("rules", "path", "is_directory", "out"),
    [
        ("foo/\n*.txt\n!foo/", "foo/a.txt", False, True),
        ("data/\n!data/keep.csv", "data/keep.csv", False, True),
        ("data/*\n!data/keep.csv", "data/keep.csv", False, False),
        ("build/", "build", False, False),
        ("build/", "build", True, True),
        ("\ufeffa\r\n", "a", False, True),
        ("a\\ ", "a ", False, True),
        ("x/**/y", "x/y", False, True),
        ("x/**/y", "x/1/2/y", False, True),
        ("?", "é", False, False),
        ("[[:space:]]", " ", False, True),
    ],
)
def test_single_rules(tmp_path: Path, rules: str, path: str, is_directory: bool, out: bool) -> None:
    (tmp_path / ".gitignore").write_text(rules, "utf-8", newline="")
    assert (IgnoreRules(str(tmp_path), ".gitignore").hit(path, is_directory) is not None) is out


def test_a_rule_names_its_file_and_line() -> None:
    rules = parse_rules(b"# comment\n\n*.csv\n!a.csv\n", "sub/.gitignore")
    assert [(each.line, each.text, each.negated) for each in rules.patterns] == [(3, "*.csv", False), (4, "!a.csv", True)]


def test_a_linked_rule_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("*")
    (tmp_path / ".gitignore").symlink_to("rules")
    assert IgnoreRules(str(tmp_path), ".gitignore").hit("a", False) is None
