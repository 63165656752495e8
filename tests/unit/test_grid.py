"""The grid as properties over generated files, and the exact error for every malformed one."""

from __future__ import annotations

import ast
import importlib
import itertools
import json
import keyword
import math
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jupyter_jobs import grid
from jupyter_jobs.errors import BadInput
from jupyter_jobs.model import Combination

some = settings(max_examples=40, deadline=None)
STEP = "62a62810-336c-44c4-af6a-35228e8f2028"
OTHER = "0f0d4a5e-7a52-4dd4-9d49-3f8f4f1f2b7a"

names = st.text(alphabet="abcxyz_ABCé0123456789", min_size=1, max_size=8).filter(lambda name: name.isidentifier() and not keyword.iskeyword(name))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=12)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc\"'\\$é", max_size=3), inner, max_size=3), max_leaves=6
)


def exact(value: object) -> str:
    """Tells 1, 1.0 and true apart, which `==` does not."""
    return json.dumps(value, sort_keys=True)


axes = st.lists(values, min_size=1, max_size=4, unique_by=exact)
grids = st.dictionaries(names, axes, max_size=4)
indents = st.sampled_from([None, 0, 2, "\t"])


@some
@given(grids, indents)
def test_flat_files_are_read_exactly(parameters: dict[str, list[object]], indent: int | str | None) -> None:
    text = json.dumps(parameters, indent=indent)
    read = grid.parse_grid(text, file="g.json")
    assert exact(read.parameters) == exact(parameters)
    assert list(read.parameters) == list(parameters)
    assert read.steps == {}


@some
@given(grids, grids, indents, st.booleans())
def test_pipeline_files_are_read_exactly(
    parameters: dict[str, list[object]], of_step: dict[str, list[object]], indent: int | str | None, ascii_only: bool
) -> None:
    text = json.dumps({STEP: of_step, "pipeline_parameters": parameters}, indent=indent, ensure_ascii=ascii_only)
    read = grid.parse_grid(text, file="g.json", steps=[STEP, OTHER])
    assert exact([read.parameters, read.steps]) == exact([parameters, {STEP: of_step}])
    assert exact(grid.parse_grid(json.dumps({"pipeline_parameters": parameters}), file="g.json").parameters) == exact(parameters)


@some
@given(grids)
def test_combinations_are_the_product_with_the_first_key_slowest(parameters: dict[str, list[object]]) -> None:
    points = grid.combinations(grid.Grid(parameters))
    expected = [dict(zip(parameters, point, strict=True)) for point in itertools.product(*parameters.values())]
    assert [exact(point.parameters) for point in points] == [exact(point) for point in expected]
    assert [list(point.parameters) for point in points] == [list(parameters)] * len(expected)
    assert [point.number for point in points] == list(range(1, len(expected) + 1))
    assert len({exact(point.parameters) for point in points}) == len(points)
    assert [points[index] for index in range(-len(points), 0)] == list(points) == points[:]


@some
@given(grids)
def test_every_combination_can_be_sent_and_comes_back_as_it_was(parameters: dict[str, list[object]]) -> None:
    for point in grid.combinations(grid.Grid(parameters))[:20]:
        back = msgspec.json.decode(msgspec.json.encode(point), type=Combination)
        assert exact(back.parameters) == exact(point.parameters)
        assert len(point.label) <= grid.LABEL_LENGTH


def python_translator() -> type:
    """papermill's own, without the rest of papermill, whose import takes seconds."""
    spec = find_spec("papermill")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    bare = types.ModuleType("bare_papermill")
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules.setdefault("bare_papermill", bare)
    return importlib.import_module("bare_papermill.translators").PythonTranslator  # type: ignore[no-any-return]


@some
@given(grids)
@example({"x": ["\"\\'\n\u2028$\x00"], "y": [-0.0, 5e-324, 2**64 - 1], "z": [{"a'b": [None, True]}]})
def test_papermill_hands_every_accepted_value_to_python_as_it_is(parameters: dict[str, list[object]]) -> None:
    translator = python_translator()
    for values_of_key in grid.parse_grid(json.dumps(parameters), file="g.json").parameters.values():
        for value in values_of_key:
            assert exact(ast.literal_eval(translator.translate(value))) == exact(value)  # type: ignore[attr-defined]


@some
@given(st.text(max_size=60) | st.text(alphabet='{}[]":, \n\\ub1.eE-NaIftrul', max_size=40))
@example('{"a":[1]' + "}" * 3)
@example("[" * 100_000)
@example('{"a":' * 50_000 + "1" + "}" * 50_000)
@example('{"a":[' + "9" * 5_000 + "]}")
def test_any_text_is_a_grid_or_bad_input(text: str) -> None:
    try:
        read = grid.parse_grid(text, file="g.json")
    except BadInput as error:
        refused = error
    else:
        assert all(isinstance(each, list) and each for each in read.parameters.values())
        return
    assert refused.code == "grid_invalid"
    assert refused.detail["file"] == "g.json"
    msgspec.json.encode([str(refused), refused.detail])


