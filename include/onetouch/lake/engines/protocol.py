"""What is asked of an engine. Tables and what is computed of them are Ibis expressions, the same for every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pandas as pd
    import pyarrow as pa

JsonKind = Literal["text", "json"]
"""How a value of a JSON object is given: as text (of an object or a list its JSON), or as JSON."""


ISO_8601 = "ISO 8601"
"""In the place of a pattern: date and time with `T` or a blank between, seconds, fraction and offset or not."""


class Engine(Protocol):
    """One session on one lake: moments are UTC, memory is bounded, what does not fit in it goes to disk."""

    # ── tables ──

    def read(
        self, paths: Iterable[str], name: str | None = None, *, dated: bool = False, merged: bool = False
    ) -> ir.Table:
        """Parquet files of the lake, by their full paths, as one table; there must be at least one.

        `name`: what the table is called, in the place of an earlier one (of the same columns): what was made of that
        one then reads these files.
        `dated`: with the column `event_date` (a date) from the folder `event_date=…` they lie in. `merged`: a column
        that a file lacks is null there; else all must have the same.
        """
        ...

    def table(self, rows: pa.Table | pd.DataFrame, name: str) -> ir.Table:
        """Rows held in memory as the table `name`, in the place of an earlier one."""
        ...

    def keep(self, expression: ir.Table, name: str) -> ir.Table:
        """The expression computed once, as the table `name` of this session, in the place of an earlier one."""
        ...

    def view(self, expression: ir.Table, name: str) -> ir.Table:
        """The expression as the table `name`, in the place of an earlier one, computed each time it is asked for."""
        ...

    def gather(
        self, name: str, like: pa.Schema, of: Callable[[ir.Table], ir.Table]
    ) -> tuple[ir.Table, Callable[[pa.Table], None]]:
        """The table `name`, empty, and how a batch of rows (`like` these) is added to it: what `of` makes of them."""
        ...

    # ── results ──

    def fetch(self, expression: ir.Table) -> pa.Table:
        """The rows of an expression, in the types Ibis gives its columns; in its order if it has one."""
        ...

    def batches(self, expression: ir.Table, rows: int) -> Iterable[pa.RecordBatch]:
        """The same, about `rows` at a time, without holding all."""
        ...

    def write(self, expression: ir.Table, metadata: Mapping[str, str], *parts: str) -> None:
        """Writes the rows as one Parquet file of the lake with this key-value metadata, whole or not at all.

        For what can be made again at any time: quick to write rather than small.
        """
        ...

    # ── functions that Ibis lacks, or has slower ──

    def json_columns(self, rows: ir.Table, text: str, keys: Mapping[str, JsonKind]) -> ir.Table:
        """`rows` with a column `json_{n}` for the nth top-level key of the JSON object in the column `text`.

        All are null, and `json_unread` is true, where the text is no JSON object that can be read.
        """
        ...

    def json_text(self, document: ir.StringValue, steps: Sequence[str]) -> ir.StringValue:
        """The value at a path of keys and positions as text: a scalar as it reads, an object or list as its JSON."""
        ...

    def json_part(self, document: ir.StringValue, steps: Sequence[str]) -> ir.StringValue:
        """The value at a path of keys and positions as JSON."""
        ...

    def json_nested(self, document: ir.StringValue, steps: Sequence[str] = ()) -> ir.BooleanValue:
        """Whether an object or a list stands at a path."""
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
        """A text without these characters at its beginning and its end."""
        ...

    def moment(self, text: ir.StringValue, pattern: str) -> ir.TimestampValue:
        """A text read by a strptime pattern, or by ISO_8601, without zone; null where it does not fit.

        An offset in the text is applied: the moment is UTC then, and what the text shows without one.
        """
        ...

    def to_utc(self, moment: ir.TimestampValue, zone: str) -> ir.TimestampValue:
        """What a clock of an IANA zone shows, in UTC; both without zone."""
        ...

    def from_epoch(self, microseconds: ir.IntegerValue) -> ir.TimestampValue:
        """The moment, UTC and without zone, so many microseconds after 1970."""
        ...

    def hour(self, moment: ir.TimestampValue) -> ir.IntegerValue:
        """The hour of the day (0 to 23, UTC) of a moment with zone."""
        ...

    def at_least(self, value: ir.Value, order: ir.Value, where: ir.BooleanValue | None = None) -> ir.Value:
        """Of each group the value of the row whose `order` is the least; null does not count."""
        ...

    def at_most(self, value: ir.Value, order: ir.Value, where: ir.BooleanValue | None = None) -> ir.Value:
        """Of each group the value of the row whose `order` is the greatest; null does not count."""
        ...
