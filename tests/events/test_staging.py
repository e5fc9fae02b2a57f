import gzip
import json
import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onetouch import events
from onetouch.events import staging
from onetouch.lake import Lake
from onetouch.ledger import Ledger
from onetouch.sources import ExportError

from tests.events.stager import AS_OF, HOUR, RECEIVED, Stager
from tests.sources.answers import answer, event, member, nobody, packed, text


def at(moment):
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}"


def received(number, moment, **changes):
    return event(number, event_time=at(moment), server_upload_time=at(moment), **changes)


# ── what is kept of equal rows ──


def test_of_rows_with_one_id_the_first_received_is_kept(stager):
    rows = [
        event(1, server_upload_time="2025-03-01 10:30:00.000000", event_properties={"copy": "later"}),
        event(1, server_upload_time="2025-03-01 10:10:00.000000", event_properties={"copy": "first"}),
        event(1, server_upload_time="2025-03-01 10:20:00.000000", event_properties={"copy": "second"}),
    ]
    for order in (rows, rows[::-1]):
        shutil.rmtree(stager.lake.root, ignore_errors=True)
        stager.ledger = fresh_ledger(stager)
        counts = stager.staged(order)
        assert (counts["in"], counts["kept"], counts["duplicates"]) == (3, 1, 2)
        assert json.loads(stager.events()["properties"].item()) == {"copy": "first"}


def fresh_ledger(stager):
    path = Path(stager.home, f"ledger-{random.random()}.db")
    ledger = Ledger(f"sqlite:///{path}")
    ledger.migrate()
    return ledger


def test_duplicates_of_one_id_on_two_dates_are_one_event(stager):
    rows = [event(1), event(1, event_time="2025-02-20 10:00:00.000000")]
    assert stager.staged(rows)["duplicates"] == 1
    assert len(stager.events()) == 1


def test_equal_rows_without_id_stay_as_many_as_a_file_holds(stager):
    twin = event(1, uuid=None)
    counts = stager.staged([twin, event(2), twin, event(3, uuid=""), twin])
    assert (counts["kept"], counts["duplicates"]) == (5, 0)
    ids = stager.events()["event_id"]
    assert ids.is_unique and len(ids) == 5


def test_equal_rows_without_id_in_another_file_are_the_same_events(stager):
    twin = event(1, uuid=None)
    stager.receive([twin, twin], name="a.zip")
    stager.receive([twin, twin, twin], name="b.zip")
    rows = stager.stage()["rows"]
    assert (rows["in"], rows["kept"], rows["duplicates"]) == (5, 3, 2)


def test_a_line_end_does_not_make_another_id(stager):
    twin = text(event(1, uuid=None))
    stager.receive([twin], name="a.zip")
    answer(stager.folder / "b.zip", [(member(RECEIVED), gzip.compress(twin))])
    assert stager.stage()["rows"]["duplicates"] == 1


# ── runs ──


def test_a_second_run_of_the_same_moment_says_the_same_and_does_nothing(stager, monkeypatch):
    stager.receive([event(1), event(1), b"broken", nobody(2)])
    first = stager.stage()
    before = stager.files()
    monkeypatch.setattr(staging, "_write_batch", lambda *a: pytest.fail("staged again"))
    assert stager.stage() == first
    assert stager.files() == before
    assert first == {
        "rows": {
            "in": 4,
            "kept": 1,
            "anonymous": 0,
            "duplicates": 1,
            "quarantined": {"broken_json": 1, "no_user_and_no_account": 1},
        },
        "repaired": {},
        "files": 1,
        "event_dates": 1,
        "already_read": 0,
        "late": 0,
        "unnamed_groups": {},
        "hours": {"expected": 1, "seen": 1, "damaged": 0, "empty": 0, "lost": 0, "rows": 0},
        "ignored": {},
        "warnings": [],
    }


def test_a_later_run_counts_what_it_reads_again_as_duplicates(stager):
    stager.receive([event(1), event(2, uuid=None), b"broken"])
    stager.stage()
    stager.receive([event(3)], name="b.zip", hour=AS_OF)
    rows = stager.stage(AS_OF + HOUR)["rows"]
    assert rows == {"in": 4, "kept": 1, "anonymous": 0, "duplicates": 2, "quarantined": {"broken_json": 1}}
    assert len(stager.events()) == 3


