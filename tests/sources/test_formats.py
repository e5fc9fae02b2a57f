"""Rows of every format and packing: what is written is read, what is broken costs itself alone."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onetouch.lake import Lake
from onetouch.policy import read_policy
from onetouch.sources.arrays import JsonArray
from onetouch.sources.delimited import CSV, TSV, Delimited
from onetouch.sources.lines import JsonLines
from onetouch.sources.packing import Cut, Packing, Refused, packed, packing_of, unpack
from onetouch.sources.parquet import Parquet
from onetouch.sources.protocol import Format
from onetouch.sources.rows import ERASED, ROWS, Kept

LIMITS = read_policy().events


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, "zstd", asbytes=True))


def limited(**changes: Any) -> Any:
    return LIMITS.model_copy(update=changes)


def read(
    form: Format, content: bytes, packing: Packing = "plain", limits: Any = LIMITS, opened: Any = None
) -> list[Any]:
    """(number, text or what is shown, problem) of each row."""
    batches = list(form.read([Kept("f", opened or partial(io.BytesIO, content), packing)], [], limits))
    assert all(batch.schema == ROWS for batch in batches)
    rows = [row for batch in batches for row in batch.to_pylist()]
    return sorted((row["line"], row["text"].rstrip(b"\n"), row["problem"]) for row in rows)


def good(form: Format, content: bytes, **how: Any) -> list[Any]:
    rows = read(form, content, **how)
    assert all(problem is None for *_, problem in rows), rows
    return [json.loads(text) for _, text, _ in rows]


def problems(form: Format, content: bytes, **how: Any) -> dict[int, str]:
    return {number: problem for number, _, problem in read(form, content, **how) if problem}


# ── packings ──


@pytest.mark.parametrize(
    ("name", "packing"),
    [
        ("a.json.gz", "gzip"), ("a.csv.zst", "zstd"), ("a.csv", "plain"), ("a.parquet", "plain"),
        ("a.parquet.zst", "plain"), ("a.json.gz,2", "gzip"), ("a.zst,10", "zstd"), ("gz", "plain"),
    ],
)  # fmt: skip
def test_a_name_tells_the_packing(name: str, packing: Packing) -> None:
    assert packing_of(name) == packing


@pytest.mark.parametrize(("packing", "pack"), [("gzip", gzip.compress), ("zstd", zstd), ("plain", bytes)])
@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_what_is_packed_is_unpacked_however_it_arrives(
    packing: Packing, pack: Callable[[bytes], bytes], size: int
) -> None:
    content = b"".join(b"%d\n" % n for n in range(200_000 if size > 1 else 500))
    received = pack(content) + pack(b"more") if packing != "plain" else content + b"more"
    chunks = [received[at : at + size] for at in range(0, len(received), size)]
    assert b"".join(unpack(chunks, LIMITS, packing)) == content + b"more"
    kept = io.BytesIO()
    kept.close = lambda: None  # type: ignore[method-assign]
    with packed(kept, packing) as out:
        out.write(content)
    assert b"".join(unpack([kept.getvalue()], LIMITS, packing)) == content


@pytest.mark.parametrize("cut_at", [5, 300, -3])
def test_a_zstd_file_that_ends_early_gives_what_came_before(cut_at: int) -> None:
    content = b"".join(b"%032x\n" % (n * 7919**9 % 2**127) for n in range(40_000))
    whole = zstd(content)
    received = b""
    with pytest.raises(Cut, match="truncated_file"):
        for piece in unpack([whole[:cut_at]], LIMITS, "zstd"):
            received += piece
    assert content.startswith(received) and (cut_at > 0 or len(received) > len(content) - (1 << 18))


@pytest.mark.parametrize(
    ("content", "changes", "reason"),
    [
        (b"{}", {}, "not_zstd"),
        (zstd(b"\0" * 30_000_000), {}, "compression_bomb"),
        (zstd(b"\0" * 3_000_000), {"max_file_bytes": 1_000_000, "max_compression_ratio": 10**9}, "file_too_large"),
    ],
)
def test_a_zstd_file_is_unpacked_within_the_limits(content: bytes, changes: dict[str, int], reason: str) -> None:
    with pytest.raises(Refused) as refused:
        list(unpack([content], limited(**changes), "zstd"))
    assert refused.value.reason == reason


def test_spoilt_zstd_is_corrupt_and_nothing_at_all_is_truncated() -> None:
    whole = bytearray(zstd(bytes(range(256)) * 4000))
    whole[len(whole) // 2 :] = b"\xff" * (len(whole) - len(whole) // 2)
    with pytest.raises(Cut):
        list(unpack([bytes(whole)], LIMITS, "zstd"))
    with pytest.raises(Cut, match="truncated_file"):
        list(unpack([], LIMITS, "zstd"))


def test_plain_files_have_limits_too() -> None:
    with pytest.raises(Refused, match="file_too_large"):
        list(unpack([b"x" * 600, b"x" * 600], limited(max_file_bytes=1_000), "plain"))


# ── CSV and TSV ──


def test_csv_rows_are_objects_of_texts_and_what_is_empty_is_not_there() -> None:
    content = b'id,name,note\r\n1,"a, b","said ""hi""\nthere"\r\n\r\n2,,\r\n'
    assert good(CSV, content) == [{"id": "1", "name": "a, b", "note": 'said "hi"\nthere'}, {"id": "2"}]
    assert [number for number, *_ in read(CSV, content)] == [2, 3]
    assert good(CSV, b"\xef\xbb\xbfid\n1") == [{"id": "1"}]
    assert read(CSV, b"") == read(CSV, b"id,name\n") == []


def test_tsv_lines_are_rows_whatever_quotes_they_hold() -> None:
    form = Delimited(delimiter="\t", quoted=False, columns=("app", "at", "contexts"), nested=frozenset({"contexts"}))
    content = b'a"b\t1\t{"data": [{"x": "y"}]}\n\'c\t"\t{broken\n'
    assert good(form, content) == [
        {"app": 'a"b', "at": "1", "contexts": {"data": [{"x": "y"}]}},
        {"app": "'c", "at": '"', "contexts": "{broken"},
    ]
    assert good(TSV, b"a\tb\n1\t2\n") == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"1", "wrong_columns"),
        (b"1,2,3", "wrong_columns"),
        (b'"1,2', "broken_csv"),
        (b'1,"2"x', "broken_csv"),
        (b"1,\xff", "invalid_utf8"),
        (b"1," + b"x" * 3_000, "line_too_long"),
    ],
)
def test_a_broken_record_costs_no_other(line: bytes, problem: str) -> None:
    content = b"a,b\n1,2\n" + line + b"\n3,4\n5,6\n"
    rows = read(CSV, content, limits=limited(max_line_bytes=2_000))
    assert {number: found for number, _, found in rows if found} == {3: problem}
    assert [json.loads(text)["a"] for _, text, found in rows if not found] == ["1", "3", "5"]


@given(
    rows=st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=9),
    size=st.integers(1, 40),
)
def test_any_texts_come_back_from_csv(rows: list[tuple[str, str]], size: int) -> None:
    import csv

    rows = [tuple(value.replace("\r", "").replace("\0", "") for value in row) for row in rows]  # type: ignore[misc]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    found = good(CSV, out.getvalue().encode(), opened=partial(Slow, out.getvalue().encode(), size))
    assert [(row.get("a", ""), row.get("b", "")) for row in found] == rows


class Slow(io.BytesIO):
    """A file that gives a few bytes at a time."""

    def __init__(self, content: bytes, size: int) -> None:
        super().__init__(content)
        self.size = size

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self.size)


# ── JSON arrays ──

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(['"', "\\", "]", "},{", '\\"']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(
    rows=st.lists(anything, max_size=6), size=st.integers(1, 50), indent=st.sampled_from([None, 1]), ascii=st.booleans()
)
def test_the_elements_of_an_array_are_its_rows(rows: list[Any], size: int, indent: int | None, ascii: bool) -> None:
    content = f" \n{json.dumps(rows, indent=indent, ensure_ascii=ascii)}\n".encode("utf-8", "surrogatepass")
    assert good(JsonArray(), content, opened=partial(Slow, content, size)) == rows


@pytest.mark.parametrize(
    ("content", "found", "bad"),
    [
        (b'[{"a": 1}, {"a": }, {"a": 3}]', [1, 3], {}),
        (b'[{"a": 1}, , {"a": 3}]', [1, 3], {2: "broken_json"}),
        (b'[{"a": 1}, {"a": 2}', [1], {2: "truncated_file"}),
        (b'[{"a": 1}, {"a', [1], {2: "truncated_file"}),
        (b'[{"a": 1}] x', [1], {2: "not_an_array"}),
        (b'{"a": 1}', [], {1: "not_an_array"}),
        (b"", [], {1: "not_an_array"}),
        (b"[]", [], {}),
        (b'[{"a": 1}, {"a": 2, "x": "' + b"y" * 3_000 + b'"}, {"a": 3}]', [1, 3], {2: "line_too_long"}),
    ],
)
def test_a_broken_element_costs_no_other(content: bytes, found: list[int], bad: dict[int, str]) -> None:
    rows = read(JsonArray(), content, limits=limited(max_line_bytes=2_000))
    assert {number: problem for number, _, problem in rows if problem} == bad
    texts = [text for _, text, problem in rows if not problem]
    assert [json.loads(text)["a"] for text in texts if text != b'{"a": }'] == found


# ── Parquet ──


def parquet(rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), out, compression="zstd")
    return out.getvalue()


def test_parquet_rows_are_objects_and_what_is_null_is_not_there() -> None:
    moment = datetime(2025, 3, 1, 9, 0, 0, 5, UTC)
    rows = [
        {"uuid": "a", "properties": '{"$groups": {"company": "acme"}}', "timestamp": moment, "n": 1.5, "raw": b"\0"},
        {"uuid": "b", "properties": "no json", "timestamp": None, "n": None, "raw": None},
    ]
    assert good(Parquet(nested=frozenset({"properties"})), parquet(rows)) == [
        {"uuid": "a", "properties": {"$groups": {"company": "acme"}}, "timestamp": "2025-03-01T09:00:00.000005+00:00",
         "n": 1.5, "raw": "AA=="},
        {"uuid": "b", "properties": "no json"},
    ]  # fmt: skip
    assert read(Parquet(), parquet([], pa.schema([("a", pa.string())]))) == []


def test_parquet_that_cannot_be_read_or_is_too_large_is_one_row() -> None:
    content = parquet([{"a": "x" * 100} for _ in range(5_000)])
    assert problems(Parquet(), content[:-20]) == {1: "corrupt_file"}
    assert problems(Parquet(), b"nothing of that kind") == {1: "corrupt_file"}
    assert problems(Parquet(), content, limits=limited(max_file_bytes=100)) == {1: "file_too_large"}
    assert problems(Parquet(), content, limits=limited(max_compression_ratio=1)) == {1: "compression_bomb"}


# ── rewriting ──


def _tabbed(row: dict[str, Any]) -> bytes:
    return f"{row['id']}\t{row['who']}\n".encode()


FORMATS: dict[str, tuple[Format, Callable[[list[dict[str, Any]]], bytes]]] = {
    "a.json.gz": (JsonLines(), lambda rows: gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode())),
    "a.json.zst": (JsonLines(), lambda rows: zstd("".join(json.dumps(r) + "\n" for r in rows).encode())),
    "a.jsonl": (JsonLines(), lambda rows: "".join(json.dumps(r) + "\n" for r in rows).encode()),
    "a.json": (JsonArray(), lambda rows: json.dumps(rows).encode()),
    "a.csv": (CSV, lambda rows: ("id,who\n" + "".join(f'{r["id"]},"{r["who"]}"\n' for r in rows)).encode()),
    "a.tsv.gz": (TSV, lambda rows: gzip.compress(b"id\twho\n" + b"".join(_tabbed(row) for row in rows))),
    "a.parquet": (Parquet(), parquet),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_is_taken_out_and_another_changed_and_the_rest_is_as_it_was(name: str, tmp_path: Path) -> None:
    form, write = FORMATS[name]
    lake = Lake(tmp_path)
    rows = [{"id": f"{n}", "who": f"ana {n}, ü"} for n in range(5)]
    with lake.writing("raw", name) as draft:
        Path(draft).write_bytes(write(rows))

    def open_it() -> IO[bytes]:
        return open(lake.path("raw", name), "rb")  # noqa: SIM115 - the reader closes it

    def now() -> dict[int, Any]:
        rows = read(form, b"", packing_of(name), opened=open_it)
        return {number: json.loads(text) for number, text, problem in rows if problem is None}

    def change(number: int, text: bytes) -> bytes | None:
        row = json.loads(text) if text.startswith(b"{") else {}
        if row.get("id") == "1":
            return ERASED.encode()
        return text.replace(b"ana 3", b"nobody 3") if row.get("id") == "3" else None

    before = now()
    assert list(before.values()) == rows
    assert form.rewrite(lake, "raw", name, LIMITS, change) == 2
    expected = [rows[0], json.loads(ERASED), rows[2], {"id": "3", "who": "nobody 3, ü"}, rows[4]]
    assert now() == dict(zip(before, expected, strict=True))
    assert form.rewrite(lake, "raw", name, LIMITS, change) == 0
    assert b"ana 1" not in b"".join(unpack([Path(lake.path("raw", name)).read_bytes()], LIMITS, packing_of(name)))
