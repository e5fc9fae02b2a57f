"""A few rows of the lake's tables, as plain dicts."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq

from onetouch.lake import Lake
from onetouch.ledger.columns import clean


def rows_where(lake: Lake, room: str, run_id: str, column: str, values: list[str]) -> list[dict[str, Any]]:
    """The rows of `{room}/{run_id}.parquet` whose `column` is one of `values`. Raises FileNotFoundError."""
    if not values:
        return []
    with lake.fs.open(lake.path(room, f"{run_id}.parquet"), "rb") as file:
        return pq.read_table(file, filters=[(column, "in", values)]).to_pylist()


def storable(value: Any) -> Any:
    """A value of another system as lake and ledger can hold it: text without NUL and lone surrogates."""
    return clean(value) if isinstance(value, str) else value


def timezones(lake: Lake, run_id: str) -> dict[str, str]:
    """Owner id → time zone, as far as the CRM told that run."""
    if not lake.exists("crm", run_id, "reps.parquet"):
        return {}
    reps = lake.read("crm", run_id, "reps.parquet").dropna(subset=["owner_id", "timezone"])
    return dict(zip(reps["owner_id"], reps["timezone"], strict=True))
