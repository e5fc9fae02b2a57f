"""The interface of engines. Tables and computations on them are Ibis expressions, the same for every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pandas as pd
    import pyarrow as pa

JsonKind = Literal["text", "json"]
"""How a value of a JSON object is returned: as text (an object or a list as its JSON), or as JSON."""


ISO_8601 = "ISO 8601"
"""Used instead of a strptime pattern: date and time with `T` or a blank between them; seconds, fraction and offset are
optional."""


class Engine(Protocol):
    """One session on one lake: moments are UTC, memory is bounded, and data that does not fit in it goes to disk."""

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
        """Parquet files of the lake, by their full paths, as one table; there must be at least one file.

        `name`: the name of the table. It replaces an earlier table of that name, which must have the same columns;
        views on the earlier table then read these files.
        `like`: the table has at least these columns, which are null for files that were written without them.
        `dated`: adds the column `event_date` (a date) from the folder `event_date=…` that holds a file. `merged`: a
        column that a file lacks is null there; otherwise all files must have the same columns. `like`: as `merged`, and
        a column of this schema that no file has is null.
        """
        ...

    def table(self, rows: pa.Table | pd.DataFrame, name: str) -> ir.Table:
        """Rows in memory as the table `name`, which replaces an earlier one."""
        ...

    def keep(self, expression: ir.Table, name: str) -> ir.Table:
        """The expression computed once and kept as the session's table `name`, which replaces an earlier one."""
        ...

    def view(self, expression: ir.Table, name: str) -> ir.Table:
        """The expression as the view `name`, which replaces an earlier one and is computed at each query."""
        ...

    def gather(
        self, name: str, like: pa.Schema, of: Callable[[ir.Table], ir.Table]
    ) -> tuple[ir.Table, Callable[[pa.Table], None]]:
        """An empty table `name`, and a function that adds a batch of rows (of schema `like`), transformed by `of`."""
        ...

    # ── results ──

    def fetch(self, expression: ir.Table) -> pa.Table:
        """The rows of an expression in the column types of Ibis, and in the order of the expression if it has one."""
        ...

    def batches(self, expression: ir.Table, rows: int) -> Iterable[pa.RecordBatch]:
        """The rows of an expression as `fetch` gives them, about `rows` at a time, without holding all in memory."""
        ...

    def write(self, expression: ir.Table, metadata: Mapping[str, str], *parts: str) -> None:
        """Writes the rows as one Parquet file of the lake with this key-value metadata, completely or not at all.

        For data that can be computed again at any time: the file is quick to write rather than small.
        """
        ...

    # ── functions that Ibis lacks, or whose Ibis version is slower ──

    def json_columns(self, rows: ir.Table, text: str, keys: Mapping[str, JsonKind]) -> ir.Table:
        """`rows` with a column `json_{n}` for the nth top-level key of the JSON object in the column `text`.

        All are null, and `json_unread` is true, where the text is not a valid JSON object.
        """
        ...

    def json_text(self, document: ir.StringValue, steps: Sequence[str]) -> ir.StringValue:
        """The value at a path of keys and positions as text: a scalar unquoted, an object or list as its JSON."""
        ...

    def json_texts(self, document: ir.StringValue, keys: Sequence[str]) -> ir.ArrayValue:
        """`json_text` of each of these top-level keys, in their order; the document is parsed once for all of them."""
        ...

    def json_part(self, document: ir.StringValue, steps: Sequence[str]) -> ir.StringValue:
        """The value at a path of keys and positions as JSON."""
        ...

    def json_items(self, document: ir.StringValue) -> ir.ArrayValue:
        """The items of a JSON list as texts: a scalar unquoted, an object or list as its JSON; null for no list."""
        ...

    def json_keys(self, document: ir.StringValue) -> ir.ArrayValue:
        """The keys of a JSON object."""
        ...

    def composed(self, text: ir.StringValue) -> ir.StringValue:
        """The text in the composed form of Unicode (NFC)."""
        ...

    def json_nested(self, document: ir.StringValue, steps: Sequence[str] = ()) -> ir.BooleanValue:
        """Whether the value at a path is an object or a list."""
        ...

    def json_object(self, document: ir.StringValue) -> ir.BooleanValue:
        """Whether a JSON text is an object."""
        ...

    def is_json(self, document: ir.StringValue) -> ir.BooleanValue:
        """Whether a text is JSON."""
        ...

    def to_json(self, value: ir.Value) -> ir.StringValue:
        """A value of any type as canonical JSON."""
        ...

    def trim(self, text: ir.StringValue, characters: str) -> ir.StringValue:
        """A text without any of these characters at its beginning and its end."""
        ...

    def moment(self, text: ir.StringValue, pattern: str) -> ir.TimestampValue:
        """A text parsed by a strptime pattern, or by ISO_8601, as a moment without zone; null where it does not fit.

        With an offset in the text, the result is the moment in UTC; without one, it is the time as written.
        """
        ...

    def to_utc(self, moment: ir.TimestampValue, zone: str) -> ir.TimestampValue:
        """Converts the local time of an IANA time zone to UTC; both are moments without zone."""
        ...

    def from_epoch(self, microseconds: ir.IntegerValue) -> ir.TimestampValue:
        """The moment, in UTC and without zone, that is this number of microseconds after the beginning of 1970."""
        ...

    def quarter(self, moment: ir.TimestampValue) -> ir.IntegerValue:
        """The number of quarters of an hour from the beginning of 1970 (UTC) to a later moment with zone."""
        ...

    def at_least(self, value: ir.Value, order: ir.Value, where: ir.BooleanValue | None = None) -> ir.Value:
        """Aggregate: the value of the row with the least `order` in each group; null does not count."""
        ...

    def at_most(self, value: ir.Value, order: ir.Value, where: ir.BooleanValue | None = None) -> ir.Value:
        """Aggregate: the value of the row with the greatest `order` in each group; null does not count."""
        ...
