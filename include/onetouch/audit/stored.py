"""Reads the files a run stored in the lake; errors name the missing file."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from onetouch.lake import Lake, as_stored, read_raw, read_table, table_kind


def table(lake: Lake, *parts: str, account_id: str | None = None, upgraded: bool = True) -> pa.Table:
    """A file of the lake, or one account's rows of it, upgraded to the current format (`lake.formats`) if `upgraded`.

    Raises FileNotFoundError naming the file if it is missing.
    """
    if not lake.exists(*parts):
        raise FileNotFoundError(f"{'/'.join(parts)}: is gone from the lake; restore it")
    filters = None if account_id is None else [("account_id", "==", account_id)]
    return (read_table if upgraded else read_raw)(lake, *parts, filters=filters)


def of_run(lake: Lake, table_name: str, run_id: str, account_id: str | None = None) -> pa.Table:
    """The rows of one of a run's tables (`table_name`: signals, scores, decisions), of one account or of all.

    Raises FileNotFoundError naming a missing file.
    """
    return table(lake, table_name, f"{run_id}.parquet", account_id=account_id)


def as_written(lake: Lake, table_name: str, run_id: str) -> pa.Table:
    """One of a run's tables in the format it was written in. Raises FileNotFoundError naming a missing file."""
    return table(lake, table_name, f"{run_id}.parquet", upgraded=False)


def made_again(rows: pd.DataFrame, table_name: str, stored: pa.Table) -> pa.Table:
    """Newly computed rows converted to the format of the release that wrote `stored` (as `as_written` returns it)."""
    kind = table_kind(table_name, "run.parquet")
    assert kind is not None
    return as_stored(pa.Table.from_pandas(rows, preserve_index=False), stored, kind)


def earlier(lake: Lake, run_id: str) -> pd.DataFrame:
    """The earlier scores that the run's were compared with. Raises FileNotFoundError naming a missing file."""
    scores: pd.DataFrame = table(lake, "inputs", run_id, "earlier.parquet").to_pandas()
    return scores
