"""The OpenAPI document, made from a URL table and the structs: `python -m jupyter_jobs.api > docs/openapi.json`."""

from __future__ import annotations

import inspect
import json
from functools import cache
from typing import Any, get_args, get_type_hints

import msgspec

from jupyter_jobs import model, requests
from jupyter_jobs.api.table import Route
from jupyter_jobs.version import __version__

Schema = dict[str, Any]
_REFERENCE = "#/components/schemas/{name}"
BESIDES: list[type[msgspec.Struct]] = [model.ErrorBody, model.RunLine, model.Event]
"""Structs that no response names: of errors and of streams."""


def document(routes: tuple[Route, ...]) -> Schema:
    """The document of these routes as plain dicts and lists."""
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(f"/{route.path}", {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "jupyter_jobs",
            "version": __version__,
            "description": "Below `<base_url>jupyter-jobs/api`. Every route needs a login or a token.",
        },
        "servers": [{"url": "/jupyter-jobs/api"}],
        "paths": paths,
        "components": {"schemas": _components(routes)},
    }


@cache
def document_text(routes: tuple[Route, ...]) -> str:
    """The document as JSON text, as it is committed."""
    return json.dumps(document(routes), indent=1, ensure_ascii=False) + "\n"


def _components(routes: tuple[Route, ...]) -> Schema:
    structs = list(BESIDES)
    for route in routes:
        structs += [struct for struct in (route.body, route.response) if isinstance(struct, type)]
    _, components = msgspec.json.schema_components(structs, ref_template=_REFERENCE)
    for name, schema in components.items():
        described = getattr(model, name, None) or getattr(requests, name, None)
        if "description" in schema and described is not None:
            schema["description"] = inspect.cleandoc(described.__doc__)
        if described is not None and issubclass(described, model.Struct) and not described.__struct_config__.forbid_unknown_fields:
            # we always send every field
            schema["required"] = list(schema["properties"])
    return dict(sorted(components.items()))


def _operation(route: Route) -> Schema:
    operation: Schema = {"operationId": route.name, "parameters": _parameters(route), "x-permission": route.permission}
    if route.request.__doc__ and route.request.__doc__ != "A request without fields.":
        operation["description"] = inspect.cleandoc(route.request.__doc__)
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _reference(route.body)}}}
    operation["responses"] = {str(route.status): _response(route), "default": _error()}
    return operation


def _parameters(route: Route) -> list[Schema]:
    hints = get_type_hints(route.request, include_extras=True)
    found: list[Schema] = []
    for field in msgspec.structs.fields(route.request):
        if field.name == "body":
            continue
        in_path = field.name in route.path_fields
        schema = _parameter_schema(hints[field.name])
        if not field.required and field.default not in (None, ""):
            schema["default"] = field.default
        found.append({"name": field.name, "in": "path" if in_path else "query", "required": field.required, "schema": schema})
    return found


def _parameter_schema(hint: Any) -> Schema:
    """An optional parameter is left out, never null."""
    given = [part for part in get_args(hint) if part is not type(None)]
    wanted = given[0] if type(None) in get_args(hint) else hint
    (schema,), components = msgspec.json.schema_components([wanted], ref_template=_REFERENCE)
    if "$ref" in schema:
        schema = components[schema["$ref"].rpartition("/")[2]]
        schema.pop("title", None)
        schema.pop("description", None)
    return dict(schema)


def _response(route: Route) -> Schema:
    if isinstance(route.response, type):
        return {"description": "OK", "content": {"application/json": {"schema": _reference(route.response)}}}
    if route.response == "nothing":
        return {"description": "Done"}
    if route.response == "document":
        return {"description": "The document", "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
    data = model.Event if route.name == "followEvents" else model.RunLine
    events: Schema = {
        "schema": {"type": "string"},
        "x-event": "change" if data is model.Event else "line",
        "x-data": _reference(data),
    }
    content = {"text/event-stream": events}
    if data is model.RunLine:
        content["text/plain"] = {"schema": {"type": "string"}}
    return {"description": "Messages as they come; a log closes with the event `end`", "content": content}


def _error() -> Schema:
    return {"description": "An error", "content": {"application/json": {"schema": _reference(model.ErrorBody)}}}


def _reference(struct: type[msgspec.Struct]) -> Schema:
    return {"$ref": _REFERENCE.format(name=struct.__name__)}
