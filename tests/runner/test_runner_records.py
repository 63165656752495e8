"""Recorded values: variables after the last cell, and outputs that carry a value."""

from __future__ import annotations

import datetime
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_jobs.runner import records, rundir, values
from tests.runner.runner_cells import code

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4),
    max_leaves=10,
)


@given(JSON)
def test_json_is_itself(value):
    assert json.loads(values.dump(value)) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        (numpy.float32(0.5), 0.5),
        (numpy.int64(7), 7),
        (numpy.bool_(True), True),
        (numpy.array(3), 3),
        (numpy.array([[1.0, numpy.nan]]), [[1.0, "NaN"]]),
        (numpy.zeros(5000), repr(numpy.zeros(5000))),
        (pandas.Series([1, 2]), [1, 2]),
        (pandas.NA, None),
        (pandas.NaT, None),
        (pandas.Timestamp("2024-01-02"), "2024-01-02T00:00:00"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        ((1, {2}), [1, [2]]),
        ({1: 2, None: 3, "a": 4}, {"1": 2, "null": 3, "a": 4}),
        (Path("/a/b"), repr(Path("/a/b"))),
        ("a\ud800", "a?"),
    ],
)
def test_what_values_become(value, expected):
    assert json.loads(values.dump(value)) == expected


def test_what_refers_to_itself_or_is_huge_is_cut():
    loop: list[object] = []
    loop.append(loop)
    assert "[...]" in values.dump(loop)
    assert len(values.dump(["x" * 100_000])) < 2000


def test_the_source_runs_in_an_old_python_without_anything(tmp_path):
    for expression, expected in [(records.expression("1.5", python=True), 1.5), (records.expression("{'a': [None]}", python=True), {"a": [None]})]:
        shown = subprocess.run([sys.executable, "-I", "-S", "-c", f"print(repr({expression}))"], capture_output=True, text=True, check=True).stdout
        assert records.from_text(shown, python=True) == expected


@pytest.mark.parametrize(("text", "value"), [("[1] 0.25", 0.25), ("42", 42), ("[1] TRUE", "TRUE"), ("NaN", "NaN"), ('"a"', '"a"')])
def test_values_of_other_languages(text, value):
    assert records.from_text(text, python=False) == value


SHOWN = """
from IPython.display import display
display({"application/vnd.jupyter-jobs.record+json": {"shown": 1, "twice": 1}}, raw=True)
display({"application/vnd.jupyter-jobs.record+json": {"twice": 2}}, raw=True)
display({"application/papermill.record+json": {"old": [1]}}, raw=True)
display({"application/scrapbook.scrap.json+json": {"name": "glued", "data": {"a": 1}, "encoder": "json", "version": 1}},
        metadata={"scrapbook": {"name": "glued", "data": True, "display": False}}, raw=True)
display({"application/scrapbook.scrap.text+json": {"name": "text", "data": "t", "encoder": "text", "version": 1}}, raw=True)
import jupyter_jobs
jupyter_jobs.record("ours", __import__("numpy").float64(0.91))
"""


def test_values_are_recorded(execute):
    run, result = execute(
        [code(SHOWN), code("import numpy\nauc = numpy.float64(0.5); loss = float('nan'); big = 2**80; model = object; auc2 = [1, 'x']")],
        record=["auc", "loss", "big", "auc2", "missing", "auc"],
    )
    assert result.state == "complete"
    shown = {"shown": 1, "twice": 2, "old": [1], "glued": {"a": 1}, "text": "t", "ours": 0.91}
    assert result.records == {**shown, "auc": 0.5, "loss": "NaN", "big": 2**80, "auc2": [1, "x"]}
    assert [event.name for event in run.events if event.kind == "record"][:3] == ["shown", "twice", "twice"]
    assert "“missing” was not recorded" in run.said("system")


def test_values_seen_before_a_failure_are_kept(execute):
    _, result = execute([code(SHOWN), code("1/0")], record=["auc"])
    assert result.state == "failed"
    assert result.records["shown"] == 1
    assert "auc" not in result.records


def test_recording_works_whatever_the_notebook_did_to_its_names(execute):
    run, result = execute([code("json = str = repr = len = type = list = None\nvalue = 3\n%pprint")], record=["value"])
    assert result.records == {"value": 3}, run.said()


def test_a_value_whose_repr_fails_is_only_not_recorded(execute):
    run, result = execute([code("class Bad:\n    def __repr__(self): raise ValueError\nbad = Bad(); good = 1")], record=["bad", "good"])
    assert result.state == "complete"
    assert result.records == {"good": 1}
    assert "“bad” was not recorded" in run.said("system")


def test_record_outside_a_notebook_does_nothing():
    script = "import jupyter_jobs, sys; jupyter_jobs.record('a', 1); print('IPython' in sys.modules, 'msgspec' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False False\n"


def test_results_keep_large_numbers(tmp_path):
    result = rundir.RunResult(state="complete", started_at=1.0, ended_at=2.0, cells=rundir.CellCount(done=1, total=1), records={"n": 2**100})
    rundir.write_result(tmp_path, result)
    assert rundir.read_result(tmp_path) == result


@pytest.mark.parametrize(("end", "status"), [("os.kill(os.getpid(), 9)", -9), ("os._exit(3)", 3)])
def test_a_run_whose_kernel_dies_before_its_values_are_read_is_not_complete(execute, end, status):
    source = f"import os\nclass Deadly:\n    def __repr__(self):\n        {end}\nvalue = Deadly()"
    _, result = execute([code(source)], record=["value"])
    assert (result.state, result.records, result.kernel_exit) == ("failed", {}, status)
    assert result.error.code == "kernel_died"
    assert "after the last cell" in result.error.message


def test_what_was_told_before_the_kernel_left_is_no_loss(execute):
    _, result = execute([code("value = 1"), code("exit()")], record=["value"])
    assert result.state == "complete"
