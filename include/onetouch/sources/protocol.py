"""What a source is: where its rows come from, how they are read, and where the parts of an event stand in them."""

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
from onetouch.sources.raw import Fetched, Refusal
from onetouch.sources.rows import Kept
from onetouch.sources.shape import Shape

Changed = Callable[[int, bytes], bytes | None]
"""(number, text) of a row → the text that is to stand there; None: the row stays as it is."""


class Fetch(Protocol):
    """Brings a window of a source into the lake."""

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
    ) -> Fetched:
        """Keeps what was *received* from `start` up to `end` as raw files below `into`, as it was received.

        From `folder` when one is given (a folder of the answers the vendor's API gives, or of its files), else from
        the API of `connection`. A file that cannot be read within `limits` is refused with a reason and accounted
        for; it stops no other. Nothing outside `folder` and `into` is read or written. Raises ExportError, naming
        the fix, when there is neither folder nor connection, or the whole window cannot be had.
        """
        ...


class Format(Protocol):
    """How raw files hold rows. A row is given as the JSON text of an object, numbered from 1 in its file."""

    def read(self, files: Iterable[Kept], refused: Iterable[Refusal], limits: Events) -> Iterator[pa.RecordBatch]:
        """Every row of the files in batches of `ROWS`; what is none has its `problem`, a refused file is one row.

        The same file gives the same rows under the same numbers and texts. Memory is bounded by the batch and by
        `limits.max_line_bytes`, whatever the files hold.
        """
        ...

    def texts(self, file: Kept, limits: Events) -> Iterator[tuple[int, bytes]]:
        """Number and text of each row, as far as the file can be read, bad rows too."""
        ...

    def rewrite(self, lake: Lake, folder: str, path: str, limits: Events, changed: Changed) -> int:
        """Rewrites a raw file with the rows that `changed` gives, whole or not at all; returns how many are new.

        A row that becomes ERASED is read as that text again; every other row keeps its number.
        """
        ...


@dataclass(frozen=True)
class Source:
    """One source of events. `name` is what policy, lake and ledger call it."""

    name: str
    fetch: Fetch
    format: Format
    shape: Shape

    @property
    def connection(self) -> str:
        """The id of the connection to its API."""
        return f"{self.name}_default"

    def read(self, lake: Lake, into: str, fetched: Fetched, limits: Events) -> Iterator[pa.RecordBatch]:
        """What `fetch` kept below `into`, as batches of `ROWS`; a refused file is one row."""
        files = (
            Kept(raw.file, partial(lake.fs.open, lake.path(into, raw.path), "rb"), packing_of(raw.file))
            for raw in fetched.files
        )
        return self.format.read(files, fetched.refused, limits)
