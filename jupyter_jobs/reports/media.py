"""What an executed notebook shows besides text: the libraries its page needs, images as data. What is in it may be meant to make this slow, so
everything here goes through a text once."""

from __future__ import annotations

import base64
import html
import mimetypes
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from nbformat import NotebookNode

from jupyter_jobs.reports.length import WIDGET_STATE, WIDGET_VIEW
from jupyter_jobs.reports.length import joined_text as _text

Library = Literal["mathjax", "require", "widgets", "mermaid", "plotly"]

MAX_FILE_BYTES = 16 << 20
MAX_TOTAL_BYTES = 64 << 20
PLOTLY = "application/vnd.plotly.v1+json"
MAX_URL = 2_000
"""Characters of an address that is looked at."""
BUNDLE = 500_000
"""Characters from which on a script may be a whole plotly.js."""

_MATH = re.compile(r"\$[^$]+\$|\\\(|\\\[|\\begin\{", re.DOTALL)
_REQUIRE = re.compile(r"\brequire(js)?\s*[.(]|\bdefine\s*\(")
_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*\{?mermaid\b", re.MULTILINE)
_PLOTLY_USE = re.compile(r"\bPlotly\.|plotly-graph-div|['\"]plotly['\"]")
_HOSTED: tuple[tuple[re.Pattern[str], Library], ...] = (
    (re.compile(r"//cdn\.plot\.ly/|/plotly(\.js|-[\d.]+|-latest)?[^/\"']*(\.min)?\.js", re.IGNORECASE), "plotly"),
    (re.compile(r"/require(\.js|js)?/[^\"']*require(\.min)?\.js|/require(\.min)?\.js", re.IGNORECASE), "require"),
    (re.compile(r"mathjax", re.IGNORECASE), "mathjax"),
    (re.compile(r"html-manager", re.IGNORECASE), "widgets"),
    (re.compile(r"/mermaid[@/.]", re.IGNORECASE), "mermaid"),
)
_SCRIPT = re.compile(r"<script\b([^<>]*)>", re.IGNORECASE)
_END = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in ("script", "style")}
_SRC = re.compile(r"""\bsrc\s*=\s*("(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s>]+))""", re.IGNORECASE)
_TAG = re.compile(r"<(?:(?P<raw>script|style)\b|(?P<comment>!--)|(?P<name>img|source|video|audio|embed)\b)", re.IGNORECASE)
_ATTRIBUTES = re.compile(r"((?:\"[^\"]*\"|'[^']*'|[^<>\"']++)*+)>")


def localise_outputs(notebook: dict[str, Any]) -> set[Library]:
    """Take scripts that only load a library, or are a whole plotly.js, out of HTML outputs, in place; returns what they would have loaded."""
    needed: set[Library] = set()
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if PLOTLY not in data and "text/html" in data:
                markup = _text(data["text/html"])
                kept, at = [], 0
                for begin, end, attributes, body in _scripts(markup):
                    library = _loads(attributes, body)
                    if library:
                        needed.add(library)
                        kept.append(markup[at:begin])
                        at = end
                data["text/html"] = "".join([*kept, markup[at:]])
    return needed


def libraries(notebook: NotebookNode) -> set[Library]:
    """The libraries that the page of this notebook needs."""
    needed: set[Library] = set()
    if WIDGET_STATE in notebook.metadata.get("widgets", {}):
        needed |= {"widgets", "require"}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            needed |= {"mathjax"} if _MATH.search(cell.source) else set()
            needed |= {"mermaid"} if _FENCE.search(cell.source) else set()
        for output in cell.get("outputs", []):
            needed |= _needs(output.get("data", {}))
    return needed


