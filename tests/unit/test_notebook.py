"""Reading notebooks of every age and state, and what their cells say."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode, v4

from jupyter_jobs.errors import BadInput, NotFound
from jupyter_jobs.snapshot import notebook as notebooks
from jupyter_jobs.snapshot.nodes import notebook_text


def write(path: Path, cells: list[dict[str, object]], minor: int = 5, **metadata: object) -> Path:
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": minor, "metadata": metadata, "cells": cells}))
    return path


def code(source: str, *tags: str, **more: object) -> dict[str, object]:
    return {"cell_type": "code", "source": source, "metadata": {"tags": list(tags)} if tags else {}, "outputs": [], "execution_count": None, **more}


def book(*cells: str, language: str = "python", tagged: int | None = None) -> NotebookNode:
    kernelspec = {"name": language, "display_name": language, "language": language}
    made = v4.new_notebook(cells=[v4.new_code_cell(source) for source in cells], metadata={"kernelspec": kernelspec})
    if tagged is not None:
        made.cells[tagged].metadata["tags"] = ["parameters"]
    return made


# -- reading -----------------------------------------------------------------------------------------------------------


def test_cell_ids_are_kept_where_they_are_unique_and_else_made_the_same_each_time(tmp_path: Path) -> None:
    path = write(tmp_path / "n.ipynb", [code("a", id="keep"), code("b", id="keep"), code("c"), code("c", id="not valid!"), code("d", id=7)])
    first, second = notebooks.read_notebook(path), notebooks.read_notebook(path)
    ids = [cell.id for cell in first.cells]
    assert ids[0] == "keep"
    assert len(set(ids)) == 5
    assert ids == [cell.id for cell in second.cells]
    nbformat.validate(first)
    assert (first.nbformat, first.nbformat_minor) == (4, 5)


def test_it_is_read_as_nbformat_reads_it(tmp_path: Path) -> None:
    bundle = {"text/plain": ["a\n", "b"], "text/html": "<b>", "application/json": ["kept", "apart"], "application/vnd.x+json": ["so", "too"]}
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["1\n", "2"]},
        {"output_type": "display_data", "data": bundle, "metadata": {}},
        {"output_type": "execute_result", "data": {"text/plain": ["x", "y"]}, "metadata": {"k": ["l"]}, "execution_count": 1},
        {"output_type": "error", "ename": "E", "evalue": "e", "traceback": ["one", "two"]},
    ]
    attached = {"p.png": {"image/png": ["aGk", "="]}}
    cells = [
        code("", id="one") | {"source": ["a = 1\n", "b = 2"], "outputs": outputs, "metadata": {"trusted": True, "tags": ["t"]}},
        {"cell_type": "markdown", "id": "two", "source": ["# é", "\n"], "metadata": {}, "attachments": attached},
    ]
    path = write(tmp_path / "n.ipynb", cells, orig_nbformat=4, kernelspec={"name": "k", "display_name": "K"})
    ours, theirs = notebooks.read_notebook(path), nbformat.reads(path.read_text(), 4)
    kept = json.loads(notebook_text(ours))
    assert nbformat.reads(json.dumps(kept), 4) == theirs
    assert kept["cells"][0]["source"] == ours.cells[0].source == "a = 1\nb = 2"
    assert "orig_nbformat" in ours.metadata, "the notebook itself stays as it is"


def test_a_derived_id_does_not_collide_with_one_that_is_there(tmp_path: Path) -> None:
    derived = notebooks.read_notebook(write(tmp_path / "a.ipynb", [code("x")], minor=4)).cells[0].id
    again = notebooks.read_notebook(write(tmp_path / "b.ipynb", [code("x"), code("y", id=derived)])).cells
    assert again[1].id == derived
    assert again[0].id.startswith(derived)
    assert again[0].id != derived


def test_nbformat_3_becomes_4_with_the_same_ids_each_time(tmp_path: Path) -> None:
    path = tmp_path / "old.ipynb"
    cells = [
        {"cell_type": "heading", "level": 2, "source": ["Old"], "metadata": {}},
        {"cell_type": "code", "input": ["x = 1\n", "x"], "language": "python", "outputs": [], "prompt_number": 1, "metadata": {}, "collapsed": False},
    ]
    path.write_text(json.dumps({"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": "old"}, "worksheets": [{"cells": cells, "metadata": {}}]}))
    first, second = notebooks.read_notebook(path), notebooks.read_notebook(path)
    assert [cell.source for cell in first.cells] == ["## Old", "x = 1\nx"]
    assert first == second
    nbformat.validate(first)


def test_what_may_be_left_out_is_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    text = json.dumps({"nbformat": 4, "nbformat_minor": 9, "cells": [{"cell_type": "code", "source": ["a\n", "b"]}]})
    path.write_text("\ufeff" + text, encoding="utf-8")
    read = notebooks.read_notebook(path)
    assert read.cells[0].source == "a\nb"
    nbformat.validate(read)


UNREADABLE = [
    (b"", "is empty", {"line": 1}),
    (b" \n", "is empty", {"line": 1}),
    (b'{"cells": [\n  1,\n', "not JSON", {"line": 3}),
    (b'{\n<<<<<<< HEAD\n"a": 1\n=======\n"a": 2\n>>>>>>> theirs\n}', "conflict markers", {"line": 2}),
    (b"[]", "no notebook", {}),
    (b'{"a": 1}', "no notebook", {}),
    (b'{"cells": []}', "nbformat", {}),
    (b'{"cells": [], "nbformat": 5}', "nbformat 5", {}),
    (b'{"cells": [], "nbformat": true}', "nbformat", {}),
    (b'{"cells": {}, "nbformat": 4}', "no list of cells", {}),
    (b'{"cells": [], "nbformat": 4, "metadata": 3}', "metadata", {}),
    (b'{"cells": [{"cell_type": "markdown", "source": ""}, 3], "nbformat": 4}', "cell 2", {"cell": 2}),
    (b'{"cells": [{"cell_type": "poem", "source": ""}], "nbformat": 4}', "unknown type", {"cell": 1}),
    (b'{"cells": [{"cell_type": "code", "source": 3}], "nbformat": 4}', "without source", {"cell": 1}),
    (b'{"cells": [{"cell_type": "code", "source": "", "metadata": {"tags": 1}}], "nbformat": 4}', "metadata", {"cell": 1}),
    (b'{"cells": [{"cell_type": "code", "source": "", "outputs": [1]}], "nbformat": 4}', "outputs", {"cell": 1}),
    (b'{"worksheets": 3, "nbformat": 3}', "nbformat 3", {}),
    (b'{"cells": []\xff', "UTF-8", {"line": 1}),
    (b"[" * 200_000, "not JSON", {}),
]


@pytest.mark.parametrize(("raw", "message", "detail"), UNREADABLE)
def test_what_is_no_notebook_is_named_with_line_or_cell(tmp_path: Path, raw: bytes, message: str, detail: dict[str, object]) -> None:
    path = tmp_path / "n.ipynb"
    path.write_bytes(raw)
    with pytest.raises(BadInput, match=message) as raised:
        notebooks.read_notebook(path)
    assert raised.value.code == "notebook_invalid"
    assert raised.value.mend
    assert {"file": "n.ipynb", **detail}.items() <= raised.value.detail.items()


def test_a_missing_notebook_is_not_found_and_a_folder_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.ipynb"):
        notebooks.read_notebook(tmp_path / "none.ipynb")
    with pytest.raises(BadInput, match="is a folder"):
        notebooks.read_notebook(tmp_path)


# -- parameters --------------------------------------------------------------------------------------------------------


def test_python_parameters_with_types_defaults_and_help() -> None:
    source = """%matplotlib inline
