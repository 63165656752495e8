"""Servers, dispatchers, runners, keepers, kernels and fork servers are killed while a job runs. `make soak` does the same for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.faults.sweep import sweep


@pytest.mark.parametrize(("seed", "settings"), [(1, {}), (2, {"fork": False, "workspace": "copy"})])
def test_every_run_ends_once_and_truly_whoever_is_killed(tmp_path: Path, seed: int, settings: dict[str, object]) -> None:
    figures = sweep(tmp_path, seed, 40, most=25, **settings)
    print(figures)
    assert sum(figures.outcomes.values()) == 40
    assert figures.kills.total() >= 10
