"""An executed notebook as read-only HTML that asks no outside host for anything.

The page is made for a sandboxed frame without an origin: what an output contains may run scripts there, and reaches nothing. What we add ourselves
(banner, title, notes) is escaped. Libraries come from `static/vendor/`, and only those that the notebook needs.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jupyter_jobs.errors import BadInput, NotFound, Unavailable
from jupyter_jobs.model import Json

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from jupyter_jobs.reports.media import Library

Banner = Mapping[str, Json]
"""What the page's banner says, all optional: `run` (number), `job` (name), `label`, `state`, `snapshot` (digest), `at` (ISO time), `error` (a
sentence) and `cell` (id of the cell it names)."""

Theme = Literal["auto", "light", "dark"]

VENDOR = Path(__file__).parent.parent / "static" / "vendor"
TEMPLATES = Path(__file__).parent / "templates"
KEPT_PAGES = 3

# plotly and mermaid look for `define` when they load, so require.js comes after them
_ORDER: tuple[Library, ...] = ("mathjax", "plotly", "mermaid", "require", "widgets")
_PLACEHOLDER = re.compile(r'<script src="inline:(\w+)"></script>')
_OURS = ("injected-parameters", "papermill-error-cell-tag")


def render_html(
    notebook: Path,
    *,
    assets: str = "inline",
    banner: Banner | None = None,
    files_root: Path | Sequence[Path] | None = None,
    folder: str = "",
    theme: Theme = "auto",
    title: str = "",
) -> str:
    """The page of a notebook, as text.

    `assets`: `inline` for one self-contained page, else the URL of the folder that serves the files of `static/vendor/`. `files_root`: where relative
    images are looked for, one folder or several in order (a run's files, then its snapshot's tree); `folder`: the notebook's own, relative to it.
    `theme` `auto` follows the browser. `NotFound` without the notebook, `BadInput` where it is none, `Unavailable` where libraries are needed inline
    and were not built.
    """
    try:
        raw = notebook.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"There is no notebook {notebook.name} yet.", code="notebook_not_found", mend="Wait until its first cell has run.") from error
    return _render(raw, notebook, assets, banner or {}, _roots(files_root), folder, theme, title)


def cached_html(
    notebook: Path,
    cache_dir: Path,
    *,
    assets: str = "inline",
    banner: Banner | None = None,
    files_root: Path | Sequence[Path] | None = None,
    folder: str = "",
    theme: Theme = "auto",
    title: str = "",
) -> Path:
    """The file that holds the page, made unless it is there already for the same notebook, arguments and template. The rest as `render_html`.

    A page is written atomically. Of the pages that differ only in the notebook (a run under way) the last three are kept.
    """
    try:
        raw = notebook.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"There is no notebook {notebook.name} yet.", code="notebook_not_found", mend="Wait until its first cell has run.") from error
    roots = _roots(files_root)
    variant = _digest(json.dumps([assets, folder, theme, title, [str(root) for root in roots]]), 8)
    content = _digest("\0".join([_version(), json.dumps(dict(banner or {}), sort_keys=True), hashlib.sha256(raw).hexdigest()]), 32)
    page = cache_dir / f"{variant}-{content}.html"
    if page.is_file():
        return page
    text = _render(raw, notebook, assets, banner or {}, roots, folder, theme, title)
    cache_dir.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=cache_dir, prefix=".page-")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)
    Path(temporary).replace(page)
    siblings = sorted((path for path in cache_dir.glob(f"{variant}-*.html") if path != page), key=_modified, reverse=True)
    for old in siblings[KEPT_PAGES - 1 :]:
        old.unlink(missing_ok=True)
    return page


def _render(raw: bytes, path: Path, assets: str, banner: Banner, roots: list[Path], folder: str, theme: Theme, title: str) -> str:
    # nbconvert takes seconds to import, and most that import this module never render
    from nbconvert.exporters import HTMLExporter
    from traitlets.config import Config

    from jupyter_jobs.reports.media import PLOTLY, embed_media, libraries, localise_outputs, tidy_outputs

    notebook = _read(raw, path)
    tidy_outputs(notebook)
    needed = localise_outputs(notebook) | libraries(notebook)
    config = Config()
    config.NbConvertBase.display_data_priority = ["application/vnd.jupyter.widget-view+json", PLOTLY, *_PRIORITY]
    exporter = HTMLExporter(  # type: ignore[no-untyped-call]
        config=config,
        template_name="jobs",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
        theme=theme,
    )
    resources = {
        "metadata": {"name": title or path.stem, "path": ""},
        "jobs": {
            "banner": {key: value for key, value in banner.items() if value not in (None, "")},
            "cells": _cells(notebook),
            "head": [script_tag(library, assets) for library in _ORDER if library in needed],
            "page": json.dumps({"folder": folder, "theme": theme}),
        },
    }
    page, _ = exporter.from_notebook_node(notebook, resources)
    page = embed_media(page, roots, folder)
    return _PLACEHOLDER.sub(lambda match: f"<script>{_vendored(match[1])}</script>", page)


_PRIORITY = (
    "application/javascript",
    "text/html",
    "text/markdown",
    "image/svg+xml",
    "text/vnd.mermaid",
    "text/latex",
    "image/png",
    "image/jpeg",
    "image/gif",
    "text/plain",
)


def _read(raw: bytes, path: Path) -> NotebookNode:
    """An executed notebook, which is nbformat 4 as we write it. Not validated: that takes a minute where there are 100,000 outputs."""
    from nbformat import from_dict
    from nbformat.v4.rwbase import rejoin_lines

    try:
        data: object = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path.name} is not JSON: {error}.", code="notebook_invalid", mend="Run it again.", file=path.name) from error
    if (
        not isinstance(data, dict)
        or data.get("nbformat") != 4
        or not isinstance(data.get("cells"), list)
        or not all(isinstance(cell, dict) for cell in data["cells"])
    ):
        raise BadInput(f"{path.name} is no notebook of nbformat 4.", code="notebook_invalid", mend="Save it with a newer Jupyter.", file=path.name)
    data.setdefault("metadata", {})
    for number, cell in enumerate(data["cells"], start=1):
        cell.setdefault("id", f"cell-{number}")
    notebook: NotebookNode = rejoin_lines(from_dict(data))  # type: ignore[no-untyped-call]
    return notebook


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


@lru_cache(maxsize=1)
def _vendor_version() -> str:
    versions = VENDOR / "versions.json"
    return _digest(versions.read_text(), 8) if versions.is_file() else "0"


@lru_cache(maxsize=1)
def _version() -> str:
    """Changes whenever the same notebook would give another page."""
    from nbconvert import __version__

    sources = sorted(path for path in [*TEMPLATES.rglob("*"), Path(__file__), Path(__file__).with_name("media.py")] if path.is_file())
    return _digest("\0".join([__version__, _vendor_version(), *(path.read_text(encoding="utf-8") for path in sources)]), 16)


def _roots(files_root: Path | Sequence[Path] | None) -> list[Path]:
    return [] if files_root is None else [files_root] if isinstance(files_root, Path) else list(files_root)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0  # another process has removed it meanwhile


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]
