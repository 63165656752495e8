"""An executed notebook as read-only HTML that asks no outside host for anything.

The page is made for a sandboxed frame without an origin: what an output contains may run scripts there, and reaches nothing. What we add ourselves
(banner, title, notes) is escaped. Libraries come from `static/vendor/`, and only those that the notebook needs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TypedDict, Unpack

from jupyter_jobs.errors import BadInput, NotFound, TooLarge, Unavailable
from jupyter_jobs.model import Json

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from jupyter_jobs.reports.exporter import Exporter
    from jupyter_jobs.reports.media import Library

Banner = Mapping[str, Json]
"""What the page's banner says, all optional: `run` (number), `job` (name), `label`, `state`, `snapshot` (digest), `at` (ISO time), `error` (a
sentence) and `cell` (id of the cell it names)."""

Theme = Literal["auto", "light", "dark"]

VENDOR = Path(__file__).parent.parent / "static" / "vendor"
TEMPLATES = Path(__file__).parent / "templates"
MAX_NOTEBOOK = 256 << 20
"""Bytes of a notebook that is rendered; reading it takes some six times as much memory."""

# plotly and mermaid look for `define` when they load, so require.js comes after them
_ORDER: tuple[Library, ...] = ("mathjax", "plotly", "mermaid", "require", "widgets")
_PLACEHOLDER = re.compile(r'<script src="inline:(\w+)"></script>')
_OURS = ("injected-parameters", "papermill-error-cell-tag")


class Look(TypedDict, total=False):
    """How a notebook is shown, besides what is in it.

    `assets`: `inline` (the default) for one self-contained page, else the URL of the folder that serves the files of `static/vendor/`. `files_root`:
    where relative images are looked for, one folder or several in order (a run's files, then its snapshot's tree); `folder`: the notebook's own,
    relative to it. `theme` `auto` follows the browser. `download`: the URL of the notebook itself, for the marks of what is left out.
    """

    assets: str
    banner: Banner
    files_root: Path | Sequence[Path] | None
    folder: str
    theme: Theme
    title: str
    download: str


def render_html(notebook: Path, **look: Unpack[Look]) -> str:
    """The page of a notebook, as text.

    `NotFound` without the notebook, `BadInput` where it is none, `TooLarge`, `Unavailable` where libraries are needed inline and were not built.
    """
    with open_notebook(notebook) as file:
        return render_file(file, **look)


def open_notebook(notebook: Path) -> IO[bytes]:
    """The notebook's file, open. Raises `NotFound`."""
    try:
        return notebook.open("rb")
    except FileNotFoundError as error:
        raise NotFound(f"There is no notebook {notebook.name} yet.", code="notebook_not_found", mend="Wait until its first cell has run.") from error


def render_file(file: IO[bytes], **look: Unpack[Look]) -> str:
    """The page of the notebook in an open file. Raises as `render_html`."""
    from jupyter_jobs.reports.media import embed_media, libraries

    assets, theme, folder = look.get("assets", "inline"), look.get("theme", "auto"), look.get("folder", "")
    path = Path(file.name)
    notebook, hosted = _read(file, path)
    needed = hosted | libraries(notebook)
    resources = {
        "metadata": {"name": look.get("title") or path.stem, "path": ""},
        "jobs": {
            "banner": {key: value for key, value in look.get("banner", {}).items() if value not in (None, "")},
            "cells": _cells(notebook),
            "download": look.get("download", ""),
            "head": [script_tag(library, assets) for library in _ORDER if library in needed],
            "page": json.dumps({"folder": folder, "theme": theme}),
        },
    }
    exporter = _exporter()
    exporter.theme = theme
    page, _ = exporter.from_notebook_node(notebook, resources)
    page = embed_media(page, roots_of(look.get("files_root")), folder)
    return _PLACEHOLDER.sub(lambda match: f"<script>{_vendored(match[1])}</script>", page)


def prepare() -> None:
    """Do what the first page costs besides itself: imports of more than a second, compiling templates."""
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    cells = [new_markdown_cell("# `1`"), new_code_cell("1")]  # type: ignore[no-untyped-call]
    resources = {"metadata": {"name": ""}, "jobs": {"banner": {}, "cells": {}, "head": [], "page": "{}"}}
    _exporter().from_notebook_node(new_notebook(cells=cells), resources)  # type: ignore[no-untyped-call]