def test_rows_received_late_come_with_the_next_window(stager):
    stager.receive([event(1)])
    stager.stage()
    late = event(2, event_time="2025-01-15 08:00:00.000000", server_upload_time=at(AS_OF))
    stager.receive([late], name="b.zip", hour=AS_OF)
    assert stager.stage(AS_OF + HOUR)["rows"]["kept"] == 1
    assert sorted(stager.events()["event_date"]) == ["2025-01-15", "2025-03-01"]


def test_a_run_without_data_is_no_error(stager):
    stager.receive([event(1)])
    stager.stage()
    shutil.rmtree(stager.folder)
    stager.folder.mkdir()
    answer(stager.folder / "empty.zip", [])
    summary = stager.stage(AS_OF + 100 * HOUR)
    assert summary == {
        "rows": {"in": 0, "kept": 0, "anonymous": 0, "duplicates": 0, "quarantined": {}},
        "repaired": {},
        "files": 0,
        "event_dates": 0,
        "already_read": 0,
        "late": 0,
        "unnamed_groups": {},
        "hours": {"expected": 0, "seen": 0, "damaged": 0, "empty": 0, "lost": 0, "rows": 0},
        "ignored": {},
        "warnings": [],
    }


def test_staging_before_extracting_is_an_error(stager):
    with pytest.raises(ExportError, match="extract_events comes first"):
        events.stage(stager.lake, stager.ledger, stager.policy, stager.run())


