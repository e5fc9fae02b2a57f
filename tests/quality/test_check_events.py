"""Planted faults of a batch trip their own check and no other."""

from __future__ import annotations

import re
from datetime import timedelta

import pandas as pd
import pytest
from onetouch.lake import Lake
from onetouch.quality import ChecksFailed, batch_profile, check_events

STEADY = [50] * 20


def check(place):
    return check_events(place.lake, place.ledger, place.policy, place.run)


def failed(place) -> list[str]:
    with pytest.raises(ChecksFailed) as caught:
        check(place)
    assert place.lake.fs.exists(caught.value.summary["docs"]), "the docs are there even though the check failed"
    for finding in caught.value.summary["critical"]:
        assert finding in str(caught.value)
    return caught.value.summary["critical"]


def test_a_sound_batch_passes_without_a_word(place):
    place.events(STEADY)
    place.batch(1000, 1000)
    summary = check(place)
    assert (summary["passed"], summary["critical"], summary["warnings"], summary["unjudged"]) == (True, [], [], [])
    assert place.lake.exists("quality", place.run.run_id, "profile.parquet")


def test_the_profile_says_what_was_counted(place):
    place.events([10] * 14 + [5])
    place.batch(200, 145, 45, 10)
    row = batch_profile(place.lake, place.ledger, place.policy, place.run).set_index("source").loc["amplitude"]
    assert (row["rows_in"], row["unaccounted"], row["new_rows"]) == (200, 0, 145)
    assert row["quarantine_rate"] == pytest.approx(0.05)
    assert row["duplicate_rate"] == pytest.approx(0.225)
    assert (row["last_day_rows"], row["usual_rows"], row["history_days"], row["volume_drop"]) == (5, 10, 14, 0.5)
    assert row["hours_since_last_event"] == pytest.approx(24 - 4 / 60)


@pytest.mark.parametrize(
    ("per_day", "counts", "says"),
    [
        ([50] * 20 + [4], (1004, 1004, 0, 0), "÷ a usual day's: 0.08 (at least 0.1)"),
        ([50] * 20 + [501], (1501, 1501, 0, 0), "÷ a usual day's: 10.02 (at most 10)"),
        (STEADY, (1000, 940, 0, 60), "share of rows in quarantine: 0.06 (at most 0.05)"),
        (STEADY, (1001, 1000, 0, 0), "neither kept, known, nor quarantined: 1 (at most 0)"),
        (STEADY, (999, 1000, 0, 0), "rows in less rows accounted for: -1 (at least 0)"),
    ],
)
def test_a_planted_fault_trips_its_check_alone(place, per_day, counts, says):
    place.events(per_day)
    place.batch(*counts)
    found = failed(place)
    assert len(found) == 1, found
    assert says in found[0]


@pytest.mark.parametrize(
    ("column", "value", "share", "says"),
    [
        ("event", "vendor_only", 0.51, "share of events not in the vocabulary: 0.51 (at most 0.5)"),
        ("event_id", None, 0.001, "events without id, name or time: 1 (at most 0)"),
        ("account_id", "", 0.91, "share of events without an account: 0.91 (at most 0.9)"),
        ("user_id", None, 0.91, "share of events without a user: 0.91 (at most 0.9)"),
    ],
)
def test_a_fault_of_the_events_trips_its_check_alone(place, column, value, share, says):
    def change(frame: pd.DataFrame) -> None:
        frame.loc[frame.index * 617 % 1000 < round(share * 1000), column] = value  # of each day alike

    place.events(STEADY, change=change)
    place.batch(1000, 1000)
    found = failed(place)
    assert len(found) == 1, found
    assert says in found[0]


def test_a_stale_source_fails_and_says_how_old(place):
    place.events(STEADY)
    place.batch(0, 0)
    late = place.ledger.begin_run(place.run.as_of + timedelta(days=3), place.policy, False)
    place.ledger.record_batch("b2", late.run_id, "amplitude", {"in": 0, "kept": 0, "duplicates": 0, "quarantined": {}})
    with pytest.raises(ChecksFailed) as caught:
        check_events(place.lake, place.ledger, place.policy, late)
    assert any("hours since the last event: 95.18 (at most 74)" in f for f in caught.value.summary["critical"])


