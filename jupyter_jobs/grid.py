"""Parameters to combinations: reads a parameters file and numbers the points of its grid. Pure but for `grid_beside` and `read_grid_file`.

Two forms of file. A pipeline's: `{"pipeline_parameters": {key: [values]}, "<step uuid>": {key: [values]}}`. A notebook's: the same without steps, or
flat, `{key: [values]}`. Every error is `BadInput`, code `grid_invalid`, and names file, line, key and step as far as they are known.
"""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from json.decoder import JSONDecodeError
from pathlib import Path
from typing import NoReturn, TypeVar, overload

from jupyter_jobs.errors import BadInput
from jupyter_jobs.grid_values import MAX_DEPTH, check_name, check_values, cut, fail, short
from jupyter_jobs.model import Combination, Json

MAX_COMBINATIONS = 100_000
MAX_FILE_BYTES = 16 << 20
LABEL_LENGTH = 120
PIPELINE = "pipeline_parameters"

_SPACE = re.compile(r"[ \t\r\n]*")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

Value = TypeVar("Value")


@dataclass(frozen=True)
class Grid:
    """Values per parameter, in file order: of the notebook or pipeline, and per step of a pipeline by UUID."""

    parameters: dict[str, list[Json]] = field(default_factory=dict)
    steps: dict[str, dict[str, list[Json]]] = field(default_factory=dict)


EMPTY = Grid()


def grid_beside(notebook: Path) -> Path | None:
    """The parameters file beside a notebook or pipeline, `<name>.parameters.json`, if there is one."""
    path = notebook.with_name(f"{notebook.stem}.parameters.json")
    return path if path.is_file() else None


def read_grid_file(path: Path) -> str:
    """Text of a parameters file. `BadInput` where it cannot be read, is no UTF-8, or is larger than 16 MiB."""
    file = path.name
    try:
        facts = path.stat()
        size = facts.st_size
        if not stat.S_ISREG(facts.st_mode):
            # reading a pipe would wait for ever
            fail(f"{file} is no file.", "Name a file.", file=file)
        text = path.read_text(encoding="utf-8-sig") if size <= MAX_FILE_BYTES else ""
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}.", code="grid_invalid", file=file) from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is not UTF-8 text (byte {error.start}).", code="grid_invalid", mend="Save it as UTF-8.", file=file) from error
    if size > MAX_FILE_BYTES:
        fail(f"{file} is larger than {MAX_FILE_BYTES >> 20} MiB.", "Put data into a file that the notebook reads.", file=file)
    return text


def parse_grid(text: str, *, file: str, steps: Collection[str] = (), language: str = "python") -> Grid:
    """Read a parameters file. `steps` are the UUIDs of a pipeline's steps; empty for a notebook, whose names must be identifiers of `language`.

    Blank text is an error; `{}` is a grid of one combination without parameters.
    """
    text = text.removeprefix("\ufeff")
    _check_syntax(text, file)
    start = _skip(text, 0)
    if text[start] != "{":
        fail(f"{file} holds {_kind_at(text, start)}, not an object.", 'Write {"name": [values]}.', file=file, line=_line(text, start))
    names = None if steps else language
    members = _members(text, start, file)
    if any(text[at.value] == "{" for at in members):
        return _parse_sections(text, members, file, steps, names)
    return Grid(parameters={at.key: _values(text, at, file, "", names) for at in members})


def merge(grid: Grid, extra: Mapping[str, Sequence[Json]], *, language: str = "python") -> Grid:
    """The grid with single keys replaced (in their place) or added (at the end), as `-p` and the form do."""
    parameters = dict(grid.parameters)
    for key, values in extra.items():
        check_name(key, None if grid.steps else language, field=f"parameters.{key}", key=key)
        parameters[key] = check_values(key, list(values), field=f"parameters.{key}", key=key)
    return Grid(parameters, grid.steps)


def combinations(grid: Grid, defaults: Grid = EMPTY) -> GridPoints:
    """All combinations, first key slowest, numbered from 1. Keys that the grid leaves out stand with their values of `defaults`."""
    steps = {step: _overlay(keys, defaults.steps.get(step, {})) for step, keys in _overlay(grid.steps, defaults.steps).items()}
    return GridPoints(Grid(_overlay(grid.parameters, defaults.parameters), steps))


