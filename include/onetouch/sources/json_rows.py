"""JSON as tools write it: a line an object, one array, or objects over several lines; in UTF-8, UTF-16 or UTF-32."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import IO, cast

import pyarrow as pa

from onetouch.lake import Lake
from onetouch.policy import Events
from onetouch.sources.arrays import JsonArray, JsonValues
from onetouch.sources.lines import JsonLines
from onetouch.sources.packing import Cut, Readable, Refused, packed, packing_of, unpack
from onetouch.sources.protocol import Changed
from onetouch.sources.raw import Refusal
from onetouch.sources.row_by_row import RowByRow, is_json
from onetouch.sources.rows import BATCH_BYTES, READ_BYTES, Gathered, Kept

_SEEN_BYTES = 4096  # of a compressed file this many bytes are read to see how it is written
_MARKS = {  # UTF-32 before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class Json(JsonLines):
    """Reads lines as `JsonLines` does, at the same cost; other ways of writing are recognised by a file's beginning.

    The rows of an array are its elements, those of a file of objects over several lines its objects.
    """

    def read(
        self, files: Iterable[Kept], refused: Iterable[Refusal], limits: Events, batch_bytes: int = BATCH_BYTES
    ) -> Iterator[pa.RecordBatch]:
        """See `protocol.Format`."""
        batch = Gathered(limits.max_line_bytes)
        for file in files:
            known, form = _recognised(file, limits)
            if form is None:
                yield from self.gather(known, limits, batch, batch_bytes)
            else:
                yield from form.gather(known, limits, batch)
        for refusal in refused:
            batch.problem(refusal.file, None, refusal.detail.encode(), refusal.reason)
        yield from batch.take()

    def texts(self, file: Kept, limits: Events) -> Iterator[tuple[int, bytes]]:
        """See `protocol.Format`."""
        known, form = _recognised(file, limits)
        return super().texts(known, limits) if form is None else form.texts(known, limits)

    def rewrite(self, lake: Lake, folder: str, path: str, limits: Events, changed: Changed) -> int:
        """See `protocol.Format`. A file in another encoding is written in UTF-8."""
        file = Kept(path, lambda: lake.fs.open(lake.path(folder, path), "rb"), packing_of(path))
        known, form = _recognised(file, limits)
        if known is file and form is None:
            return super().rewrite(lake, folder, path, limits, changed)
        texts = super().texts if form is None else form.texts
        new = {
            number: row
            for number, text in texts(known, limits)
            if (row := changed(number, text)) is not None and row != text
        }
        if new:
            with (
                lake.writing(folder, path) as draft,
                lake.fs.open(draft, "wb") as raw,
                packed(raw, file.packing) as out,
            ):
                if form is not None:
                    form.write(known, out, limits, new)
                else:
                    for number, text in texts(known, limits):
                        out.write(new.get(number, text) + b"\n")
        return len(new)


def _recognised(file: Kept, limits: Events) -> tuple[Kept, RowByRow | None]:
    """The file and the format of its rows (None: lines); decompressed and in UTF-8, unless lines of it are read as they
    are."""
    begin = b""
    with file.open() as raw, suppress(Cut, Refused):  # the reader of the rows says what is wrong
        for piece in unpack(iter(lambda: raw.read(_SEEN_BYTES), b""), limits, file.packing):
            begin += piece
            if len(begin) >= _SEEN_BYTES:
                break
    coding = next((coding for mark, coding in _MARKS.items() if begin.startswith(mark)), None)
    if coding is None and begin[:1] in (b"{", b"[") and begin[1:2] == b"\0":
        coding = "utf-16-le"
    if coding is not None:
        begin = begin.decode(coding, "ignore").encode("utf-8", "ignore")
    form = _form(begin.removeprefix(codecs.BOM_UTF8).lstrip())
    if form is None and coding is None:
        return file, None
    return Kept(file.name, lambda: cast("IO[bytes]", Readable(_in_utf8(file, limits, coding))), "plain"), form


def _form(begin: bytes) -> RowByRow | None:
    """The format of a file that begins so; a file of lines stays one if its first line is an odd row."""
    first, second, third = ([*begin.split(b"\n", 2), b"", b""])[:3]
    first, second, third = first.strip(), second.strip(), third.lstrip()
    if first.startswith(b"["):
        is_row = bool(second) and (is_json(first) or (is_json(second) and third.startswith(b"{")))
        return None if is_row else JsonArray()
    return JsonValues() if first == b"{" and second[:1] in (b'"', b"}") else None


def _in_utf8(file: Kept, limits: Events, coding: str | None) -> Iterator[bytes]:
    """The decompressed bytes of a file in UTF-8, without a byte order mark. Raises as `unpack` does."""
    decoder = codecs.getincrementaldecoder(coding or "utf-8")("surrogateescape" if coding is None else "replace")
    back = "surrogateescape" if coding is None else "replace"
    begun = False
    with file.open() as raw:
        for piece in unpack(iter(lambda: raw.read(READ_BYTES), b""), limits, file.packing):
            text = decoder.decode(piece)
            if text:
                yield (text if begun else text.removeprefix("\ufeff")).encode("utf-8", back)
                begun = True
    yield decoder.decode(b"", final=True).encode("utf-8", back)
