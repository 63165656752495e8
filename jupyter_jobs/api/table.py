"""A row of the URL table, finding the row of a request, and reading a request strictly. Knows no web server."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints
from urllib.parse import parse_qsl, unquote

import msgspec

from jupyter_jobs.errors import BadInput, JobsError, NotFound, TooLarge
from jupyter_jobs.model import Request

Method = Literal["GET", "POST", "PATCH", "DELETE"]
Permission = Literal["read", "write", "execute"]

MAX_BODY = 16 << 20
"""Bytes of a request's body: grids and JSON values, never files."""
MAX_TEXT = 4096
LONGER_TEXTS: Mapping[str, int] = {"grid_text": MAX_BODY, "description": 20_000, "search": 1000, "name": 200}
"""Longest text by field, in characters; `MAX_TEXT` for others. Parameters' values are bounded by `MAX_BODY` alone."""

IGNORED_QUERY = frozenset({"token", "_xsrf", "no_track_activity"})
"""What a Jupyter client may add to any URL."""


class MethodNotAllowed(JobsError):
    """The path exists, but not for this method."""

    status = 405
    code = "method_not_allowed"


@dataclass(frozen=True)
class Route:
    """One endpoint. Of the fields of `request`, those named in `path` come from the path, `body` from the JSON body, the others from the query.

    `endpoint(context, request)` is a plain function that may block. `response` is a struct, or names what is returned instead: `document`,
    `stream`, `nothing`. `slow`: may take seconds, so that it waits in a queue of its own. A last `{path}` takes the rest of the path.
    """

    name: str
    method: Method
    path: str
    endpoint: Callable[[Any, Any], object]
    request: type[Request]
    response: type[msgspec.Struct] | Literal["document", "stream", "nothing"]
    permission: Permission
    status: int = 200
    slow: bool = False

    @property
    def path_fields(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.path)

    @property
    def body(self) -> type[msgspec.Struct] | None:
        """The struct of the JSON body, if there is one."""
        found = get_type_hints(self.request, include_extras=True).get("body")
        assert found is None or issubclass(found, msgspec.Struct)
        return found


def find_route(routes: Sequence[Route], method: str, path: str) -> tuple[Route, dict[str, str]]:
    """The route of `method` and `path` (below the API's root, percent-encoded) and the values in the path.

    Raises `NotFound`, or `MethodNotAllowed` with `detail.allow`.
    """
    segments = path.strip("/").split("/")
    allow: list[str] = []
    for route in routes:
        values = _match(route.path.split("/"), segments)
        if values is None:
            continue
        if route.method == method:
            return route, values
        allow.append(route.method)
    if allow:
        raise MethodNotAllowed(f"{method} is not possible here.", mend=f"Use {' or '.join(allow)}.", allow=allow)
    raise NotFound("There is nothing at this address of the jobs API.", code="no_such_route", mend="See openapi.json below the API's root.")


def _match(template: list[str], segments: list[str]) -> dict[str, str] | None:
    rest = template[-1] == "{path}"
    if len(segments) < len(template) if rest else len(segments) != len(template):
        return None
    values: dict[str, str] = {}
    for index, part in enumerate(template):
        if part == "{path}":
            values["path"] = _unquote("/".join(segments[index:]))
        elif part.startswith("{"):
            values[part[1:-1]] = _unquote(segments[index])
        elif part != segments[index]:
            return None
    return values


def _unquote(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise BadInput("The address is not valid UTF-8.", mend="Percent-encode UTF-8.") from None


def decode(route: Route, values: Mapping[str, str], query: str, body: bytes) -> Request:
    """The request of `route`: `values` from the path, the raw query string, the body. Raises `BadInput` whose `detail.field` names the field,
    `NotFound` for an id that cannot be one, `TooLarge`."""
    given: dict[str, object] = dict(_query(query))
    for name in given:
        if name in values or name == "body":
            raise _bad(name, "is not a field of the query")
    given |= values
    for name in values:
        _check_identifier(route, name, values[name])
    if struct := route.body:
        given["body"] = _decode_body(struct, body)
    try:
        request = msgspec.convert(given, route.request, strict=False)
    except msgspec.ValidationError as error:
        raise _explain(error) from None
    _check_texts(request)
    return request


def _query(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, encoding="utf-8", errors="strict", max_num_fields=50)
    except UnicodeDecodeError:
        raise BadInput("The query is not valid UTF-8.", mend="Percent-encode UTF-8.") from None
    except ValueError:
        raise BadInput("The query has too many fields.") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in IGNORED_QUERY:
            continue
        if name in found:
            raise _bad(name, "is given twice")
        found[name] = value
    return found


def _check_identifier(route: Route, name: str, value: str) -> None:
    """An id that cannot be one is the id of nothing; it must not reach a file name."""
    if name == "job" and not re.fullmatch(r"[0-9A-Za-z]{1,32}", value):
        raise NotFound("There is no such job.", mend="`jupyter jobs list` shows the ids.", field=name)
    if name == "run" and not re.fullmatch(r"[0-9A-Za-z]{1,32}-[0-9]{1,9}", value):
        raise NotFound("There is no such run.", mend="A run's id is the job's id, a hyphen and the run's number.", field=name)


def _decode_body(struct: type[msgspec.Struct], body: bytes) -> msgspec.Struct:
    if len(body) > MAX_BODY:
        raise TooLarge(f"The request's body has {len(body)} bytes; at most {MAX_BODY} are taken.", limit=MAX_BODY)
    try:
        return msgspec.json.decode(body, type=struct)
    except msgspec.ValidationError as error:
        raise _explain(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"The body is not JSON: {error}.", code="bad_json", mend="Send a JSON object in UTF-8.") from None
    except RecursionError:
        raise BadInput("The body is nested too deeply.", code="bad_json", mend="Send flatter values.") from None


def _explain(error: msgspec.ValidationError) -> BadInput:
    """msgspec's "Expected `int`, got `str` - at `$.limit`" as a sentence that begins with the field."""
    text, _, place = str(error).partition(" - at `$")
    field = place.rstrip("`").removeprefix(".").removeprefix("body.")
    if missing := re.search(r"(missing required|unknown) field `(.*)`", text, re.DOTALL):
        field = f"{field}.{missing[2]}".lstrip(".")[:100]
        return _bad(field, "is missing" if missing[1] == "missing required" else "is not a field here")
    return _bad(field, f"is not right: {text[:300]}") if field else BadInput(f"The request is not right: {text[:300]}.")


def _bad(field: str, what: str) -> BadInput:
    return BadInput(f"`{field}` {what}.", mend="See openapi.json below the API's root.", field=field)


def _check_texts(struct: msgspec.Struct, prefix: str = "") -> None:
    """NUL ends a file name and is refused by databases; lone surrogates cannot be stored; both would fail late and obscurely."""
    for name in struct.__struct_fields__:
        _check_value(getattr(struct, name), f"{prefix}{name}", LONGER_TEXTS.get(name, MAX_BODY if name == "parameters" else MAX_TEXT))


def _check_value(value: object, field: str, longest: int) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise _bad(field, "has a NUL character in it")
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise _bad(field, "has half a surrogate pair in it")
        if len(value) > longest:
            raise _bad(field, f"has {len(value)} characters; at most {longest} are taken")
    elif isinstance(value, msgspec.Struct):
        _check_texts(value, "" if field == "body" else f"{field}.")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_value(item, f"{field}[{index}]", longest)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_value(key, field, longest)
            _check_value(item, f"{field}.{key[:100]}", longest)
