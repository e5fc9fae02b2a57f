"""Raw files without the lines of somebody who is to be forgotten; all other lines keep their text and number."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator

from onetouch.lake import Lake
from onetouch.policy.schema import Events
from onetouch.sources.raw import Cut, unpack

_READ = 1 << 20


def rewrite_lines(
    lake: Lake, folder: str, path: str, limits: Events, changed: Callable[[int, bytes], bytes | None]
) -> int:
    """Rewrites a gzip file of lines, whole or not at all; returns how many lines are other ones now.

    `changed` is asked for each line (number from 1, text without its end) and gives what is to stand there (None:
    what stands there). A file that ends early keeps what can be read of it.
    """
    new: dict[int, bytes] = {}
    for number, text, _ in _lines(lake, folder, path, limits):
        if (line := changed(number, text)) is not None and line != text:
            new[number] = line
    if not new:
        return 0
    with (
        lake.writing(folder, path) as draft,
        lake.fs.open(draft, "wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as out,
    ):
        for number, text, end in _lines(lake, folder, path, limits):
            out.write(new.get(number, text) + end)
    return len(new)


def read_lines_of(lake: Lake, folder: str, path: str, limits: Events) -> Iterator[tuple[int, bytes]]:
    """Number and text of each line of a gzip file, as far as it can be read."""
    for number, text, _ in _lines(lake, folder, path, limits):
        yield number, text


def _lines(lake: Lake, folder: str, path: str, limits: Events) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, text and end of each line."""
    number, rest = 1, b""
    with lake.fs.open(lake.path(folder, path), "rb") as raw:
        pieces = unpack(iter(lambda: raw.read(_READ), b""), limits)
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
