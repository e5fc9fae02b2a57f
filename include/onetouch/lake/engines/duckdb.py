"""The DuckDB engine: embedded, it reads the lake's Parquet files in place. Only this file contains DuckDB's SQL."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import duckdb
import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa

from onetouch.lake.engines.protocol import ISO_8601, JsonKind

if TYPE_CHECKING:
    from onetouch.lake.files import Files

_STAGE = "stage"  # the database on disk
_QUARTER = 15 * 60 * 1_000_000  # microseconds of a quarter of an hour


class DuckDB:
    """A session; see `protocol.Engine`. It spills into the folder of a local lake or, with `large`, into the system's
    temporary folder."""

    def __init__(self, lake: Files, memory: str = "4GB", threads: int | None = None, large: bool = False) -> None:
        """`large`: tables that are kept or gathered are on disk from the start."""
        self.lake = lake
        self.large = large
        self._names = 0
        self._read: dict[str, ir.Table] = {}
        self._compiled: dict[int, tuple[ir.Table, str]] = {}  # id → (expression, SQL); holding it keeps the id unique
        self._place: tempfile.TemporaryDirectory[str] | None = None
        self._con = duckdb.connect(":memory:")
        try:
            self._set_up(memory, threads)
        except BaseException:
            self._con.close()
            raise
        self._backend = ibis.duckdb.from_connection(self._con)

    def _set_up(self, memory: str, threads: int | None) -> None:
        con = self._con
        con.execute("SET TimeZone = 'UTC'")
        con.execute("SET preserve_insertion_order = false")
        con.execute("SET enable_progress_bar = false")
        con.execute(f"SET memory_limit = {_text(memory)}")
        if threads:
            con.execute(f"SET threads = {int(threads)}")
        for filesystem in self.lake.filesystems:
            con.register_filesystem(filesystem)
        if self.large:
            self._place = tempfile.TemporaryDirectory(prefix="onetouch-engine-")
            con.execute(f"SET temp_directory = {_text(f'{self._place.name}/spill')}")
            con.execute(f"ATTACH {_text(f'{self._place.name}/stage.duckdb')} AS {_STAGE}")
            con.execute("BEGIN")  # a single transaction, so that the data is written only once
        elif self.lake.local:
            spill = posixpath.join(self.lake.root, ".spill")
            os.makedirs(spill, exist_ok=True)
            con.execute(f"SET temp_directory = {_text(spill)}")

    def __enter__(self) -> DuckDB:
        return self

    def __exit__(self, *error: object) -> None:
        self._con.close()
        if self._place is not None:
            self._place.cleanup()

    # ── tables ──

    def read(
        self,
        paths: Iterable[str],
        name: str | None = None,
        *,
        dated: bool = False,
        merged: bool = False,
        like: pa.Schema | None = None,
    ) -> ir.Table:
        """See `protocol.Engine`."""
        files = "[" + ", ".join(_text(self._url(path)) for path in paths) + "]"
        together = merged or like is not None
        options = [f"hive_partitioning = {str(dated).lower()}", f"union_by_name = {str(together).lower()}"]
        if dated:
            options.append("hive_types = {'event_date': DATE}")
        query = f"SELECT * FROM read_parquet({files}, {', '.join(options)})"
        if like is not None:
            empty = f"like_{hashlib.md5(like.to_string().encode(), usedforsecurity=False).hexdigest()}"
            self._con.register(empty, like.empty_table())
            query = f"SELECT * FROM {_name(empty)} UNION ALL BY NAME {query}"
        if name is None or name not in self._read:
            table = self._view(query, name)
            return self._read.setdefault(name, table) if name else table
        self._con.execute(f"CREATE OR REPLACE TEMP VIEW {_name(name)} AS {query}")
        return self._read[name]  # the columns are the same, so the schema need not be queried again

    def table(self, rows: pa.Table | pd.DataFrame, name: str) -> ir.Table:
        """See `protocol.Engine`."""
        self._con.register(name, rows)
        return self._backend.table(name)

    def keep(self, expression: ir.Table, name: str) -> ir.Table:
        """See `protocol.Engine`."""
        return self._kept(name, self._sql(expression))

    def view(self, expression: ir.Table, name: str) -> ir.Table:
        """See `protocol.Engine`."""
        return self._view(self._sql(expression), name)

    def gather(
        self, name: str, like: pa.Schema, of: Callable[[ir.Table], ir.Table]
    ) -> tuple[ir.Table, Callable[[pa.Table], None]]:
        """See `protocol.Engine`."""
        received = f"received_{name}"
        read = self._sql(of(self.table(like.empty_table(), received)))
        table = self._kept(name, read)

        def add(batch: pa.Table) -> None:
            self._con.register(received, batch.cast(like))
            self._con.execute(f"INSERT INTO {self._place_of(name)} {read}")
            self._con.unregister(received)

        return table, add

    # ── results ──

    def fetch(self, expression: ir.Table) -> pa.Table:
        """See `protocol.Engine`."""
        rows: pa.Table = expression.__pyarrow_result__(self._con.sql(self._sql(expression)).to_arrow_table())
        return rows

    def batches(self, expression: ir.Table, rows: int) -> Iterable[pa.RecordBatch]:
        """See `protocol.Engine`."""
        # con.sql, because Arrow from con.execute loses the order (DuckDB 2.0 with preserve_insertion_order off)
        reader: Iterable[pa.RecordBatch] = self._con.sql(self._sql(expression)).to_arrow_reader(rows)
        return reader

    def write(self, expression: ir.Table, metadata: Mapping[str, str], *parts: str) -> None:
        """See `protocol.Engine`."""
        pairs = ", ".join(f"{_name(key)}: {_text(value)}" for key, value in metadata.items())
        with self.lake.writing(*parts) as path:
            self._con.execute(
                f"COPY ({self._sql(expression)}) TO {_text(self._url(path))} "
                f"(FORMAT parquet, COMPRESSION snappy, KV_METADATA {{{pairs}}})"
            )

    # ── functions ──

    def json_columns(self, rows: ir.Table, text: str, keys: Mapping[str, JsonKind]) -> ir.Table:
        """See `protocol.Engine`. Each text is parsed once, whatever the number of keys."""
        structure = _text(json.dumps({key: "JSON" if kind == "json" else "VARCHAR" for key, kind in keys.items()}))
        columns = ", ".join(f"r.{_name(key)}::VARCHAR AS json_{place}" for place, key in enumerate(keys))
        # TRY: a row that is not JSON becomes null
        return self._view(
            f"SELECT * EXCLUDE (r), {columns}, r IS NULL AS json_unread FROM ("
            f"SELECT *, TRY(json_transform({_name(text)}, {structure})) AS r FROM ({self._sql(rows)}))"
        )

    def json_text(self, document: ir.StringValue, steps: Sequence[str]) -> ir.StringValue:
        """See `protocol.Engine`."""
        return _call("json_extract_string", dt.string, document, _pointer(steps))

    def json_texts(self, document: ir.StringValue, keys: Sequence[str]) -> ir.ArrayValue:
        """See `protocol.Engine`."""
        places = ibis.literal([_pointer([key]) for key in keys], type="array<string>")
        return _call("json_extract_string", dt.Array(dt.string), document, places)

    def json_part(self, document: ir.StringValue, steps: Sequence[str]) -> ir.StringValue:
        """See `protocol.Engine`."""
        return _call("json_extract", dt.json, document, _pointer(steps)).cast("string")

    def json_items(self, document: ir.StringValue) -> ir.ArrayValue:
        """See `protocol.Engine`."""
        return _call("json_transform", dt.Array(dt.string), document, '["VARCHAR"]')

    def json_keys(self, document: ir.StringValue) -> ir.ArrayValue:
        """See `protocol.Engine`."""
        return _call("json_keys", dt.Array(dt.string), document)

    def composed(self, text: ir.StringValue) -> ir.StringValue:
        """See `protocol.Engine`."""
        return _call("nfc_normalize", dt.string, text)

    def json_nested(self, document: ir.StringValue, steps: Sequence[str] = ()) -> ir.BooleanValue:
        """See `protocol.Engine`."""
        kind = _call("json_type", dt.string, document, _pointer(steps))
        return _call("contains", dt.boolean, ibis.literal("OBJECT ARRAY"), kind)  # DuckDB would turn IN into a join

    def json_object(self, document: ir.StringValue) -> ir.BooleanValue:
        """See `protocol.Engine`."""
        return _call("json_type", dt.string, document) == "OBJECT"

    def is_json(self, document: ir.StringValue) -> ir.BooleanValue:
        """See `protocol.Engine`."""
        return _call("json_valid", dt.boolean, document)

    def to_json(self, value: ir.Value) -> ir.StringValue:
        """See `protocol.Engine`."""
        return _call("to_json", dt.string, value).cast("string")

    def trim(self, text: ir.StringValue, characters: str) -> ir.StringValue:
        """See `protocol.Engine`."""
        return _call("trim", dt.string, text, characters)

    def moment(self, text: ir.StringValue, pattern: str) -> ir.TimestampValue:
        """See `protocol.Engine`."""
        if pattern == ISO_8601:
            return _call("timezone", dt.Timestamp(), "UTC", text.try_cast(dt.Timestamp("UTC")))
        read = _call("try_strptime", dt.Timestamp(), text, pattern)
        return _call("timezone", dt.Timestamp(), "UTC", read) if "%z" in pattern or "%Z" in pattern else read

    def to_utc(self, moment: ir.TimestampValue, zone: str) -> ir.TimestampValue:
        """See `protocol.Engine`."""
        with_zone = _call("timezone", dt.Timestamp("UTC"), zone, moment)
        return _call("timezone", dt.Timestamp(), "UTC", with_zone)

    def from_epoch(self, microseconds: ir.IntegerValue) -> ir.TimestampValue:
        """See `protocol.Engine`."""
        return _call("make_timestamp", dt.Timestamp(), microseconds)

    def quarter(self, moment: ir.TimestampValue) -> ir.IntegerValue:
        """See `protocol.Engine`."""
        micros = _call("epoch_us", dt.int64, moment)  # much faster than extracting parts of a timestamp with zone
        return _call("divide", dt.int64, micros, _QUARTER)

    def at_least(self, value: ir.Value, order: ir.Value, where: ir.BooleanValue | None = None) -> ir.Value:
        """See `protocol.Engine`."""
        return _aggregate("arg_min", value, order, where)

    def at_most(self, value: ir.Value, order: ir.Value, where: ir.BooleanValue | None = None) -> ir.Value:
        """See `protocol.Engine`."""
        return _aggregate("arg_max", value, order, where)

    # ── implementation ──

    def _sql(self, expression: ir.Table) -> str:
        """The SQL of an expression; the same expression is compiled once."""
        if id(expression) not in self._compiled:
            self._compiled[id(expression)] = (expression, self._backend.compile(expression))
        return self._compiled[id(expression)][1]

    def _view(self, query: str, name: str | None = None) -> ir.Table:
        self._names += 1
        name = name or f"view_{self._names}"
        self._con.execute(f"CREATE OR REPLACE TEMP VIEW {_name(name)} AS {query}")
        return self._backend.table(name)

    def _kept(self, name: str, query: str) -> ir.Table:
        kind = "" if self.large else "TEMP "
        self._con.execute(f"CREATE OR REPLACE {kind}TABLE {self._place_of(name)} AS {query}")
        return self._backend.table(name, database=(_STAGE, "main")) if self.large else self._backend.table(name)

    def _place_of(self, name: str) -> str:
        return f"{_STAGE}.{_name(name)}" if self.large else _name(name)

    def _url(self, path: str) -> str:
        return path if self.lake.local or "://" in path else self.lake.fs.unstrip_protocol(path)


def _call(function: str, gives: dt.DataType, *arguments: Any) -> Any:
    """A call of one of DuckDB's own functions."""
    values = [value if isinstance(value, ir.Value) else ibis.literal(value) for value in arguments]
    return _function(function, tuple(value.type() for value in values), gives)(*values)


def _aggregate(function: str, value: ir.Value, order: ir.Value, where: ir.BooleanValue | None) -> Any:
    kinds = (value.type(), order.type())
    made = ibis.udf.agg.builtin(lambda value, order: None, name=function, signature=(kinds, value.type()))
    return made(value, order, where=where)


@cache
def _function(name: str, kinds: tuple[dt.DataType, ...], gives: dt.DataType) -> Callable[..., Any]:
    shape: Callable[..., Any] = (lambda a: None) if len(kinds) == 1 else (lambda a, b: None)
    made: Callable[..., Any] = ibis.udf.scalar.builtin(shape, name=name, signature=(kinds, gives))
    return made


def _pointer(steps: Sequence[str]) -> str:
    """A path as a JSON pointer; the empty path as the JSON path of the document itself."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps) or "$"


def _text(value: str) -> str:
    """An SQL text literal."""
    return "'" + value.replace("'", "''") + "'"


def _name(value: str) -> str:
    """An SQL identifier."""
    return '"' + value.replace('"', '""') + '"'
