"""Cells for the notebooks of these tests."""

from __future__ import annotations

from typing import Any

from nbformat.v4 import new_code_cell, new_markdown_cell


def code(source: str, *tags: str, id: str = "") -> Any:
    """A code cell with tags."""
    cell = new_code_cell(source, metadata={"tags": list(tags)} if tags else {})
    if id:
        cell["id"] = id
    return cell


def text(source: str) -> Any:
    """A markdown cell."""
    return new_markdown_cell(source)
