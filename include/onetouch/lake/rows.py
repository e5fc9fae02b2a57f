"""Selected rows of the lake's tables as plain dicts."""

from __future__ import annotations

from typing import Any

from onetouch.lake.formats import read_table
from onetouch.lake.lake import Lake


def rows_where(lake: Lake, room: str, run_id: str, column: str, values: list[str]) -> list[dict[str, Any]]:
    """The rows of `{room}/{run_id}.parquet` whose `column` is one of `values`. Raises FileNotFoundError."""
    if not values:
        return []
    rows: list[dict[str, Any]] = read_table(
        lake, room, f"{run_id}.parquet", filters=[(column, "in", values)]
    ).to_pylist()
    return rows
