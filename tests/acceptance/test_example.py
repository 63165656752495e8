"""The example, as `make demo` runs it."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat

from tests.acceptance.place import ROOT, Place, fingerprint

COMBINATIONS = [(features, rate) for features in ("usage", "contract", "all") for rate in (0.05, 0.5)]


def test_six_combinations_six_results_and_the_project_as_it_was(place: Place, tmp_path: Path) -> None:
    project = place.home / "churn"
    shutil.copytree(ROOT / "examples" / "churn", project)
    before = fingerprint(project)

    said = place.jobs("run", project / "report.ipynb", "--record", "auc,loss", "--wait")

    assert "6 runs over features, learning_rate" in said
    (job,) = place.json("list")["jobs"]  # type: ignore[misc]
    runs = place.runs(job["id"])
    assert [(run["parameters"]["features"], run["parameters"]["learning_rate"]) for run in runs] == COMBINATIONS  # type: ignore[index]
    assert {run["state"] for run in runs} == {"complete"}
    losses = [run["records"]["loss"] for run in runs]  # type: ignore[index]
    assert len(set(losses)) == 6
    # more features and a larger rate learn more; what a mix-up of parameters would break
    by_combination = dict(zip(COMBINATIONS, losses, strict=True))
    for rate in (0.05, 0.5):
        assert by_combination["usage", rate] > by_combination["contract", rate] > by_combination["all", rate]
    for features in ("usage", "contract", "all"):
        assert by_combination[features, 0.05] > by_combination[features, 0.5]
    assert fingerprint(project) == before

    for run in runs:
        files = place.json("files", str(run["id"]), "-o", tmp_path / str(run["id"]))["files"]
        assert [(file["path"], file["kind"]) for file in files] == [("most_likely_to_leave.csv", "created")]  # type: ignore[union-attr]
        assert (tmp_path / str(run["id"]) / "most_likely_to_leave.csv").read_text().startswith("customer,")

    place.jobs("html", job["id"], "-o", tmp_path / "pages")
    pages = sorted((tmp_path / "pages").iterdir())
    assert len(pages) == 6
    for page, run in zip(pages, runs, strict=True):
        text = page.read_text()
        assert f"AUC {run['records']['auc']:.3f}" in text  # type: ignore[index]
        assert "data:image/png;base64" in text

    place.jobs("delete", job["id"])
    assert not list(place.data.glob("runs/*"))
    assert not list(place.data.glob("snapshots/*"))
    assert nbformat.read(project / "report.ipynb", 4).cells[0].id == "title"
