"""Rows as read: all formats give the same columns, so later steps do not depend on the format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

import numpy as np
import pyarrow as pa

from onetouch.sources.packing import Packing

ROWS = pa.schema(
    [
        ("file", pa.dictionary(pa.int32(), pa.string())),
        ("line", pa.int64()),
        ("text", pa.binary()),
        ("problem", pa.string()),
    ]
)
"""A row as read: its file and line (the first line is 1; null for a whole file), its JSON text, and `problem`, the
reason why it is invalid (null: it is valid)."""

SHOWN_BYTES = 65536
"""The number of bytes kept of a row that is only shown, because it is too long or cut off."""

ERASED = '{"onetouch": "forgotten"}'
"""The text that replaces a row of a forgotten subject, so that every other row keeps its number."""

BATCH_BYTES = 16 << 20
"""The approximate number of bytes of text in one batch of rows."""

READ_BYTES = 1 << 20

_NEWLINE, _RETURN = 10, 13


class Kept(NamedTuple):
    """A raw file to be read: the vendor's name for it, a function that opens it, and its compression."""

    name: str
    open: Callable[[], IO[bytes]]
    packing: Packing = "gzip"


class Gathered:
    """Collects rows from several files until there are enough of them for a batch."""

    def __init__(self, max_line_bytes: int) -> None:
        self.max_line_bytes = max_line_bytes
        self._clear()

    def _clear(self) -> None:
        self.size = 0
        self.texts: list[bytes] = []
        self.starts: list[int] = []  # offset at which each text begins
        self.names: list[str] = []
        self.lines: list[int] = []  # number of the first line of each text
        self.problems: list[tuple[str, int | None, bytes, str]] = []

    def add(self, name: str, line: int, text: bytes) -> int:
        """Adds complete lines, each with its line end, that begin at number `line`; returns the next line's number."""
        self.starts.append(self.size)
        self.names.append(name)
        self.lines.append(line)
        self.texts.append(text)
        self.size += len(text)
        return line + text.count(b"\n")

    def problem(self, name: str, line: int | None, text: bytes, reason: str) -> None:
        """Adds an invalid row with the reason."""
        self.problems.append((name, line, text[:SHOWN_BYTES], reason))

    def take(self) -> Iterator[pa.RecordBatch]:
        """Yields the collected rows as batches of `ROWS`, and then clears them."""
        if self.texts:
            yield from self._good()
        if self.problems:
            names, lines, texts, reasons = zip(*self.problems, strict=True)
            yield pa.record_batch(
                [
                    pa.array(names, pa.string()).dictionary_encode(),
                    pa.array(lines, pa.int64()),
                    pa.array(texts, pa.binary()),
                    pa.array(reasons, pa.string()),
                ],
                schema=ROWS,
            )
        self._clear()

    def _good(self) -> Iterator[pa.RecordBatch]:
        data = self.texts[0] if len(self.texts) == 1 else b"".join(self.texts)
        octets = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(octets == _NEWLINE).astype(np.int32) + np.int32(1)
        offsets = np.concatenate([np.zeros(1, np.int32), ends])
        begins = offsets[:-1]
        lengths = np.diff(offsets)
        text_of = np.searchsorted(np.asarray(self.starts), begins, side="right") - 1
        first_row = np.searchsorted(begins, np.asarray(self.starts))
        numbers = np.asarray(self.lines)[text_of] + np.arange(len(begins)) - first_row[text_of]
        names = pa.array(self.names, pa.string()).dictionary_encode()
        files = pa.DictionaryArray.from_arrays(names.indices.take(pa.array(text_of)), names.dictionary)
        text = pa.Array.from_buffers(pa.binary(), len(begins), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
        batch = pa.record_batch(
            [files, pa.array(numbers, pa.int64()), text, pa.nulls(len(begins), pa.string())], schema=ROWS
        )
        blank = (lengths == 1) | ((lengths == 2) & (octets[begins] == _RETURN))
        long = lengths > self.max_line_bytes + 1  # the line end does not count
        for row in np.flatnonzero(long):
            start = int(begins[row])
            name = self.names[int(text_of[row])]
            self.problem(name, int(numbers[row]), data[start : start + SHOWN_BYTES], "line_too_long")
        if blank.any() or long.any():
            batch = batch.filter(pa.array(~(blank | long)))
        if batch.num_rows:
            yield batch
