"""Values that a run records: variables read after the last cell, and outputs that carry a value. Needs no package of ours in the kernel."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path

from jupyter_jobs.runner import values

RECORD = "application/vnd.jupyter-jobs.record+json"
PAPERMILL_RECORD = "application/papermill.record+json"
SCRAP = "application/scrapbook.scrap."


def of_output(data: Mapping[str, object], metadata: Mapping[str, object]) -> dict[str, object]:
    """The values that an output's MIME bundle records: `jupyter_jobs.record`'s, scrapbook's glued ones, old papermill's."""
    found: dict[str, object] = {}
    for mime, content in data.items():
        if mime in (RECORD, PAPERMILL_RECORD) and isinstance(content, Mapping):
            found.update((str(name), values.to_json(value)) for name, value in content.items())
        elif mime.startswith(SCRAP) and isinstance(content, Mapping):
            about = metadata.get("scrapbook")
            name = content.get("name") or (about.get("name") if isinstance(about, Mapping) else None)
            # a display scrap is a picture and has no data
            if name and "data" in content:
                found[str(name)] = values.to_json(content["data"])
    return found


def expression(name: str, python: bool) -> str:
    """What to have a kernel evaluate to learn a variable's value."""
    if not python:
        return name
    source = Path(values.__file__).read_text("utf-8")
    return f"(lambda space: (exec({source!r}, space), space)[1])({{}})['dump']({name})"


def from_text(text: str, python: bool) -> object:
    """The value in a kernel's answer (its `text/plain`): JSON from Python, elsewhere a number if it reads as one, else the text."""
    if python:
        value: object = json.loads(ast.literal_eval(text))
        return value
    # R numbers the elements it prints
    plain = text.strip().removeprefix("[1] ").strip()
    for kind in (int, float):
        try:
            return values.to_json(kind(plain))
        except ValueError:
            continue
    return plain[: values.ITEMS]