@pytest.mark.parametrize(("days", "severity"), [(5, "warnings"), (6, "critical")])
def test_a_source_that_is_often_silent_for_days_is_stale_after_longer(place, days, severity):
    """A small source with a batch of events every fourth day: its gaps are 95 hours, and one was 11 days."""
    place.events([50 if n % 4 == 0 and n not in (20, 24) else 0 for n in range(41)])
    late = place.ledger.begin_run(place.run.as_of + timedelta(days=days), place.policy, False)
    place.ledger.record_batch("b2", late.run_id, "amplitude", {"in": 0, "kept": 0, "duplicates": 0, "quarantined": {}})
    try:
        summary = check_events(place.lake, place.ledger, place.policy, late)
    except ChecksFailed as failed:
        summary = failed.summary
    told = {kind for kind in ("critical", "warnings") if any("hours since the last" in f for f in summary[kind])}
    assert told == {severity} | {"warnings"}


@pytest.mark.parametrize(("days", "stale"), [(0, False), (1, True)])
def test_a_weekend_that_is_always_quiet_does_not_age_a_source(place, days, stale):
    """Events from Monday to Friday, and none since Friday 27 December: on 1 January it is silent for 119 hours, 48 of
    them a weekend's."""
    dates = [place.run.as_of.date() - timedelta(days=n) for n in range(33, 0, -1)]
    place.events([50 if day.weekday() < 5 and (day.month, day.day) < (12, 28) else 0 for day in dates])
    late = place.ledger.begin_run(place.run.as_of + timedelta(days=days), place.policy, False)
    place.ledger.record_batch("b2", late.run_id, "amplitude", {"in": 0, "kept": 0, "duplicates": 0, "quarantined": {}})
    try:
        critical = check_events(place.lake, place.ledger, place.policy, late)["critical"]
    except ChecksFailed as failed:
        critical = failed.summary["critical"]
    assert any("hours since the last event" in finding for finding in critical) == stale


def test_years_without_an_event_are_as_stale_as_they_are(place):
    place.events(STEADY)
    late = place.ledger.begin_run(place.run.as_of + timedelta(days=1000), place.policy, False)
    place.ledger.record_batch("b2", late.run_id, "amplitude", {"in": 0, "kept": 0, "duplicates": 0, "quarantined": {}})
    row = batch_profile(place.lake, place.ledger, place.policy, late).iloc[0]
    assert row["hours_since_last_event"] == pytest.approx(24_000 + 24 - 49 / 60)


def test_no_event_ever_fails(place):
    place.batch(0, 0)
    assert failed(place) == ["batch-amplitude: sources that never sent an event: 1 of 1 (none allowed)"]


def test_a_run_without_any_batch_fails(place):
    assert failed(place) == ["batches: sources staged: 0 (at least 1)"]


def test_warnings_do_not_stop(place):
    place.events(STEADY)
    place.batch(1000, 980, 0, 20)
    summary = check(place)
    assert summary["passed"]
    assert summary["warnings"] == ["batch-amplitude: share of rows in quarantine: 0.02 (at most 0.01)"]


def test_a_short_history_is_not_judged(place):
    place.events([50] * 6 + [1])
    place.batch(301, 301)
    summary = check(place)
    assert summary["passed"]
    assert summary["unjudged"] == [
        "batch-amplitude: volume_drop: too little to judge",
        "batch-amplitude: volume_surge: too little to judge",
    ]


def test_events_received_after_as_of_do_not_exist_yet(place):
    """A backtest on a lake that already holds the future sees the profile of its own moment."""
    place.events(STEADY)
    before = place.ledger.begin_run(place.run.as_of - timedelta(days=5), place.policy, False)
    place.ledger.record_batch(
        "b0", before.run_id, "amplitude", {"in": 0, "kept": 0, "duplicates": 0, "quarantined": {}}
    )
    row = batch_profile(place.lake, place.ledger, place.policy, before).iloc[0]
    assert row["hours_since_last_event"] == pytest.approx(24 - 49 / 60)
    assert (row["last_day_rows"], row["volume_drop"], row["volume_surge"]) == (50, 1.0, 1.0)


def test_late_events_count_on_the_day_they_arrive(place):
    """A source whose events arrive two days late has no volume drop on its last day."""

    def late(frame: pd.DataFrame) -> None:
        frame["occurred_at"] -= pd.Timedelta(days=2)

    place.events(STEADY, change=late)
    place.batch(1000, 1000)
    assert check(place)["passed"]


def test_a_check_repeated_gives_the_same_and_one_set_of_docs(place):
    place.events(STEADY)
    place.batch(1000, 1000)
    first = check(place)
    pages = place.lake.list("quality", ".html")
    assert check(place) == first
    assert place.lake.list("quality", ".html") == pages


