"""What a parameter's name and values may be, and how a value is shown: the checks behind `grid.py`."""

from __future__ import annotations

import json
import keyword
import math
import re
from collections.abc import Iterable
from typing import NoReturn

from jupyter_jobs.errors import BadInput
from jupyter_jobs.model import Json

MAX_DEPTH = 32
VALUE_LENGTH = 32

_DOTTED = re.compile(r"(?:[A-Za-z]|\.(?![0-9]))[\w.]*")
_BARE = re.compile(r"(?!true$|false$|null$)[^\W\d][\w./:+-]*")


def fail(message: str, mend: str, **detail: object) -> NoReturn:
    """Raise the one error of this module and of `grid.py`."""
    raise BadInput(str(printable(message)), code="grid_invalid", mend=mend, **{key: printable(value) for key, value in detail.items()})


def check_name(name: str, language: str | None, at: str = "", /, **detail: object) -> None:
    """A parameter's name must be an identifier of `language`; without a language (a pipeline's) any text will do."""
    if language is None:
        if not name or not _is_text(name):
            fail(f"{at}“{cut(name, 60)}” cannot be a parameter's name.", "Use letters, digits and _.", **detail)
        return
    good = _DOTTED.fullmatch(name) if language.lower() == "r" else name.isidentifier()
    if not good or (language.lower() == "python" and keyword.iskeyword(name)):
        mend = "Use letters, digits and _, no digit first and no word of the language."
        fail(f"{at}“{cut(name, 60)}” cannot be a variable's name.", mend, **detail)


def check_values(key: str, values: list[Json], at: str = "", /, **detail: object) -> list[Json]:
    """The values if papermill can hand each to a notebook as it is and no two are the same (1, 1.0 and true are three values)."""
    if not values:
        fail(f"{at}“{key}” has an empty list of values.", "Give at least one value, or leave the key out.", **detail)
    seen: dict[str, int] = {}
    for index, value in enumerate(values, start=1):
        problem = value_problem(value)
        if problem:
            fail(f"{at}value {index} of “{key}” {problem[0]}.", problem[1], **detail)
        canonical = json.dumps(value, sort_keys=True)
        if canonical in seen:
            first = seen[canonical]
            fail(f"{at}values {first} and {index} of “{key}” are the same: {short(value)}.", "Every combination runs once: remove one.", **detail)
        seen[canonical] = index
    return values


def value_problem(value: object, depth: int = 1) -> tuple[str, str] | None:
    """What keeps a value from reaching the notebook as it is, and the mend."""
    if depth > MAX_DEPTH:
        return "is nested too deep", f"At most {MAX_DEPTH} levels are read."
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        # msgspec, which writes every file and answer of ours, knows no larger integers
        return None if -(1 << 63) <= value < 1 << 64 else ("is an integer that does not fit in 64 bits", "Write it as a string.")
    if isinstance(value, float):
        return None if math.isfinite(value) else (f"is {value}, which is no JSON", "Write it as a string, or use null.")
    if isinstance(value, str):
        return None if _is_text(value) else ("holds half of a surrogate pair, which is no text", "Write the whole character.")
    if isinstance(value, list):
        parts: Iterable[object] = value
    elif isinstance(value, dict):
        parts = [*value, *value.values()]
        if not all(isinstance(key, str) for key in value):
            return "is an object with a key that is no string", "JSON keys are strings."
    else:
        return f"is a {type(value).__name__}, which is no JSON", "Use null, true, false, numbers, strings, lists and objects."
    return next((problem for problem in (value_problem(part, depth + 1) for part in parts) if problem), None)


def _is_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def short(value: Json) -> str:
    """A value as people read it in a label: a simple word bare, all else as JSON, long ones cut."""
    return cut(value if isinstance(value, str) and _BARE.fullmatch(value) else json.dumps(value, ensure_ascii=False), VALUE_LENGTH)


def cut(text: str, length: int) -> str:
    """The text, shortened to `length` characters with an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def printable(value: object) -> object:
    """A text without halves of surrogate pairs, which could be neither stored nor sent; all else as it is."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
