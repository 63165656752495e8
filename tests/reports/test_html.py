"""The page's text: what is embedded and what is not, long outputs."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

import pytest
from nbformat import NotebookNode, from_dict, v4, write

from jupyter_jobs.errors import BadInput, NotFound, TooLarge
from jupyter_jobs.reports import html, length, media
from jupyter_jobs.reports.exporter import coloured
from jupyter_jobs.reports.html import render_html

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def saved(folder: Path, *cells: NotebookNode, name: str = "n.ipynb") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    write(v4.new_notebook(cells=list(cells)), path)
    return path


def printed(text: str, name: str = "stdout") -> NotebookNode:
    return from_dict({"output_type": "stream", "name": name, "text": text})


def test_a_notebook_loads_only_the_libraries_that_it_needs(tmp_path: Path) -> None:
    plain = render_html(saved(tmp_path, v4.new_markdown_cell("costs $5"), v4.new_code_cell("1")), assets="/vendor")
    assert "<script src=" not in plain
    formula = render_html(saved(tmp_path, v4.new_markdown_cell("$x$")), assets="/vendor")
    assert formula.count("<script src=") == 1
    assert '<script src="/vendor/mathjax.js?v=' in formula


@pytest.mark.parametrize(
    ("path", "roots", "embedded"),
    [
        ("pic.png", ["run"], True),
        ("./sub/../pic.png", ["run"], True),
        ("pic.png?x=1#y", ["run"], True),
        ("../shared.png", ["run"], False),
        ("shared.png", ["run", "tree"], True),
        ("../secret.png", ["run"], False),
        ("%2e%2e/secret.png", ["run"], False),
        ("link.png", ["run"], False),
        ("inner.png", ["run"], True),
        ("loop.png", ["run"], False),
        ("pipe.png", ["run"], False),
        ("sub", ["run"], False),
        ("none.png", ["run"], False),
        ("/etc/hostname", ["run"], False),
        ("pic.png%00", ["run"], False),
    ],
)
def test_only_files_below_the_roots_are_embedded(tmp_path: Path, path: str, roots: list[str], embedded: bool) -> None:
    run, tree = tmp_path / "run", tmp_path / "tree"
    (run / "sub").mkdir(parents=True)
    tree.mkdir()
    for file in (run / "pic.png", tree / "shared.png", tmp_path / "secret.png"):
        file.write_bytes(PIXEL)
    (run / "link.png").symlink_to(tmp_path / "secret.png")
    (run / "inner.png").symlink_to("pic.png")
    (run / "loop.png").symlink_to("loop.png")
    os.mkfifo(run / "pipe.png")
    page = media.embed_media(f'<p><img alt="a > b" src="{path}"/></p>', [tmp_path / root for root in roots], "")
    assert ('<img alt="a > b" src="data:image/png;base64,' in page) is embedded
    assert ("not among the run's files" in page) is not embedded


def test_images_are_looked_for_from_the_notebooks_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "pic.png").write_bytes(PIXEL)
    html = render_html(saved(tmp_path, v4.new_markdown_cell("![x](../pic.png)")), assets="/vendor", files_root=[tmp_path], folder="a/b")
    assert "data:image/png" in html
    assert "../pic.png" not in html


def test_large_files_are_named_and_not_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "MAX_FILE_BYTES", 10)
    (tmp_path / "big.png").write_bytes(b"x" * 11)
    assert "too large to be shown" in media.embed_media('<img src="big.png">', [tmp_path], "")
    monkeypatch.setattr(media, "MAX_TOTAL_BYTES", 15)
    for name in ("one.png", "two.png"):
        (tmp_path / name).write_bytes(b"x" * 10)
    page = media.embed_media('<img src="one.png"><img src="two.png"><img src="one.png">', [tmp_path], "")
    assert page.count("data:image/png") == 2
    assert page.count("too large to be shown") == 1


@pytest.mark.parametrize(
    "markup",
    [
        '<img src="https://example.org/a.png">',
        '<img src="data:image/png;base64,AA">',
        "<script>x = '<img src=\"a.png\">'</script>",
        "<!-- <img src='a.png'> -->",
        "<img>",
    ],
)
def test_other_markup_stays_as_it_is(markup: str) -> None:
    assert media.embed_media(markup, [], "") == markup


def test_attached_images_are_shown(tmp_path: Path) -> None:
    cell = v4.new_markdown_cell("![x](attachment:p.png)", attachments={"p.png": {"image/png": base64.b64encode(PIXEL).decode()}})
    assert "data:image/png;base64," in render_html(saved(tmp_path, cell), assets="/vendor")


def test_a_hundred_thousand_lines_are_cut_with_a_mark(tmp_path: Path) -> None:
    lines = "".join(f"line {number}\n" for number in range(100_000))
    page = render_html(saved(tmp_path, v4.new_code_cell("", outputs=[printed(lines)])), assets="/vendor")
    assert "line 0\n" in page
    assert "line 99999" in page
    assert "line 50000" not in page
    assert "96,001 lines are not shown here" in page
    assert len(page) < 1_000_000


def test_one_endless_line_is_cut_too() -> None:
    short = length.shorten("x" * 5_000_000)
    assert len(short) < 100_000
    assert "more characters in this line" in short


def test_a_hundred_thousand_small_outputs_become_one() -> None:
    outputs = [printed(f"{number}\n") for number in range(100_000)]
    notebook = from_dict({"cells": [{"cell_type": "code", "source": "", "outputs": [*outputs, printed("bad\n", "stderr"), printed("more\n")]}]})
    length.tidy_outputs(notebook)
    assert [output.get("name") for output in notebook.cells[0].outputs] == ["stdout", None, "stderr", "stdout"]
    assert notebook.cells[0].outputs[0].text.startswith("0\n1\n2\n")


def test_a_progress_bar_shows_its_last_state() -> None:
    notebook = v4.new_notebook(cells=[v4.new_code_cell("", outputs=[printed("0%\r", "stderr"), printed("50%\r100%\ndone\r\n", "stderr")])])
    length.tidy_outputs(notebook)
    assert notebook.cells[0].outputs[0].text == "100%\ndone\n"


def test_cells_are_numbered_as_in_the_source(tmp_path: Path) -> None:
    injected = v4.new_code_cell("# Parameters\nlr = 1", id="inj", metadata={"tags": ["injected-parameters"]})
    notice = v4.new_markdown_cell("An Exception was encountered", id="note", metadata={"tags": ["papermill-error-cell-tag"]})
    page = render_html(saved(tmp_path, v4.new_code_cell("a", id="first"), injected, notice, v4.new_code_cell("b", id="second")), assets="/vendor")
    assert 'href="#cell=first" title="Cell 1"' in page
    assert 'href="#cell=second" title="Cell 2"' in page
    assert page.count('id="cell=') == 3
    assert "Parameters of this run" in page
    assert "An Exception" not in page


def test_what_cannot_be_shown_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match=r"none\.ipynb"):
        render_html(tmp_path / "none.ipynb")
    (tmp_path / "bad.ipynb").write_text("{")
    with pytest.raises(BadInput):
        render_html(tmp_path / "bad.ipynb")
    (tmp_path / "large.ipynb").write_bytes(b" " * 11)
    monkeypatch.setattr(html, "MAX_NOTEBOOK", 10)
    with pytest.raises(TooLarge, match=r"large\.ipynb"):
        render_html(tmp_path / "large.ipynb")


def test_scripts_of_libraries_from_elsewhere_are_taken_out(tmp_path: Path) -> None:
    markup = (
        '<script src="https://cdnjs.cloudflare.com/ajax/libs/require.js/2.3.4/require.min.js"></script><script>mine()</script>'
        '<script type="module">import "https://cdn.plot.ly/plotly-4.1.1.min"</script><script src="https://example.org/own.js"></script>'
    )
    bundle = f"<script>/**\n* plotly.js v4.1.1\n*/{'x' * 600_000}</script>"
    outputs = [v4.new_output("display_data", {"text/html": text}) for text in (markup, bundle)]
    page = render_html(saved(tmp_path, v4.new_code_cell("", outputs=outputs)), assets="/vendor")
    assert "mine()" in page
    assert "example.org/own.js" in page
    assert "cdnjs" not in page
    assert "cdn.plot.ly" not in page
    assert len(page) < 600_000
    assert "/vendor/plotly.js" in page
    assert "/vendor/require.js" in page


def test_outputs_that_are_too_large_are_left_out_with_a_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(length, "MAX_OUTPUT", 1_000)
    outputs = [
        v4.new_output("display_data", {"image/png": "A" * 1_001, "text/plain": "<a figure>"}),
        v4.new_output("display_data", {"text/html": "B" * 1_001}),
        v4.new_output("display_data", {"text/html": "<b>small</b>"}),
    ]
    path = saved(tmp_path, v4.new_code_cell("", outputs=outputs))
    page = render_html(path, assets="/vendor", download="notebook")
    assert "A" * 100 not in page
    assert "B" * 100 not in page
    assert "&lt;a figure&gt;" in page
    assert "<b>small</b>" in page
    assert page.count("1,001 characters of this output are not shown here.") == 2
    assert page.count('<a class="jj-notebook" href="notebook">Download the notebook</a>') == 2
    assert "jj-notebook" not in render_html(path).partition("<main>")[2].rpartition("<script>")[0]


def test_many_outputs_are_left_out_and_the_error_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(length, "MAX_OUTPUTS", 3)
    shown = [v4.new_output("display_data", {"text/html": f"<i>{number}</i>"}) for number in range(10)]
    error = v4.new_output("error", ename="E", evalue="why", traceback=["first line", "x" * 600_000, "the last words"])
    page = render_html(saved(tmp_path, v4.new_code_cell("", outputs=[*shown, error])), assets="/vendor")
    assert [number for number in range(10) if f"<i>{number}</i>" in page] == [0, 1, 2]
    assert "7 more outputs" in page
    assert "first line" in page
    assert "the last words" in page
    assert len(page) < 1_000_000


def test_a_page_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(length, "MAX_PAGE", 250)
    cells = [v4.new_code_cell("", outputs=[v4.new_output("display_data", {"text/html": f"{number}" * 100})]) for number in range(5)]
    page = render_html(saved(tmp_path, *cells), assets="/vendor")
    assert [number for number in range(5) if f"{number}" * 100 in page] == [0, 1]
    assert page.count("1 more output (100 characters)") == 3


def test_a_large_state_of_widgets_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    view = v4.new_output("display_data", {length.WIDGET_VIEW: {"model_id": "m"}, "text/plain": "IntSlider(value=1)"})
    notebook = v4.new_notebook(cells=[v4.new_code_cell("", outputs=[view])])
    notebook.metadata["widgets"] = {length.WIDGET_STATE: {"state": {"m": {"state": {"description": "z" * 1_000}}}}}
    write(notebook, tmp_path / "n.ipynb")
    assert "z" * 1_000 in render_html(tmp_path / "n.ipynb", assets="/vendor")
    monkeypatch.setattr(length, "MAX_OUTPUT", 900)
    page = render_html(tmp_path / "n.ipynb", assets="/vendor")
    assert "z" * 1_000 not in page
    assert "IntSlider(value=1)" in page
    assert "/vendor/widgets.js" not in page


def test_colours_go_on_from_one_piece_to_the_next() -> None:
    text = "\x1b[31m\x1b[1m" + "".join(f"{number}\x1b[4m\x1b[24m" for number in range(500)) + "end\x1b[0m plain"
    shown = coloured(text)
    assert "ansi-red-intense-fg" in shown.rpartition("end")[0].rpartition("<span")[2]
    assert shown.endswith(" plain")
    assert re.sub("<[^>]*>", "", shown) == "".join(map(str, range(500))) + "end plain"
    assert coloured("<b>") == "&lt;b&gt;"


@pytest.mark.parametrize(
    "piece",
    [
        "<script ",
        "<script>",
        "<script>a</script ",
        "<!--",
        "<img ",
        '<img "',
        "<img src='",
        "\r",
        "\n",
        "$",
        "\x1b[",
        "\x1b[31mx",
        "</script",
        "<style>",
        "src=",
    ],
)
def test_nothing_takes_longer_than_its_length_allows(tmp_path: Path, piece: str) -> None:
    """Each of these takes minutes where a pattern looks for its end from every beginning."""
    text = piece * (1_000_000 // len(piece)) + "x"
    outputs = [v4.new_output("display_data", {"text/html": text}), v4.new_output("display_data", {"text/plain": text}), printed(text)]
    path = saved(tmp_path, v4.new_code_cell("1", outputs=outputs), v4.new_markdown_cell(text[:10_000]))
    assert render_html(path, assets="/vendor", files_root=[tmp_path]).rstrip().endswith("</html>")
