"""Days, hours and zones: levels of use count whole days of the account's own zone, whatever the hour of the run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onetouch.catalogue import SIGNALS
from onetouch.lake import Lake
from onetouch.policy import read_policy
from onetouch.signals import compute
from onetouch.signals.days import beginnings, first_date, local_hours, moment, quarter

from tests.signals.working_week import working_week

POLICY = read_policy()
LEVELS = [signal.name for signal in SIGNALS if signal.level]
ZONES = sorted(available_timezones() - {"localtime", "Factory"})
SOME = [
    "America/Los_Angeles", "America/New_York", "America/St_Johns", "America/Sao_Paulo", "UTC", "Europe/Berlin",
    "Asia/Tehran", "Asia/Kolkata", "Asia/Kathmandu", "Asia/Tokyo", "Australia/Adelaide", "Pacific/Chatham",
]  # fmt: skip
"""Twelve zones: whole, half and quarter hours, with and without summer time."""
BEGINNING = datetime(2023, 1, 1, tzinfo=UTC)
Rows = list[dict[str, Any]]


def levels_of(
    lake: Lake, zones: dict[str, str | None], as_of: datetime, regions: dict[str, str] | None = None
) -> dict[str, dict[str, float | None]]:
    """Account → its levels."""
    snapshot = pd.DataFrame({"account_id": list(zones), "timezone": list(zones.values())})
    snapshot["region"] = snapshot["account_id"].map(regions or {})
    table, _ = compute(lake, POLICY, snapshot, as_of)
    return {row["account_id"]: {name: row[name] for name in LEVELS} for row in table.to_pylist()}


def plain(events: Rows, zone: str, as_of: datetime, country: str) -> dict[str, float | None]:
    """The levels of one account, from its events one by one."""
    clock = ZoneInfo(zone)
    today = as_of.astimezone(clock).date()
    on = [(e["occurred_at"].astimezone(clock).date(), e["user_id"], e["event"]) for e in events]
    on = [(day, user, event) for day, user, event in on if day < today]
    first = min((e["occurred_at"] for e in events if e["occurred_at"] < as_of), default=None)

    def within(days: int, skip: int = 0) -> list[tuple[date, str, str]]:
        return [e for e in on if skip < (today - e[0]).days <= days]

    def days(rows: list[tuple[date, str, str]]) -> int:
        return len({day for day, _, _ in rows})

    week, before = within(7), within(14, 7)
    came_first = first is not None and first.astimezone(clock).date() in {day for day, _, _ in within(28)}
    return {
        "events": len(within(28)),
        "events_7d": len(week),
        "usage_growth_7d": len(week) / len(before) if before else None,
        "sessions_7d": sum(event == "session_started" for _, _, event in week),
        "active_users": len({user for _, user, _ in within(28)}),
        "active_users_7d": len({user for _, user, _ in week}),
        "users": len({user for _, user, _ in within(90)}),
        "active_days_7d": days(week),
        "active_days": days(within(14)),
        **working_week([(day, user) for day, user, _ in on], today, country, len({user for _, user, _ in within(90)})),
        "return_days": days(within(28)) - came_first,
        "developer_days": days([e for e in within(28) if e[2] == "api_called"]),
    }


# ── The clock of a zone ──────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=60, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    as_of=st.integers(0, 4 * 365 * 24 * 60).map(lambda minutes: BEGINNING + timedelta(minutes=minutes)),
)
@example(zone="Australia/Lord_Howe", as_of=datetime(2025, 4, 7, 3, tzinfo=UTC))  # clocks go back by half an hour
@example(zone="Africa/Cairo", as_of=datetime(2025, 4, 25, 1, tzinfo=UTC))  # midnight itself is skipped
@example(zone="Pacific/Chatham", as_of=datetime(2025, 9, 28, 1, tzinfo=UTC))
def test_an_hour_is_what_the_clocks_there_say(zone: str, as_of: datetime) -> None:
    clock, first = ZoneInfo(zone), as_of.date() - timedelta(days=3)
    found: dict[int, tuple[date, int]] = {}
    for row in local_hours([zone], first, as_of).to_pylist():
        assert {row["since"], row["until"]} <= {0, 1, 2, 4}, "no clock strikes at a quarter to"
        for part in range(row["since"], row["until"]):
            assert row["hour"] + part not in found
            found[row["hour"] + part] = (row["date"], row["clock"])
    start = quarter(datetime.combine(first, time(), UTC))
    assert sorted(found) == list(range(start, start + len(found)))
    assert max(found) >= quarter(as_of)
    for number, (day, hour) in found.items():
        for minutes in (0, 14.99):
            local = (moment(number) + timedelta(minutes=minutes)).astimezone(clock)
            assert (local.date(), local.hour) == (day, hour)
    [row] = beginnings([zone], POLICY, as_of).to_pylist()
    assert row["today"] == as_of.astimezone(clock).date()
    for key, days in (("ends", 0), ("week", 7), ("recent", 28), ("lookback", 90)):
        at = row[f"{key}_at"].astimezone(clock)
        assert at.date() == row["today"] - timedelta(days=days)
        assert (at.astimezone(UTC) - timedelta(seconds=1)).astimezone(clock).date() < at.date()
    assert row["ends"] == quarter(row["ends_at"])
    assert row["lookback_at"].date() >= first_date(as_of, 90)


# ── Levels against a plain reading ───────────────────────────────────────────────────────────────────────────────────


@st.composite
def moments_of_use(draw: st.DrawFn, as_of: datetime, zone: str) -> datetime:
    """A moment before `as_of`, mostly beside a midnight of the zone at the edge of a window."""
    days = draw(st.sampled_from([0, 0, 1, 2, 6, 7, 8, 13, 14, 15, 27, 28, 29, 89, 90, 91]))
    minutes = draw(st.sampled_from([-46, -31, -16, -1, 0, 14, 29, 44, 59, 300, 700]))
    day = as_of.astimezone(ZoneInfo(zone)).date() - timedelta(days=days)
    at = datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC) + timedelta(minutes=minutes)
    return min(at, as_of - timedelta(minutes=2))


@pytest.mark.timeout(900)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_levels_are_those_of_whole_days_there(
    data: st.DataObject, event: Callable[..., dict], stage: Callable[..., None]
) -> None:
    hours = st.integers(0, 4 * 365 * 24).map(lambda n: BEGINNING + timedelta(hours=n))
    changes = [datetime(2025, 3, 30, 1, tzinfo=UTC), datetime(2025, 4, 6, 14, tzinfo=UTC)]
    as_of = data.draw(st.one_of(hours, st.sampled_from(changes)))
    zones = {f"a{n}": data.draw(st.one_of(st.sampled_from(SOME), st.sampled_from(ZONES))) for n in range(12)}
    people = {a: data.draw(st.sampled_from([["ann", "ben", "cy"], ["ann", "ben", "cy", "dee", "eli"]])) for a in zones}
    events = {
        account: [
            event(
                data.draw(moments_of_use(as_of, zone)), data.draw(st.sampled_from(["session_started", "api_called"])),
                account, data.draw(st.sampled_from(people[account])) + account,
            )
            for _ in range(data.draw(st.integers(1, 12)))
        ]
        for account, zone in zones.items()
    }  # fmt: skip
    countries = {account: data.draw(st.sampled_from(["DE", "US", "JP", "IL", "EG", "CN"])) for account in zones}
    with TemporaryDirectory() as folder:
        lake = Lake(folder)
        stage(lake, [e for rows in events.values() for e in rows])
        got = levels_of(lake, zones, as_of, countries)
    for account, zone in zones.items():
        expected = plain(events[account], zone, as_of, countries[account])
        assert got[account] == pytest.approx(expected), (zone, as_of, events[account])


def test_an_hour_of_two_dates_belongs_to_both_by_what_each_has(lake: Lake, event: Callable, stage: Callable) -> None:
    midnight = datetime(2025, 3, 5, 18, 30, tzinfo=UTC)  # in Kolkata
    before, after = midnight - timedelta(minutes=20), midnight + timedelta(minutes=20)
    stage(lake, [event(before, "session_started", "acme", "ann"), event(after, "api_called", "acme", "ann")])
    levels = levels_of(lake, {"acme": "Asia/Kolkata"}, midnight + timedelta(days=4))["acme"]
    assert (levels["active_days"], levels["developer_days"], levels["events"]) == (2, 1, 2)


# ── The same work, whatever the hour and the place ────────────────────────────────────────────────────────────────────


def weeks(event: Callable[..., dict], account: str, zone: str, until: date, days: int = 40) -> Iterator[dict[str, Any]]:
    """A team of three that works from nine to five, Monday to Friday."""
    for day in (until - timedelta(days=n) for n in range(days)):
        if day.weekday() < 5:
            for hour, user in ((9, "ann"), (12, "ben"), (16, "cy")):
                at = datetime.combine(day, time(hour, 50), ZoneInfo(zone)).astimezone(UTC)
                yield event(at, "session_started", account, user + account)


def of_the_week(lake: Lake, event: Callable, stage: Callable, hours: list[int]) -> None:
    """A Monday-to-Friday team of each zone has the same levels at all these hours of a week (0: Monday, 0:00 UTC)."""
    monday = datetime(2025, 3, 24, tzinfo=UTC)  # Europe changes to summer time at the end of it
    stage(lake, [e for zone in SOME for e in weeks(event, zone, zone, monday.date() + timedelta(days=8), days=60)])
    seen = {
        frozenset(levels.items())
        for hour in hours
        for levels in levels_of(lake, dict(zip(SOME, SOME, strict=True)), monday + timedelta(hours=hour)).values()
    }
    [levels] = map(dict, seen)
    assert (levels["active_days"], levels["active_days_7d"], levels["events_7d"], levels["users"]) == (10, 5, 15, 3)


def test_a_team_is_as_engaged_at_eleven_at_night_as_at_one(lake: Lake, event: Callable, stage: Callable) -> None:
    of_the_week(lake, event, stage, [23, 25, 24 * 4 + 12, 24 * 5 + 23, 24 * 6 + 2])


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_team_is_as_engaged_at_every_hour_of_a_week(lake: Lake, event: Callable, stage: Callable) -> None:
    of_the_week(lake, event, stage, list(range(24 * 7)))


def test_the_same_work_is_the_same_wherever_it_is_done(lake: Lake, event: Callable, stage: Callable) -> None:
    rng = random.Random(5)
    as_of = datetime(2025, 3, 12, 12, tzinfo=UTC)  # the same date in all zones but the last
    zones = [zone for zone in SOME if as_of.astimezone(ZoneInfo(zone)).date() == as_of.date()]
    work = [(rng.randrange(1, 40), rng.randrange(24), rng.randrange(60), rng.choice("abc")) for _ in range(40)]
    rows = [
        event(
            datetime.combine(as_of.date() - timedelta(days=days), time(hour, minute), ZoneInfo(zone)).astimezone(UTC),
            "session_started", zone, user + zone,
        )
        for zone in zones
        for days, hour, minute, user in work
    ]  # fmt: skip
    stage(lake, rows)
    got = levels_of(lake, dict(zip(zones, zones, strict=True)), as_of)
    assert len(zones) > 9 and len({frozenset(levels.items()) for levels in got.values()}) == 1
    # Where nobody says the zone, its days are those of UTC.
    unknown = levels_of(lake, dict.fromkeys(zones, None), as_of)
    assert unknown["UTC"] == got["UTC"] and unknown["America/Los_Angeles"] != got["America/Los_Angeles"]


def test_an_occurrence_counts_at_once_and_leaves_by_the_hour(lake: Lake, event: Callable, stage: Callable) -> None:
    at = datetime(2025, 3, 10, 9, 30, tzinfo=UTC)
    stage(lake, [event(at, "pricing_viewed", "acme"), event(at - timedelta(days=9), "session_started", "acme")])
    snapshot = pd.DataFrame({"account_id": ["acme"], "timezone": ["Asia/Kolkata"]})
    ends = at.replace(minute=0) + timedelta(days=POLICY.signals.engagement_days)
    for as_of, views in [
        (at, 0), (at + timedelta(minutes=1), 1), (ends, 1), (ends + timedelta(minutes=59), 1),
        (ends + timedelta(hours=1), 0),
    ]:  # fmt: skip
        [row] = compute(lake, POLICY, snapshot, as_of)[0].to_pylist()
        assert row["pricing_views"] == views, as_of
        assert row["active_days"] == (1 if as_of < ends else row["active_days"])


def test_activity_never_has_more_rows_than_events(tmp_path: Path, event: Callable, stage: Callable) -> None:
    lake = Lake(tmp_path)
    day = datetime(2025, 3, 9, tzinfo=UTC)
    stage(lake, [event(day + timedelta(minutes=n), "api_called", "acme", "robot") for n in range(24 * 60)])
    compute(lake, POLICY, pd.DataFrame({"account_id": ["acme"]}), day + timedelta(days=1))
    rows = pd.read_parquet(lake.list("activity")[0], partitioning=None)
    assert len(rows) == 24 and rows["n"].sum() == 24 * 60
    assert rows[["n_15", "n_30", "n"]].drop_duplicates().to_numpy().tolist() == [[15, 30, 60]]