MALFORMED = [
    ("", "is empty", {"line": 1}),
    (" \n", "is empty", {"line": 1}),
    ('{"a": [1],}', "not JSON", {"line": 1, "column": 11}),
    ('{\n "a": [1 2]}', "not JSON", {"line": 2, "column": 10}),
    ("{'a': [1]}", "double quotes", {"line": 1}),
    ('{"a": [True]}', "true, false and null", {"line": 1}),
    ('{"a": [1]} # why', "no comments", {"line": 1}),
    ('\n[{"a": [1]}]', "holds a list, not an object", {"line": 2}),
    ("3", "holds a number", {"line": 1}),
    ('{\n"ok": [1],\n"a": 3}', "Wrap it in a list: [3]", {"line": 3, "key": "a"}),
    ('{"a": "x"}', 'Wrap it in a list: ["x"]', {"key": "a"}),
    ('{"a": null}', "is null, not a list", {"key": "a"}),
    ('{"a": {"b": 1}}', "is an object, not a list", {"key": "a"}),
    ('{"ok": [1],\n\n"a": []}', "empty list", {"line": 3, "key": "a"}),
    ('{"a": [1],\n"b": [1],\n"a": [2]}', "second time, after line 1", {"line": 3, "key": "a"}),
    ('{"a": [{"k": 1, "k": 2}]}', "key “k” twice", {"key": "a"}),
    ('{"a": [1, 2, 1]}', "values 1 and 3", {"key": "a"}),
    ('{"a": [{"x": 1, "y": 2}, {"y": 2, "x": 1}]}', "values 1 and 2", {"key": "a"}),
    ('{"a": [NaN]}', "NaN", {"key": "a"}),
    ('{"a": [[-Infinity]]}', "-Infinity", {"key": "a"}),
    ('{"a": [1e999]}', "too large for a float", {"key": "a"}),
    ('{"a": [18446744073709551616]}', "64 bits", {"key": "a"}),
    ('{"a": [' + "1" * 30 + "]}", "64 bits", {"key": "a"}),
    ('{"a b": [1]}', "variable's name", {"key": "a b"}),
    ('{"1a": [1]}', "variable's name", {"key": "1a"}),
    ('{"": [1]}', "variable's name", {"key": ""}),
    ('{"lambda": [1]}', "variable's name", {"key": "lambda"}),
    ('{"a": ["\\ud800"]}', "surrogate", {"key": "a"}),
    ('{"a": ' + "[" * 40 + "]" * 40 + "}", "nested too deep", {"key": "a"}),
    ('{"pipeline_parameters": {"a": [1]},\n"b": [1]}', "cannot be mixed", {"line": 2, "key": "b"}),
    ('{"pipeline_parameters": {"a": [1],\n"a": [2]}}', "second time", {"line": 2, "key": "a"}),
    ('{"pipeline_parameters": {"a":\n 1}}', "not a list of values", {"line": 1, "key": "a"}),
    (f'{{"pipeline_parameters": {{}},\n"{STEP}": {{"a": [1]}}}}', "a notebook has none", {"line": 2, "step": STEP}),
]


@pytest.mark.parametrize(("text", "message", "detail"), MALFORMED)
def test_a_malformed_file_is_named_with_line_and_key(text: str, message: str, detail: dict[str, object]) -> None:
    with pytest.raises(BadInput) as raised:
        grid.parse_grid(text, file="report.parameters.json")
    assert message in str(raised.value)
    assert "report.parameters.json" in raised.value.message
    assert raised.value.detail["file"] == "report.parameters.json"
    assert {key: raised.value.detail.get(key) for key in detail} == detail


def test_steps_are_checked_by_uuid_and_named_in_errors() -> None:
    with pytest.raises(BadInput, match="no step") as unknown:
        grid.parse_grid(f'{{"{OTHER}": {{"a": [1]}}}}', file="p.json", steps=[STEP])
    assert unknown.value.detail["step"] == OTHER
    assert STEP in unknown.value.mend
    with pytest.raises(BadInput, match="empty list") as empty:
        grid.parse_grid(f'{{\n"{STEP}": {{\n"a": []}}}}', file="p.json", steps=[STEP])
    assert (empty.value.detail["line"], empty.value.detail["step"], empty.value.detail["key"]) == (3, STEP, "a")


def test_a_pipelines_names_need_not_be_identifiers_and_rs_may_have_dots() -> None:
    assert grid.parse_grid('{"a b": [1]}', file="p.json", steps=[STEP]).parameters == {"a b": [1]}
    assert grid.parse_grid('{"learning.rate": [1]}', file="p.json", language="R").parameters == {"learning.rate": [1]}
    with pytest.raises(BadInput):
        grid.parse_grid('{"learning.rate": [1]}', file="p.json")


def test_numbers_of_different_types_and_a_byte_order_mark_are_welcome() -> None:
    read = grid.parse_grid('\ufeff{"a": [1, 1.0, true, "1", 9007199254740993]}', file="g.json").parameters["a"]
    assert [type(value) for value in read] == [int, float, bool, str, int]
    assert read[4] == 2**53 + 1
    assert len(grid.combinations(grid.parse_grid("{}", file="g.json"))) == 1


