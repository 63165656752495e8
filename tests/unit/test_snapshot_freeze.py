"""Snapshots of real trees: what is in them, that they stay, and what stops them."""

from __future__ import annotations

import ast
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_jobs.errors import BadInput, NotFound, TooLarge
from jupyter_jobs.model import LivePath, ManifestEntry, ProjectChoice, Snapshot, SnapshotView
from jupyter_jobs.snapshot import objects
from jupyter_jobs.snapshot.freeze import freeze_project, load_manifest, preview_project, tree_path
from jupyter_jobs.snapshot.names import os_name, safe_text
from jupyter_jobs.snapshot.project import choose_project

MANY = {"max_bytes": 1 << 30, "max_files": 10_000}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    place.mkdir()
    return place


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "store"


def choice(project: Path, **fields: object) -> ProjectChoice:
    return ProjectChoice(**{"directory": str(project), "mode": "directory", "why": "", **fields})  # type: ignore[arg-type]


def write(place: Path, **files: str) -> None:
    for path, text in files.items():
        put(place / path, text)


def put(file: Path, text: str = "x") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def git(place: Path, *arguments: str) -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    subprocess.run(["git", "-C", str(place), *arguments], check=True, capture_output=True, env=variables | identity | {"HOME": str(place)})


def paths(data: Path, snapshot: Snapshot) -> list[str]:
    return [each.path for each in load_manifest(data, snapshot.digest)]


def freeze(data: Path, project: Path, **more: object) -> Snapshot:
    return freeze_project(data, choice(project), **{**MANY, **more})  # type: ignore[arg-type]


def test_a_tree_is_frozen_as_it_was(project: Path, data: Path) -> None:
    script = put(project / "bin/run me.sh", "#!/bin/sh\n")
    script.chmod(0o750)
    os.utime(script, ns=(5, 1_234_567_890_123_456_789))
    put(project / "naïve\nname.csv", "1,2")
    put(project / "deep/er/file")
    (project / "output/plots").mkdir(parents=True)
    (project / "output/plots").chmod(0o700)
    (project / "link").symlink_to("deep/er/file")
    (project / "loop").symlink_to("loop")
    snapshot = freeze(data, project)
    tree = tree_path(data, snapshot.digest)
    frozen = tree / "bin/run me.sh"
    assert frozen.read_text() == "#!/bin/sh\n"
    assert stat.S_IMODE(frozen.stat().st_mode) == 0o750
    assert frozen.stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert (tree / "naïve\nname.csv").read_text() == "1,2"
    assert stat.S_IMODE((tree / "output/plots").stat().st_mode) == 0o700
    assert str((tree / "link").readlink()) == "deep/er/file"
    assert str((tree / "loop").readlink()) == "loop"
    kinds = {each.path: each.kind for each in load_manifest(data, snapshot.digest)}
    assert kinds == {
        "bin/run me.sh": "file",
        "naïve\nname.csv": "file",
        "deep/er/file": "file",
        "output/plots": "directory",
        "link": "link",
        "loop": "link",
    }
    assert (snapshot.files, snapshot.bytes) == (3, 14)


def test_the_original_may_change_afterwards(project: Path, data: Path) -> None:
    file = put(project / "a.txt", "old")
    first = freeze(data, project)
    file.write_text("new")
    second = freeze(data, project)
    file.unlink()
    assert (tree_path(data, first.digest) / "a.txt").read_text() == "old"
    assert (tree_path(data, second.digest) / "a.txt").read_text() == "new"
    assert load_manifest(data, first.digest)[0].size == 3


def test_same_content_is_the_same_snapshot(project: Path, data: Path) -> None:
    put(project / "a.txt")
    first = freeze(data, project)
    assert freeze(data, project) == first
    os.utime(project / "a.txt", ns=(1, 1))
    assert freeze(data, project) == first
    (project / "a.txt").chmod(0o755)
    assert freeze(data, project).digest != first.digest


def test_a_change_that_keeps_size_and_mtime_is_seen(project: Path, data: Path) -> None:
    file = put(project / "a.txt", "old")
    first = freeze(data, project)
    before = file.stat()
    file.write_text("new")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = freeze(data, project)
    assert second.digest != first.digest
    assert (tree_path(data, second.digest) / "a.txt").read_text() == "new"


