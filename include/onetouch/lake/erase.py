"""Erases a person or account from the lake's files, and searches the files for what may be left.

A file is rewritten completely or not at all.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from onetouch.catalogue import PERSONAL_COLUMNS
from onetouch.lake.lake import Lake
from onetouch.lake.marks import Marks

FIGURES = ("decisions", "scores", "shadow")
"""Folders of the lake whose rows are kept under a pseudonym: what was decided, when and why, but not about whom."""

IDS = (
    "account_id", "user_id", "anonymous_id", "crm_account_id", "domain", "email_domain", "top_user", "contact_user",
)  # fmt: skip
"""Columns that hold an id as their whole value."""

_TEXTS = (".json", ".html", ".csv", ".txt", ".md", ".css", ".js")

Unpack = Callable[[bytes], bytes | None]
"""Gives what can be decompressed of a file's content; None if it is not compressed (`sources.unpacked`)."""


@dataclass(frozen=True)
class Erasure:
    """The subject to erase from tables. `columns`: column of IDS → values that identify the subject's rows."""

    columns: Mapping[str, frozenset[str]]
    pseudonym: str
    marks: Marks


@dataclass
class Searched:
    """The number of files and bytes searched, and the files in which a mark was found."""

    files: int
    bytes: int
    found: list[str]


def erase_files(
    lake: Lake, erasure: Erasure, text_of_row: Callable[[str], str | None], unpack: Unpack
) -> dict[str, int]:
    """Erases the subject from every Parquet and text file; returns {files, rewritten, rows}.

    Rows of the subject are removed; in the folders of FIGURES they are kept under the pseudonym. In rows of other
    subjects, mentions of the subject are replaced. `text_of_row` returns what may stay of a quarantined row's text
    (None: nothing). Drafts that a killed process left behind are removed when they mention the subject. A second call
    changes nothing.
    """
    counts = {"files": 0, "rewritten": 0, "rows": 0}
    for path in _all(lake):
        counts["files"] += 1
        room, name = _room(lake, path), posixpath.basename(path)
        if name.startswith("."):
            if _search(lake, path, erasure.marks, unpack)[1]:
                lake.fs.rm(path)
                counts["rewritten"] += 1
        elif name.endswith(".parquet"):
            rows = _erase_table(lake, path, room, erasure, text_of_row)
            if rows is not None:
                counts["rewritten"] += 1
                counts["rows"] += rows
        elif name.endswith(_TEXTS):
            content = lake.fs.cat_file(path)
            if (new := erasure.marks.replace_bytes(content)) != content:
                with lake.replacing(path) as draft, lake.fs.open(draft, "wb") as file:
                    file.write(new)
                counts["rewritten"] += 1
    return counts


def search(lake: Lake, marks: Marks, unpack: Unpack) -> Searched:
    """Searches every file, including hidden ones, for the marks; compressed ones also in decompressed form."""
    searched = Searched(0, 0, [])
    for path in _all(lake):
        size, found = _search(lake, path, marks, unpack)
        searched.files += 1
        searched.bytes += size
        if found:
            searched.found.append(_within(lake, path))
    return searched


def _all(lake: Lake) -> list[str]:
    return sorted(lake.fs.find(lake.root)) if lake.fs.exists(lake.root) else []


def _within(lake: Lake, path: str) -> str:
    return posixpath.relpath(path, lake.root)


def _room(lake: Lake, path: str) -> str:
    return _within(lake, path).split("/")[0]


def _search(lake: Lake, path: str, marks: Marks, unpack: Unpack) -> tuple[int, bool]:
    """The number of bytes searched, and whether a mark was found.

    The letters of a mark within compressed bytes count as found, unless the decompressed content has them as part of a
    longer, unrelated word.
    """
    content = lake.fs.cat_file(path)
    size, longer = len(content), False
    name = posixpath.basename(path)
    if ".parquet" in name and content[:4] == b"PAR1" == content[-4:]:
        table = pq.read_table(pa.BufferReader(content))
        for column, value in _values(table):
            text = value.encode("utf-8", "surrogatepass")
            size += len(text)
            if marks.stands_in(text) or (column in IDS and value in marks.words):
                return size, True
            longer = longer or marks.occurs_in(text)
    elif (unpacked := unpack(content)) is not None:
        return size + len(unpacked), marks.stands_in(unpacked)
    elif marks.stands_in(content):
        return size, True
    else:
        longer = True  # plain text: a mark that stands by itself would have been found above
    return size, not longer and marks.occurs_in(content)


