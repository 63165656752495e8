"""Outputs of a readable length: what is too long or too large is cut or left out, with a mark that says so. Everything here takes time in
proportion to the notebook, whatever is in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from jupyter_jobs.model import Json

MAX_LINES = 4_000
MAX_CHARACTERS = 500_000
MAX_LINE = 20_000
"""Of a text: lines, characters, and characters of one line. Longer ones show their beginning and end."""
MAX_OUTPUT = 8 << 20
"""Characters of what cannot be cut: an image, HTML, a figure."""
MAX_OUTPUTS = 500
"""Outputs of one cell."""
MAX_PAGE = 32 << 20
"""Characters of all outputs of a page."""
MAX_PAGE_OUTPUTS = 5_000
MAX_FORMULAS = 1_000
"""Environments of formulas in one text of Markdown; one with more shows its beginning and end."""
CUT = "application/vnd.jupyter-jobs.cut+json"
"""Media type of the mark: `{"text": what is not shown}`."""
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"

_TRAILING_RETURNS = re.compile(r"(?<!\r)\r++(?=\n|\Z)")
_OVERWRITTEN = re.compile(r"^[^\n]*\r", re.MULTILINE)

Output = dict[str, Any]


@dataclass
class _Room:
    """What a page still has room for."""

    characters: int
    outputs: int

    def takes(self, characters: int) -> bool:
        """Whether another output of this size fits; if so it has its place."""
        if characters > self.characters or not self.outputs:
            return False
        self.characters -= characters
        self.outputs -= 1
        return True


def valid_outputs(outputs: object) -> list[Output]:
    """The outputs of a cell, as its file has them, without what is none."""
    return [output for output in outputs if isinstance(output, dict) and _is_valid(output)] if isinstance(outputs, list) else []


def tidy_outputs(notebook: dict[str, Any]) -> None:
    """Make long and chatty outputs readable, in place: streams joined, progress bars at their last state, long texts cut, what is too large left
    out, each with a mark. The notebook may be as it is in its file, with texts as lists of lines."""
    room = _Room(MAX_PAGE, MAX_PAGE_OUTPUTS)
    widgets = notebook.get("metadata", {}).get("widgets", {})
    stateless = WIDGET_STATE not in widgets or _size(widgets[WIDGET_STATE]) > MAX_OUTPUT
    if stateless:
        notebook.get("metadata", {}).pop("widgets", None)
    for cell in notebook["cells"]:
        source = joined_text(cell.get("source", ""))
        cell["source"] = shorten(source) if cell.get("cell_type") == "code" else _prose(source)
        if cell.get("cell_type") == "code":
            cell["outputs"] = _readable(cell["outputs"], room, stateless)


def shorten(text: str) -> str:
    """The first and last lines of a long text, with a mark that says how much is left out."""
    lines = text.count("\n") + 1
    if lines <= MAX_LINES and len(text) <= MAX_CHARACTERS:
        return text
    head, end = _lines(text)
    tail = _last_lines(text, end)
    left_out = lines - len(head) - len(tail)
    mark = [f"\n⋯ {left_out:,} lines are not shown here; the run's log and notebook have them all ⋯\n"] if left_out > 0 else []
    return "\n".join([*head, *mark, *tail])


def joined_text(value: object) -> str:
    """A text that may be a list of its lines, as in a notebook's file."""
    return "".join(map(str, value)) if isinstance(value, list) else str(value)


def _prose(text: str) -> str:
    """Markdown. It may hold pictures, so that its lines are not cut, but for each formula that begins its reader looks through the rest."""
    return shorten(text) if len(text) > MAX_OUTPUT or text.count("\\begin{") > MAX_FORMULAS else text


def _readable(outputs: Iterable[Output], room: _Room, stateless: bool) -> list[Output]:
    """The outputs of a cell as they are shown."""
    given = list(_joined(outputs))
    shown: list[Output] = []
    places = MAX_OUTPUTS
    omitted = omitted_size = 0
    for number, output in enumerate(given, start=1):
        size, lost = _cut(output, stateless)
        # why a cell failed is what people look for
        is_end = output["output_type"] == "error" and number == len(given)
        if not is_end and not (places and room.takes(size)):
            omitted += 1
            omitted_size += size + lost
            continue
        if omitted:
            shown.append(_mark(_omitted(omitted, omitted_size)))
            omitted = omitted_size = 0
        places -= 1
        if "data" not in output or output["data"]:
            shown.append(output)
        if lost:
            shown.append(_mark(f"{_amount(lost)} of this output are not shown here."))
    return [*shown, _mark(_omitted(omitted, omitted_size))] if omitted else shown


