"""Whatever a run writes, nothing outside it changes."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.place import Place, fingerprint, write_notebook


def test_runs_that_write_everywhere_change_nothing(place: Place, project: Path) -> None:
    (project / "data.csv").write_text("a\n1\n")
    (project / "data.csv").chmod(0o444)
    (project / "link").symlink_to("data.csv")
    beside = project.parent / "beside.txt"
    beside.write_text("outside the project")
    cells = [
        "from pathlib import Path\nassert Path('../beside.txt').read_text() == 'outside the project'",
        f"assert Path({str(project)!r}).samefile('.')",
        "import os\ntext = Path('data.csv').read_text()\nassert text == 'a\\n1\\n'\nos.remove('data.csv')",
        "Path('data.csv').write_text(f'{text}{n}\\n')",
        f"Path({str(project / 'absolute.txt')!r}).write_text(str(n))",
        "Path('link').unlink(); Path('new').mkdir(); Path('new/file').write_text('x' * n); os.remove('.jobs.toml')",
        "total = len(Path('data.csv').read_text()) + n",
    ]
    write_notebook(project / "writes.ipynb", *cells, parameters="n = 0")
    before = fingerprint(project)

    job = place.json("run", project / "writes.ipynb", *[word for n in "123456" for word in ("-p", "n", n)], "--record", "total", "--wait")

    assert job["counts"] == {"complete": 6}
    for n, run in enumerate(place.runs(str(job["id"])), 1):
        assert run["records"] == {"total": 6 + n}
        files = {file["path"]: file["kind"] for file in place.json("files", str(run["id"]))["files"]}  # type: ignore[union-attr]
        assert files == {
            ".jobs.toml": "deleted",
            "absolute.txt": "created",
            "data.csv": "changed",
            "link": "deleted",
            "new/file": "created",
        }
    assert fingerprint(project) == before
    assert beside.read_text() == "outside the project"
