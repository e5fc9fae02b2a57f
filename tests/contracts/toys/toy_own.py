"""A source that brings a reader of its own: `key=value` pairs, a row a line, zstd-packed, on its project's clock."""

import json
from collections.abc import Iterator, Mapping
from typing import IO

from onetouch.policy.schema import Events
from onetouch.sources.folder import DatedFiles
from onetouch.sources.lines import JsonLines
from onetouch.sources.packing import packed
from onetouch.sources.protocol import Source
from onetouch.sources.row_by_row import Row, RowByRow
from onetouch.sources.rows import ERASED, Kept
from onetouch.sources.shape import Shape, TimeFormat


class Pairs(RowByRow):
    """`id=1;who=ana`; what is not there is left out."""

    def rows(self, file: Kept, limits: Events) -> Iterator[Row]:
        for number, line in JsonLines().texts(file, limits):
            if line == ERASED.encode():
                yield Row(number, line)
            elif line:
                pairs = [pair.partition("=") for pair in line.decode().split(";")]
                good = all(sign for _, sign, _ in pairs)
                text = json.dumps({key: value for key, _, value in pairs}).encode()
                yield Row(number, text if good else line, None if good else "broken_pairs")

    def write(self, file: Kept, out: IO[bytes], limits: Events, new: Mapping[int, bytes]) -> None:
        with packed(out, file.packing) as place:
            for number, line in JsonLines().texts(file, limits):
                text = new.get(number)
                if text is not None and text != ERASED.encode():
                    text = ";".join(f"{key}={value}" for key, value in json.loads(text).items()).encode()
                place.write((line if text is None else text) + b"\n")


SOURCE = Source(
    name="toy_own",
    fetch=DatedFiles("toy_own", "pairs_%Y%m%d%H.zst"),
    format=Pairs(),
    shape=Shape(
        event_id=("id",),
        event=("what",),
        occurred_at=("at",),
        received_at=("received",),
        user_id=("who",),
        group=("company",),
        times=(TimeFormat("%d.%m.%Y %H:%M:%S", project_zone=True),),
    ),
)
