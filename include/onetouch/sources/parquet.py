"""Parquet: a row becomes an object of its columns; nulls are left out."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from onetouch.policy import Events
from onetouch.sources.row_by_row import Row, RowByRow, json_text, new_values
from onetouch.sources.rows import Kept

_ROWS_AT_ONCE = 2_000
_MARK, _ERASED = "onetouch", "forgotten"  # an erased row reads {"onetouch": "forgotten"}, which is rows.ERASED


@dataclass(frozen=True)
class Parquet(RowByRow):
    """The Parquet format. `nested`: text columns that hold JSON. Moments are read as ISO 8601, bytes as base64.

    Problems: `corrupt_file` for a file, or the rest of a file, that cannot be read; `file_too_large` and
    `compression_bomb` for a file whose metadata gives a decompressed size beyond the limits.
    """

    nested: frozenset[str] = frozenset()

    def rows(self, file: Kept, limits: Events) -> Iterator[Row]:
        """The rows of a file."""
        number = 0
        with file.open() as raw:
            try:
                there = pq.ParquetFile(raw)
                if (too_large := _too_large(there, limits)) is not None:
                    yield Row(1, b"", too_large)
                    return
                for batch in there.iter_batches(_ROWS_AT_ONCE):
                    for values in batch.to_pylist():
                        number += 1
                        yield Row(number, json_text(values.items(), self.nested, _plain))
            except (pa.ArrowException, OSError, EOFError) as error:
                yield Row(number + 1, str(error).encode(), "corrupt_file")

    def write(self, file: Kept, out: IO[bytes], limits: Events, new: Mapping[int, bytes]) -> None:
        """Writes the same columns, and a further column that marks erased rows."""
        number = 0
        with file.open() as raw:
            there = pq.ParquetFile(raw)
            fields = [field.with_nullable(True) for field in there.schema_arrow if field.name != _MARK]
            schema = pa.schema([*fields, pa.field(_MARK, pa.string())])
            with pq.ParquetWriter(out, schema, compression="zstd") as writer:
                for batch in there.iter_batches(_ROWS_AT_ONCE):
                    rows = batch.to_pylist()
                    for place, row in enumerate(rows):
                        number += 1
                        if number in new:
                            rows[place] = self._changed(row, new[number])
                    writer.write_table(pa.Table.from_pylist(rows, schema=schema))

    def _changed(self, row: dict[str, Any], text: bytes) -> dict[str, Any]:
        """The row with the new texts in its text columns; all other values stay unchanged."""
        values = new_values(text, self.nested)
        if values is None:
            return {_MARK: _ERASED}
        return {name: _like(value, values.get(name)) for name, value in row.items()}


def _too_large(there: pq.ParquetFile, limits: Events) -> str | None:
    groups = [there.metadata.row_group(place) for place in range(there.metadata.num_row_groups)]
    unpacked = sum(group.total_byte_size for group in groups)
    packed = sum(group.column(c).total_compressed_size for group in groups for c in range(group.num_columns))
    if unpacked > limits.max_file_bytes:
        return "file_too_large"
    return "compression_bomb" if unpacked > max(packed, 1) * limits.max_compression_ratio else None


def _like(old: Any, new: Any) -> Any:
    """The old value with new texts: only texts, alone or within lists and objects of the same shape, change."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {name: _like(value, new.get(name)) for name, value in old.items()}
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [_like(one, other) for one, other in zip(old, new, strict=True)]
    return new if isinstance(old, str) and isinstance(new, str) else old


def _plain(value: Any) -> str:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
