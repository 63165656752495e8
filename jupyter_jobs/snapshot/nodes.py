"""A notebook of nbformat 4 in memory, as nbformat has it, without importing nbformat: that takes a second or more, because it brings a JSON-schema
validator along."""

from __future__ import annotations

import json
from typing import Any


class Node(dict[str, Any]):
    """A JSON object whose members are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: object) -> None:
        self[name] = value


def node_of(value: Any) -> Any:
    """A JSON value with nodes for its objects, all of them new."""
    if isinstance(value, dict):
        return Node({key: node_of(each) for key, each in value.items()})
    if isinstance(value, list):
        return [node_of(each) for each in value]
    return value


def join_lines(notebook: Node) -> None:
    """Make one text of every text that is written as a list of lines."""
    for cell in notebook.cells:
        cell.source = _joined(cell.source)
        for bundle in cell.get("attachments", {}).values():
            _join_bundle(bundle)
        for output in cell.get("outputs", ()):
            _join_bundle(output.get("data", {}))
            if "text" in output:
                output["text"] = _joined(output["text"])


def notebook_text(notebook: Node) -> str:
    """The notebook as JSON, without what counts only while it is open."""
    whole = Node(notebook)
    whole["metadata"] = {key: value for key, value in notebook.metadata.items() if key not in ("orig_nbformat", "orig_nbformat_minor", "signature")}
    whole["cells"] = [
        {**cell, "metadata": {key: value for key, value in cell.metadata.items() if key != "trusted"}} if "trusted" in cell.metadata else cell
        for cell in notebook.cells
    ]
    return json.dumps(whole, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def _join_bundle(bundle: dict[str, Any]) -> None:
    for kind, value in bundle.items():
        is_json = kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
        if not is_json:
            bundle[kind] = _joined(value)


def _joined(value: Any) -> Any:
    return "".join(value) if isinstance(value, list) and all(isinstance(line, str) for line in value) else value
