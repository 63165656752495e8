"""What an executed notebook shows besides text: the libraries its page needs, images as data, outputs of a readable length."""

from __future__ import annotations

import base64
import html
import mimetypes
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from nbformat import NotebookNode

Library = Literal["mathjax", "require", "widgets", "mermaid", "plotly"]

MAX_LINES = 4_000
MAX_CHARACTERS = 500_000
MAX_LINE = 20_000
MAX_FILE_BYTES = 16 << 20
MAX_TOTAL_BYTES = 64 << 20
PLOTLY = "application/vnd.plotly.v1+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"

_MATH = re.compile(r"\$[^$]+\$|\\\(|\\\[|\\begin\{", re.DOTALL)
_REQUIRE = re.compile(r"\brequire(js)?\s*[.(]|\bdefine\s*\(")
_FENCE = re.compile(r"^\s*(```+|~~~+)\s*\{?mermaid\b", re.MULTILINE)
_PLOTLY_USE = re.compile(r"\bPlotly\.|plotly-graph-div|['\"]plotly['\"]")
_HOSTED: tuple[tuple[re.Pattern[str], Library], ...] = (
    (re.compile(r"//cdn\.plot\.ly/|/plotly(\.js|-[\d.]+|-latest)?[^/\"']*(\.min)?\.js", re.IGNORECASE), "plotly"),
    (re.compile(r"/require(\.js|js)?/[^\"']*require(\.min)?\.js|/require(\.min)?\.js", re.IGNORECASE), "require"),
    (re.compile(r"mathjax", re.IGNORECASE), "mathjax"),
    (re.compile(r"html-manager", re.IGNORECASE), "widgets"),
    (re.compile(r"/mermaid[@/.]", re.IGNORECASE), "mermaid"),
)
_SCRIPT = re.compile(r"<script\b(?P<attributes>[^>]*)>(?P<body>.*?)</script\s*>", re.IGNORECASE | re.DOTALL)
_SRC = re.compile(r"""\bsrc\s*=\s*("(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s>]+))""", re.IGNORECASE)
_TAG = re.compile(
    r"<(?P<whole>script|style)\b.*?</(?P=whole)\s*>|<!--.*?-->|<(?P<name>img|source|video|audio|embed)\b(?P<attributes>(?:\"[^\"]*\"|'[^']*'|[^>\"'])*)>",
    re.IGNORECASE | re.DOTALL,
)


def tidy_outputs(notebook: NotebookNode) -> None:
    """Make long and chatty outputs readable, in place: streams joined, progress bars at their last state, long texts cut with a mark."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
            for output in cell.outputs:
                if output.output_type == "stream":
                    output["text"] = shorten(_overwritten(output["text"]))
                elif "text/plain" in output.get("data", {}):
                    output.data["text/plain"] = shorten(_text(output.data["text/plain"]))


def shorten(text: str) -> str:
    """The first and last lines of a long text, with a mark that says how much is left out."""
    lines = text.split("\n")
    if len(lines) <= MAX_LINES and len(text) <= MAX_CHARACTERS:
        return text
    lines = [line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]} … {len(line) - MAX_LINE:,} more characters in this line" for line in lines]
    half, room = MAX_LINES // 2, MAX_CHARACTERS // 2
    head, tail = _within(lines[:half], room), _within(lines[: half - 1 : -1][:half], room)[::-1]
    left_out = len(lines) - len(head) - len(tail)
    return (
        "\n".join([*head, f"\n⋯ {left_out:,} lines are not shown here; the run's log and notebook have them all ⋯\n", *tail])
        if left_out > 0
        else "\n".join(lines)
    )


def localise_outputs(notebook: NotebookNode) -> set[Library]:
    """Take scripts that only load a library, or are a whole plotly.js, out of HTML outputs, in place; returns what they would have loaded."""
    needed: set[Library] = set()

    def replace(match: re.Match[str]) -> str:
        library = _loads(match)
        if library:
            needed.add(library)
        return "" if library else match[0]

    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if PLOTLY not in data and "text/html" in data:
                data["text/html"] = _SCRIPT.sub(replace, _text(data["text/html"]))
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

    def replace(match: re.Match[str]) -> str:
        src = _SRC.search(match["attributes"]) if match["name"] else None
        if src is None:
            return match[0]
        url = html.unescape(src["double"] or src["single"] or src["bare"] or "")
        parts = urlsplit(url)
        if parts.scheme or parts.netloc or not parts.path:
            return match[0]
        if url not in known:
            known[url] = _data_uri(unquote(parts.path), roots, folder, left)
        if known[url].startswith("data:"):
            attributes = match["attributes"]
            return f'<{match["name"]}{attributes[: src.start()]}src="{known[url]}"{attributes[src.end() :]}>'
        return f'<span class="jj-missing">{html.escape(unquote(parts.path))}: {known[url]}</span>'

    return _TAG.sub(replace, page)


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
    prose = _SCRIPT.sub("", markup) + _text(data.get("text/markdown", ""))
    needed |= {"mathjax"} if "text/latex" in data or _MATH.search(prose) else set()
    return needed


def _loads(match: re.Match[str]) -> Library | None:
    """The library that a script tag only loads."""
    src, body = _SRC.search(match["attributes"]), match["body"]
    if src is not None:
        url = src["double"] or src["single"] or src["bare"] or ""
        return next((library for pattern, library in _HOSTED if pattern.search(url)), None)
    if "plotly.js v" in body[:4_000] and len(body) > MAX_CHARACTERS:
        return "plotly"
    return "plotly" if "//cdn.plot.ly/" in body and "newPlot" not in body else None


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    joined: list[NotebookNode] = []
    for stream, group in groupby(outputs, key=lambda output: output.name if output.output_type == "stream" else ""):
        alike = list(group)
        if stream:
            alike[0]["text"] = "".join(_text(output.text) for output in alike)
        joined.extend(alike[:1] if stream else alike)
    return joined


def _overwritten(text: str) -> str:
    """Lines as a terminal shows them in the end: what follows a carriage return replaces the line."""
    if "\r" not in text:
        return text
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))


def _within(lines: list[str], room: int) -> list[str]:
    used = 0
    for index, line in enumerate(lines):
        used += len(line) + 1
        if used > room:
            return lines[:index]
    return lines


def _text(value: object) -> str:
    return "".join(value) if isinstance(value, list) else str(value)
