"""What a run has left in the lake; what is gone is named."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from onetouch.lake import Lake, as_stored, read_raw, read_table, shape_of


def table(lake: Lake, *parts: str, account_id: str | None = None, upgraded: bool = True) -> pa.Table:
    """A file of the lake, upgraded (`lake.formats`), or one account's rows. Raises FileNotFoundError naming it."""
    if not lake.exists(*parts):
        raise FileNotFoundError(f"{'/'.join(parts)}: is gone from the lake; restore it")
    filters = None if account_id is None else [("account_id", "==", account_id)]
    # A command may end right after: pyarrow's threads, letting go of the file then, would abort the interpreter.
    return (read_table if upgraded else read_raw)(lake, *parts, filters=filters, threads=False)


def of_run(lake: Lake, room: str, run_id: str, account_id: str | None = None) -> pa.Table:
    """`{room}/{run_id}.parquet`: signals, scores, decisions. Raises FileNotFoundError naming it."""
    return table(lake, room, f"{run_id}.parquet", account_id=account_id)


def as_written(lake: Lake, room: str, run_id: str) -> pa.Table:
    """`{room}/{run_id}.parquet` as the release wrote it that did, not upgraded. Raises FileNotFoundError naming it."""
    return table(lake, room, f"{run_id}.parquet", upgraded=False)


def made_again(rows: pd.DataFrame, room: str, stored: pa.Table) -> pa.Table:
    """Rows made today, as the release wrote them that wrote `stored` (as `as_written` gives it)."""
    shape = shape_of(room, "run.parquet")
    assert shape is not None
    return as_stored(pa.Table.from_pandas(rows, preserve_index=False), stored, shape)


def earlier(lake: Lake, run_id: str) -> pd.DataFrame:
    """The scores that those of the run were compared with. Raises FileNotFoundError naming the file."""
    scores: pd.DataFrame = table(lake, "inputs", run_id, "earlier.parquet").to_pandas()
    return scores
