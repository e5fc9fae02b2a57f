"""The interface of a source: how its rows are fetched and read, and where the parts of an event are in a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from onetouch.connections import Connection
from onetouch.lake import Lake
from onetouch.policy import Events, SourceSettings
from onetouch.sources.packing import packing_of
from onetouch.sources.raw import Fetched, Known, Refusal
from onetouch.sources.rows import Kept
from onetouch.sources.shape import Shape

Changed = Callable[[int, bytes], bytes | None]
"""(number, text) of a row → its new text; None: the row stays unchanged."""


class Fetch(Protocol):
    """Fetches a window of a source into the lake."""

    def __call__(
        self,
        lake: Lake,
        into: str,
        start: datetime,
        end: datetime,
        limits: Events,
        *,
        connection: Connection | None = None,
        folder: Path | None = None,
        settings: SourceSettings = ...,
        known: Known | None = ...,
    ) -> Fetched:
        """Keeps the data that the vendor *received* from `start` up to `end` as unchanged raw files below `into`.

        The data comes from `folder` if one is given (a folder of responses of the vendor's API, or of its files), else
        from the API of `connection`. A file that cannot be read within `limits` is refused with a reason and recorded;
        the other files are still fetched. Files that are `known` from earlier runs are left out and counted. Nothing
        outside `folder` and `into` is read or written. Raises ExportError, naming the fix, when there is neither folder
        nor connection, or the whole window cannot be fetched.
        """
        ...


class Format(Protocol):
    """The format of raw files. A row is read as the JSON text of an object, numbered from 1 in its file."""

    def read(self, files: Iterable[Kept], refused: Iterable[Refusal], limits: Events) -> Iterator[pa.RecordBatch]:
        """Every row of the files in batches of `ROWS`; an invalid row has its `problem`, a refused file is one row.

        The same file always gives the same rows with the same numbers and texts. Memory is bounded by the batch and by
        `limits.max_line_bytes`, whatever the files contain.
        """
        ...

    def texts(self, file: Kept, limits: Events) -> Iterator[tuple[int, bytes]]:
        """Number and text of each row, including invalid rows, as far as the file can be read."""
        ...

    def rewrite(self, lake: Lake, folder: str, path: str, limits: Events, changed: Changed) -> int:
        """Rewrites a raw file with the rows that `changed` gives, completely or not at all; returns how many changed.

        A row that becomes ERASED is read as ERASED from then on; every other row keeps its number.
        """
        ...


@dataclass(frozen=True)
class Source:
    """One source of events. `name` is its name in policy, lake and ledger."""

    name: str
    fetch: Fetch
    format: Format
    shape: Shape

    @property
    def connection(self) -> str:
        """The id of the connection to the source's API."""
        return f"{self.name}_default"

    def read(self, lake: Lake, into: str, fetched: Fetched, limits: Events) -> Iterator[pa.RecordBatch]:
        """The rows of the files that `fetch` kept below `into`, as batches of `ROWS`; a refused file is one row."""
        files = (
            Kept(raw.file, partial(lake.fs.open, lake.path(into, raw.path), "rb"), packing_of(raw.path))
            for raw in fetched.files
            if not raw.is_empty
        )
        return self.format.read(files, fetched.refused, limits)