def _cut(output: Output, stateless: bool) -> tuple[int, int]:
    """Shorten an output in place; how many characters it has then, and how many were taken from it."""
    match output["output_type"]:
        case "stream":
            whole = _overwritten(joined_text(output.get("text", "")))
            output["text"] = shorten(whole)
            return len(output["text"]), max(0, len(whole) - len(output["text"]))
        case "error":
            lines = joined_text([f"{line}\n" for line in output.get("traceback") or []])
            kept = shorten(lines)
            # one text, so that all of it is cut together and colours go on
            output["traceback"] = [kept.removesuffix("\n")]
            return len(kept), max(0, len(lines) - len(kept))
        case _:
            return _cut_data(output, stateless)


def _cut_data(output: Output, stateless: bool) -> tuple[int, int]:
    data = output["data"]
    if stateless:
        data.pop(WIDGET_VIEW, None)
    lost = 0
    for kind, cut in (("text/plain", shorten), ("text/markdown", _prose)):
        if kind in data:
            whole = joined_text(data[kind])
            data[kind] = cut(whole)
            lost += max(0, len(whole) - len(data[kind]))
    sizes = {kind: _size(value) for kind, value in data.items()}
    for kind in [kind for kind, size in sizes.items() if size > MAX_OUTPUT]:
        lost += sizes.pop(kind)
        del data[kind]
    return sum(sizes.values()), lost


def _joined(outputs: Iterable[Output]) -> Iterator[Output]:
    """The outputs with successive pieces of a stream as one."""
    for stream, group in groupby(outputs, key=lambda output: str(output.get("name", "stdout")) if output["output_type"] == "stream" else ""):
        if stream:
            first = next(group)
            first["name"] = stream
            first["text"] = "".join([joined_text(first.get("text", "")), *(joined_text(output.get("text", "")) for output in group)])
            yield first
        else:
            yield from group


def _is_valid(output: Output) -> bool:
    output.setdefault("metadata", {})
    kind = output.get("output_type")
    return kind in ("stream", "error") or (kind in ("display_data", "execute_result") and isinstance(output.get("data"), dict))


def _mark(text: str) -> Output:
    return {"output_type": "display_data", "data": {CUT: {"text": text}}, "metadata": {}}


def _omitted(count: int, characters: int) -> str:
    return f"{count:,} more {'outputs' if count > 1 else 'output'} ({_amount(characters)}) are not shown here."


def _amount(characters: int) -> str:
    return f"{characters / 1e6:,.1f} MB" if characters >= 100_000 else f"{characters:,} characters"


def _size(value: Json) -> int:
    """Characters in a page, nearly."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return sum(map(len, value))
    return len(json.dumps(value))


def _overwritten(text: str) -> str:
    """Lines as a terminal shows them in the end: what follows a carriage return replaces the line."""
    return _OVERWRITTEN.sub("", _TRAILING_RETURNS.sub("", text)) if "\r" in text else text


def _lines(text: str) -> tuple[list[str], int]:
    """The first lines that are shown of a long text, and where they end."""
    lines: list[str] = []
    room, at = MAX_CHARACTERS // 2, 0
    while at <= len(text) and len(lines) < MAX_LINES // 2:
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line = _line(text, at, end)
        room -= len(line) + 1
        if room < 0:
            break
        lines.append(line)
        at = end + 1
    return lines, at


def _last_lines(text: str, begin: int) -> list[str]:
    """The last lines that are shown of a long text, which begin at `begin` or later."""
    lines: list[str] = []
    room, end = MAX_CHARACTERS // 2, len(text)
    while end >= begin and len(lines) < MAX_LINES // 2:
        at = text.rfind("\n", begin, end) + 1 or begin
        line = _line(text, at, end)
        room -= len(line) + 1
        if room < 0:
            break
        lines.append(line)
        end = at - 1
    return lines[::-1]


def _line(text: str, begin: int, end: int) -> str:
    if end - begin <= MAX_LINE:
        return text[begin:end]
    return f"{text[begin : begin + MAX_LINE]} … {end - begin - MAX_LINE:,} more characters in this line"