class GridPoints(Sequence[Combination]):
    """The points of a grid, made when asked for, so that a large grid costs no memory. `names` are the axes in order.

    `BadInput`, code `grid_too_large`, above `MAX_COMBINATIONS`.
    """

    def __init__(self, grid: Grid) -> None:
        self._axes = [("", key, values) for key, values in grid.parameters.items()]
        self._axes += [(step, key, values) for step, keys in grid.steps.items() for key, values in keys.items()]
        self.names = [f"{step.split('-')[0]}#{key}" if step else key for step, key, _ in self._axes]
        self._swept = [len(values) > 1 for _, _, values in self._axes]
        self._total = math.prod(len(values) for _, _, values in self._axes)
        if self._total > MAX_COMBINATIONS:
            counts = {name: len(values) for name, (_, _, values) in zip(self.names, self._axes, strict=True) if len(values) > 1}
            product = " × ".join(f"{name} {count}" for name, count in counts.items())
            raise BadInput(
                f"The grid has {self._total:,} combinations ({product}); the limit is {MAX_COMBINATIONS:,}.",
                code="grid_too_large",
                mend="Give fewer values, or split the grid over several jobs.",
                counts=counts,
                total=str(self._total),
            )

    def __len__(self) -> int:
        return self._total

    @overload
    def __getitem__(self, index: int) -> Combination: ...
    @overload
    def __getitem__(self, index: slice) -> list[Combination]: ...
    def __getitem__(self, index: int | slice) -> Combination | list[Combination]:
        if isinstance(index, slice):
            return [self._point(position) for position in range(*index.indices(self._total))]
        if not -self._total <= index < self._total:
            raise IndexError(index)
        return self._point(index % self._total)

    def _point(self, index: int) -> Combination:
        rest, values = index, []
        for _, _, choices in reversed(self._axes):
            rest, position = divmod(rest, len(choices))
            values.append(choices[position])
        values.reverse()
        parameters: dict[str, Json] = {}
        step_parameters: dict[str, dict[str, Json]] = {}
        for (step, key, _), value in zip(self._axes, values, strict=True):
            (step_parameters.setdefault(step, {}) if step else parameters)[key] = value
        parts = sorted(zip(self._swept, self.names, values, strict=True), key=lambda part: not part[0])
        label = cut(", ".join(f"{name}={short(value)}" for _, name, value in parts), LABEL_LENGTH)
        return Combination(number=index + 1, parameters=parameters, step_parameters=step_parameters, label=label)


def select(points: Sequence[Combination], numbers: Iterable[int]) -> list[Combination]:
    """The combinations of these numbers in grid order; all of them where no number is given. `BadInput` for a number that is not there."""
    wanted = sorted(set(numbers))
    if not wanted:
        return list(points)
    for number in wanted:
        if not 1 <= number <= len(points):
            message = f"There is no combination {number}: the grid has {len(points)}, counted from 1."
            raise BadInput(message, code="no_such_combination", field="only", number=number)
    return [points[number - 1] for number in wanted]


def parse_numbers(text: str) -> list[int]:
    """`1,3-5` → [1, 3, 4, 5], for `--only`."""
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= MAX_COMBINATIONS:
            message = f"“{cut(part.strip(), 40)}” is no combination number and no range of them."
            raise BadInput(message, code="bad_numbers", mend=f"Write numbers from 1 to {MAX_COMBINATIONS:,} as in 1,3-5.", field="only")
        numbers.update(range(first, last + 1))
    return sorted(numbers)


# -- reading with positions: the syntax is checked first, so the walk below may trust it -------------------------------


@dataclass(frozen=True)
class _Member:
    """A member of an object: its key, the key's line, and where its value begins and ends."""

    key: str
    line: int
    value: int
    end: int


class _Refused(ValueError):
    """A value that a hook of the JSON reader does not take; the message goes on after the key."""


def _check_syntax(text: str, file: str) -> None:
    if not text.strip():
        fail(f"{file} is empty.", 'Write {"name": [values]}, or {} for no parameters.', file=file, line=1)
    try:
        json.loads(text, parse_int=len, parse_float=len, parse_constant=len)
    except JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        fail(f"{file} is not JSON: {error.msg}, {place}.", _syntax_mend(text, error.pos), file=file, line=error.lineno, column=error.colno)
    except RecursionError:
        fail(f"{file} is nested too deep.", f"At most {MAX_DEPTH} levels are read.", file=file)


def _syntax_mend(text: str, position: int) -> str:
    rest, before = text[position : position + 8], text[:position].rstrip()[-1:]
    if rest.startswith("'"):
        return "JSON wants double quotes."
    if rest.startswith(("True", "False", "None")):
        return "JSON writes true, false and null."
    if rest.startswith(("#", "//", "/*")):
        return "JSON has no comments."
    if before == "," or rest.startswith(","):
        return "Is there a comma too many?"
    return ""


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


