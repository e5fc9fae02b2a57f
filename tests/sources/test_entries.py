"""Whatever lies in the folder is read or named, however it was saved, and weighs what was lost with it."""

import gzip
import io
import json
import random
import struct
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onetouch.lake import Lake
from onetouch.policy import read_policy
from onetouch.sources import ExportError, Fetched, amplitude, packing_of, vendor_of
from onetouch.sources.json_rows import Json
from onetouch.sources.rows import ERASED, Kept

from tests.sources.answers import answer, event, lines, member, packed

LIMITS = read_policy().events
START = datetime(2025, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
END = START + 12 * HOUR


def fetch(lake, folder):
    return amplitude.fetch(lake, "raw/amplitude/run", START, END, LIMITS, folder=folder)


def read(lake, fetched):
    """The numbers of the events that are read."""
    batches = amplitude.SOURCE.read(lake, "raw/amplitude/run", fetched, LIMITS)
    rows = [row for batch in batches for row in batch.to_pylist()]
    return sorted(json.loads(row["text"])["event_properties"]["n"] for row in rows if row["problem"] is None)


def at(hour, name=None):
    return name or member(START + hour * HOUR)


def file_name(hour, suffix=".json.gz", sign="#"):
    return member(START + hour * HOUR).split("/")[1].replace("#", sign).replace(".json.gz", suffix)


def zipped(*members):
    return answer(None, members)


def pretty(rows):
    return "\n".join(json.dumps(row, indent=1) for row in rows).encode()


def array(rows, **how):
    return json.dumps(rows, **how).encode()


ROWS = [event(n) for n in range(3)]
WAYS = {
    "a zip": lambda f: (f / "a.zip").write_bytes(zipped((at(1), packed(ROWS)))),
    "a zip in capitals": lambda f: (f / "A.ZIP").write_bytes(zipped((at(1), packed(ROWS)))),
    "a zip without a suffix": lambda f: (f / "export").write_bytes(zipped((at(1), packed(ROWS)))),
    "a zip with another suffix": lambda f: (f / "export.download").write_bytes(zipped((at(1), packed(ROWS)))),
    "a zip in a subfolder": lambda f: sub(f, "2025/03", "a.zip", zipped((at(1), packed(ROWS)))),
    "a zip in a zip": lambda f: (f / "a.zip").write_bytes(zipped(("in/b.zip", zipped((at(1), packed(ROWS)))))),
    "a zip without a suffix in a zip": lambda f: (f / "a.zip").write_bytes(
        zipped(("export", zipped((at(1), packed(ROWS)))))
    ),
    "two zips joined": lambda f: (f / "a.zip").write_bytes(
        zipped((at(1), packed(ROWS[:1]))) + zipped((at(2), packed(ROWS[1:])))
    ),
    "three zips joined": lambda f: (f / "a.zip").write_bytes(
        b"".join(zipped((at(n), packed([row]))) for n, row in enumerate(ROWS))
    ),
    "an hour in a subfolder": lambda f: sub(f, "424242", file_name(1), packed(ROWS)),
    "an hour unpacked": lambda f: sub(f, "424242", file_name(1, ".json"), lines(ROWS)),
    "an hour unpacked, the name kept": lambda f: sub(f, "424242", file_name(1), lines(ROWS)),
    "an hour packed, the name of plain": lambda f: sub(f, "x", file_name(1, ".json"), packed(ROWS)),
    "json lines": lambda f: sub(f, "x", file_name(1, ".jsonl"), lines(ROWS)),
    "without any suffix": lambda f: sub(f, "x", file_name(1, ""), packed(ROWS)),
    "in capitals": lambda f: sub(f, "x", file_name(1, ".JSON.GZ"), packed(ROWS)),
    "zstd": lambda f: sub(f, "x", file_name(1, ".json.zst"), bytes(pa.compress(lines(ROWS), "zstd", asbytes=True))),
    "an encoded name": lambda f: sub(f, "x", file_name(1, sign="%23"), packed(ROWS)),
    "an encoded name in a zip": lambda f: (f / "a.zip").write_bytes(zipped((file_name(1, sign="%23"), packed(ROWS)))),
    "a browser's second copy": lambda f: sub(f, "x", file_name(1, ".json (1).gz"), packed(ROWS)),
    "unpacked in a zip": lambda f: (f / "a.zip").write_bytes(zipped((file_name(1, ".json"), lines(ROWS)))),
    "an array": lambda f: sub(f, "x", file_name(1, ".json"), array(ROWS)),
    "an array over lines": lambda f: sub(f, "x", file_name(1), gzip.compress(array(ROWS, indent=2))),
    "an array with a mark": lambda f: sub(f, "x", file_name(1), gzip.compress(b"\xef\xbb\xbf" + array(ROWS))),
    "pretty-printed": lambda f: sub(f, "x", file_name(1), gzip.compress(pretty(ROWS))),
    "pretty-printed with a mark": lambda f: sub(f, "x", file_name(1, ".json"), b"\xef\xbb\xbf" + pretty(ROWS)),
    "pretty-printed with returns": lambda f: sub(
        f, "x", file_name(1, ".json"), pretty(ROWS).replace(b"\n", b"\r\n") + b"\r\n"
    ),
    "UTF-16 with a mark": lambda f: sub(f, "x", file_name(1), gzip.compress(lines(ROWS).decode().encode("utf-16"))),
    "UTF-16 without a mark": lambda f: sub(f, "x", file_name(1, ".json"), lines(ROWS).decode().encode("utf-16-le")),
    "UTF-16, the other way round": lambda f: sub(
        f, "x", file_name(1, ".json"), b"\xfe\xff" + lines(ROWS).decode().encode("utf-16-be")
    ),
    "UTF-32": lambda f: sub(f, "x", file_name(1), gzip.compress(lines(ROWS).decode().encode("utf-32"))),
    "an array in UTF-16": lambda f: sub(f, "x", file_name(1), gzip.compress(array(ROWS).decode().encode("utf-16"))),
}


def sub(folder, name, file, content):
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    (place / file).write_bytes(content)


@pytest.mark.parametrize("way", WAYS)
def test_it_is_read_however_it_was_saved_beside_other_answers(lake, folder, way):
    answer(folder / "other.zip", [(at(9), packed([event(100)]))])
    WAYS[way](folder)
    fetched = fetch(lake, folder)
    assert fetched.refused == [] and fetched.ignored == []
    assert read(lake, fetched) == [0, 1, 2, 100]


@pytest.mark.parametrize("way", WAYS)
def test_and_where_nothing_else_lies(lake, folder, way):
    WAYS[way](folder)
    assert read(lake, fetch(lake, folder)) == [0, 1, 2]


def test_what_systems_add_is_listed_and_counts_for_nothing(lake, folder):
    fork = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X"
    answer(
        folder / "a.zip",
        [
            (at(1), packed(ROWS)),
            ("__MACOSX/424242/._" + file_name(1), fork),
            (f"__MACOSX/{at(2)}", fork),
            ("424242/._" + file_name(2), fork),
            ("424242/.DS_Store", b"x"),
            ("-7_2025-03-01_3.json.gz", packed([{"amplitude_id": 1, "merged_amplitude_id": 2}])),
        ],
    )
    sub(folder, ".", ".DS_Store", b"x")
    sub(folder, "x", "._" + file_name(1), fork)
    sub(folder, "x", "Thumbs.db", b"x")
    fetched = fetch(lake, folder)
    assert fetched.refused == [] and len(fetched.ignored) == 8 and all(one.reason for one in fetched.ignored)
    assert read(lake, fetched) == [0, 1, 2]
    assert fetched.coverage.expected == fetched.coverage.seen == 1


def test_what_is_none_of_it_is_named_with_what_it_looks_like(lake, folder):
    answer(folder / "a.zip", [(at(1), packed(ROWS)), ("424242/notes.csv", b"event,time\nx,1\n")])
    sub(folder, "m", "2025-03-01.jsonl", lines([{"event": "x", "properties": {"distinct_id": "u", "time": 1}}]))
    fetched = fetch(lake, folder)
    assert {one.file: one.reason for one in fetched.refused} == dict.fromkeys(
        ["a/424242/notes.csv", "m/2025-03-01.jsonl"], "unknown_file"
    )
    assert ["looks like CSV" in one.detail or "looks like Mixpanel" in one.detail for one in fetched.refused] == [
        True
    ] * 2
    assert all(one.bytes for one in fetched.refused)


def test_a_folder_of_another_vendor_is_an_error_that_names_it(lake, folder):
    sub(folder, "revisions", "1.json", lines([{"_n": "pricing viewed", "_p": "jo", "_t": 1}] * 3))
    with pytest.raises(ExportError, match=r"answers.*revisions/1\.json.*KISSmetrics"):
        fetch(lake, folder)


def test_zips_within_zips_have_an_end(lake, folder):
    inner = zipped((at(1), packed(ROWS)))
    for depth in range(5):
        inner = zipped((f"{depth}.zip", inner))
    (folder / "a.zip").write_bytes(inner)
    fetched = fetch(lake, folder)
    assert [one.reason for one in fetched.refused] == ["unsupported_zip_entry"] and fetched.files == []


# ── hours ──


def test_hours_are_counted_by_what_became_of_them(lake, folder):
    answer(
        folder / "a.zip",
        [
            (at(0), packed(ROWS)),
            (at(1), b"<html><body>502 Bad Gateway</body></html>"),
            (at(2), packed([])),
            (at(3), packed(ROWS)[:-9]),
            (member(START + 4 * HOUR, 0), packed(ROWS)),
            (member(START + 4 * HOUR, 1), b"no gzip"),
            (at(5), packed(ROWS)),
            (at(20), b"not of the window"),
        ],
    )
    found = fetch(lake, folder).coverage
    assert (found.expected, found.seen, found.damaged, found.empty, found.lost) == (6, 4, 3, 1, 2.5)
    assert found.first_damaged == "2025-03-01T01:00Z"


def test_an_hour_that_another_export_has_whole_is_not_lost(lake, folder):
    answer(folder / "a.zip", [(at(0), packed(ROWS)), (at(1), b"no gzip"), (at(2), packed(ROWS)[:-9])])
    answer(folder / "b.zip", [(at(1), packed(ROWS)), (at(2), packed(ROWS))])
    found = fetch(lake, folder).coverage
    assert (found.expected, found.damaged, found.lost) == (3, 0, 0)


def test_a_zip_that_breaks_off_costs_the_hours_that_it_names(lake, folder):
    noise = random.Random(2)
    rows = [[event(n, event_properties={"n": n, "pad": noise.randbytes(500).hex()})] for n in range(10)]
    whole = zipped(*((at(n), packed(row)) for n, row in enumerate(rows)))
    (folder / "half.zip").write_bytes(whole[: whole.index(b"PK\x01\x02")])
    answer(folder / "b.zip", [(at(0), packed(rows[0]))])
    fetched = fetch(lake, folder)
    assert [(one.file, one.reason, len(one.hours)) for one in fetched.refused] == [("half.zip", "bad_zip", 10)]
    assert (fetched.coverage.expected, fetched.coverage.lost) == (10, 9.5)


def test_the_manifest_of_an_earlier_release_is_read():
    old = {
        "files": [{"file": "a", "path": "b", "bytes": 1}],
        "refused": [{"file": "c", "reason": "bad_zip", "detail": ""}],
    }
    fetched = Fetched.of(old)
    assert fetched.coverage.expected == 0
    assert Fetched.of(json.loads(json.dumps(fetched.document()))) == fetched


# ── rows of other ways of writing ──


class Slow(io.BytesIO):
    def __init__(self, content, size):
        super().__init__(content)
        self.size = size

    def read(self, size=-1):
        return super().read(self.size)


values = st.dictionaries(
    st.text(max_size=4), st.none() | st.integers() | st.text(max_size=6) | st.sampled_from(['"', "\\", "}{", "[", "\n"])
)
TEXTS = {
    "lines": lambda rows, ascii: "".join(json.dumps(row, ensure_ascii=ascii) + "\n" for row in rows),
    "array": lambda rows, ascii: json.dumps(rows, ensure_ascii=ascii),
    "array over lines": lambda rows, ascii: json.dumps(rows, indent=1, ensure_ascii=ascii),
    "pretty": lambda rows, ascii: "\n".join(json.dumps(row, indent=2, ensure_ascii=ascii) for row in rows),
}


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    rows=st.lists(values.map(lambda row: {"event_type": "x"} | row), min_size=1, max_size=6),
    way=st.sampled_from(list(TEXTS)),
    coding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    size=st.integers(1, 60),
    ascii=st.booleans(),
)
def test_rows_are_the_same_however_they_are_written(rows, way, coding, size, ascii):
    content = TEXTS[way](rows, ascii).encode(coding)
    file = Kept("f", lambda: Slow(content, size) if size % 2 else io.BytesIO(content), "plain")
    [*batches] = Json().read([file], [], LIMITS)
    found = [row for batch in batches for row in batch.to_pylist()]
    assert [json.loads(row["text"].decode("utf-8-sig")) for row in found] == rows
    assert [row["problem"] for row in found] == [None] * len(rows)
    assert {n: json.loads(text.decode("utf-8-sig")) for n, text in Json().texts(file, LIMITS) if text} == dict(
        enumerate(rows, 1)
    )