@cache
def _exporter() -> Exporter:
    # nbconvert takes seconds to import, and most that import this module never render
    from jupyter_jobs.reports.exporter import make_exporter

    return make_exporter(TEMPLATES)


def _read(file: IO[bytes], path: Path) -> tuple[NotebookNode, set[Library]]:
    """An executed notebook, which is nbformat 4 as we write it, as far as it is shown; and the libraries that its outputs would have loaded from
    elsewhere. Not validated: that takes a minute where there are 100,000 outputs."""
    from nbformat import from_dict
    from nbformat.v4.rwbase import rejoin_lines

    from jupyter_jobs.reports.length import tidy_outputs, valid_outputs
    from jupyter_jobs.reports.media import localise_outputs

    raw = file.read(MAX_NOTEBOOK + 1)
    if len(raw) > MAX_NOTEBOOK:
        raise TooLarge(
            f"{path.name} has more than {MAX_NOTEBOOK >> 20} MiB, too much for a page.", code="notebook_too_large", mend="Download the notebook."
        )
    try:
        data: object = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path.name} is not JSON: {error}.", code="notebook_invalid", mend="Run it again.", file=path.name) from error
    del raw
    if (
        not isinstance(data, dict)
        or data.get("nbformat") != 4
        or not isinstance(data.get("cells"), list)
        or not all(isinstance(cell, dict) for cell in data["cells"])
        or not isinstance(data.setdefault("metadata", {}), dict)
    ):
        raise BadInput(f"{path.name} is no notebook of nbformat 4.", code="notebook_invalid", mend="Save it with a newer Jupyter.", file=path.name)
    for number, cell in enumerate(data["cells"], start=1):
        cell.setdefault("id", f"cell-{number}")
        if cell.get("cell_type") == "code":
            cell["outputs"] = valid_outputs(cell.get("outputs"))
    # before anything is copied: what is left is small
    needed = localise_outputs(data)
    tidy_outputs(data)
    notebook: NotebookNode = rejoin_lines(from_dict(data))  # type: ignore[no-untyped-call]
    return notebook, needed


def script_tag(library: Library, assets: str) -> str:
    """The tag that loads a library; an inline one is filled in last, so that nothing parses megabytes of it."""
    return (
        f'<script src="inline:{library}"></script>'
        if assets == "inline"
        else f'<script src="{assets.rstrip("/")}/{library}.js?v={_vendor_version()}"></script>'
    )


def _cells(notebook: NotebookNode) -> dict[str, dict[str, Json]]:
    """Per cell id: its number in the source notebook (papermill's own cells have none), whether it failed, whether it holds the run's parameters."""
    cells: dict[str, dict[str, Json]] = {}
    number = 0
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        ours = any(tag in tags for tag in _OURS)
        number += not ours
        failed = any(output.output_type == "error" for output in cell.get("outputs", []))
        cells[cell.id] = {"number": None if ours else number, "failed": failed, "injected": _OURS[0] in tags, "notice": _OURS[1] in tags}
    return cells


def _vendored(library: str) -> str:
    file = VENDOR / f"{library}.js"
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        mend = "In a checkout run `make build` (or `node labextension/vendor.mjs`); else install jupyter_jobs again."
        raise Unavailable(f"The library {library} that this page needs was not built.", code="vendor_missing", mend=mend) from error
    # inside a string or a regular expression, where these occur, both spellings mean the same
    return re.sub(r"<(/script|!--)", lambda match: "<\\" + match[1], text, flags=re.IGNORECASE)


@cache
def _vendor_version() -> str:
    versions = VENDOR / "versions.json"
    return digest(versions.read_text(), 8) if versions.is_file() else "0"


@cache
def renderer_version() -> str:
    """Changes whenever the same notebook would give another page."""
    sources = [path for path in [*TEMPLATES.rglob("*"), *Path(__file__).parent.glob("*.py")] if path.is_file()]
    libraries = [version(name) for name in ("nbconvert", "mistune", "pygments")]
    return digest("\0".join([*libraries, _vendor_version(), *(path.read_text(encoding="utf-8") for path in sorted(sources))]), 16)


def roots_of(files_root: Path | Sequence[Path] | None) -> list[Path]:
    """The folders in which relative images are looked for."""
    return [] if files_root is None else [files_root] if isinstance(files_root, Path) else list(files_root)


def digest(text: str, length: int) -> str:
    """The first hexadecimal digits of the text's sha256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]