def test_what_the_overlap_reads_again_is_no_duplicate(place):
    """An hourly run re-reads two days: 100 rows were known and read again on purpose, 20 came twice."""
    earlier = place.ledger.begin_run(place.run.as_of - timedelta(hours=1), place.policy, False)
    place.events(STEADY, batch=f"amplitude-{earlier.run_id}")
    place.batch(130, 10, 120, reread=100, batch=f"amplitude-{place.run.run_id}")
    summary = check(place)
    assert summary["warnings"] == ["batch-amplitude: share of rows sent twice: 0.1538 (at most 0.1)"]
    place.batch(110, 10, 100, reread=100, batch=f"amplitude-{place.run.run_id}")
    assert check(place)["warnings"] == []


def test_the_profile_can_be_taken_from_an_object_store(place):
    place.lake = Lake("memory://quality")
    place.events(STEADY)
    place.batch(1000, 1000)
    assert check(place)["passed"]
    place.lake.remove("events")
    place.lake.remove("quality")


def test_the_index_names_findings_and_leads_to_every_suite(place):
    place.events(STEADY)
    place.batch(1000, 940, 0, 60)
    with pytest.raises(ChecksFailed) as caught:
        check(place)
    index = place.lake.fs.cat_file(caught.value.summary["docs"]).decode()
    assert "share of rows in quarantine: 0.06 (at most 0.05)" in index
    links = re.findall(r'href="([^"]+)"', index)
    assert len(links) == 2
    for link in links:
        assert place.lake.exists("quality", place.run.run_id, "events", link)


def hours(expected: int, lost: float, empty: int = 0) -> dict[str, float]:
    return {"expected": expected, "seen": expected - int(lost), "damaged": int(lost), "empty": empty, "lost": lost}


@pytest.mark.parametrize(("lost", "severity"), [(0, None), (0.5, "warnings"), (2, "warnings"), (16, "critical")])
def test_lost_hours_are_weighed_as_hours(place, lost, severity):
    """Sixteen of 41 damaged files are 39 % of the hours, however few rows they would count as; two are 4.9 %."""
    place.events(STEADY)
    place.batch(1000, 1000, hours=hours(41, lost, empty=3))
    if severity == "critical":
        [found] = failed(place)
    else:
        told = check(place)["warnings"]
        assert len(told) == (severity is not None), told
        found = told[0] if told else ""
    assert severity is None or f"({lost} of 41; 3 are empty)" in found


def test_a_source_whose_files_tell_no_hours_is_not_judged_by_them(place):
    place.events(STEADY)
    place.batch(1000, 1000, hours=hours(0, 0))
    summary = check(place)
    assert (summary["warnings"], summary["unjudged"]) == ([], [])


def test_a_quiet_sunday_is_no_drop_but_an_empty_one_is(place):
    """The week's pattern is held against itself; Tuesday 31 December plays the quiet day here."""
    week = [100, 100, 100, 100, 100, 100, 12]
    place.events([*week, *week, *week[:-1], 11])
    place.batch(sum(week) * 3 - 1, sum(week) * 3 - 1)
    assert check(place)["warnings"] == []
    place.lake.remove("events")
    place.lake.remove("tallies")  # the new files have the names of the old ones
    place.events([*week, *week, *week[:-1], 1])
    assert any("÷ a usual day's: 0.08333 (at least 0.1)" in finding for finding in failed(place))


def test_a_handful_of_events_a_day_is_not_judged_by_volume(place):
    place.events([1, 5, 2, 0, 4, 3, 1] * 2 + [0, 1])
    place.batch(33, 33)
    summary = check(place)
    assert (summary["passed"], summary["warnings"]) == (True, [])
    assert len(summary["unjudged"]) == 2


def test_an_event_that_the_lake_holds_twice_is_critical(place):
    place.events(STEADY)
    place.batch(1000, 1000)
    assert check(place)["passed"]
    [last] = [path for path in place.lake.list("events", "/b1.parquet") if "event_date=2024-12-31" in path]
    place.lake.fs.copy(last, last.replace("b1.parquet", "b2.parquet"))
    assert failed(place)[0] == "batch-amplitude: rows of events that the lake holds more than once: 50 (at most 0)"


def test_what_became_known_later_is_not_in_the_profile(place):
    """A file of the last day that came after the run had decided."""
    place.events(STEADY)
    later = place.run.as_of + timedelta(hours=1)
    place.events([50], batch="b0", change=lambda frame: frame.insert(5, "known_at", later))
    place.batch(1000, 1000)
    row = batch_profile(place.lake, place.ledger, place.policy, place.run).iloc[0]
    assert row["last_day_rows"] == 50
