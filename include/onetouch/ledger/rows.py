"""Reads rows of the ledger: rows of given ids, and rows as a frame."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Connection, Select

if TYPE_CHECKING:
    import pandas as pd

MANY = 1000
"""Most ids in one query (drivers limit them); for more ids, all rows are read and filtered afterwards."""

_MOMENTS = (
    "decided_at", "touched_at", "closed_at", "rest_at", "last_assigned_at", "at", "known_at", "noted_at",
    "first_task_at", "answered_at", "refused_at", "as_of",
)  # fmt: skip
_TYPES = {
    **dict.fromkeys(_MOMENTS, "datetime64[us, UTC]"),
    **dict.fromkeys(("episode", "step", "open"), "int64"),
    "score": "float64",
    **dict.fromkeys(("signals", "recent"), "object"),
}


def rows_of(
    connection: Connection, query: Select[Any], column: Column[Any] | None = None, ids: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """The query's rows; with `ids`, only those whose `column` is one of them."""
    if column is not None and ids is not None and len(ids) <= MANY:
        query = query.where(column.in_(list(ids)))
        ids = None
    found = [dict(row) for row in connection.execute(query).mappings()]
    if column is None or ids is None:
        return found
    asked = set(ids)
    return [row for row in found if row[column.name] in asked]


def frame(rows: Iterable[Mapping[str, Any]], columns: list[str]) -> pd.DataFrame:
    """Rows as a frame whose types don't depend on its content (empty, all null): text is `str`, times UTC in µs."""
    import pandas as pd

    content = list(rows)
    return pd.DataFrame(
        {name: pd.Series([row[name] for row in content], dtype=_TYPES.get(name, "str")) for name in columns}
    )
