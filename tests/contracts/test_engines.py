"""What every registered engine keeps to: the same tables give the same results."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onetouch.lake import ENGINES, ISO_8601, Engine, Lake

MOMENT = datetime(2025, 3, 30, 0, 30, 15, 123456, tzinfo=UTC)
KINDS = pa.schema(
    [
        ("text", pa.string()),
        ("whole", pa.int64()),
        ("small", pa.int32()),
        ("number", pa.float64()),
        ("yes", pa.bool_()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("day", pa.date32()),
        ("words", pa.list_(pa.string())),
        ("both", pa.struct([("signal", pa.string()), ("points", pa.float64())])),
    ]
)
ROWS = pa.Table.from_pylist(
    [
        {
            "text": "it's \"a\" ü\u2028", "whole": 2**62, "small": 7, "number": 0.1, "yes": True, "at": MOMENT,
            "day": date(2025, 3, 30), "words": ["a", None, ""], "both": {"signal": "users", "points": 1.5},
        },
        dict.fromkeys(KINDS.names),
    ],
    schema=KINDS,
)  # fmt: skip


@pytest.fixture(params=ENGINES)
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", request.param)


@pytest.fixture
def engine(lake: Lake) -> Iterator[Engine]:
    with lake.engine(threads=1) as engine:
        yield engine


def rows(engine: Engine, table: Any, *order: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = engine.fetch(table.order_by(*order) if order else table).to_pylist()
    return found


def values(engine: Engine, value: Callable[[Any], Any], given: list[Any], kind: pa.DataType | None = None) -> list[Any]:
    """What an expression of a column `x` is for each of these values."""
    table = engine.table(pa.table({"n": range(len(given)), "x": pa.array(given, kind or pa.string())}), "given")
    return [row["found"] for row in rows(engine, table.select("n", found=value(table.x)), "n")]


def test_an_unknown_one_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"'abacus'.*{min(ENGINES)}"):
        Lake(tmp_path, "abacus").engine()


# ── tables ──


def test_what_it_writes_it_reads_again_with_its_types(lake: Lake, engine: Engine) -> None:
    engine.write(engine.table(ROWS, "rows"), {"built_from": "it's", "n": "1"}, "room", "one.parquet")
    back = engine.fetch(engine.read(lake.list("room")))
    assert back.schema.equals(KINDS) and sorted(back.to_pylist(), key=str) == sorted(ROWS.to_pylist(), key=str)
    with lake.fs.open(lake.path("room", "one.parquet"), "rb") as file:
        written = pq.ParquetFile(file)
        assert written.schema_arrow.equals(KINDS, check_metadata=False)
        told = {k.decode(): v.decode() for k, v in written.metadata.metadata.items()}
    assert told.items() >= {"built_from": "it's", "n": "1"}.items()


def test_what_the_lake_writes_it_reads(lake: Lake, engine: Engine) -> None:
    lake.write(ROWS, "room", "one.parquet")
    lake.write(ROWS, "room", "two.parquet")
    assert engine.fetch(engine.read(lake.list("room"))).schema.equals(KINDS)
    assert len(rows(engine, engine.read(lake.list("room")))) == 4


def test_a_file_is_written_whole_or_not_at_all(lake: Lake, engine: Engine) -> None:
    one = engine.table(pa.table({"x": [1]}), "one")
    engine.write(one, {}, "room", "a.parquet")
    broken = one.mutate(y=ibis.literal("no number").cast("int64"))
    with pytest.raises(Exception):  # noqa: B017 - of whatever kind the engine's own is
        engine.write(broken, {}, "room", "a.parquet")
    assert rows(engine, engine.read(lake.list("room"))) == [{"x": 1}]
    assert [Path(path).name for path in lake.fs.find(lake.path("room"))] == ["a.parquet"]


def test_the_date_of_a_folder_is_a_column_where_it_is_asked_for(lake: Lake, engine: Engine) -> None:
    for day in (1, 2):
        lake.write(pa.table({"x": [day]}), "events", f"event_date=2025-03-0{day}", "b.parquet")
    found = engine.fetch(engine.read(lake.list("events"), dated=True).order_by("x"))
    assert found.schema.field("event_date").type == pa.date32()
    assert found["event_date"].to_pylist() == [date(2025, 3, 1), date(2025, 3, 2)]
    assert engine.read(lake.list("events")).columns == ("x",)


def test_files_that_lack_columns_are_read_where_it_is_asked_for(lake: Lake, engine: Engine) -> None:
    lake.write(pa.table({"x": [1]}), "room", "one.parquet")
    lake.write(pa.table({"y": ["b"], "x": [2]}), "room", "two.parquet")
    found = rows(engine, engine.read(lake.list("room"), merged=True).select("x", "y"), "x")
    assert found == [{"x": 1, "y": None}, {"x": 2, "y": "b"}]


def test_a_name_is_that_of_the_latest_table(lake: Lake, engine: Engine) -> None:
    lake.write(pa.table({"x": [1, 2]}), "room", "one.parquet")
    lake.write(pa.table({"x": [10]}), "room", "two.parquet")
    first = engine.read([lake.path("room", "one.parquet")], "named")
    total = first.agg(total=first.x.sum())
    assert rows(engine, total) == [{"total": 3}]
    engine.read([lake.path("room", "two.parquet")], "named")
    assert rows(engine, total) == [{"total": 10}]
    assert rows(engine, engine.table(pa.table({"x": [5]}), "mine")) == [{"x": 5}]
    assert rows(engine, engine.table(pd.DataFrame({"x": [6]}), "mine")) == [{"x": 6}]


def test_what_is_kept_is_computed_once_and_a_view_whenever_it_is_asked(engine: Engine) -> None:
    given = engine.table(pa.table({"x": [1]}), "given")
    kept, view = engine.keep(given, "kept"), engine.view(given.mutate(y=given.x + 1), "seen")
    engine.table(pa.table({"x": [2]}), "given")
    assert rows(engine, kept) == [{"x": 1}] and rows(engine, view) == [{"x": 2, "y": 3}]
    assert rows(engine, engine.keep(view, "kept")) == [{"x": 2, "y": 3}]


@pytest.mark.parametrize("large", [False, True])
def test_batches_are_gathered_in_one_table(lake: Lake, large: bool) -> None:
    like = pa.schema([("x", pa.int64())])
    with lake.engine(large=large) as engine:
        gathered, add = engine.gather("sums", like, lambda batch: batch.filter(batch.x > 1).mutate(y=batch.x * 10))
        assert rows(engine, gathered) == []
        for batch in ([1, 2], [], [3]):
            add(pa.table({"x": batch}, schema=like))
        assert rows(engine, gathered, "x") == [{"x": 2, "y": 20}, {"x": 3, "y": 30}]
        assert rows(engine, engine.keep(gathered, "again"), "x") == rows(engine, gathered, "x")


def test_batches_of_a_result_come_in_its_order(engine: Engine) -> None:
    n = 20_000
    table = engine.table(pa.table({"x": random.Random(1).sample(range(n), n)}), "shuffled")
    batches = list(engine.batches(table.order_by("x"), 1_000))
    assert len(batches) > 5
    assert [x for batch in batches for x in batch["x"].to_pylist()] == list(range(n))


def test_empty_tables_are_tables(lake: Lake, engine: Engine) -> None:
    none = engine.table(KINDS.empty_table(), "none")
    engine.write(none, {}, "room", "none.parquet")
    for table in (none, engine.keep(none, "kept"), engine.read(lake.list("room"))):
        assert engine.fetch(table).schema.equals(KINDS)
        assert rows(engine, table.group_by("text").agg(n=table.count())) == []
        assert rows(engine, table.agg(n=table.count(), most=table.number.max())) == [{"n": 0, "most": None}]
        assert rows(engine, table.join(none, "text")) == []


@pytest.mark.parametrize("large", [False, True])
def test_what_is_larger_than_its_memory_is_computed_still(lake: Lake, large: bool) -> None:
    n = 600_000  # 60 MB of text, sorted and grouped within as much
    texts = pa.array([f"{i * 7919 % n:0100}" for i in range(n)])
    lake.write(pa.table({"x": texts}), "room", "one.parquet")
    with lake.engine(memory="120MB", threads=1, large=large) as engine:
        kept = engine.keep(engine.read(lake.list("room")), "kept")
        ordered = kept.mutate(nth=ibis.row_number().over(order_by=kept.x)).group_by("x").agg(nth=lambda t: t.nth.min())
        wrong = ordered.filter(ordered.x.cast("int64") != ordered.nth)
        assert rows(engine, wrong.agg(n=wrong.count())) == [{"n": 0}]
    assert lake.list("room") == [lake.path("room", "one.parquet")]


# ── time ──


def test_moments_are_utc_whatever_the_machine_says(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    late = datetime(2025, 3, 30, 23, 59, 59, 999999, tzinfo=UTC)
    kind = pa.timestamp("us", tz="UTC")
    midnight = MOMENT.replace(hour=0, minute=0, second=0, microsecond=0)
    since_1970 = (midnight - datetime(1970, 1, 1, tzinfo=UTC)).days * 96
    moments = [midnight, midnight + timedelta(minutes=15), late, None]
    assert values(engine, engine.quarter, moments, kind) == [since_1970, since_1970 + 1, since_1970 + 95, None]
    assert values(engine, lambda x: x.date(), [MOMENT, late], kind) == [date(2025, 3, 30)] * 2
    assert values(engine, lambda x: x, [MOMENT], kind) == [MOMENT]


def naive(*parts: int) -> datetime:
    """A moment that does not say its zone, as engines keep it."""
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("%Y-%m-%d %H:%M:%S.%f", "2025-03-01 10:00:00.837", naive(2025, 3, 1, 10, 0, 0, 837000)),
        ("%Y-%m-%d %H:%M:%S", "2025-03-01 10:00:00", naive(2025, 3, 1, 10)),
        ("%Y-%m-%d %H:%M:%S", "2025-03-01T10:00:00", None),
        ("%Y-%m-%d %H:%M:%S", "2025-02-31 10:00:00", None),
        ("%d.%m.%Y", "01.03.2025", naive(2025, 3, 1)),
        ("%Y-%m-%dT%H:%M:%S%z", "2025-03-01T10:00:00+02:00", naive(2025, 3, 1, 8)),
        (ISO_8601, "2025-03-01T10:00:00.5-05:30", naive(2025, 3, 1, 15, 30, 0, 500000)),
        (ISO_8601, "2025-03-01T10:00:00Z", naive(2025, 3, 1, 10)),
        (ISO_8601, "2025-03-01 10:00", naive(2025, 3, 1, 10)),
        (ISO_8601, "soon", None),
        (ISO_8601, None, None),
    ],
)
def test_a_text_is_read_as_a_moment(engine: Engine, pattern: str, text: str | None, expected: datetime | None) -> None:
    assert values(engine, lambda x: engine.moment(x, pattern), [text]) == [expected]


def test_a_clock_of_a_zone_is_put_into_utc(engine: Engine) -> None:
    for zone in ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC"):
        shown = [naive(2025, month, 15, 12, 30) for month in range(1, 13)]
        expected = [at.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC).replace(tzinfo=None) for at in shown]
        assert values(engine, lambda x, zone=zone: engine.to_utc(x, zone), shown, pa.timestamp("us")) == expected


# ── JSON ──

DOCUMENTS = [
    '{"a": {"b": [1, {"c": "x"}], "d.e": true, "it\'s/~": null}, "n": 1.50, "t": "text", "e": ""}',
    '{"a": "text"}', '{"a": []}', "{}", "[1]", '"a"', "1", "null", None,
]  # fmt: skip


def test_json_is_taken_apart_by_paths(engine: Engine) -> None:
    def found(of: Callable[..., Any], *path: str) -> Any:
        return values(engine, lambda x: of(x, path), DOCUMENTS)[0]

    assert found(engine.json_text, "a", "b", "1", "c") == "x"
    assert found(engine.json_text, "a", "b", "0") == "1"
    assert found(engine.json_text, "a", "d.e") == "true"
    assert found(engine.json_text, "a", "it's/~") is None
    assert found(engine.json_text, "n") == "1.50" or found(engine.json_text, "n") == "1.5"
    assert found(engine.json_text, "e") == ""
    assert found(engine.json_text, "a", "b") == '[1,{"c":"x"}]'
    assert found(engine.json_texts, "t", "nothing", "n", "a")[:2] == ["text", None]
    assert found(engine.json_part, "t") == '"text"' and found(engine.json_part, "a", "nothing") is None
    assert found(engine.json_nested, "a") is True and found(engine.json_nested, "t") is False
    assert not found(engine.json_nested, "nothing")
    kinds = values(engine, engine.json_object, DOCUMENTS)
    assert [bool(kind) for kind in kinds] == [True, True, True, True, False, False, False, False, False]


def test_json_columns_read_each_text_once_whatever_it_is(engine: Engine) -> None:
    texts = [
        '{"a": "x", "b": {"c": [1]}}',
        '{"b": null, "a": 5}',
        '{"a": {"b": 1}}',
        "[1]",
        "broken",
        None,
        '{"a": "x"',
    ]
    table = engine.table(pa.table({"n": range(len(texts)), "x": pa.array(texts, pa.string())}), "given")
    found = rows(engine, engine.json_columns(table, "x", {"a": "text", "b": "json"}), "n")
    assert [row["json_0"] for row in found] == ["x", "5", '{"b":1}', None, None, None, None]
    assert [row["json_1"] for row in found][:3] == ['{"c":[1]}', None, None] or found[1]["json_1"] == "null"
    assert [bool(row["json_unread"]) for row in found][:3] == [False] * 3
    assert all(row["json_unread"] for row in found[4:])
    assert [bool(found) for found in values(engine, engine.is_json, texts)] == [True] * 4 + [False] * 3


def test_canonical_json_tells_values_apart(engine: Engine) -> None:
    table = engine.table(ROWS, "rows")
    for column in ROWS.column_names:
        said = rows(engine, table.select(json=engine.to_json(table[column])))
        assert len({row["json"] for row in said}) == 2
    assert values(engine, engine.to_json, [0.1, 2.0], pa.float64()) == ["0.1", "2.0"]
    assert values(engine, engine.to_json, ['it"s']) == ['"it\\"s"']


def test_trimming_takes_these_characters_and_no_others(engine: Engine) -> None:
    given = ["  a b \t\r\n", "\x0ba\x0c", "", None]
    assert values(engine, lambda x: engine.trim(x, " \t\r\n"), given) == ["a b", "\x0ba\x0c", "", None]


# ── against a plain re-implementation ──


AT = "datetime64[us, UTC]"


def drawn(seed: int) -> pd.DataFrame:
    rng = random.Random(seed)
    n = rng.choice([0, 1, 7, 60])
    return pd.DataFrame(
        {
            "n": range(n),
            "who": pd.Series([rng.choice(["a", "b", "ü", None]) for _ in range(n)], dtype="str"),
            "value": pd.Series([rng.choice([1.0, 2.0, -3.5, None]) for _ in range(n)], dtype="Float64"),
            "at": pd.Series([MOMENT + timedelta(hours=rng.randrange(60)) for _ in range(n)]).astype(
                "datetime64[us, UTC]"
            ),
        }
    )


@pytest.mark.parametrize("seed", range(8))
def test_results_are_those_of_plain_pandas(engine: Engine, seed: int) -> None:
    frame = drawn(seed)
    t = engine.table(frame, "drawn")
    order = ibis.struct({"at": t.at, "n": t.n})
    summed = t.group_by("who").agg(
        n=t.count(),
        total=t.value.sum(),
        latest=engine.at_most(t.value, order, where=t.value.notnull()),
        earliest=engine.at_least(t.n, order),
        hours=(ibis.literal(1, type="int32") << (engine.quarter(t.at) // 4 % 24)).bit_or(),
        first=t.at.min(),
    )
    expected = []
    for who, group in frame.groupby("who", dropna=False):
        ordered, known = group.sort_values(["at", "n"]), group.dropna(subset="value").sort_values(["at", "n"])
        hours = 0
        for moment in group["at"]:
            hours |= 1 << moment.hour
        expected.append(
            {
                "who": who if isinstance(who, str) else None,
                "n": len(group),
                "total": float(known["value"].sum()) if len(known) else None,
                "latest": float(known["value"].iloc[-1]) if len(known) else None,
                "earliest": int(ordered["n"].iloc[0]),
                "hours": hours,
                "first": group["at"].min().to_pydatetime(),
            }
        )
    assert sorted(rows(engine, summed), key=str) == sorted(expected, key=str)


@pytest.mark.parametrize("seed", range(8))
def test_joins_windows_and_unions_are_those_of_plain_pandas(engine: Engine, seed: int) -> None:
    frame, other = drawn(seed), drawn(seed + 100).drop_duplicates("who")
    t, o = engine.table(frame, "drawn"), engine.table(other, "others")
    known = frame.dropna(subset="who")
    assert [row["n"] for row in rows(engine, t.semi_join(o, "who").select("n"), "n")] == known[
        known["who"].isin(other["who"].dropna())
    ]["n"].tolist()
    left = rows(engine, t.left_join(o.select("who", there=o.n), "who").select("n", "there"), "n")
    there = {who: n for who, n in zip(other["who"], other["n"], strict=True) if isinstance(who, str)}
    assert left == [
        {"n": n, "there": there.get(who) if isinstance(who, str) else None}
        for n, who in zip(frame["n"], frame["who"], strict=True)
    ]
    ranked = t.mutate(nth=ibis.row_number().over(group_by="who", order_by=[t.at.desc(), t.n]))
    first = rows(engine, ranked.filter(ranked.nth == 0).select("n"), "n")
    expected = frame.sort_values(["at", "n"], ascending=[False, True]).groupby("who", dropna=False)["n"].first()
    assert [row["n"] for row in first] == sorted(expected)
    both = ibis.union(t.select("n", "value"), o.select("n", "value"))
    assert len(rows(engine, both)) == len(frame) + len(other)
