"""Keyset pages: where a list goes on is the sort key of the last row shown, so that pages neither repeat nor skip rows."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, and_, or_

from jupyter_jobs.errors import BadInput

T = TypeVar("T")
MAX_LIMIT = 1000


def bounded(limit: int) -> int:
    """`limit` as it may be: at least 1, at most `MAX_LIMIT`."""
    return max(1, min(limit, MAX_LIMIT))


def token_of(values: Sequence[str | int | float]) -> str:
    """The opaque text that stands for a row's sort key."""
    return base64.urlsafe_b64encode(msgspec.json.encode(list(values))).decode().rstrip("=")


def values_of(token: str, shape: type[T]) -> T:
    """The sort key in `token`. Raises `BadInput` (`bad_page`) when it is none of ours."""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=shape)
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise BadInput(
            "`after` is no page of this list.", code="bad_page", mend="Pass the `next` of the page before, with the same `sort`.", field="after"
        ) from error


def beyond(columns: Sequence[ColumnElement[Any]], values: Sequence[object], *, descending: bool) -> ColumnElement[bool]:
    """Rows that come after `values` when sorted by `columns`."""
    alternatives = []
    for index, (column, value) in enumerate(zip(columns, values, strict=True)):
        same = [earlier == old for earlier, old in zip(columns[:index], values, strict=False)]
        alternatives.append(and_(*same, column < value if descending else column > value))
    return or_(*alternatives)
