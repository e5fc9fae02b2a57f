"""The lake: tables as Parquet files, each of a declared kind and format."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from onetouch.lake import formats
from onetouch.lake.engines import DEFAULT_ENGINE, Engine, open_engine
from onetouch.lake.files import Files


class Lake(Files):
    """Tables as Parquet among the `Files` of a root, and the engine that reads, computes and writes them."""

    def __init__(self, uri: str | os.PathLike[str], engine: str = DEFAULT_ENGINE) -> None:
        super().__init__(uri)
        self.engine_name = engine

    def write(self, table: pa.Table | pd.DataFrame, *parts: str) -> str:
        """Writes a table as one Parquet file, with the number of its format, and returns its path."""
        if isinstance(table, pd.DataFrame):
            table = pa.Table.from_pandas(table, preserve_index=False)
        table = formats.stamped(table, *parts)
        with self.writing(*parts) as draft, self.fs.open(draft, "wb") as file:
            pq.write_table(table, file, compression="zstd")
        return self.path(*parts)

    def read(self, *parts: str) -> pd.DataFrame:
        """One Parquet file as a frame in today's format (`read_table`). Raises FileNotFoundError."""
        frame: pd.DataFrame = formats.read_table(self, *parts).to_pandas()
        return frame

    def engine(
        self, memory: str = "4GB", threads: int | None = None, large: bool = False
    ) -> AbstractContextManager[Engine]:
        """A session of the lake's engine in UTC with bounded memory, on `threads` cores (None: all).

        `large`: the tables it keeps are expected to be larger than memory.
        """
        return open_engine(self.engine_name, self, memory=memory, threads=threads, large=large)
