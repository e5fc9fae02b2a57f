"""Gzip JSON lines as Arrow batches: bytes are cut at line ends by the column, never row by row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import IO

import numpy as np
import pyarrow as pa

from onetouch.policy.schema import Events
from onetouch.sources.raw import Cut, Refusal, unpack

ROWS = pa.schema(
    [
        ("file", pa.dictionary(pa.int32(), pa.string())),
        ("line", pa.int64()),
        ("text", pa.binary()),
        ("problem", pa.string()),
    ]
)
"""A row as read: where it stood (line 1 is the first; null for a whole file), its bytes, and why it is none."""

SHOWN_BYTES = 65536
"""Of a row that is only shown (too long, cut off), this much is kept."""

ERASED = '{"onetouch": "forgotten"}'
"""What stands in place of a line whose subject was forgotten: every other line keeps its number."""

_BATCH_BYTES = 16 << 20
_READ = 1 << 20
_NEWLINE, _RETURN = 10, 13


def read_lines(
    files: Iterable[tuple[str, Callable[[], IO[bytes]]]],
    refused: Iterable[Refusal],
    limits: Events,
    batch_bytes: int = _BATCH_BYTES,
) -> Iterator[pa.RecordBatch]:
    """Every line of the files as rows of `ROWS`, in batches of about `batch_bytes` of text.

    Blank lines are no rows. `problem` is `line_too_long`, `truncated_file` or `corrupt_file` (one row for the rest
    of a file that ends early), or the reason of a refused file (one row each); such rows show up to 64 KiB. Memory
    is bounded by `batch_bytes` + `limits.max_line_bytes`, whatever the files hold.
    """
    batch = _Batch(limits.max_line_bytes)
    for name, opened in files:
        with opened() as raw:
            yield from _lines_of(name, raw, limits, batch, batch_bytes)
    for refusal in refused:
        batch.problem(refusal.file, None, refusal.detail.encode(), refusal.reason)
    yield from batch.take()


def _lines_of(name: str, raw: IO[bytes], limits: Events, batch: _Batch, batch_bytes: int) -> Iterator[pa.RecordBatch]:
    line = 1
    rest = b""  # the line begun but not ended
    too_long: bytes | None = None  # the head of a line that is being skipped
    pieces = unpack(iter(lambda: raw.read(_READ), b""), limits)
    cut: str | None = None
    while True:
        try:
            piece = next(pieces, None)
        except Cut as early:
            cut, piece = early.reason, None
        if piece is None:
            break
        if too_long is not None:
            end = piece.find(b"\n")
            if end < 0:
                continue
            batch.problem(name, line, too_long, "line_too_long")
            too_long, line, piece = None, line + 1, piece[end + 1 :]
        end = piece.rfind(b"\n") + 1
        if end:
            line = batch.add(name, line, rest + piece[:end])
            rest = piece[end:]
            if batch.size >= batch_bytes:
                yield from batch.take()
        else:
            rest += piece
        if len(rest) > limits.max_line_bytes:
            too_long, rest = rest[:SHOWN_BYTES], b""
    if too_long is not None:
        batch.problem(name, line, too_long, "line_too_long")
        line, rest = line + 1, b""
    if rest and (cut is None or _whole(rest)):
        line, rest = batch.add(name, line, rest + b"\n"), b""
    if cut is not None:
        batch.problem(name, line, rest, cut)


def _whole(text: bytes) -> bool:
    """Whether a line that lost its end lost nothing but the line break: a JSON object tells where it ends."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


class _Batch:
    """Lines gathered from several files until there are enough of them."""

    def __init__(self, max_line_bytes: int) -> None:
        self.max_line_bytes = max_line_bytes
        self._clear()

    def _clear(self) -> None:
        self.size = 0
        self.texts: list[bytes] = []
        self.starts: list[int] = []  # where each text begins
        self.names: list[str] = []
        self.lines: list[int] = []  # number of its first line
        self.problems: list[tuple[str, int | None, bytes, str]] = []

    def add(self, name: str, line: int, text: bytes) -> int:
        """Takes whole lines (each ended) beginning at number `line`; returns the number of the next."""
        self.starts.append(self.size)
        self.names.append(name)
        self.lines.append(line)
        self.texts.append(text)
        self.size += len(text)
        return line + text.count(b"\n")

    def problem(self, name: str, line: int | None, text: bytes, reason: str) -> None:
        self.problems.append((name, line, text[:SHOWN_BYTES], reason))

    def take(self) -> Iterator[pa.RecordBatch]:
        """What was gathered, as batches; empties it."""
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
        long = lengths > self.max_line_bytes + 1  # the line's end is not the line
        for row in np.flatnonzero(long):
            start = int(begins[row])
            name = self.names[int(text_of[row])]
            self.problem(name, int(numbers[row]), data[start : start + SHOWN_BYTES], "line_too_long")
        if blank.any() or long.any():
            batch = batch.filter(pa.array(~(blank | long)))
        if batch.num_rows:
            yield batch
