"""Answers of a source that reads dated files of a known format: made from its own pattern, format and shape."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
from onetouch.sources.arrays import JsonArray
from onetouch.sources.delimited import Delimited
from onetouch.sources.folder import DatedFiles
from onetouch.sources.lines import JsonLines
from onetouch.sources.packing import packing_of
from onetouch.sources.parquet import Parquet
from onetouch.sources.protocol import Source
from onetouch.sources.shape import EPOCH_MILLISECONDS, EPOCH_SECONDS, ISO, TimeFormat, steps

from tests.contracts.sent import BAD, Sent

TIMEZONE = "America/New_York"


class OfShape:
    """`write` and `spoil` for a source made of the standard pieces."""

    TIMEZONE = TIMEZONE

    def __init__(self, source: Source) -> None:
        assert isinstance(source.fetch, DatedFiles), f"give {source.name} a maker: makers/{source.name}.py"
        self.source, self.pattern = source, source.fetch.pattern

    def write(self, folder: Path, hour: datetime, rows: Sequence[Sent]) -> Path:
        path = folder / f"{hour:{self.pattern}}"
        content = self._content([None if row is BAD else self._row(row) for row in rows])
        packing = packing_of(path.name)
        if packing != "plain":
            content = gzip.compress(content) if packing == "gzip" else pa.compress(content, "zstd", asbytes=True)
        path.write_bytes(content)
        return path

    def spoil(self, folder: Path, hour: datetime) -> None:
        """A file that is none of the source's."""
        (folder / "readme.txt").write_text("not an export")

    def _row(self, sent: Sent) -> dict[str, Any]:
        shape, row = self.source.shape, {}
        places = {
            **dict.fromkeys(shape.event_id[:1], sent.id),
            **dict.fromkeys(shape.event[:1], sent.event),
            **dict.fromkeys(shape.user_id[:1], sent.user),
            **dict.fromkeys(shape.occurred_at[:1], self._moment(sent.at)),
            **dict.fromkeys(shape.received_at[:1], self._moment(sent.received)),
            **dict.fromkeys(shape.group[:1], sent.company),
            **({} if shape.group else dict.fromkeys(shape.groups[:1], {"company": sent.company})),
            **dict.fromkeys(shape.properties[:1], sent.properties),
        }
        for place, value in places.items():
            *path, last = steps(place)
            inner = row
            for step in path:
                inner = inner.setdefault(step, {})
            if value is not None and value != {"company": None}:
                inner[last] = {**inner.get(last, {}), **value} if isinstance(value, dict) else value
        return row

    def _moment(self, moment: datetime) -> Any:
        form: TimeFormat = self.source.shape.times[0]
        if form.project_zone:
            moment = moment.astimezone(ZoneInfo(TIMEZONE)).replace(tzinfo=UTC)
        if form.pattern == EPOCH_SECONDS:
            return moment.timestamp()
        if form.pattern == EPOCH_MILLISECONDS:
            return int(moment.timestamp() * 1000)
        return moment.isoformat() if form.pattern == ISO else moment.strftime(form.pattern)

    def _content(self, rows: list[dict[str, Any] | None]) -> bytes:
        match self.source.format:
            case JsonLines():
                return "".join((json.dumps(row) if row is not None else '{"half') + "\n" for row in rows).encode()
            case JsonArray():
                texts = [json.dumps(row) if row is not None else '{"half": }' for row in rows]
                return ("[" + ",\n".join(texts) + "]").encode()
            case Delimited() as form:
                return self._delimited(rows, form)
            case Parquet():
                texts = [{key: _plain(value) for key, value in (row or {"other": "x"}).items()} for row in rows]
                columns = dict.fromkeys(key for row in texts for key in row)
                out = io.BytesIO()
                pq.write_table(pa.table({c: [row.get(c) for row in texts] for c in columns}), out)
                return out.getvalue()
            case other:
                raise AssertionError(f"{other}: give the source a maker, makers/{self.source.name}.py")

    def _delimited(self, rows: list[dict[str, Any] | None], form: Delimited) -> bytes:
        columns = form.columns or tuple(dict.fromkeys(key for row in rows for key in row or ())) or ("nothing", "here")
        out = io.StringIO()
        style: dict[str, Any] = {"quoting": csv.QUOTE_MINIMAL if form.quoted else csv.QUOTE_NONE, "quotechar": '"'}
        if not form.quoted:
            style = {"quoting": csv.QUOTE_NONE, "quotechar": None}
        writer = csv.writer(out, delimiter=form.delimiter, lineterminator="\n", **style)
        if not form.columns:
            writer.writerow(columns)
        for row in rows:
            if row is None:
                writer.writerow(["x"] * (len(columns) + 1))
            else:
                writer.writerow([_plain(row.get(column, "")) for column in columns])
        return out.getvalue().encode()


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value