def test_a_fresh_file_is_not_trusted(project: Path) -> None:
    file = put(project / "a.txt")
    status = file.stat()
    assert not objects.may_trust(status, status.st_ctime_ns + 1)
    assert objects.may_trust(status, status.st_ctime_ns + objects.RACY_NS)


def test_known_files_are_linked_not_read(project: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "RACY_NS", -(10**12))
    put(project / "big.bin", "b" * 100_000)
    put(project / "a.txt")
    first = freeze(data, project)
    put(project / "b.txt")
    second = freeze(data, project)
    inodes = [(tree_path(data, each.digest) / "big.bin").stat().st_ino for each in (first, second)]
    assert inodes[0] == inodes[1]
    cache = objects.load_cache(data, str(project))
    assert set(cache.known()) == {"a.txt", "b.txt", "big.bin"}


def test_a_lost_or_cut_object_is_made_again(project: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "RACY_NS", -(10**12))
    for name in "abc":
        put(project / name, name * 10)
    freeze(data, project)
    kept = [file for file in (data / "objects").rglob("*") if file.is_file()]
    kept[0].unlink()
    kept[1].chmod(0o600)
    os.truncate(kept[1], 0)
    put(project / "new")
    snapshot = freeze(data, project)
    assert [(tree_path(data, snapshot.digest) / name).read_text() for name in "abc"] == [name * 10 for name in "abc"]
    assert load_manifest(data, snapshot.digest)[0].size == 10


def test_a_damaged_cache_is_made_again(project: Path, data: Path) -> None:
    put(project / "a.txt")
    first = freeze(data, project)
    objects.cache_path(data, str(project)).write_text("{")
    assert freeze(data, project) == first


def test_git_decides_in_a_work_tree(project: Path, data: Path) -> None:
    git(project, "init", "-q")
    write(
        project,
        **{".gitignore": "*.csv\n/build/\n", "sub/.gitignore": "!keep.csv\nlocal\n", "sub/keep.csv": "", "sub/other.csv": "", "sub/local": ""},
    )
    write(project, **{"forced.csv": "", "build/x": "", "deleted.py": "", "kept.py": "", ".git/info/exclude": "private\n", "private": ""})
    git(project, "add", "-f", "forced.csv", "deleted.py")
    (project / "deleted.py").unlink()
    assert paths(data, freeze(data, project)) == [".gitignore", "forced.csv", "kept.py", "sub/.gitignore", "sub/keep.csv"]


def test_a_folder_of_a_work_tree_obeys_the_rules_above(project: Path, data: Path) -> None:
    git(project, "init", "-q")
    write(project, **{".gitignore": "*.csv\nscratch/\n", "part/a.csv": "", "part/a.py": "", "scratch/a.py": "", "scratch/b.csv": ""})
    assert paths(data, freeze(data, project / "part")) == ["a.py"]
    assert paths(data, freeze(data, project / "scratch")) == ["a.py", "b.csv"]


def test_nested_work_trees_have_their_own_rules(project: Path, data: Path) -> None:
    for place, rule in ((project, "*.csv\n"), (project / "inner", "*.log\n"), (project / "inner/inmost", "*.txt\n")):
        write(place, **{".gitignore": rule, "a.csv": "", "a.log": "", "a.txt": ""})
    for place in (project / "inner/inmost", project / "inner", project):
        git(place, "init", "-q")
        git(place, "add", ".gitignore")
        git(place, "commit", "-q", "-m", "x")
    expected = [".gitignore", "a.log", "a.txt", "inner/.gitignore", "inner/a.csv", "inner/a.txt"]
    expected += ["inner/inmost/.gitignore", "inner/inmost/a.csv", "inner/inmost/a.log"]
    assert paths(data, freeze(data, project)) == expected
    git(project, "rm", "-rq", "--cached", ".gitignore")
    (project / ".git").rename(project / "not-git")
    write(project, **{".gitignore": "*.csv\nnot-git/\n"})
    assert paths(data, freeze(data, project)) == expected


