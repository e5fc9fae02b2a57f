"""Reads JSON lines as Arrow batches: bytes are split at line ends for a whole column, never row by row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import pyarrow as pa

from onetouch.lake import Lake
from onetouch.policy import Events
from onetouch.sources.packing import Cut, packed, packing_of, unpack
from onetouch.sources.protocol import Changed
from onetouch.sources.raw import Refusal
from onetouch.sources.rows import BATCH_BYTES, READ_BYTES, SHOWN_BYTES, Gathered, Kept


class JsonLines:
    """One JSON object per line, compressed or plain; blank lines are not rows."""

    def read(
        self, files: Iterable[Kept], refused: Iterable[Refusal], limits: Events, batch_bytes: int = BATCH_BYTES
    ) -> Iterator[pa.RecordBatch]:
        """Every line of the files as rows of `ROWS`, in batches of about `batch_bytes` of text.

        `problem` is `line_too_long`, `truncated_file` or `corrupt_file` (one row for the rest of a file that ends
        early), or the reason of a refused file (one row per file); such rows show up to 64 KiB. Memory is bounded by
        `batch_bytes` + `limits.max_line_bytes`, whatever the files contain.
        """
        batch = Gathered(limits.max_line_bytes)
        for file in files:
            yield from self.gather(file, limits, batch, batch_bytes)
        for refusal in refused:
            batch.problem(refusal.file, None, refusal.detail.encode(), refusal.reason)
        yield from batch.take()

    def gather(self, file: Kept, limits: Events, batch: Gathered, batch_bytes: int) -> Iterator[pa.RecordBatch]:
        """Adds the lines of a file to a batch, and yields the batch whenever it is full."""
        with file.open() as raw:
            pieces = unpack(iter(lambda: raw.read(READ_BYTES), b""), limits, file.packing)
            yield from _whole_lines(file.name, pieces, limits, batch, batch_bytes)

    def texts(self, file: Kept, limits: Events) -> Iterator[tuple[int, bytes]]:
        """Number and text (without its end) of each line, as far as the file can be read."""
        for number, text, _ in _split(file, limits):
            yield number, text

    def rewrite(self, lake: Lake, folder: str, path: str, limits: Events, changed: Changed) -> int:
        """Rewrites a file of lines with the same compression, completely or not at all; returns how many lines changed.

        `changed` is called for each line (number from 1, text without its end). Of a file that ends early, the readable
        part is kept.
        """
        file = Kept(path, lambda: lake.fs.open(lake.path(folder, path), "rb"), packing_of(path))
        new: dict[int, bytes] = {}
        for number, text, _ in _split(file, limits):
            if (line := changed(number, text)) is not None and line != text:
                new[number] = line
        if not new:
            return 0
        with (
            lake.writing(folder, path) as draft,
            lake.fs.open(draft, "wb") as raw,
            packed(raw, file.packing) as out,
        ):
            for number, text, end in _split(file, limits):
                out.write(new.get(number, text) + end)
        return len(new)


def _whole_lines(
    name: str, pieces: Iterator[bytes], limits: Events, batch: Gathered, batch_bytes: int
) -> Iterator[pa.RecordBatch]:
    line = 1
    rest = b""  # a line whose end has not been read yet
    too_long: bytes | None = None  # the beginning of an overlong line that is being skipped
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
    """Whether a line without a line break is complete, that is, a whole JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _split(file: Kept, limits: Events) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, text and end of each line."""
    number, rest = 1, b""
    with file.open() as raw:
        pieces = unpack(iter(lambda: raw.read(READ_BYTES), b""), limits, file.packing)
        while True:
            try:
                piece = next(pieces, None)
            except Cut:
                break
            if piece is None:
                break
            *whole, rest = (rest + piece).split(b"\n")
            for text in whole:
                yield number, text, b"\n"
                number += 1
    if rest:
        yield number, rest, b""
