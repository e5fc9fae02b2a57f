import gzip
import io
import shutil
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from onetouch.policy import read_policy
from onetouch.sources import ExportError, amplitude, fetch_rows

from tests.sources.answers import answer, event, member, packed

POLICY = read_policy()
LIMITS = POLICY.events
START, END = datetime(2025, 3, 1, 9, tzinfo=UTC), datetime(2025, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def fetch(lake, folder, start=START, end=END, limits=LIMITS):
    return amplitude.fetch(lake, "raw/amplitude/run", start, end, limits, folder=folder)


def texts(lake, fetched):
    batches = amplitude.SOURCE.read(lake, "raw/amplitude/run", fetched, LIMITS)
    return [row["text"] for batch in batches for row in batch.to_pylist() if row["problem"] is None]


def reasons(fetched):
    return {refusal.file: refusal.reason for refusal in fetched.refused}


def test_the_window_is_that_of_receipt_hours_start_in_end_out(lake, folder):
    hours = [START + n * HOUR for n in range(-2, 6)]
    answer(folder / "2025-03.zip", [(member(hour), packed([event(n)])) for n, hour in enumerate(hours)])
    fetched = fetch(lake, folder)
    assert [f.file for f in fetched.files] == [f"2025-03/{member(START + n * HOUR)}" for n in range(3)]
    assert fetched.refused == []


def test_minutes_of_a_window_are_cut_so_that_no_hour_is_read_in_part(lake, folder):
    answer(folder / "a.zip", [(member(START + n * HOUR), packed([event(n)])) for n in range(4)])
    fetched = fetch(lake, folder, START + timedelta(minutes=30), START + HOUR + timedelta(minutes=59))
    assert [f.file for f in fetched.files] == [f"a/{member(START)}"]


def test_raw_files_are_kept_as_received(lake, folder):
    content = packed([event(1)])
    answer(folder / "a.zip", [(member(START), content), (member(START, 1), content[:-20])])
    fetched = fetch(lake, folder)
    kept = [Path(lake.path("raw/amplitude/run", f.path)).read_bytes() for f in fetched.files]
    assert kept == [content, content[:-20]]
    assert [f.bytes for f in fetched.files] == [len(content), len(content) - 20]


def test_the_same_name_in_two_answers_or_twice_in_one_is_two_files(lake, folder):
    with pytest.warns(UserWarning, match="Duplicate name"):
        answer(folder / "a.zip", [(member(START), packed([event(1)])), (member(START), packed([event(2)]))])
    answer(folder / "b.zip", [(member(START), packed([event(3)])), (f"x/{member(START)}", packed([event(4)]))])
    fetched = fetch(lake, folder)
    assert len({f.path for f in fetched.files}) == 4
    assert len(texts(lake, fetched)) == 4


def test_unzipped_answers_are_read_too(lake, folder):
    (folder / "424242").mkdir()
    (folder / member(START)).write_bytes(packed([event(1)]))
    (folder / member(END)).write_bytes(packed([event(2)]))
    assert len(texts(lake, fetch(lake, folder))) == 1


UNSAFE = [
    "../../x",
    "/etc/cron.d/x",
    "a/../../x",
    "..\\..\\x",
    "C:\\x",
    "C:x",
    f"../{member(START)}",
    f"/{member(START)}",
    f"..\\{member(START).split('/')[1]}",
]


@pytest.mark.parametrize("name", UNSAFE)
def test_a_name_that_leaves_its_folder_is_refused_and_never_written(lake, folder, tmp_path, name):
    answer(folder / "a.zip", [(name, packed([event(1)])), (member(START), packed([event(2)]))])
    before = {path for path in tmp_path.rglob("*") if "lake" not in path.parts}
    fetched = fetch(lake, folder)
    assert reasons(fetched) == {f"a/{name}": "unsafe_path"}
    assert len(texts(lake, fetched)) == 1
    assert {path for path in tmp_path.rglob("*") if "lake" not in path.parts} == before
    assert len(lake.list("raw", ".gz")) == 1


def test_entries_that_are_no_export_are_refused_each_with_its_reason(lake, folder):
    answer(
        folder / "a.zip",
        [
            (member(START, 0), b"not gzip"),
            (member(START, 1), gzip.compress(b"\0" * 30_000_000)),
            (member(START, 2), packed([event(1)])),
            ("424242/readme.txt", b"hello"),
            ("424242/", b""),
            ("424242/424242_2025-02-31_9#0.json.gz", packed([event(2)])),
        ],
    )
    fetched = fetch(lake, folder)
    assert reasons(fetched) == {
        f"a/{member(START, 0)}": "not_gzip",
        f"a/{member(START, 1)}": "compression_bomb",
        "a/424242/readme.txt": "unknown_file",
        "a/424242/424242_2025-02-31_9#0.json.gz": "unknown_file",
    }
    assert len(lake.list("raw", ".gz")) == len(texts(lake, fetched)) == 1


def test_a_bomb_by_zip_compression_is_refused(lake, folder):
    # stored gzip blocks of zeros: the gzip layer is harmless, the zip layer is not
    harmless = gzip.compress(bytes(40_000_000), compresslevel=0)
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr(member(START), harmless)
    assert reasons(fetch(lake, folder)) == {f"a/{member(START)}": "compression_bomb"}
    assert lake.list("raw", ".gz") == []


def test_encrypted_spoilt_and_unreadable_answers_are_refused(lake, folder):
    content = answer(None, [(member(START), packed([event(n) for n in range(50)]))])
    spoilt = bytearray(content)
    spoilt[len(content) // 2] ^= 0xFF
    (folder / "spoilt.zip").write_bytes(spoilt)
    locked = bytearray(content)
    locked[6] |= 1
    locked[content.rindex(b"PK\x01\x02") + 8] |= 1
    (folder / "locked.zip").write_bytes(locked)
    (folder / "half.zip").write_bytes(content[: len(content) // 2])
    (folder / "empty.zip").write_bytes(b"")
    (folder / "good.zip").write_bytes(content)
    fetched = fetch(lake, folder)
    assert reasons(fetched) == {
        "empty.zip": "bad_zip",
        "half.zip": "bad_zip",
        f"locked/{member(START)}": "encrypted",
        f"spoilt/{member(START)}": "bad_zip_entry",
    }
    assert len(texts(lake, fetched)) == 50


def test_a_stray_entry_counts_in_the_window_of_its_answer_only(lake, folder):
    answer(folder / "2025-03.zip", [("../../x", b"x"), (member(START), packed([event(1)]))])
    assert len(fetch(lake, folder).refused) == 1
    assert fetch(lake, folder, END, END + HOUR).refused == []


def test_a_second_fetch_writes_the_same_bytes(lake, folder, tmp_path):
    answer(folder / "a.zip", [(member(START + n * HOUR), packed([event(n)])) for n in range(3)])

    def content():
        return {path: Path(path).read_bytes() for path in lake.list("raw", "")}

    first = fetch(lake, folder)
    before = content()
    assert fetch(lake, folder) == first
    assert content() == before and len(before) == 3


@pytest.mark.parametrize("make", [lambda f: shutil.rmtree(f), lambda f: None])
def test_a_folder_without_answers_is_an_error_that_names_it(lake, folder, make):
    make(folder)
    with pytest.raises(ExportError, match=r"answers.*\.zip"):
        fetch(lake, folder)


def test_neither_folder_nor_connection_is_an_error(lake):
    with pytest.raises(ExportError, match="amplitude_default"):
        amplitude.fetch(lake, "raw/x", START, END, LIMITS)


def test_fetch_rows_reads_up_to_the_running_hour_and_keeps_nothing(folder):
    answer(folder / "a.zip", [(member(START + n * HOUR), packed([event(n)])) for n in range(4)])
    batches = fetch_rows("amplitude", POLICY, START, START + HOUR + timedelta(minutes=1), folder=folder)
    assert sum(batch.num_rows for batch in batches) == 2


def test_a_member_is_streamed_not_loaded(lake, folder, monkeypatch):
    answer(folder / "a.zip", [(member(START), gzip.compress(io.BytesIO(b"{}\n" * 3_000_000).read(), 0))])
    asked = []
    original = zipfile.ZipExtFile.read
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda self, n=-1: asked.append(n) or original(self, n))
    assert len(fetch(lake, folder).files) == 1
    assert asked and all(0 < n <= 1 << 20 for n in asked)