def test_the_watermark_moves_when_the_window_is_on_disk(stager, monkeypatch):
    stager.receive([event(1)])
    record = stager.ledger.record_batch
    monkeypatch.setattr(stager.ledger, "record_batch", lambda *a, **k: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        stager.stage()
    assert stager.ledger.watermark("amplitude") is None
    monkeypatch.setattr(stager.ledger, "record_batch", record)
    stager.stage()
    assert stager.ledger.watermark("amplitude") == stager.events()["received_at"].max()


# ── killed in between ──


class Killed(BaseException):
    """Like the process's end: no handler of the library may catch it."""


def undisturbed(rows, home):
    stager = Stager(home)
    stager.receive(rows)
    return stager.stage(), stager


def across_dates(days=5):
    return [
        *(event(n, event_time=at(AS_OF - timedelta(days=n % days, hours=3))) for n in range(60)),
        *(event(n) for n in range(0, 60, 7)),
        *(event(100 + n, uuid=None, event_properties={"twin": n // 2}) for n in range(10)),
        b"broken",
    ]


@pytest.mark.parametrize("die_at", range(8))
def test_killed_at_any_file_and_run_again_ends_the_same(tmp_path, monkeypatch, die_at):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    expected, calm = undisturbed(across_dates(), tmp_path / "one")
    stager = Stager(tmp_path / "two")
    stager.receive(across_dates())
    stager.extract()
    writing, written = Lake.writing, []

    def dying(self, *parts):
        if len(written) == die_at:
            raise Killed
        written.append(parts)
        return writing(self, *parts)

    def relative(s):
        return {path.removeprefix(s.lake.root): content for path, content in s.files().items()}

    with monkeypatch.context() as patch:
        if die_at == 7:
            patch.setattr(stager.ledger, "record_batch", lambda *a, **k: (_ for _ in ()).throw(Killed()))
        else:
            patch.setattr(Lake, "writing", dying)
        if die_at < 6 or die_at == 7:  # five dates and the quarantine
            with pytest.raises(Killed):
                stager.stage()
            assert stager.ledger.watermark("amplitude") is None
    assert stager.stage() == expected
    assert relative(stager) == relative(calm)
    assert stager.events().equals(calm.events())


def test_a_run_between_a_killed_run_and_its_repetition_takes_nothing_away(stager, monkeypatch):
    stager.receive(across_dates())
    stager.extract()
    writing, written = Lake.writing, []

    def dying(self, *parts):
        if len(written) == 2:
            raise Killed
        written.append(parts)
        return writing(self, *parts)

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "writing", dying)
        with pytest.raises(Killed):
            stager.stage()
    between = stager.stage(AS_OF + HOUR)["rows"]
    again = stager.stage()["rows"]
    held = stager.events()
    assert between["kept"] and again["kept"]
    assert between["kept"] + again["kept"] == len(held) == held["event_id"].nunique() == 70


# ── how it lies in the lake ──


def test_files_are_by_date_in_a_fixed_order_and_nothing_is_left_beside_them(stager):
    stager.receive(across_dates(days=40))
    summary = stager.stage()
    batch = f"amplitude-{stager.run().run_id}"
    paths = stager.lake.list("events")
    assert [Path(path).name for path in paths] == [f"{batch}.parquet"] * summary["event_dates"]
    for path in paths:
        frame = pq.read_table(path, partitioning=None).to_pandas()
        assert frame["occurred_at"].dt.date.astype(str).eq(path.split("event_date=")[1][:10]).all()
        assert frame.sort_values(["occurred_at", "event_id"]).index.equals(frame.index)
        assert frame["batch_id"].eq(batch).all() and frame["source"].eq("amplitude").all()
    assert not [path for path in Path(stager.lake.root).rglob(".*") if path.is_file()]


def test_the_quarantine_shows_file_line_reason_and_row(stager):
    stager.receive([event(1), b"", b'{"half', nobody(2), b"x" * 100_000])
    stager.stage()
    found = stager.quarantine()
    assert found[["line", "reason"]].to_numpy().tolist() == [
        [3, "broken_json"],
        [4, "no_user_and_no_account"],
        [5, "broken_json"],
    ]
    assert found["row"].str.len().tolist()[0] == 6 and found["row"].str.len().max() == 65536
    assert found["file"].eq(f"a/{member(RECEIVED)}").all()


@pytest.mark.parametrize(("senders", "read"), [(1, True), (3, False)])
def test_one_users_bad_rows_keep_no_file_from_counting_as_read(stager, senders, read):
    """Of many bad rows of one user the file is read once; of several users' the next run reads it again, and stops."""
    bad = [event(100 + n, user_id=f"m{n % senders}", event_time="soon") for n in range(30)]
    stager.staged([*(event(n, user_id=f"u{n % 5}") for n in range(20)), *bad])
    [batch] = stager.ledger.batches(stager.run().run_id)
    assert batch["counts"]["refused_of_one"] == 30 // senders
    assert stager.stage(AS_OF + HOUR)["already_read"] == (1 if read else 0)


def test_rows_of_other_projects_keep_no_file_from_counting_as_read(tmp_path):
    stager = Stager(tmp_path, projects=["1"])
    assert stager.staged([event(n, app=1 + n % 3) for n in range(30)])["quarantined"] == {"other_project": 20}
    assert stager.stage(AS_OF + HOUR)["already_read"] == 1


def test_a_mail_address_is_kept_only_where_it_is_the_user_id_or_people_are_known(stager):
    addressed = event(3, user_properties={"email": "known@acme.com"})
    stager.staged([addressed])
    kept = stager.events()
    assert "known@acme.com" in kept["profile"].item()
    assert "known@acme.com" not in kept.drop(columns="profile").to_json(date_format="iso")
    nobody = {"name": [], "title": [], "seniority": [], "role": []}
    stager.policy = stager.policy.changed(events__person_properties=nobody)
    stager.staged([event(1, user_properties={"email": "secret@acme.com"}), event(2, user_id="open@acme.com")])
    shown = stager.events().to_json(date_format="iso")
    assert "secret@acme.com" not in shown and "open@acme.com" in shown


def test_more_rows_than_one_batch_of_lines(stager):
    rows = [event(n, event_properties={"pad": "x" * 900}) for n in range(12_000)]
    rows += [event(20_000, uuid=None)] * 3 + rows[:1000]
    counts = stager.staged(rows)
    assert (counts["in"], counts["kept"], counts["duplicates"]) == (13_003, 12_003, 1000)


def test_equal_rows_without_id_far_apart_in_a_file_stay_two(stager):
    padding = [event(n, event_properties={"pad": "x" * 2000}) for n in range(6000)]
    twin = event(10_000, uuid=None)
    assert stager.staged([twin, *padding, twin])["kept"] == 6002


# ── everything together ──

KINDS = st.sampled_from(["good", "no id", "broken", "nobody", "1970", "2099", "array", "binary"])


def make(kind, number, hour):
    base = received(number, hour + timedelta(minutes=5))
    return {
        "good": base,
        "no id": {k: v for k, v in base.items() if k != "uuid"},
        "broken": text(base)[:-3],
        "nobody": base | {"user_id": None, "device_id": None, "amplitude_id": None},
        "1970": base | {"event_time": "1970-01-01 00:00:00.000000"},
        "2099": base | {"event_time": "2099-01-01 00:00:00.000000"},
        "array": b"[]",
        "binary": b"\xff\x00",
    }[kind]


@settings(max_examples=12, deadline=None)
@given(
    files=st.lists(
        st.tuples(
            st.integers(1, 6),  # hours before as_of
            st.lists(st.tuples(KINDS, st.integers(0, 25)), max_size=12),
            st.sampled_from(["whole", "whole", "cut", "unsafe", "not gzip"]),
        ),
        max_size=5,
    ),
    runs=st.lists(st.integers(-6, 1), min_size=1, max_size=2),
)
def test_every_row_is_accounted_for_and_every_good_one_is_there_once(tmp_path_factory, files, runs):
    stager = Stager(tmp_path_factory.mktemp("home"))
    members, whole = [], set()
    for number, (hours, rows, state) in enumerate(files):
        hour = AS_OF - hours * HOUR
        content = packed([make(kind, n, hour) for kind, n in rows])
        name = member(hour, number)
        if state == "cut":
            content = content[:-9]
        elif state == "not gzip":
            content = b"no" + content
        elif state == "unsafe":
            name = f"../{name}"
        else:
            whole |= {(hour, row["uuid"]) for kind, n in rows if kind == "good" for row in [make(kind, n, hour)]}
        members.append((name, content))
    answer(stager.folder / "a.zip", members)

    kept = 0
    for offset in [*sorted(runs), 1]:
        kept_by_run = stager.stage(AS_OF + offset * HOUR)["rows"]["kept"]
        held = stager.events()
        assert held["event_id"].is_unique
        assert held.groupby("batch_id").size().sum() == len(held)
        kept = max(kept, kept_by_run)
        received_by_then = {uuid for hour, uuid in whole if hour < AS_OF + offset * HOUR}
        assert received_by_then <= set(held["event_id"])
    assert pd.Timestamp(AS_OF) >= held["received_at"].max() if len(held) else kept == 0


REAL = Path(__file__).parents[3] / "shared" / "data" / "oss" / "amplitude"


@pytest.mark.skipif(not REAL.exists(), reason=f"real data is not at {REAL}")
def test_real_data_is_kept_whole_twice_the_same(stager):
    stager.folder.rmdir()
    stager.folder = REAL
    as_of = datetime(2025, 1, 1, tzinfo=UTC)
    first = stager.stage(as_of)
    assert first["rows"] == {"in": 21_907, "kept": 21_907, "anonymous": 0, "duplicates": 0, "quarantined": {}}
    assert first["files"] == first["event_dates"] == len(stager.lake.list("events"))
    held = stager.events()
    assert len(held) == 21_907 == held["event_id"].nunique()
    assert (held["account_basis"] == "group").sum() == 18_983
    assert stager.stage(as_of) == first
    again = stager.stage(as_of + HOUR)
    assert (again["rows"]["in"], again["already_read"]) == (0, len(stager.ledger.files_read("amplitude")))


def test_a_lake_in_an_object_store_holds_the_same(stager):
    stager.lake = Lake(f"memory://lake-{id(stager)}")
    stager.receive([event(1), event(2), b"broken"])
    assert stager.stage()["rows"]["kept"] == 2
    stager.receive([event(3)], name="b.zip", hour=AS_OF)
    rows = stager.stage(AS_OF + HOUR)["rows"]
    assert (rows["kept"], rows["duplicates"]) == (1, 2)
    assert len(stager.lake.list("events")) == 2