_ENDS = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=len)


def _members(text: str, start: int, file: str, step: str = "") -> list[_Member]:
    """Members of the object that starts at `start`."""
    found: dict[str, _Member] = {}
    line, counted = _line(text, start), start
    position = _skip(text, start + 1)
    while text[position] != "}":
        line, counted = line + text.count("\n", counted, position), position
        key, after = _ENDS.raw_decode(text, position)
        value = _skip(text, _skip(text, after) + 1)
        end = _ENDS.raw_decode(text, value)[1]
        if key in found:
            mend = "Put all its values into one list." if text[value] == "[" else "Keep one of them."
            message = f"{_at(file, line, step)}“{key}” stands here for the second time, after line {found[key].line}."
            fail(message, mend, file=file, line=line, key=key, **_step_detail(step))
        found[key] = _Member(key, line, value, end)
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)
    return list(found.values())


def _parse_sections(text: str, members: list[_Member], file: str, steps: Collection[str], names: str | None) -> Grid:
    parameters: dict[str, list[Json]] = {}
    by_step: dict[str, dict[str, list[Json]]] = {}
    sections = any(member.key == PIPELINE or member.key in steps or _UUID.fullmatch(member.key) for member in members)
    for member in members:
        key, at = member.key, _at(file, member.line)
        detail: dict[str, object] = {"file": file, "line": member.line, "key": key}
        if text[member.value] != "{":
            if sections:
                mend = f"The flat and the pipeline form cannot be mixed: move it into {PIPELINE}."
                fail(f"{at}“{key}” stands beside {PIPELINE} or a step.", mend, **detail)
            parameters[key] = _values(text, member, file, "", names)
        elif key == PIPELINE:
            parameters = {inner.key: _values(text, inner, file, "", names) for inner in _members(text, member.value, file)}
        elif key in steps:
            by_step[key] = {inner.key: _values(text, inner, file, key, names) for inner in _members(text, member.value, file, key)}
        elif not sections:
            fail(f"{at}“{key}” is an object, not a list of values.", "Wrap it in a list: [{…}].", **detail)
        elif steps:
            fail(f"{at}the pipeline has no step “{key}”.", f"Its steps: {', '.join(sorted(steps)[:20])}.", **detail, step=key)
        else:
            fail(f"{at}“{key}” would be a step of a pipeline; a notebook has none.", f"Move its parameters into {PIPELINE}.", **detail, step=key)
    return Grid(parameters, by_step)


def _values(text: str, member: _Member, file: str, step: str, language: str | None) -> list[Json]:
    key, at = member.key, _at(file, member.line, step)
    detail: dict[str, object] = {"file": file, "line": member.line, "key": key, **_step_detail(step)}
    check_name(key, language, at, **detail)
    if text[member.value] != "[":
        shown = cut(" ".join(text[member.value : member.end].split()), 40)
        fail(f"{at}“{key}” is {_kind_at(text, member.value)}, not a list of values.", f"Wrap it in a list: [{shown}].", **detail)
    try:
        values = _VALUES.raw_decode(text, member.value)[0]
    except _Refused as error:
        fail(f"{at}“{key}” holds {error}.", "Write it as a string, or use null." if "twice" not in str(error) else "Keep one of them.", **detail)
    return check_values(key, values, at, **detail)


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for key, value in pairs:
        if key in found:
            raise _Refused(f"an object with the key “{key}” twice")
        found[key] = value
    return found


def _integer(digits: str) -> int:
    if len(digits) > 20:
        raise _Refused(f"the integer {cut(digits, 24)}, which does not fit in 64 bits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _Refused(f"the number {cut(digits, 24)}, which is too large for a float")
    return value


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name}, which is no JSON")


_VALUES = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer, parse_float=_float, parse_constant=_constant)


def _at(file: str, line: int, step: str = "") -> str:
    return f"{file}, line {line}{f', step {step}' if step else ''}: "


def _step_detail(step: str) -> dict[str, object]:
    return {"step": step} if step else {}


def _kind_at(text: str, position: int) -> str:
    return {"{": "an object", "[": "a list", '"': "a string", "t": "true", "f": "false", "n": "null"}.get(text[position], "a number")


def _overlay(over: Mapping[str, Value], under: Mapping[str, Value]) -> dict[str, Value]:
    return {**over, **{key: value for key, value in under.items() if key not in over}}
