"""CSV and TSV: a row becomes an object with the text of each column; empty values are left out."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO

from onetouch.policy import Events
from onetouch.sources.packing import Cut, packed, unpack
from onetouch.sources.row_by_row import Row, RowByRow, json_text, new_values
from onetouch.sources.rows import ERASED, READ_BYTES, SHOWN_BYTES, Kept

_MARK = b"\xef\xbb\xbf"  # the byte order mark with which some programs begin a text file
_NO_LIMIT = 1 << 30  # replaces the csv module's own limit: the policy bounds lines before the module reads them


@dataclass(frozen=True)
class Delimited(RowByRow):
    """The format of a file with delimited values.

    `columns`: names of the columns, in order (empty: the file's first line names them). `quoted`: a value in double
    quotes may contain delimiters and line ends (CSV); otherwise each line is a row (TSV). `nested`: columns whose texts
    are JSON. Problems of a row, besides those of its file: `wrong_columns` (more or fewer values than columns),
    `broken_csv`, `line_too_long`, `invalid_utf8`.
    """

    delimiter: str = ","
    quoted: bool = True
    columns: tuple[str, ...] = ()
    nested: frozenset[str] = frozenset()

    def rows(self, file: Kept, limits: Events) -> Iterator[Row]:
        """The rows of a file. Numbers count records, including the line of names."""
        names = self.columns
        for number, values, raw, problem in self._records(file, limits):
            if problem is None and not names:
                names = tuple(values)
            elif problem is None and values[0] == ERASED:
                yield Row(number, ERASED.encode())
            elif problem is None and len(values) != len(names):
                yield Row(number, raw, "wrong_columns")
            elif problem is not None:
                yield Row(number, raw, problem)
            else:
                text = json_text(zip(names, values, strict=True), self.nested)
                yield Row(number, text, None if _is_utf8(text) else "invalid_utf8")

    def write(self, file: Kept, out: IO[bytes], limits: Events, new: Mapping[int, bytes]) -> None:
        """Writes every record unchanged except the new ones; an erased record has ERASED as its first value."""
        names = self.columns
        with packed(out, file.packing) as place:
            for number, values, raw, problem in self._records(file, limits):
                if problem is None and not names:
                    names = tuple(values)
                if number in new:
                    place.write(self._line(new[number], names))
                else:
                    place.write(raw + b"\n")

    def _line(self, text: bytes, names: tuple[str, ...]) -> bytes:
        row = new_values(text, self.nested)
        values = [ERASED, *[""] * (len(names) - 1)] if row is None else [row.get(name, "") for name in names]
        if not self.quoted:
            return (self.delimiter.join(map(str, values)) + "\n").encode("utf-8", "surrogateescape")
        line = io.StringIO()
        csv.writer(line, delimiter=self.delimiter, lineterminator="\n").writerow(values)
        return line.getvalue().encode("utf-8", "surrogateescape")

    def _records(self, file: Kept, limits: Events) -> Iterator[tuple[int, list[str], bytes, str | None]]:
        """Number, values, text (without its end) and problem of each record; blank lines are not records."""
        csv.field_size_limit(_NO_LIMIT)
        lines = _Lines(file, limits)
        number = 0
        while (first := lines.next()) is not None:
            text, problem = first
            if problem is None and text.strip() == b"":
                continue
            number += 1
            if problem is None:
                text, values, problem = self._record(text, lines, limits)
            else:
                values = []
            yield number, values, text, problem

    def _record(self, text: bytes, lines: _Lines, limits: Events) -> tuple[bytes, list[str], str | None]:
        """The record that begins with this line. A record that does not end consists of its first line alone; the
        lines after it are put back and read as further records."""
        if not self.quoted:
            return text, _texts(text).split(self.delimiter), None
        taken, size, quotes = [text], len(text), text.count(b'"')
        while quotes % 2:
            following = lines.next()
            if following is None or following[1] is not None or size + len(following[0]) > limits.max_line_bytes:
                lines.put_back([(line, None) for line in taken[1:]] + ([following] if following else []))
                return text, [], "broken_csv"
            taken.append(following[0])
            size += len(following[0]) + 1
            quotes += following[0].count(b'"')
        whole = b"\n".join(taken)
        try:
            [values] = csv.reader(io.StringIO(_texts(whole), newline=""), delimiter=self.delimiter, strict=True)
        except (csv.Error, ValueError):
            lines.put_back([(line, None) for line in taken[1:]])
            return text, [], "broken_csv"
        return whole, values, None


class _Lines:
    """The lines of a file without their ends, each with its problem (None: it has none)."""

    def __init__(self, file: Kept, limits: Events) -> None:
        self.ahead: deque[tuple[bytes, str | None]] = deque()
        self.source = _lines_of(file, limits)

    def next(self) -> tuple[bytes, str | None] | None:
        return self.ahead.popleft() if self.ahead else next(self.source, None)

    def put_back(self, lines: list[tuple[bytes, str | None]]) -> None:
        self.ahead.extendleft(reversed(lines))


def _lines_of(file: Kept, limits: Events) -> Iterator[tuple[bytes, str | None]]:
    rest, too_long, begun = b"", False, False
    with file.open() as raw:
        pieces = unpack(iter(lambda: raw.read(READ_BYTES), b""), limits, file.packing)
        while True:
            try:
                piece = next(pieces, None)
            except Cut as cut:
                yield (rest[:SHOWN_BYTES], cut.reason)
                return
            if piece is None:
                break
            if not begun:
                piece, begun = piece.removeprefix(_MARK), True
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                line = line.removesuffix(b"\r")
                long = too_long or len(line) > limits.max_line_bytes
                yield (line[:SHOWN_BYTES], "line_too_long") if long else (line, None)
                too_long = False
            if len(rest) > limits.max_line_bytes:
                rest, too_long = rest[:SHOWN_BYTES], True
    if rest:
        yield (rest, "line_too_long") if too_long else (rest.removesuffix(b"\r"), None)


def _texts(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


CSV = Delimited()
TSV = Delimited(delimiter="\t", quoted=False)
