"""Keyset pages: where a list goes on is the sort key of the last row shown, so that pages neither repeat nor skip rows."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, func, or_, select

from jupyter_jobs.errors import BadInput
from jupyter_jobs.model import Page

T = TypeVar("T")
MAX_LIMIT = 1000
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Whole = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
"""What a database takes as a time and a whole number: tokens are what anybody may write."""


class Sort(NamedTuple):
    """What a list is sorted by: columns, the last of which no two rows share, and the types of their values."""

    columns: Sequence[ColumnElement[Any]]
    shape: type[tuple[Any, ...]]


def names_of(sorts: Mapping[str, Sort]) -> list[str]:
    """What can be asked for: each name, and with a minus for the other way round."""
    return [f"{sign}{name}" for name in sorts for sign in ("", "-")]


def page_of(
    conn: Connection, query: Select[Any], sorts: Mapping[str, Sort], *, of: str, sort: str, after: str, limit: int
) -> tuple[list[RowMapping], Page]:
    """At most `limit` rows of `query` sorted by one of `sorts`, and where the next page begins; `after` is a page's `next`, or empty.

    Raises `BadInput` (`bad_sort`, which calls the rows `of`, and `bad_page`).
    """
    by = sorts.get(sort.removeprefix("-"))
    if by is None:
        raise BadInput(f"{of} cannot be sorted by `{sort}`.", code="bad_sort", mend=f"Sorts: {', '.join(names_of(sorts))}.", field="sort")
    descending = sort.startswith("-")
    total = conn.execute(select(func.count()).select_from(query.subquery())).scalar() or 0
    # the values as they are compared, which a row may hold in another form
    labels = [f"key_{number}" for number in range(len(by.columns))]
    query = query.add_columns(*(column.label(label) for column, label in zip(by.columns, labels, strict=True)))
    if after:
        query = query.where(_beyond(by.columns, values_of(after, by.shape), descending=descending))
    limit = bounded(limit)
    query = query.order_by(*(column.desc() if descending else column for column in by.columns)).limit(limit + 1)
    rows = list(conn.execute(query).mappings())
    if len(rows) <= limit:
        return rows, Page(next="", total=total)
    return rows[:limit], Page(next=token_of([rows[limit - 1][label] for label in labels]), total=total)


def bounded(limit: int) -> int:
    """`limit` as it may be: at least 1, at most `MAX_LIMIT`."""
    return max(1, min(limit, MAX_LIMIT))


def token_of(values: Sequence[object]) -> str:
    """The opaque text that stands for a row's sort key."""
    return base64.urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")


def values_of(token: str, shape: type[T]) -> T:
    """The sort key in `token`. Raises `BadInput` (`bad_page`) when it is none of ours."""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=shape)
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise not_a_page() from error


def not_a_page() -> BadInput:
    """What a token is refused with."""
    mend = "Pass the `next` of the page before, with the same `sort`."
    return BadInput("`after` is no page of this list.", code="bad_page", mend=mend, field="after")


def _beyond(columns: Sequence[ColumnElement[Any]], values: Sequence[object], *, descending: bool) -> ColumnElement[bool]:
    """Rows that come after `values` when sorted by `columns`."""
    alternatives = []
    for index, (column, value) in enumerate(zip(columns, values, strict=True)):
        same = [earlier == old for earlier, old in zip(columns[:index], values, strict=False)]
        alternatives.append(and_(*same, column < value if descending else column > value))
    return or_(*alternatives)
