"""Limits from the command line to the run's end, and what `usage` says of it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.acceptance.place import Place, write_notebook

MB = 1_000_000
HOG = "import time\nheld = []\nfor _ in range(40):\n    held.append(b'x' * 10_000_000)\ntime.sleep(600)"


def test_a_run_over_its_memory_ends_and_says_what_it_asked_and_used(place: Place, project: Path) -> None:
    notebook = write_notebook(project / "hog.ipynb", "print('before')", HOG)
    said = place.jobs("run", notebook, "--memory", "200M", "--cpu", "500m", "--wait", code=1)
    assert "may not use more than 200.0 MB" in said
    assert "→ Allow more (--memory), or use less data at a time." in said
    (job,) = place.json("list", "--search", "hog")["jobs"]  # type: ignore[misc]
    (run,) = place.runs(job["id"])
    error = run["error"]
    assert error["code"] == "resource_limit_exceeded"  # type: ignore[index]
    detail = error["detail"]  # type: ignore[index]
    assert (detail["resource"], detail["asked"]) == ("memory", 200 * MB)
    assert detail["used"] > 200 * MB
    assert place.jobs("logs", str(run["id"])).startswith("before\n")

    used = place.json("usage", str(run["id"]))
    assert used["limits"] == {"cpu": 0.5, "memory": 200 * MB, "storage": None}
    assert used["peak_memory"] == run["peak_memory"]
    assert isinstance(used["cpu_seconds"], float)
    first, second = used["cells"]  # type: ignore[misc]
    assert [each["cell"]["number"] for each in (first, second)] == [1, 2]
    assert first["started_at"] <= first["ended_at"] == second["started_at"] <= second["ended_at"]
    shown = place.jobs("usage", str(run["id"]))
    assert "200.0 MB" in shown


def test_a_run_over_its_storage_ends(place: Place, project: Path) -> None:
    source = (
        "import os, time\nwith open('big.bin', 'wb') as file:\n    for _ in range(50):\n        file.write(os.urandom(1_000_000))\ntime.sleep(600)"
    )
    notebook = write_notebook(project / "writes.ipynb", source)
    said = place.jobs("run", notebook, "--storage", "10M", "--wait", code=1)
    assert "may not use more than 10.0 MB" in said
    assert "--storage" in said


def test_figures_that_make_no_sense_make_no_job(place: Place, project: Path) -> None:
    notebook = write_notebook(project / "senseless.ipynb", "1")
    assert "'2X' is no size; write it like 500M, 2G or 1.5Gi" in place.jobs("run", notebook, "--memory", "2X", code=2)
    assert "'two' is no number of cores; write it like 2, 1.5 or 500m" in place.jobs("run", notebook, "--cpu", "two", code=2)
    for words, code, field in [
        (["--cpu", "0"], "bad_option", "--cpu"),
        (["--memory", "1k"], "bad_option", "--memory"),
        (["--storage", "0"], "bad_option", "--storage"),
        (["--cpu", "100000"], "resources_never_fit", "resources.cpu"),
        (["--memory", "1000T"], "resources_never_fit", "resources.memory"),
    ]:
        error = json.loads(place.jobs("run", notebook, *words, "--json", code=2))
        assert error["code"] == code, error
        assert field in (error["detail"].get("field"), error["message"].split()[1].rstrip(":")), error
        assert error["mend"]
    assert place.json("list", "--search", "senseless")["jobs"] == []
