"""JSON over several lines: an array or a sequence of values, read one by one without holding the file in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import IO

from onetouch.policy import Events
from onetouch.sources.packing import Cut, packed, unpack
from onetouch.sources.row_by_row import Row, RowByRow
from onetouch.sources.rows import READ_BYTES, SHOWN_BYTES, Kept

_MARK = b"\xef\xbb\xbf"  # the byte order mark with which some programs begin a text file
_BLANK = b" \t\r\n"
_TOKEN = re.compile(rb'["\\\[\]{},]')
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")  # safe: line ends occur only between values, within a text they are escaped


class JsonArray(RowByRow):
    """One JSON array per file. Any other file gives a single row with the problem `not_an_array`.

    An element need not be valid JSON: its end is found by brackets and quotes alone, so a broken element does not
    affect the others.
    """

    def rows(self, file: Kept, limits: Events) -> Iterator[Row]:
        """The elements, numbered from 1, each on one line."""
        for number, (text, problem) in enumerate(_elements(file, limits, _Elements(limits)), 1):
            yield Row(number, text, problem)

    def write(self, file: Kept, out: IO[bytes], limits: Events, new: Mapping[int, bytes]) -> None:
        """Writes the elements in their order, one per line."""
        with packed(out, file.packing) as place:
            place.write(b"[")
            for row in self.rows(file, limits):
                place.write((b",\n" if row.number > 1 else b"\n") + new.get(row.number, row.text))
            place.write(b"\n]\n")


class JsonValues(RowByRow):
    """JSON objects one after the other, each over as many lines as it likes. A broken one costs those it runs into."""

    def rows(self, file: Kept, limits: Events) -> Iterator[Row]:
        """The objects, numbered from 1, each on one line."""
        for number, (text, problem) in enumerate(_elements(file, limits, _Values(limits)), 1):
            yield Row(number, text, problem)

    def write(self, file: Kept, out: IO[bytes], limits: Events, new: Mapping[int, bytes]) -> None:
        """Writes the objects in their order, one per line."""
        with packed(out, file.packing) as place:
            for row in self.rows(file, limits):
                place.write(new.get(row.number, row.text) + b"\n")


def _elements(file: Kept, limits: Events, decoder: _Elements) -> Iterator[tuple[bytes, str | None]]:
    """Text and problem of each element, and of content that is not one."""
    cut = None
    with file.open() as raw:
        pieces = unpack(iter(lambda: raw.read(READ_BYTES), b""), limits, file.packing)
        while True:
            try:
                piece = next(pieces, None)
            except Cut as early:
                piece, cut = None, early.reason
            if piece is None:
                break
            yield from decoder.take(piece)
    yield from decoder.rest(cut)


class _Elements:
    """Splits pieces of a file into the elements of its array; an incomplete element waits for the next piece."""

    def __init__(self, limits: Events) -> None:
        self.limits = limits
        self.state = "before"  # position: "before", "within" or "after" the array, or "not" an array
        self.depth = 0  # depth of brackets within the element
        self.quoted = False
        self.skip = 0  # bytes of the next piece that belong to an escape sequence
        self.begun = bytearray()  # the element so far; if it is too long, only the part that is shown
        self.size = 0

    def take(self, piece: bytes) -> Iterator[tuple[bytes, str | None]]:
        """The elements that end in this piece."""
        start = 0
        if self.state == "before" and (text := piece.removeprefix(_MARK).lstrip(_BLANK)):
            self.state = "within" if text.startswith(b"[") else "not"
            start = len(piece) - len(text) + (self.state == "within")
        if self.state == "within":
            for at, sign in self._signs(piece, start):
                if sign in b"[{":
                    self.depth += 1
                elif sign in b"]}" and self.depth:
                    self.depth -= 1
                elif not self.depth:  # a comma, or the end of the array
                    self._hold(piece[start:at])
                    start = at + 1
                    if sign == b"," or self.begun.strip(_BLANK):
                        yield self._element()
                    if sign != b",":
                        self.state = "after"
                        break
        self._hold(piece[start:])
        self.skip = max(self.skip - len(piece), 0)

    def rest(self, cut: str | None) -> Iterator[tuple[bytes, str | None]]:
        """The remainder at the end of the file: nothing, unless the file is not an array or ends early."""
        if cut or self.state == "within":
            yield self._element()[0], cut or "truncated_file"
        elif self.state != "after" or self.begun.strip(_BLANK):
            yield self._element()[0], "not_an_array"

    def _signs(self, piece: bytes, start: int) -> Iterator[tuple[int, bytes]]:
        """Place and text of each bracket and comma of the piece that stands in no text."""
        for token in _TOKEN.finditer(piece, start):
            at, sign = token.start(), token[0]
            if at < self.skip:
                continue
            if self.quoted:
                self.skip = at + 2 if sign == b"\\" else 0
                self.quoted = sign != b'"'
            elif sign == b'"':
                self.quoted = True
            elif sign != b"\\":
                yield at, sign

    def _hold(self, text: bytes) -> None:
        self.size += len(text)
        if self.size > self.limits.max_line_bytes:
            text = text[: max(SHOWN_BYTES - len(self.begun), 0)]
        self.begun += text

    def _element(self) -> tuple[bytes, str | None]:
        text = bytes(self.begun).strip(_BLANK).translate(_ONE_LINE)
        problem = "line_too_long" if self.size > self.limits.max_line_bytes else None
        self.begun, self.size = bytearray(), 0
        return text, problem or (None if text else "broken_json")


class _Values(_Elements):
    """Splits pieces of a file into its values: each ends with its outermost bracket."""

    def take(self, piece: bytes) -> Iterator[tuple[bytes, str | None]]:
        """The values that end in this piece."""
        start = 0
        for at, sign in self._signs(piece, 0):
            if sign in b"[{":
                self.depth += 1
            elif sign in b"]}":
                self.depth = max(self.depth - 1, 0)
                if not self.depth:
                    self._hold(piece[start : at + 1])
                    start = at + 1
                    yield self._element()
        self._hold(piece[start:])
        self.skip = max(self.skip - len(piece), 0)

    def rest(self, cut: str | None) -> Iterator[tuple[bytes, str | None]]:
        """The remainder at the end of the file: nothing, unless the file ends early."""
        text, problem = self._element()
        if text or cut:
            yield text, cut or ("truncated_file" if text.startswith(b"{") else problem)