def test_submodules_are_entered(project: Path, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write(other, **{"lib.py": "", ".gitignore": "*.csv\n"})
    git(other, "init", "-q")
    git(other, "add", "-A")
    git(other, "commit", "-q", "-m", "x")
    git(project, "init", "-q")
    git(project, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "vendor/other")
    write(project, **{"vendor/other/a.csv": "", "vendor/other/new.py": "", "main.py": ""})
    assert paths(data, freeze(data, project)) == [".gitmodules", "main.py", "vendor/other/.gitignore", "vendor/other/lib.py", "vendor/other/new.py"]


def test_tracked_files_behind_a_new_link_are_not_written_through_it(project: Path, data: Path, tmp_path: Path) -> None:
    git(project, "init", "-q")
    put(project / "folder/a.txt")
    git(project, "add", "-A")
    outside = tmp_path / "outside"
    put(outside / "a.txt", "theirs")
    (project / "folder").rename(tmp_path / "away")
    (project / "folder").symlink_to(outside)
    snapshot = freeze(data, project)
    assert paths(data, snapshot) == ["folder"]
    assert (outside / "a.txt").read_text() == "theirs"
    assert [(note.code, note.path) for note in snapshot.notes] == [("link_outside", "folder")]


def test_a_folder_that_was_deleted_but_is_tracked(project: Path, data: Path) -> None:
    git(project, "init", "-q")
    write(project, **{"gone/deep/a": "", "here/a": ""})
    git(project, "add", "-A")
    (project / "gone/deep/a").unlink()
    (project / "gone/deep").rmdir()
    snapshot = freeze(data, project)
    assert paths(data, snapshot) == ["gone", "here/a"]
    assert sorted(each.name for each in tree_path(data, snapshot.digest).rglob("*")) == ["a", "gone", "here"]


def test_an_unchanged_project_is_known_without_its_manifest(project: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "RACY_NS", -(10**12))
    write(project, **{"a": "", "b/c": ""})
    (project / "link").symlink_to("a")
    (project / "empty").mkdir()
    first = freeze(data, project)
    manifest = data / "snapshots" / first.digest / "manifest.json"
    text = manifest.read_bytes()
    manifest.write_text("not read")
    assert freeze(data, project) == first
    manifest.write_bytes(text)
    (project / "link").unlink()
    (project / "link").symlink_to("b/c")
    second = freeze(data, project)
    (project / "empty").chmod(0o700)
    third = freeze(data, project)
    (project / "a").chmod(0o600)
    fourth = freeze(data, project)
    (project / "b/c").unlink()
    assert len({each.digest for each in (first, second, third, fourth, freeze(data, project))}) == 5


@pytest.mark.parametrize("change", ["nothing", "overwritten", "new", "ignored", "gone", "link", "directory", "nested", "renamed"])
def test_what_was_expected_of_a_work_tree_hides_no_change(
    project: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(objects, "RACY_NS", -(10**12))
    git(project, "init", "-q")
    for name in ("a.txt", "b.txt", "deep/c.txt", "deep/d.txt"):
        put(project / name, name[-5])
    git(project, "add", "b.txt", "deep/c.txt")
    first = freeze(data, project)
    match change:
        case "overwritten":
            before = (project / "b.txt").stat()
            put(project / "b.txt", "x")
            os.utime(project / "b.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
        case "new":
            put(project / "deep/new.txt")
        case "ignored":
            put(project / ".gitignore", "a.txt\n")
        case "gone":
            (project / "b.txt").unlink()
        case "link":
            (project / "b.txt").unlink()
            (project / "b.txt").symlink_to("a.txt")
        case "directory":
            (project / "a.txt").unlink()
            put(project / "a.txt/inside")
        case "nested":
            git(project / "deep", "init", "-q")
            put(project / "deep/.gitignore", "d.txt\n")
        case "renamed":
            (project / "a.txt").rename(project / "e.txt")
    shown = preview_project(data, choice(project), **MANY)
    again = freeze(data, project)
    assert again.digest == freeze(tmp_path / "elsewhere", project).digest
    assert (shown.files, shown.bytes) == (again.files, again.bytes)
    assert (again.digest == first.digest) == (change == "nothing")


def test_a_tracked_file_that_became_a_directory(project: Path, data: Path) -> None:
    git(project, "init", "-q")
    put(project / "thing")
    git(project, "add", "-A")
    (project / "thing").unlink()
    put(project / "thing/inside")
    assert paths(data, freeze(data, project)) == ["thing/inside"]


def test_the_callers_git_variables_do_not_count(project: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(project, "init", "-q")
    write(project, **{".gitignore": "*.csv", "a.csv": "", "a.py": ""})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    git(elsewhere, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(elsewhere / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(elsewhere))
    monkeypatch.setenv("GIT_INDEX_FILE", str(elsewhere / "index"))
    assert paths(data, freeze(data, project)) == [".gitignore", "a.py"]


@pytest.mark.parametrize("how", ["missing", "refusing"])
def test_without_gits_help_its_rules_are_read(how: str, project: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(project, "init", "-q")
    write(project, **{".gitignore": "*.csv\n", ".git/info/exclude": "private\n", "part/private": "", "part/a.csv": "", "part/a.py": ""})
    programs = tmp_path / "programs"
    programs.mkdir()
    if how == "refusing":
        put(programs / "git", "#!/bin/sh\necho \"fatal: detected dubious ownership in repository at '/x'\" >&2\nexit 128\n").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/nowhere" if how == "missing" else f"{programs}:{os.environ['PATH']}")
    snapshot = freeze(data, project / "part")
    assert paths(data, snapshot) == ["a.py"]
    assert [note.code for note in snapshot.notes] == ["git_not_asked"]


def test_what_is_never_frozen(project: Path, data: Path) -> None:
    write(
        project,
        **{"a.py": "", "__pycache__/a.pyc": "", ".ipynb_checkpoints/x": "", "node_modules/x": "", ".venv/pyvenv.cfg": "", ".venv/bin/python": ""},
    )
    write(project, **{"conda/conda-meta/history": "", "conda/lib/x": ""})
    assert paths(data, freeze(data, project)) == ["a.py"]
    git(project, "init", "-q")
    git(project, "add", "-A")
    assert paths(data, freeze(data, project)) == ["a.py"]
    own = project / ".jobs-store"
    freeze(own, project)
    assert paths(own, freeze(own, project)) == ["a.py"]


@pytest.mark.parametrize("in_git", [False, True])
def test_jobsignore_and_jobsinclude(project: Path, data: Path, in_git: bool) -> None:
    write(
        project,
        **{".gitignore": "data/\n*.log\n", "data/big.bin": "", "data/train.csv": "", "data/deep/more.csv": "", "a.log": "", "notes/b.log": ""},
    )
    write(project, **{".jobsignore": "notes/\n*.tmp\n!important.tmp\n", "x.tmp": "", "important.tmp": "", "notes/c.md": "", "a.py": ""})
    write(project, **{".jobsinclude": "data/**/*.csv\n/a.log\nnotes/c.md\n"})
    if in_git:
        git(project, "init", "-q")
    snapshot = freeze(data, project)
    visible = [path for path in paths(data, snapshot) if not path.startswith(".")]
    assert visible == ["a.log", "a.py", "data/deep/more.csv", "data/train.csv", "important.tmp", "notes/c.md"]


@pytest.mark.parametrize("in_git", [False, True])
@pytest.mark.parametrize("how", ["jobsignore", "exclude", "live"])
def test_what_is_left_out_is_not_counted(project: Path, data: Path, in_git: bool, how: str) -> None:
    for number in range(60):
        put(project / f"raw/{number}.bin")
    write(project, **{"a.py": "", "raw/keep/a.csv": ""})
    if in_git:
        git(project, "init", "-q")
    with pytest.raises(TooLarge, match="more than"):
        freeze(data, project, max_files=2)
    if how == "jobsignore":
        put(project / ".jobsignore", "raw/\n")
    more = {"exclude": {"exclude": ["raw"]}, "live": {"live": [LivePath(path="raw/")]}}.get(how, {})
    assert [path for path in paths(data, freeze(data, project, max_files=2, **more)) if path[0] != "."] == (
        ["a.py", "raw"] if how == "live" else ["a.py"]
    )
    if how != "live":
        snapshot = freeze(data, project, max_files=3, include=["raw/keep"], **more)
        assert [path for path in paths(data, snapshot) if path[0] != "."] == ["a.py", "raw/keep/a.csv"]
        assert [each.path for each in preview_project(data, choice(project), max_bytes=0, max_files=3, **more).ignored] == ["raw"]  # type: ignore[arg-type]


def test_the_notebook_is_frozen_whatever_the_rules_say(project: Path, data: Path) -> None:
    write(project, **{".gitignore": "scratch/\n", "scratch/nb.ipynb": "{}", "scratch/x": ""})
    git(project, "init", "-q")
    found = choose_project(project / "scratch/nb.ipynb", root=None, data_dir=data, home=project)
    asked = choose_project(project / "scratch/nb.ipynb", root=None, data_dir=data, asked=str(project))
    for each in (asked, msgspec.structs.replace(found, directory=str(project), mode="directory", files=asked.files)):
        assert paths(data, freeze_project(data, each, **MANY)) == [".gitignore", "scratch/nb.ipynb"]


def test_a_project_that_is_gone(tmp_path: Path, data: Path) -> None:
    with pytest.raises(NotFound, match="no directory"):
        freeze(data, tmp_path / "gone")


@pytest.mark.parametrize("in_git", [False, True])
def test_exclude_and_include(project: Path, data: Path, in_git: bool) -> None:
    write(project, **{".gitignore": "data/\n", "data/a": "", "data/b/c": "", "code/x": "", "code/y/z": "", ".jobs.toml": 'exclude = ["code/y"]\n'})
    if in_git:
        git(project, "init", "-q")
    snapshot = freeze(data, project, exclude=["data/b", "code/x"], include=["data"])
    assert [path for path in paths(data, snapshot) if not path.startswith(".")] == ["code", "data/a"]
    snapshot = freeze(data, project, exclude=["data"], include=["data/b/", "./code/y/z"])
    assert [path for path in paths(data, snapshot) if not path.startswith(".")] == ["code/x", "code/y/z", "data/b/c"]
    for bad in ("../other", "/etc", ".", " "):
        with pytest.raises(BadInput, match="exclude"):
            freeze(data, project, exclude=[bad])


def test_live_paths_are_left_to_the_original(project: Path, data: Path) -> None:
    write(project, **{"data/a": "", "data/b": "", "one.csv": "", "a.py": "", ".jobs.toml": 'live = [{path = "one.csv", writable = true}]\n'})
    snapshot = freeze(data, project, live=[LivePath(path=str(project / "data"))])
    assert [(each.path, each.kind) for each in load_manifest(data, snapshot.digest)] == [
        (".jobs.toml", "file"),
        ("a.py", "file"),
        ("data", "directory"),
    ]
    with pytest.raises(BadInput, match="whole project"):
        freeze(data, project, live=[LivePath(path="..")])


def test_sockets_and_pipes_are_told(project: Path, data: Path) -> None:
    put(project / "a.py")
    os.mkfifo(project / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(project)
        try:
            server.bind("sock")
        finally:
            os.chdir(here)
        expected = [("special_file", "pipe"), ("special_file", "sock")]
        assert [(note.code, note.path) for note in freeze(data, project).notes] == expected
        git(project, "init", "-q")
        assert [(note.code, note.path) for note in freeze(data, project).notes] == expected


def test_links_are_kept_and_told(project: Path, data: Path, tmp_path: Path) -> None:
    write(project, **{".gitignore": "big/\n", "big/x": "", "a.py": ""})
    (project / "out").symlink_to(tmp_path)
    (project / "left").symlink_to("big/x")
    (project / "fine").symlink_to(project / "a.py")
    (project / "broken").symlink_to("nowhere")
    assert [(note.code, note.path) for note in freeze(data, project).notes] == [("link_left_out", "left"), ("link_outside", "out")]


def test_limits_name_the_largest(project: Path, data: Path) -> None:
    put(project / "data/raw/big.bin", "b" * 5000)
    for number in range(12):
        put(project / f"many/{number}")
    with pytest.raises(TooLarge, match=r"data/ \(4\.9 KiB in 1 files\)") as caught:
        freeze(data, project, max_bytes=4000)
    assert "`data/`" in caught.value.mend
    assert ".jobsignore" in caught.value.mend
    with pytest.raises(TooLarge, match=r"limit is 10 files\. Largest: many/") as caught:
        freeze(data, project, max_files=10)
    assert caught.value.detail["folders"][0] == {"path": "many", "files": 12, "bytes": 12}  # type: ignore[index]
    assert not (data / "snapshots").exists()
    assert freeze(data, project, max_bytes=0, max_files=0).files == 13
    preview = preview_project(data, choice(project), max_bytes=4000, max_files=10)
    assert [(each.code, each.level) for each in preview.findings] == [("project_too_large", "error")]


def test_preview_tells_what_a_snapshot_would_hold(project: Path, data: Path) -> None:
    write(
        project,
        **{".gitignore": "# big things\n\ndata/\n*.log\n", "data/x": "abc", "sub/a.log": "", "sub/deep/er/a": "12345", ".venv/pyvenv.cfg": ""},
    )
    write(project, **{".jobsignore": "notes\n", "notes/x": ""})
    git(project, "init", "-q")
    preview = preview_project(data, choice(project), exclude=["sub/deep/er/none"], **MANY)  # type: ignore[arg-type]
    assert {each.path: each.rule for each in preview.ignored} == {
        ".venv": "never frozen: a virtual environment",
        "data": ".gitignore:3: data/",
        "notes": ".jobsignore:1: notes",
        "sub/a.log": ".gitignore:4: *.log",
    }
    assert {each.path: each.bytes for each in preview.folders} == {".": 32, "sub": 5, "sub/deep": 5}
    assert preview.files == 3
    assert freeze(data, project).files == preview.files


def test_files_mode_freezes_what_is_named(project: Path, data: Path) -> None:
    write(project, **{"nb.ipynb": "{}", "helper.py": "", "data/a.csv": "", "data/b.csv": "", "other/x": "", "private.txt": ""})
    snapshot = freeze_project(data, choice(project, mode="files", files=["nb.ipynb", "helper.py", "data"]), include=["other"], **MANY)
    assert paths(data, snapshot) == ["data/a.csv", "data/b.csv", "helper.py", "nb.ipynb", "other/x"]


def test_names_that_are_no_text(project: Path, data: Path) -> None:
    name = os.fsdecode(b"\xff caf\xe9 \xf4\x8f\x9c\x85.csv")
    put(project / name, "odd")
    (project / "link").symlink_to(name)
    for _ in range(2):
        snapshot = freeze(data, project)
        manifest = load_manifest(data, snapshot.digest)
        assert (tree_path(data, snapshot.digest) / os_name(manifest[1].path)).read_text() == "odd"
        assert os_name(manifest[0].target) == name
        sent = msgspec.json.encode(SnapshotView(snapshot=snapshot, environment=None, entries=manifest))
        assert msgspec.json.decode(sent, type=SnapshotView).entries == manifest
        git(project, "init", "-q")


@given(
    st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name)
    | st.text(min_size=1, max_size=6).map(lambda text: text.encode("utf-8", "ignore"))
)
def test_names_go_and_come_back(name: bytes) -> None:
    text = safe_text(os.fsdecode(name))
    assert os.fsencode(os_name(text)) == name
    assert json.loads(msgspec.json.encode(text)) == text
    try:
        plain = name.decode()
    except UnicodeDecodeError:
        return
    assert text == plain or any(0x10F700 <= ord(char) <= 0x10F7FF for char in plain)


def test_a_file_that_never_holds_still(project: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(project / "run.log", "x")
    readv = os.readv

    def change_always(descriptor: int, buffers: list[memoryview]) -> int:
        with file.open("a") as stream:
            stream.write("y")
        return readv(descriptor, buffers)

    with monkeypatch.context() as patch:
        patch.setattr(os, "readv", change_always)
        with pytest.raises(BadInput, match=r"run\.log changes while it is read") as caught:
            freeze(data, project)
    assert caught.value.code == "file_keeps_changing"
    assert [each.name for each in (data / "snapshots").iterdir()] == []
    assert freeze(data, project).bytes == file.stat().st_size


def test_a_file_is_read_again_when_it_changed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(tmp_path / "a", "first")
    readv = os.readv
    calls: list[int] = []

    def change_once(descriptor: int, buffers: list[memoryview]) -> int:
        count = readv(descriptor, buffers)
        if not calls:
            file.write_text("second!")
        calls.append(count)
        return count

    monkeypatch.setattr(os, "readv", change_once)
    objects.copy_file(str(file), str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_text() == "second!"


FIVE_TIMES = """
import sys
from pathlib import Path
from jupyter_jobs.model import ProjectChoice
from jupyter_jobs.snapshot.freeze import freeze_project
choice = ProjectChoice(directory=sys.argv[2], mode="directory", why="")
sys.stdin.read()
print({freeze_project(Path(sys.argv[1]), choice, max_bytes=0, max_files=0).digest for _ in range(5)})
"""


def test_several_processes_at_once(project: Path, data: Path) -> None:
    for number in range(200):
        put(project / f"f{number % 7}/{number}", str(number % 50))
    command = [sys.executable, "-c", FIVE_TIMES, str(data), str(project)]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in running:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    digests = {digest for process in running for digest in ast.literal_eval(process.communicate()[0])}
    assert len(digests) == 1
    tree = tree_path(data, digests.pop())
    assert sorted(file.name for file in tree.rglob("*") if file.is_file()) == sorted(map(str, range(200)))
    assert [each.name for each in (data / "snapshots").iterdir()] == [tree.parent.name]


KILLED = """
import os, signal, sys
from pathlib import Path
from jupyter_jobs.model import ProjectChoice
from jupyter_jobs.snapshot import tree
from jupyter_jobs.snapshot.freeze import freeze_project
take = tree.store_object
def die(*arguments):
    take(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
tree.store_object = die
freeze_project(Path(sys.argv[1]), ProjectChoice(directory=sys.argv[2], mode="directory", why=""), max_bytes=0, max_files=0)
"""


def test_a_killed_freeze_leaves_no_snapshot(project: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        put(project / name, name)
    done = subprocess.run([sys.executable, "-c", KILLED, str(data), str(project)], check=False)
    assert done.returncode == -9
    left = list((data / "snapshots").iterdir())
    assert [each.name.startswith(".building-") for each in left] == [True]
    snapshot = freeze(data, project)
    assert left[0].exists()
    monkeypatch.setattr("jupyter_jobs.snapshot.tree.ABANDONED_SECONDS", -1.0)
    put(project / "d")
    second = freeze(data, project)
    assert {each.name for each in (data / "snapshots").iterdir()} == {snapshot.digest, second.digest}


UNREADABLE = """
import os, sys
from pathlib import Path
from jupyter_jobs.errors import BadInput
from jupyter_jobs.model import ProjectChoice
from jupyter_jobs.snapshot.freeze import freeze_project, preview_project
os.setgroups([]); os.setgid(65534); os.setuid(65534)
choice = ProjectChoice(directory=sys.argv[2], mode="directory", why="")
print([(each.code, each.level) for each in preview_project(Path(sys.argv[1]), choice, max_bytes=0, max_files=0).findings])
try:
    freeze_project(Path(sys.argv[1]), choice, max_bytes=0, max_files=0)
except BadInput as error:
    print(error.code, error.detail["paths"])
"""


@pytest.mark.skipif(os.getuid() != 0, reason="gives up root's right to read everything")
@pytest.mark.parametrize("in_git", [False, True])
def test_unreadable_files_are_named(in_git: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        project, data = place / "project", place / "store"
        put(project / "open")
        put(project / "closed").chmod(0o600)
        put(project / "shut/inside").parent.chmod(0o700)
        data.mkdir()
        os.chown(data, 65534, 65534)
        if in_git:
            git(project, "init", "-q")
            subprocess.run(["chown", "-R", "65534", str(project / ".git")], check=True)
            os.chown(project, 65534, 65534)
        done = subprocess.run([sys.executable, "-c", UNREADABLE, str(data), str(project)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[('unreadable_files', 'error')]", "unreadable_files ['closed', 'shut']"]


def test_an_unknown_snapshot_is_named(data: Path) -> None:
    with pytest.raises(NotFound, match="no snapshot abc"):
        load_manifest(data, "abc")


def test_progress_counts_up(project: Path, data: Path) -> None:
    for number in range(150):
        put(project / str(number))
    seen: list[tuple[int, int]] = []
    freeze(data, project, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (150, 150)
    assert seen == sorted(seen)


def test_manifest_entries_are_sorted(project: Path, data: Path) -> None:
    write(project, **{"b": "", "a/x": "", "a.b": "", "a-": ""})
    entries = load_manifest(data, freeze(data, project).digest)
    assert [each.path for each in entries] == ["a-", "a.b", "a/x", "b"]
    assert isinstance(entries[0], ManifestEntry)