def _values(table: pa.Table) -> Iterator[tuple[str, str]]:
    """(column, value) of every distinct text in a table, including texts within lists and structs."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        for array in _texts(column.combine_chunks()):
            for value in pc.unique(array).to_pylist():
                if value is not None:
                    yield name, value


def _texts(array: Any) -> Iterator[Any]:
    kind = array.type
    if pa.types.is_dictionary(kind):
        yield from _texts(array.dictionary)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield array
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _texts(pc.list_flatten(array))
    elif pa.types.is_struct(kind):
        for place in range(kind.num_fields):
            yield from _texts(array.field(place))


def _erase_table(
    lake: Lake, path: str, room: str, erasure: Erasure, text_of_row: Callable[[str], str | None]
) -> int | None:
    """Rewrites the file and returns how many of its rows were the subject's; None if the file needs no change."""
    with lake.fs.open(path, "rb") as file:
        there = pq.ParquetFile(file)
        codec = there.metadata.row_group(0).column(0).compression.lower() if there.metadata.num_row_groups else "zstd"
        table = there.read()
    theirs = pa.array([False] * table.num_rows, pa.bool_())
    for column, ids in erasure.columns.items():
        if ids and column in table.column_names:
            values = _plain(table[column])
            if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
                found = pc.is_in(values, value_set=pa.array(sorted(ids), values.type))
                theirs = pc.or_(theirs, found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found)
    rows = pc.sum(theirs).as_py() or 0
    changed = rows > 0
    if rows and room in FIGURES:
        table = _under_pseudonym(table, theirs, erasure.pseudonym)
    elif rows:
        table = table.filter(pc.invert(theirs))
    if "contact_user" in table.column_names:
        table, cleared = _without_contact(table, erasure.columns.get("user_id", frozenset()))
        changed = changed or cleared
    for place, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        new = _replaced(name, room, column, erasure.marks, text_of_row)
        if new is not None:
            table = table.set_column(place, table.schema.field(place), new)
            changed = True
    if not changed:
        return None
    with lake.replacing(path) as draft, lake.fs.open(draft, "wb") as file:
        pq.write_table(table, file, compression=codec)
    return rows


def _without_contact(table: pa.Table, users: frozenset[str]) -> tuple[pa.Table, bool]:
    """The table without what it says of these users as the person to write to, and whether it said anything."""
    ids = table["contact_user"].cast(pa.string())
    theirs = pc.is_in(ids, value_set=pa.array(sorted(users), pa.string()))
    if not pc.any(theirs).as_py():
        return table, False
    for name in PERSONAL_COLUMNS:
        if name in table.column_names:
            place = table.column_names.index(name)
            kept = pc.if_else(theirs, pa.scalar(None, table.schema.field(place).type), table[name])
            table = table.set_column(place, table.schema.field(place), kept)
    return table, True


def _plain(column: pa.ChunkedArray) -> Any:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _under_pseudonym(table: pa.Table, theirs: pa.Array, pseudonym: str) -> pa.Table:
    for name in IDS:
        if name in table.column_names:
            place = table.column_names.index(name)
            kind = table.schema.field(place).type
            instead = pa.scalar(pseudonym if name == "account_id" else None, kind)
            table = table.set_column(place, table.schema.field(place), pc.if_else(theirs, instead, table[name]))
    return table


def _replaced(
    name: str, room: str, column: pa.ChunkedArray, marks: Marks, text_of_row: Callable[[str], str | None]
) -> Any:
    """The column without mentions of the subject; None when there are none."""

    def instead(value: str) -> str | None:
        if room == "quarantine" and name == "row":
            return text_of_row(value)
        return marks.words.get(value, marks.replace(value)) if name in IDS else marks.replace(value)

    def within(value: Any) -> Any:
        if isinstance(value, str):
            return instead(value)
        if isinstance(value, list):
            return [within(item) for item in value]
        if isinstance(value, dict):
            return {key: within(item) for key, item in value.items()}
        return value

    texts = [value for array in _texts(column.combine_chunks()) for value in pc.unique(array).to_pylist()]
    if all(value is None or instead(value) == value for value in texts):
        return None
    return pa.array([within(value) for value in column.to_pylist()], column.type)
