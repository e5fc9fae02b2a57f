"""The base of formats that are read one row at a time: each row becomes the JSON text of an object."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any, NamedTuple

import pyarrow as pa

from onetouch.lake import Lake
from onetouch.policy import Events
from onetouch.sources.packing import packing_of
from onetouch.sources.protocol import Changed
from onetouch.sources.raw import Refusal
from onetouch.sources.rows import BATCH_BYTES, ERASED, Gathered, Kept


class Row(NamedTuple):
    """A row's number, its text, and why it is invalid (None: it is valid)."""

    number: int
    text: bytes
    problem: str | None = None


class RowByRow(ABC):
    """Base class of these formats. A format yields the `rows` of a file, and writes a file with some rows replaced."""

    @abstractmethod
    def rows(self, file: Kept, limits: Events) -> Iterator[Row]:
        """The rows of a file; an invalid row has its problem, and so has the rest of a file that ends early."""

    @abstractmethod
    def write(self, file: Kept, out: IO[bytes], limits: Events, new: Mapping[int, bytes]) -> None:
        """Writes the file to `out` with some rows replaced; `new`: number of a row → its new text."""

    def read(self, files: Iterable[Kept], refused: Iterable[Refusal], limits: Events) -> Iterator[pa.RecordBatch]:
        """See `protocol.Format`."""
        batch = Gathered(limits.max_line_bytes)
        for file in files:
            yield from self.gather(file, limits, batch)
        for refusal in refused:
            batch.problem(refusal.file, None, refusal.detail.encode(), refusal.reason)
        yield from batch.take()

    def gather(self, file: Kept, limits: Events, batch: Gathered) -> Iterator[pa.RecordBatch]:
        """Adds the rows of a file to a batch, and yields the batch whenever it is full."""
        for row in self.rows(file, limits):
            if row.problem is not None:
                batch.problem(file.name, row.number, row.text, row.problem)
            elif len(row.text) > limits.max_line_bytes:
                batch.problem(file.name, row.number, row.text, "line_too_long")
            else:
                batch.add(file.name, row.number, row.text + b"\n")
            if batch.size >= BATCH_BYTES:
                yield from batch.take()

    def texts(self, file: Kept, limits: Events) -> Iterator[tuple[int, bytes]]:
        """See `protocol.Format`."""
        for row in self.rows(file, limits):
            yield row.number, row.text

    def rewrite(self, lake: Lake, folder: str, path: str, limits: Events, changed: Changed) -> int:
        """See `protocol.Format`."""
        file = Kept(path, lambda: lake.fs.open(lake.path(folder, path), "rb"), packing_of(path))
        new: dict[int, bytes] = {}
        for number, text in self.texts(file, limits):
            if (row := changed(number, text)) is not None and row != text:
                new[number] = row
        if new:
            with lake.writing(folder, path) as draft, lake.fs.open(draft, "wb") as out:
                self.write(file, out, limits, new)
        return len(new)


def json_text(values: Iterable[tuple[str, Any]], nested: frozenset[str], default: Callable[[Any], Any] = str) -> bytes:
    """The JSON text of a row without null and empty values. The texts of `nested` columns are JSON themselves."""
    parts = []
    for name, value in values:
        if value is None or value == "":
            continue
        if name in nested and isinstance(value, str) and is_json(value):
            shown = " ".join(value.split("\n"))
        else:
            shown = json.dumps(value, ensure_ascii=False, default=default)
        parts.append(f"{json.dumps(name, ensure_ascii=False)}: {shown}")
    return ("{" + ", ".join(parts) + "}").encode("utf-8", "surrogateescape")


def new_values(text: bytes, nested: frozenset[str]) -> dict[str, Any] | None:
    """The values of a row's new text, with values of `nested` columns as JSON texts; None for an erased row."""
    if text == ERASED.encode():
        return None
    row = json.loads(text)
    return {name: json.dumps(value, ensure_ascii=False) if name in nested else value for name, value in row.items()}


def is_json(text: str | bytes) -> bool:
    """Whether it is a JSON document."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
