"""A lake in memory and a cache of pure functions: they make a seed fast without changing its result.

Neither is under test here: tests/lake checks that a file is written whole or not at all, and the cached functions
depend on their arguments alone.
"""

from __future__ import annotations

import functools
import importlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from onetouch.delivery import audience
from onetouch.lake import Lake, rows, table_kind
from onetouch.routing import inputs, recall

extraction: Any = importlib.import_module("onetouch.crm_sync.extract_crm")  # a function there has this name, too
escalation: Any = importlib.import_module("onetouch.delivery.escalate")


class MemoryLake(Lake):
    """Tables by path; reading returns what was last written."""

    def __init__(self) -> None:
        self.root, self.local = "lake", True
        self.tables: dict[str, pa.Table | pd.DataFrame] = {}
        self.fs = SimpleNamespace(open=self._open)

    @contextmanager
    def _open(self, path: str, mode: str) -> Iterator[pa.Table]:
        table = self._of(path)
        yield table if isinstance(table, pa.Table) else pa.Table.from_pandas(table, preserve_index=False)

    def _of(self, path: str) -> pa.Table | pd.DataFrame:
        if path not in self.tables:
            raise FileNotFoundError(path)
        return self.tables[path]

    def exists(self, *parts: str) -> bool:
        path = self.path(*parts)
        return path in self.tables or any(name.startswith(f"{path}/") for name in self.tables)

    def list(self, folder: str, suffix: str = ".parquet") -> list[str]:
        return sorted(name for name in self.tables if name.startswith(f"lake/{folder}/") and name.endswith(suffix))

    def write(self, table: pa.Table | pd.DataFrame, *parts: str) -> str:
        self.tables[self.path(*parts)] = table
        return self.path(*parts)

    def read(self, *parts: str) -> pd.DataFrame:
        table = self._of(self.path(*parts))
        return table.copy() if isinstance(table, pd.DataFrame) else table.to_pandas()


def _read_table(
    lake: Lake,
    *parts: str,
    columns: list[str] | None = None,
    filters: list[Any] | None = None,
    threads: bool = True,
) -> pa.Table:
    """What `onetouch.lake.read_table` returns, for a table in memory, which is always in the present format."""
    with lake.fs.open(lake.path(*parts), "rb") as table:
        for name, _, values in filters or ():
            table = table.filter(pc.is_in(table[name], pa.array(values, table.schema.field(name).type)))
        kind = table_kind(*parts)
        for name in columns or ():
            if name not in table.column_names and kind is not None:  # as in a file of an earlier release
                table = table.append_column(name, pa.nulls(len(table), kind.columns[name]))
        return table.select(columns) if columns else table


def _remembered(function: Callable[..., Any], key: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its answers kept by `key` of its arguments; what it told `tell` is kept and told again."""
    answers: dict[Any, tuple[Any, list[str]]] = {}

    @functools.wraps(function)
    def remembered(*args: Any, tell: Callable[[str], None] | None = None, **kwargs: Any) -> Any:
        args = tuple(list(a) if isinstance(a, Iterator) else a for a in args)
        asked = tell is None, key(*args, **kwargs)
        if asked not in answers:
            lines: list[str] = []
            hearing = {} if tell is None else {"tell": lines.append}
            answers[asked] = function(*args, **kwargs, **hearing), lines
        answer, lines = answers[asked]
        if tell is not None:
            for line in lines:
                tell(line)
        return answer.copy()

    return remembered


def _whole(*args: Any, **kwargs: Any) -> bytes:
    return pickle.dumps((args, kwargs))


_normalise = _remembered(extraction.normalise_accounts, lambda frame: pickle.dumps(frame.to_dict("split")))
_frame_of = _remembered(extraction.frame_of, _whole)


@contextmanager
def quick() -> Iterator[None]:
    """A context in which the product reads MemoryLakes and results of pure functions are cached."""
    with ExitStack() as stack:
        for owner, name, value in (
            (rows, "read_table", _read_table),
            (extraction, "read_table", _read_table),
            (inputs, "read_table", _read_table),
            (recall, "read_table", _read_table),
            (audience, "read_table", _read_table),
            (escalation, "read_table", _read_table),
            (extraction, "normalise_accounts", _normalise),
            (extraction, "frame_of", _frame_of),
        ):
            stack.enter_context(patch.object(owner, name, value))
        yield
