"""What one user can send costs that user's value, never the run."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from onetouch.quality import ChecksFailed, batch_profile, check_events


def check(place):
    return check_events(place.lake, place.ledger, place.policy, place.run)


def flooded(place, rows: int, **planted: object) -> None:
    """A sound batch of 1,000 events of twenty users, and `rows` events of one user on the last full day."""

    def change(frame: pd.DataFrame) -> None:
        frame["user_id"] = [f"u{n % 20}" for n in range(len(frame))]
        theirs = frame.index[len(frame) - rows :]
        frame.loc[theirs, "user_id"] = "mallory"
        for column, value in planted.items():
            frame.loc[theirs, column] = value

    place.events([50] * 19 + [50 + rows], change=change)
    place.batch(1000 + rows, 1000 + rows)


@pytest.mark.parametrize("planted", [{"event": "anything"}, {"account_id": ""}, {"event": "x", "account_id": None}])
def test_a_flood_of_one_user_is_set_apart_and_told(place, planted):
    flooded(place, 9_500, **planted)
    place.policy = place.policy.changed(quality__max_volume_ratio={"warning": 1e9, "critical": 1e9})
    summary = check(place)
    assert summary["passed"]
    assert any("9500" in line and "one user" in line for line in summary["warnings"]), summary["warnings"]


def test_two_users_who_do_so_are_no_single_user(place):
    def change(frame: pd.DataFrame) -> None:
        frame["user_id"] = [f"u{n % 4}" for n in range(len(frame))]
        frame.loc[frame["user_id"] != "u0", "event"] = "anything"

    place.events([50] * 20, change=change)
    place.batch(1000, 1000)
    with pytest.raises(ChecksFailed, match="share of events not in the vocabulary: 0.6"):
        check(place)


def test_with_too_little_left_the_whole_is_judged(place):
    def change(frame: pd.DataFrame) -> None:
        frame["event"] = "anything"

    place.events([50] * 20, change=change)
    place.batch(1000, 1000)
    with pytest.raises(ChecksFailed, match=r"share of events not in the vocabulary: 1 \(at most 0.5\)"):
        check(place)


def test_refused_rows_of_one_user_are_set_apart(place):
    place.events([50] * 20)
    place.batch(1510, 1000, 0, 510, refused_of_one=500)
    summary = check(place)
    assert summary["passed"]
    row = batch_profile(place.lake, place.ledger, place.policy, place.run).iloc[0]
    assert row["quarantine_rate"] == pytest.approx(10 / 1010)


@pytest.mark.parametrize(
    ("event", "properties"),
    [
        ("usage_recorded", {"limit": "seats", "used": -1}),
        ("usage_recorded", {"limit": "seats", "used": 1e300}),
        ("demo_viewed", {"completion": -1}),
        ("demo_viewed", {"completion": 101}),
    ],
)
def test_a_number_that_cannot_be_is_counted_and_stops_nothing(place, event, properties):
    def change(frame: pd.DataFrame) -> None:
        frame.loc[0, ["event", "properties"]] = [event, json.dumps(properties)]
        frame.loc[1, ["event", "properties"]] = ["demo_viewed", json.dumps({"completion": 100})]
        frame.loc[2, ["event", "properties"]] = ["usage_recorded", json.dumps({"limit": "seats", "used": 0})]

    place.events([50] * 20, change=change)
    place.batch(1000, 1000)
    assert check(place)["warnings"] == [
        "batch-amplitude: numbers that their event cannot carry, left out: 1 (at most 0)"
    ]