def embed_media(page: str, roots: Sequence[Path], folder: str) -> str:
    """The page with relative images, videos and sounds as data URIs, looked for below each of `roots`, from `folder` (the notebook's own) on.

    Nothing outside the roots is read, through `..`, absolute paths or links; what is missing, too large or outside leaves a note in its place.
    """
    left = [MAX_TOTAL_BYTES]
    known: dict[str, str] = {}
    pieces, done = [], 0
    for begin, end, name, attributes in _media_tags(page):
        src = _SRC.search(attributes)
        written = (src["double"] or src["single"] or src["bare"] or "") if src else ""
        if src is None or written.startswith("data:") or len(written) > MAX_URL:
            continue
        url = html.unescape(written)
        try:
            parts = urlsplit(url)
        except ValueError:
            continue
        if parts.scheme or parts.netloc or not parts.path:
            continue
        if url not in known:
            known[url] = _data_uri(unquote(parts.path), roots, folder, left)
        if known[url].startswith("data:"):
            instead = f'<{name}{attributes[: src.start()]}src="{known[url]}"{attributes[src.end() :]}>'
        else:
            instead = f'<span class="jj-missing">{html.escape(unquote(parts.path))}: {known[url]}</span>'
        pieces += [page[done:begin], instead]
        done = end
    return "".join([*pieces, page[done:]])


def _media_tags(page: str) -> Iterator[tuple[int, int, str, str]]:
    """Where tags that show a file begin and end, their names and attributes; not those in scripts, styles and comments."""
    at = 0
    while tag := _TAG.search(page, at):
        if tag["name"]:
            attributes = _ATTRIBUTES.match(page, tag.end())
            if attributes:
                yield tag.start(), attributes.end(), tag["name"], attributes[1]
            at = attributes.end() if attributes else tag.end()
        else:
            at = page.find("-->", tag.end()) if tag["comment"] else _end(tag["raw"], page, tag.end())
            if at < 0:
                return


def _scripts(markup: str) -> Iterator[tuple[int, int, str, str]]:
    """Where the scripts of HTML begin and end, their attributes and bodies."""
    at = 0
    while script := _SCRIPT.search(markup, at):
        at = _end("script", markup, script.end())
        if at < 0:
            return
        yield script.start(), at, script[1], markup[script.end() : markup.rindex("<", script.end(), at)]


def _end(name: str, text: str, at: int) -> int:
    """Where the element ends whose content begins at `at`; -1 if it does not."""
    found = _END[name.lower()].search(text, at)
    return found.end() if found else -1


def _data_uri(path: str, roots: Sequence[Path], folder: str, left: list[int]) -> str:
    """The file as a data URI, or why not."""
    if PurePosixPath(path).is_absolute() or "\0" in path:
        return "not among the run's files"
    for root in roots:
        base = root.resolve()
        try:
            file = (base / folder / path).resolve(strict=True)
            if not file.is_relative_to(base) or not file.is_file():
                continue
            size = file.stat().st_size
            if size > MAX_FILE_BYTES or size > left[0]:
                return f"{size / 1e6:.1f} MB, too large to be shown here"
            content = file.read_bytes()
        except (OSError, RuntimeError):  # RuntimeError: a loop of links (Python 3.11, 3.12)
            continue
        left[0] -= size
        media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
    return "not among the run's files"


def _needs(data: dict[str, object]) -> set[Library]:
    if WIDGET_VIEW in data:
        return {"widgets", "require"}
    if PLOTLY in data:
        return {"plotly"}
    needed: set[Library] = set()
    markup = _text(data.get("text/html", ""))
    script = _text(data.get("application/javascript", "")) + markup
    needed |= {"require"} if _REQUIRE.search(script) else set()
    needed |= {"plotly"} if _PLOTLY_USE.search(script) else set()
    needed |= {"mermaid"} if "text/vnd.mermaid" in data or "mermaid.initialize" in script else set()
    prose, at = [_text(data.get("text/markdown", ""))], 0
    for begin, end, _, _ in _scripts(markup):
        prose.append(markup[at:begin])
        at = end
    prose.append(markup[at:])
    needed |= {"mathjax"} if "text/latex" in data or _MATH.search("".join(prose)) else set()
    return needed


def _loads(attributes: str, body: str) -> Library | None:
    """The library that a script tag only loads."""
    src = _SRC.search(attributes)
    if src is not None:
        url = (src["double"] or src["single"] or src["bare"] or "")[:MAX_URL]
        return next((library for pattern, library in _HOSTED if pattern.search(url)), None)
    if "plotly.js v" in body[:4_000] and len(body) > BUNDLE:
        return "plotly"
    return "plotly" if "//cdn.plot.ly/" in body and "newPlot" not in body else None