def test_levels_keep_their_own_values_of_one_name() -> None:
    read = grid.parse_grid(json.dumps({"pipeline_parameters": {"a": [1, 2]}, STEP: {"a": [3, 4]}}), file="p.json", steps=[STEP])
    points = grid.combinations(read)
    assert [(point.parameters["a"], point.step_parameters[STEP]["a"]) for point in points] == [(1, 3), (1, 4), (2, 3), (2, 4)]
    assert points.names == ["a", "62a62810#a"]


def test_defaults_stand_in_for_what_a_grid_leaves_out() -> None:
    points = grid.combinations(
        grid.Grid({"a": [1, 2]}, {STEP: {"n": [5]}}), grid.Grid({"a": [9], "b": [0]}, {STEP: {"n": [1], "m": [2]}, OTHER: {"k": [7]}})
    )
    assert [point.parameters for point in points] == [{"a": 1, "b": 0}, {"a": 2, "b": 0}]
    assert points[0].step_parameters == {STEP: {"n": 5, "m": 2}, OTHER: {"k": 7}}


def test_single_parameters_replace_in_place_or_come_last() -> None:
    merged = grid.merge(grid.Grid({"a": [1], "b": [2]}), {"c": [3], "a": [4, 5]})
    assert merged.parameters == {"a": [4, 5], "b": [2], "c": [3]}
    assert list(merged.parameters) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "bad",
    [{"a": []}, {"a": [1, 1]}, {"a b": [1]}, {"a": [math.nan]}, {"a": [math.inf]}, {"a": [2**64]}, {"a": ["\ud800"]}, {"a": [{1: 2}]}, {"a": [{3}]}],
)
def test_single_parameters_are_checked_alike(bad: dict[str, list[object]]) -> None:
    with pytest.raises(BadInput) as raised:
        grid.merge(grid.EMPTY, bad)
    assert raised.value.detail["field"] == f"parameters.{next(iter(bad))}"


def test_too_many_combinations_are_refused_with_the_count_of_each_key() -> None:
    large = grid.Grid({"a": list(range(1000)), "b": list(range(1000)), "c": [1]})
    with pytest.raises(BadInput) as raised:
        grid.combinations(large)
    assert "1,000,000" in raised.value.message
    assert raised.value.detail["counts"] == {"a": 1000, "b": 1000}
    most = grid.combinations(grid.Grid({"a": list(range(1000)), "b": list(range(100))}))
    assert len(most) == grid.MAX_COMBINATIONS
    assert most[-1].parameters == {"a": 999, "b": 99}


def test_labels_show_what_is_swept_first_and_stay_short() -> None:
    points = grid.combinations(grid.Grid({"model": ["gbm"], "lr": [0.1, 1], "text": ["true", "two words"], "long": ["x" * 500]}))
    assert points[0].label.startswith('lr=0.1, text="true", model=gbm, long=xxx')
    assert points[3].label.startswith('lr=1, text="two words", model=gbm')
    assert len(points[0].label) < 120
    assert grid.combinations(grid.EMPTY)[0].label == ""


@some
@given(st.sets(st.integers(1, 60), min_size=1))
def test_selected_combinations_keep_grid_order(numbers: set[int]) -> None:
    points = grid.combinations(grid.Grid({"a": list(range(60))}))
    assert [point.number for point in grid.select(points, [*numbers, *numbers])] == sorted(numbers)
    text = ",".join(str(number) for number in numbers)
    assert grid.parse_numbers(text) == sorted(numbers)


def test_numbers_and_ranges() -> None:
    assert grid.parse_numbers("1,3-5, 4 - 6") == [1, 3, 4, 5, 6]
    assert len(grid.select(grid.combinations(grid.Grid({"a": [1, 2]})), [])) == 2
    for bad in ("", "0", "a", "5-3", "1-", "-1", "1,,2", "1-999999999", "9" * 30, "١"):
        with pytest.raises(BadInput):
            grid.parse_numbers(bad)
    for number in (0, -1, 3):
        with pytest.raises(BadInput, match=r"has 2"):
            grid.select(grid.combinations(grid.Grid({"a": [1, 2]})), [1, number])


def test_the_file_beside_a_notebook(tmp_path: Path) -> None:
    notebook = tmp_path / "weekly.report.ipynb"
    assert grid.grid_beside(notebook) is None
    beside = tmp_path / "weekly.report.parameters.json"
    beside.write_text('{"é": ["ü"]}', encoding="utf-8-sig")
    assert grid.grid_beside(notebook) == beside
    assert grid.parse_grid(grid.read_grid_file(beside), file=beside.name).parameters == {"é": ["ü"]}
    beside.write_bytes(b'{"a": ["\xff"]}')
    with pytest.raises(BadInput, match="UTF-8"):
        grid.read_grid_file(beside)
    with pytest.raises(BadInput, match="is no file"):
        grid.read_grid_file(tmp_path)