@pytest.mark.parametrize("way", TEXTS)
@pytest.mark.parametrize("coding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("name", ["f.json", "f.json.gz"])
def test_a_row_is_taken_out_of_any_of_them_and_the_others_keep_their_numbers(tmp_path, way, coding, name):
    lake = Lake(tmp_path)
    content = TEXTS[way]([{"who": f"jö {n}"} for n in range(5)], False).encode(coding)
    with lake.writing("raw", name) as draft:
        Path(draft).write_bytes(gzip.compress(content) if packing_of(name) == "gzip" else content)
    file = Kept(name, lambda: open(lake.path("raw", name), "rb"), packing_of(name))  # noqa: SIM115
    before = {n: json.loads(text) for n, text in Json().texts(file, LIMITS)}
    assert list(before.values()) == [{"who": f"jö {n}"} for n in range(5)]

    def change(number, text):
        return ERASED.encode() if "jö 1" in text.decode() else None

    assert Json().rewrite(lake, "raw", name, LIMITS, change) == 1
    after = {n: json.loads(text) for n, text in Json().texts(file, LIMITS)}
    assert after == before | {2: json.loads(ERASED)}
    assert Json().rewrite(lake, "raw", name, LIMITS, change) == 0
    stored = Path(lake.path("raw", name)).read_bytes()
    stored = gzip.decompress(stored) if packing_of(name) == "gzip" else stored
    assert "jö 1".encode() not in stored and "jö 2".encode() in stored


@pytest.mark.parametrize("first", [b"[1, 2]", b'[{"a": 1}]', b"{", b"[", b'"a text"', b"{}", b"", b"[]"])
def test_an_odd_first_row_costs_the_rows_after_it_nothing(first):
    content = first + b"\n" + lines(ROWS)
    file = Kept("f", lambda: io.BytesIO(content), "plain")
    texts = [text for batch in Json().read([file], [], LIMITS) for text in batch["text"].to_pylist()]
    assert [json.loads(text)["event_properties"]["n"] for text in texts if b"event_properties" in text] == [0, 1, 2]


def test_an_hour_without_any_content_is_an_empty_hour(lake, folder):
    answer(folder / "a.zip", [(at(0), packed(ROWS)), (at(1), b""), (at(2), packed([])), (at(3), packed([b"", b"\r"]))])
    sub(folder, "x", file_name(4), b"")
    fetched = fetch(lake, folder)
    assert read(lake, fetched) == [0, 1, 2]
    assert [row for batch in amplitude.SOURCE.read(lake, "raw/amplitude/run", fetched, LIMITS)
            for row in batch["problem"].to_pylist() if row] == []  # fmt: skip
    assert (fetched.coverage.expected, fetched.coverage.empty, fetched.coverage.lost) == (5, 4, 0)


def test_a_pretty_file_that_ends_early_gives_what_came_before(lake, folder):
    sub(folder, "x", file_name(1, ".json"), pretty(ROWS)[:-30])
    fetched = fetch(lake, folder)
    [*batches] = amplitude.SOURCE.read(lake, "raw/amplitude/run", fetched, LIMITS)
    problems = [row["problem"] for batch in batches for row in batch.to_pylist()]
    assert sorted(problems, key=str) == [None, None, "truncated_file"]


# ── whose it looks like ──

BEGINNINGS = {
    "Amplitude": json.dumps(event(1)),
    "Mixpanel": '{"event":"x","properties":{"time":1,"distinct_id":"u","$insert_id":"a"}}',
    "PostHog": '{"uuid":"1","event":"x","distinct_id":"u","properties":{},"timestamp":"2025-01-01T00:00:00Z"}',
    "Segment or RudderStack": '{"type":"track","event":"x","userId":"u","messageId":"m","anonymousId":"a"}',
    "RudderStack": '{"rudderId":"r","type":"track","messageId":"m"}',
    "KISSmetrics": '{"_n":"x","_p":"jo","_t":1}',
    "GA4 (BigQuery)": '{"event_date":"20250101","event_timestamp":1,"event_name":"x","event_params":[]}',
    "Snowplow": "\t".join(["web"] * 131),
    "CSV": "event,time\nx,1\n",
}


@pytest.mark.parametrize("vendor", BEGINNINGS)
@pytest.mark.parametrize("form", ["{}\n{}", "[{},\n{}]", "\ufeff{}"])
def test_a_vendor_is_known_by_how_its_rows_begin(vendor, form):
    text = BEGINNINGS[vendor]
    if text.startswith("{") or "[" not in form:
        assert vendor_of(form.format(text, text).encode()) == vendor
        cut = form.format(text, text).encode()
        assert vendor_of(cut[: len(text) - 1]) in (vendor, None) or vendor == "RudderStack"  # two in one


@pytest.mark.parametrize(
    ("begin", "told"),
    [
        (b"PAR1\0\0", "PostHog"), (b"Obj\x01\x04", "Heap"), (b"<!DOCTYPE html><html>", "web page"),
        (b"", None), (b"hello world\n", None), (b'{"a": 1}', None), (b"\xff\xfe\x00", None), (b"{" * 5_000, None),
    ],
)  # fmt: skip
def test_other_files_are_known_by_their_kind_or_not_at_all(begin, told):
    found = vendor_of(begin)
    assert (found is None) == (told is None) and (told or "") in (found or "")


def test_names_in_a_broken_zip_are_found_across_chunks(monkeypatch, lake, folder):
    monkeypatch.setattr("onetouch.sources.entries.CHUNK", 700)
    whole = zipped(*((at(n), packed([event(n)])) for n in range(12)))
    (folder / "half.zip").write_bytes(whole[: whole.index(b"PK\x01\x02")])
    [refusal] = fetch(lake, folder).refused
    assert len(refusal.hours) == 12
    assert struct.calcsize("<H") == 2 and zipfile.is_zipfile(io.BytesIO(whole))