lr: float = 1  # learning rate
name = "a # b"  # what it is called
layers = [
    64,  # first
    32,
]  # sizes
rate = -1e-3  # type: float  per step
day = date.today()
shape = (1, 2)
nothing = None
a, b = 1, True
big = 2**70
huge = 18446744073709551616
lr = 0.5
print(lr)
files = !ls
"""
    found = {one.name: one for one in notebooks.parameters_of(book("import x", source, tagged=1))}
    assert list(found) == ["lr", "name", "layers", "rate", "day", "shape", "nothing", "a", "b", "big", "huge", "files"]
    assert (found["lr"].default, found["lr"].type) == ("0.5", "float")
    assert (found["name"].default, found["name"].help) == ('"a # b"', "what it is called")
    assert (found["layers"].default, found["layers"].type, found["layers"].help) == ("[64, 32]", "list", "sizes")
    assert (found["rate"].default, found["rate"].type, found["rate"].help) == ("-0.001", "float", "per step")
    assert (found["day"].default, found["day"].is_json) == ("date.today()", False)
    assert (found["shape"].default, found["shape"].is_json) == ("(1, 2)", False)
    assert (found["nothing"].default, found["nothing"].type) == ("null", "None")
    assert (found["a"].default, found["b"].default, found["b"].type) == ("1", "true", "bool")
    assert not found["big"].is_json
    assert (found["huge"].default, found["huge"].is_json) == ("18446744073709551616", False)


def test_annotation_counts_for_the_type() -> None:
    (found,) = notebooks.parameters_of(book("lr: float = 1  # learning rate", tagged=0))
    assert (found.name, found.type, found.default, found.help) == ("lr", "float", "1", "learning rate")


@pytest.mark.parametrize("source", ["lr = (", "%%bash\nlr=3", "", "# only a comment", "print('hello')"])
def test_a_parameters_cell_without_any_is_empty(source: str) -> None:
    assert notebooks.parameters_of(book(source, tagged=0)) == []


def test_parameters_of_other_languages() -> None:
    r = {
        one.name: one
        for one in notebooks.parameters_of(
            book("lr <- 0.1 # rate\nn = 5L\nuse.it <- TRUE\nx <- NULL\ns <- 'hi'\nv <- c(1, 2)\nif (n == 5) 1", language="R", tagged=0)
        )
    }
    assert {name: one.default for name, one in r.items()} == {"lr": "0.1", "n": "5", "use.it": "true", "x": "null", "s": '"hi"', "v": "c(1, 2)"}
    assert r["lr"].help == "rate"
    assert not r["v"].is_json
    julia = {one.name: one for one in notebooks.parameters_of(book("n::Int = 3\nlr = 0.5;", language="julia", tagged=0))}
    assert (julia["n"].type, julia["n"].default, julia["lr"].default) == ("Int", "3", "0.5")


def test_candidates_are_early_cells_of_plain_assignments() -> None:
    cells = [
        "import os",
        "lr = 0.1\nname = 'x'",
        "model = fit(lr)",
        "print('no')\nn = 3",
        "def f():\n    x = 1",
        "from a import b\nseed = 1\npath = os.getcwd()",
    ]
    found = notebooks.candidate_cells(book(*cells, *["late = 1"] * 20))
    assert [(one.cell.number, [each.name for each in one.parameters]) for one in found[:2]] == [(2, ["lr", "name"]), (6, ["seed"])]
    assert max(one.cell.number for one in found) <= 8


def test_tagging_a_cell_changes_a_copy_only() -> None:
    before = book("a = 1", "b = 2")
    after = notebooks.tag_cell(notebooks.tag_cell(before, before.cells[1].id), before.cells[1].id)
    assert after.cells[1].metadata.tags == ["parameters"]
    assert notebooks.parameters_cell(before) is None
    found = notebooks.parameters_cell(after)
    assert found is not None
    assert found[0].number == 2
    with pytest.raises(NotFound):
        notebooks.tag_cell(before, "none")


# -- what would undo a parameter ---------------------------------------------------------------------------------------

LOST = [
    "lr = 5",
    "lr: int = 5",
    "for lr in range(3): pass",
    "with open(x) as lr: pass",
    "import numpy as lr",
    "def lr(): pass",
    "(a, lr) = 1, 2",
    "%%time\nlr = 5",
    "!ls\nlr = 5",
]
KEPT = [
    "lr = float(lr)",
    "lr += 1",
    "if lr is None:\n    lr = 5",
    "def f():\n    lr = 5",
    "class A:\n    lr = 5",
    "[lr for lr in range(3)]",
    "print(lr)",
    "%%bash\nlr=5",
    "d['lr'] = 5",
    "o.lr = 5",
    "lr: int",
    "lr = (",
]


@pytest.mark.parametrize("source", LOST)
def test_a_later_assignment_is_a_warning_that_names_the_cell(source: str) -> None:
    found = notebooks.reassigned_later(book("lr = 1", "x = 2", source, tagged=0), ["lr"])
    assert [(one.cell, one.level, one.field) for one in found] == [(3, "warning", "parameters.lr")]
    assert "lr is assigned again in cell 3" in found[0].message


@pytest.mark.parametrize("source", KEPT)
def test_what_keeps_the_jobs_value_is_no_warning(source: str) -> None:
    assert notebooks.reassigned_later(book("lr = 1", source, tagged=0), ["lr"]) == []


def test_a_conditional_assignment_could_lose_the_value() -> None:
    (found,) = notebooks.reassigned_later(book("lr = 1", "if debug:\n    lr = 5", tagged=0), ["lr"])
    assert "could be lost" in found.message


def test_checks_name_unknown_parameters_and_early_uses() -> None:
    notebook = book("lr = 1\nhalf = lr / 2\nprint(lr)", "half = 3", tagged=0)
    codes = [(one.code, one.field) for one in notebooks.check_parameters(notebook, ["lr", "typo"])]
    assert codes == [("parameter_unknown", "parameters.typo"), ("parameter_used_early", "parameters.lr"), ("parameter_used_early", "parameters.lr")]
    untagged = notebooks.check_parameters(book("lr = 1"), ["lr"])
    assert [one.code for one in untagged] == ["no_parameters_cell", "parameter_reassigned"]
    assert notebooks.check_parameters(book("lr = 1"), []) == []


def test_the_parameters_cell_itself_is_checked() -> None:
    twice = book("a = 1", "b = 2", tagged=0)
    twice.cells[1].metadata["tags"] = ["parameters"]
    assert [(one.code, one.cell) for one in notebooks.parameters_cell_findings(twice)] == [("parameters_twice", 2)]
    assert [one.code for one in notebooks.parameters_cell_findings(book("a = (", tagged=0))] == ["parameters_unreadable"]


def test_imports_with_their_cells_and_whether_they_are_optional() -> None:
    cells = [
        "import os.path, numpy as np\nfrom . import near",
        "try:\n    import fast\nexcept ImportError:\n    fast = None",
        "%%time\nfrom a.b import c",
        "def f():\n    import late",
        "import (",
    ]
    found = {one.module: (one.cell, one.optional) for one in notebooks.imports_of(book(*cells))}
    assert found == {"os.path": (1, False), "numpy": (1, False), "fast": (2, True), "a.b": (3, False), "late": (4, False)}
    assert notebooks.imports_of(book("library(x)", language="R")) == []


@pytest.mark.parametrize(
    "cell",
    [
        code("x", outputs=[{"output_type": "stream"}]),
        code("x", outputs=[{"output_type": ["stream"], "text": ""}]),
        code("x", outputs=[{"output_type": "stream", "text": 3}]),
        code("x", outputs=[{"output_type": "display_data", "data": ["text/plain"]}]),
        code("x", attachments=3),
        code("x", attachments={"a.png": []}),
        code("x", outputs=[{"output_type": "display_data", "data": {"application/json": json.loads("[" * 900 + "]" * 900)}}]),
    ],
)
def test_what_nbformat_stumbles_over_is_refused_in_words(tmp_path: Path, cell: dict[str, object]) -> None:
    with pytest.raises(BadInput) as caught:
        notebooks.read_notebook(write(tmp_path / "n.ipynb", [cell]))
    assert caught.value.code == "notebook_invalid"


def test_half_a_surrogate_pair_is_replaced_and_a_whole_one_is_not(tmp_path: Path) -> None:
    path = write(tmp_path / "n.ipynb", [code("'\ud83d' '\U0001f600'")], odd="\ude00")
    notebook = notebooks.read_notebook(path)
    assert notebook.cells[0].source == "'\ufffd' '\U0001f600'"
    assert notebook.metadata["odd"] == "\ufffd"
    nbformat.writes(notebook).encode()


def test_source_that_overwhelms_pythons_parser_has_no_parameters() -> None:
    assert notebooks.parameters_of(book("x = " + "-" * 50_000 + "1", tagged=0)) == []
