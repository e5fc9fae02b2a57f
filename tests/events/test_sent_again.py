"""One event that comes twice: exported again without an id, or sent again under another one."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import datetime, timedelta

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events.stager import AS_OF, HOUR, RECEIVED, Stager
from tests.sources.answers import event, text

DAY = timedelta(days=1)


def exported(row: dict, at: str, *, turned: bool = False) -> bytes:
    """A row as one export writes it: what the vendor sets anew, and the order of the keys, differ from another's."""
    row = row | {"processed_time": at}
    return json.dumps(
        dict(reversed(row.items())) if turned else row, separators=(",", ":") if turned else None
    ).encode()


# ── rows without an id ──


def test_a_row_without_an_id_that_is_exported_again_is_one_event(stager):
    rows = [event(n, uuid=None) for n in range(5)]
    stager.receive([exported(row, "2025-03-01 10:06:00.000000") for row in rows], name="first.zip")
    stager.receive([exported(row, "2025-03-01 11:00:00.000000", turned=True) for row in rows], name="again.zip")
    assert stager.stage()["rows"]["kept"] == 5
    stager.receive([exported(row, "2025-03-01 12:00:00.000000") for row in rows], name="third.zip")
    counts = stager.stage(AS_OF + HOUR)["rows"]
    assert (counts["in"], counts["kept"], counts["duplicates"]) == (5, 0, 5)


@settings(max_examples=10, deadline=None)
@given(files=st.lists(st.lists(st.integers(0, 2), max_size=4), min_size=1, max_size=4), together=st.booleans())
def test_as_many_equal_rows_stay_as_the_file_with_most_of_them_has(tmp_path_factory, files, together):
    stager = Stager(tmp_path_factory.mktemp("home"))
    for number, rows in enumerate(files):
        moment = f"2025-03-01 10:{number:02d}:00.000000"
        stager.receive([exported(event(n, uuid=None), moment) for n in rows], name=f"{number}.zip")
        if not together:
            stager.stage(AS_OF + number * HOUR)
    if together:
        stager.stage()
    most = Counter()
    for rows in files:
        most |= Counter(rows)
    held = Counter(json.loads(properties)["n"] for properties in stager.events()["properties"])
    assert held == most


def test_what_tells_two_rows_apart_keeps_them_two(stager):
    row = event(1, uuid=None)
    others = [row | change for change in ({"device_id": "e"}, {"event_id": 2}, {"session_id": 7}, {"$insert_id": "x"})]
    for number, other in enumerate([row, *others]):
        stager.receive([other], name=f"{number}.zip")
    assert stager.stage()["rows"]["kept"] == 5


def test_a_row_that_an_earlier_release_has_kept_is_not_kept_again(stager):
    row = event(1, uuid=None)
    stager.staged([row])
    [path] = stager.lake.list("events")
    former = f"{hashlib.md5(text(row), usedforsecurity=False).hexdigest()}-1"
    table = pq.read_table(path, partitioning=None).drop_columns(["known_at", "sent_key"])
    table = table.set_column(table.column_names.index("event_id"), "event_id", [[former]])
    pq.write_table(table, path)
    stager.receive([row, event(2)], name="b.zip")
    counts = stager.stage(AS_OF + HOUR)["rows"]
    assert (counts["kept"], counts["duplicates"]) == (1, 1)


# ── rows that were sent again ──


def again(number: int, copy: int, *, received: datetime, happened: datetime | None = None, **changes):
    row = event(number, uuid=f"copy-{number}-{copy}", server_upload_time=f"{received:%Y-%m-%d %H:%M:%S.%f}", **changes)
    return row if happened is None else row | {"event_time": f"{happened:%Y-%m-%d %H:%M:%S.%f}"}


@pytest.mark.parametrize("runs", [1, 2])
def test_an_event_that_is_sent_again_under_another_id_counts_once(stager, runs):
    stager.receive([again(n, 0, received=RECEIVED) for n in range(4)])
    if runs == 2:
        stager.stage()
    stager.receive([again(n, 1, received=RECEIVED + HOUR) for n in range(4)], name="b.zip", hour=RECEIVED + HOUR)
    stager.stage(AS_OF + HOUR)
    assert sorted(stager.events()["event_id"]) == [f"copy-{n}-0" for n in range(4)]


def test_of_another_device_or_beyond_the_window_it_is_another_event(stager):
    happened = RECEIVED - 10 * DAY
    rows = [
        again(1, 0, received=RECEIVED),
        again(1, 1, received=RECEIVED, device_id="another"),
        again(1, 2, received=RECEIVED, happened=happened),
        again(1, 3, received=RECEIVED, happened=happened + 6 * DAY),  # of the copy six days before, not of the first
        again(2, 0, received=RECEIVED, device_id=None),
        again(2, 1, received=RECEIVED, device_id=None),
    ]
    stager.staged(rows)
    held = set(stager.events()["event_id"])
    assert {"copy-1-1", "copy-2-0", "copy-2-1"} <= held
    assert len(held & {"copy-1-0", "copy-1-2", "copy-1-3"}) == 1, "each follows another within seven days"


def test_eight_days_apart_are_two_events(stager):
    rows = [again(3, 0, received=RECEIVED), again(3, 1, received=RECEIVED, happened=RECEIVED - 8 * DAY)]
    assert stager.staged(rows)["kept"] == 2
