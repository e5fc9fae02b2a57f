"""What a run has left in the lake; what is gone is named."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from onetouch.lake import Lake


def table(lake: Lake, *parts: str, account_id: str | None = None) -> pa.Table:
    """A file of the lake, or one account's rows of it. Raises FileNotFoundError naming it."""
    if not lake.exists(*parts):
        raise FileNotFoundError(f"{'/'.join(parts)}: is gone from the lake; restore it")
    filters = None if account_id is None else [("account_id", "==", account_id)]
    with lake.fs.open(lake.path(*parts), "rb") as file:
        # A command may end right after: pyarrow's threads, letting go of the file then, would abort the interpreter.
        return pq.read_table(file, filters=filters, use_threads=False)


def of_run(lake: Lake, room: str, run_id: str, account_id: str | None = None) -> pa.Table:
    """`{room}/{run_id}.parquet`: signals, scores, decisions. Raises FileNotFoundError naming it."""
    return table(lake, room, f"{run_id}.parquet", account_id=account_id)


def earlier(lake: Lake, run_id: str) -> pd.DataFrame:
    """The scores that those of the run were compared with. Raises FileNotFoundError naming the file."""
    scores: pd.DataFrame = table(lake, "inputs", run_id, "earlier.parquet").to_pandas()
    return scores
