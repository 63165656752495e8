"""What runs leave: files are listed, opened, copied, and nothing outside is ever reached through them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jupyter_jobs.actions import create, results
from jupyter_jobs.actions.places import run_dir
from jupyter_jobs.errors import BadInput, Conflict, NotFound, Unavailable
from jupyter_jobs.lifecycle import RunState
from jupyter_jobs.model import RunFile
from jupyter_jobs.requests import CopyFiles, CreateJob
from jupyter_jobs.runner import rundir
from jupyter_jobs.store import artifacts
from jupyter_jobs.store.database import write
from tests.actions.conftest import World
from tests.factories import bring_to, tree_of

FILES = {"out/a.csv": "a", "out/deep/b.txt": "b", "helper.py": "changed", "ünï code.txt": "u"}


@pytest.fixture
def run(world: World) -> str:
    """A complete run with files, as a runner leaves it."""
    job = create.create_job(world.context, CreateJob(path=world.report, only=[1], output_dir="results"))
    directory = run_dir(world.data_dir, f"{job.id}-1", 1)
    upper = directory / "work" / "upper"
    listed = [RunFile(path="gone.txt", bytes=0, kind="deleted")]
    for name, content in FILES.items():
        (upper / name).parent.mkdir(parents=True, exist_ok=True)
        (upper / name).write_text(content)
        listed.append(RunFile(path=name, bytes=len(content), kind="changed" if name == "helper.py" else "created"))
    (upper / "out" / "a.csv").chmod(0o640)
    (world.project.parent / "secret.txt").write_text("secret")
    for name, target in {
        "leak": "/etc/passwd",
        "up": "../../../../../../secret.txt",
        "inside": "out/a.csv",
        "folder": "/etc",
        "dangling": "nowhere",
    }.items():
        (upper / name).symlink_to(target)
        listed.append(RunFile(path=name, bytes=1, kind="created"))
    listed.append(RunFile(path="folder/passwd", bytes=1, kind="created"))
    os.mkfifo(upper / "pipe")
    listed.append(RunFile(path="pipe", bytes=0, kind="created"))
    (upper / "unlisted.txt").write_text("not in the list")
    (directory / "output.ipynb").write_text("{}")
    with write(world.context.engine) as conn:
        bring_to(conn, f"{job.id}-1", RunState.COMPLETE)
        artifacts.replace(conn, f"{job.id}-1", listed)
    return f"{job.id}-1"


def test_files_are_listed_by_path(world: World, run: str) -> None:
    found = results.run_files(world.context, run).files
    assert [file.path for file in found] == sorted(file.path for file in found)
    assert {file.path: file.kind for file in found}["gone.txt"] == "deleted"


@pytest.mark.parametrize("path", [*FILES, "inside", "./out//a.csv"])
def test_a_file_is_opened(world: World, run: str, path: str) -> None:
    expected = {"inside": "a", "./out//a.csv": "a"}.get(path) or FILES[path]
    assert results.open_file(world.context, run, path).read_text() == expected


@pytest.mark.parametrize("path", ["leak", "up", "folder/passwd", "dangling", "folder", "pipe", "out", "unlisted.txt", "gone.txt", "nowhere"])
def test_what_is_no_file_of_the_run_is_not_found(world: World, run: str, path: str) -> None:
    with pytest.raises(NotFound) as caught:
        results.open_file(world.context, run, path)
    assert caught.value.code == "file_not_found"


@pytest.mark.parametrize("path", ["", ".", "..", "../x", "out/../../x", "/etc/passwd", "a\0b"])
def test_paths_that_lead_out_are_refused(world: World, run: str, path: str) -> None:
    for ask in (
        lambda: results.open_file(world.context, run, path),
        lambda: results.copy_files(world.context, run, CopyFiles(paths=[path])),
        lambda: results.copy_files(world.context, run, CopyFiles(paths=["out/a.csv"], to=path or "..")),
    ):
        with pytest.raises(BadInput) as caught:
            ask()
        assert caught.value.code == "bad_path"


def test_files_are_copied_into_the_project(world: World, run: str) -> None:
    copied = results.copy_files(world.context, run, CopyFiles(paths=["out"])).copied
    assert copied == [str(world.project / "out" / "a.csv"), str(world.project / "out" / "deep" / "b.txt")]
    assert (world.project / "out" / "deep" / "b.txt").read_text() == "b"
    assert (world.project / "out" / "a.csv").stat().st_mode & 0o777 == 0o640


def test_nothing_is_overwritten_unasked(world: World, run: str) -> None:
    before = tree_of(world.project)
    with pytest.raises(Conflict) as caught:
        results.copy_files(world.context, run, CopyFiles(paths=["out/a.csv", "helper.py"]))
    assert caught.value.detail["paths"] == [str(world.project / "helper.py")]
    assert tree_of(world.project) == before, "nothing is copied when one cannot be"
    results.copy_files(world.context, run, CopyFiles(paths=["helper.py"], overwrite=True))
    assert (world.project / "helper.py").read_text() == "changed"
    assert [path for path in world.project.iterdir() if path.name.endswith(".part")] == []
    (world.project / "ünï code.txt").symlink_to("nowhere")
    with pytest.raises(Conflict):
        results.copy_files(world.context, run, CopyFiles(paths=["ünï code.txt"]))


def test_a_folder_is_not_replaced_by_a_file(world: World, run: str) -> None:
    (world.project / "sub" / "helper.py").mkdir(parents=True)
    with pytest.raises(Conflict):
        results.copy_files(world.context, run, CopyFiles(paths=["helper.py"], to="sub", overwrite=True))


def test_links_in_the_project_are_no_way_out(world: World, run: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (world.project / "out").symlink_to(outside)
    with pytest.raises(BadInput):
        results.copy_files(world.context, run, CopyFiles(paths=["out/a.csv"]))
    assert list(outside.iterdir()) == []
    # a file that is a link is replaced, what it leads to stays
    (outside / "kept.py").write_text("kept")
    (world.project / "helper.py").unlink()
    (world.project / "helper.py").symlink_to(outside / "kept.py")
    results.copy_files(world.context, run, CopyFiles(paths=["helper.py"], overwrite=True))
    assert (outside / "kept.py").read_text() == "kept"
    assert (world.project / "helper.py").read_text() == "changed"


def test_elsewhere_only_when_the_caller_may(world: World, run: str, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    with pytest.raises(BadInput):
        results.copy_files(world.context, run, CopyFiles(paths=["helper.py"], to=str(target)))
    results.copy_files(world.context, run, CopyFiles(paths=["helper.py"], to=str(target)), anywhere=True)
    assert (target / "helper.py").read_text() == "changed"
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable):
        results.copy_files(world.context, run, CopyFiles(paths=["helper.py"], to=str(tmp_path / "file")), anywhere=True)


def test_links_to_secrets_are_not_copied(world: World, run: str) -> None:
    before = tree_of(world.project)
    for path in ("leak", "up", "folder/passwd"):
        with pytest.raises(NotFound):
            results.copy_files(world.context, run, CopyFiles(paths=[path]))
    with pytest.raises(BadInput):
        results.copy_files(world.context, run, CopyFiles(paths=[]))
    assert tree_of(world.project) == before


def test_the_notebook_and_the_log(world: World, run: str) -> None:
    assert results.run_notebook(world.context, run).read_text() == "{}"
    directory = results.run_directory(world.context, run)
    assert results.read_log(directory) == ([], 0)
    lines = [rundir.LogRecord(at=1.0, stream="stdout", text=text, cell=2) for text in ("one", "zwei €")]
    (directory / "log.jsonl").write_bytes(b"".join(rundir.encode(line) + b"\n" for line in lines))
    first, offset = results.read_log(directory)
    assert [(line.text, line.cell) for line in first] == [("one", 2), ("zwei €", 2)]
    assert results.read_log(directory, offset) == ([], offset)
    results.run_notebook(world.context, run).unlink()
    with pytest.raises(NotFound):
        results.run_notebook(world.context, run)


def test_an_output_folder_gets_notebook_and_files(world: World, run: str) -> None:
    content = {**FILES, "inside": "a", "report.ipynb": "{}"}
    for _ in range(2):
        copied, missing = results.copy_to_output_dir(world.context.engine, world.data_dir, run)
        assert sorted(copied) == sorted(str(world.project / "results" / run / name) for name in content)
        assert sorted(missing) == ["dangling", "folder", "folder/passwd", "leak", "pipe", "up"], "what leads elsewhere keeps back nothing else"
        assert tree_of(world.project / "results" / run) == {name: text.encode() for name, text in content.items()}


def test_a_snapshot_that_is_gone_is_said(world: World, run: str) -> None:
    job = run.split("-")[0]
    view = results.snapshot_view(world.context, job)
    (world.data_dir / "snapshots" / view.snapshot.digest / "manifest.json").unlink()
    with pytest.raises((NotFound, Unavailable)):
        results.snapshot_view(world.context, job)
