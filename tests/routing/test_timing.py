"""Timing: working time against a clock that looks at every minute; due times and contact times on the calendar."""

from __future__ import annotations

import functools
import time as clock
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import holidays
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onetouch.policy import Policy, read_policy
from onetouch.routing.timing import contact_at, due_at, escalated_at
from onetouch.routing.working_time import Calendar, calendars

POLICY = read_policy()
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NINE = datetime(2025, 3, 10, 9, tzinfo=UTC)  # a Monday


def at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


def calendar(
    zone: str = "UTC", country: str | None = None, leave: Any = (), weekdays: Any = range(5), start=9, end=17
) -> Calendar:
    return Calendar(ZoneInfo(zone), country, tuple(leave), frozenset(weekdays), time(start), time(end))


policy = POLICY.changed


def people(**zones: Any) -> pd.DataFrame:
    """By first name: a zone, or (zone, country, leave)."""
    rows = [value if isinstance(value, tuple) else (value, None, ()) for value in zones.values()]
    return pd.DataFrame(rows, columns=["timezone", "country", "leave"], index=[f"{n}@v.com" for n in zones])


PEOPLE = people(
    ana="UTC",
    ben="America/New_York",
    dan=("Europe/Berlin", "DE", ()),
    eve=("UTC", None, ((date(2025, 3, 11), date(2025, 3, 12)),)),
)


@pytest.fixture(autouse=True)
def _a_machine_somewhere_else(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The time zone of the machine means nothing."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kathmandu")
        clock.tzset()
        yield
    clock.tzset()


# ── Working time ─────────────────────────────────────────────────────────────────────────────────────────────────────

# The clocks change within each week tried: spring and autumn, at midnight, by half an hour, over a whole day.
WEEKS = [
    ("Europe/Berlin", date(2025, 3, 28)), ("Europe/Berlin", date(2025, 10, 24)), ("America/New_York", date(2025, 3, 7)),
    ("America/New_York", date(2025, 10, 31)), ("Australia/Lord_Howe", date(2025, 4, 4)),
    ("Africa/Cairo", date(2025, 4, 23)), ("America/Santiago", date(2025, 9, 5)), ("Pacific/Apia", date(2011, 12, 28)),
    ("Asia/Kolkata", date(2025, 12, 23)), ("UTC", date(2025, 12, 29)),
]  # fmt: skip
COUNTRIES = [None, "DE", "US", "JP"]


@st.composite
def working(draw: st.DrawFn) -> tuple[Calendar, datetime]:
    zone, first = draw(st.sampled_from(WEEKS))
    begins = draw(st.integers(5, 20))
    away = [(first + draw(st.integers(-1, 6)) * DAY, first + draw(st.integers(0, 8)) * DAY)]
    found = calendar(
        zone,
        draw(st.sampled_from(COUNTRIES)),
        [pair for pair in away if pair[0] <= pair[1]] if draw(st.booleans()) else (),
        draw(st.sets(st.integers(0, 6), min_size=1)),
        begins,
        draw(st.integers(begins + 1, 23)),
    )
    midnight = datetime.combine(first, time(), ZoneInfo(zone)).astimezone(UTC)
    return found, midnight + draw(st.integers(0, 4 * 24 * 60)) * MINUTE


@functools.cache
def public_holidays(country: str | None) -> set[date]:
    return set(holidays.country_holidays(country, years=range(2011, 2027))) if country else set()


def works(found: Calendar, moment: datetime) -> bool:
    """What the clock on the rep's wall says."""
    there = moment.astimezone(found.zone)
    return (
        there.weekday() in found.weekdays
        and found.start <= there.time() < found.end
        and there.date() not in public_holidays(found.country)
        and not any(first <= there.date() <= last for first, last in found.leave)
    )


@settings(max_examples=40)
@given(working(), st.integers(1, 5 * 24 * 60))
def test_working_time_is_what_the_rep_sees_on_the_wall(drawn: tuple[Calendar, datetime], minutes: int) -> None:
    found, since = drawn
    stretches = list(found.stretches(since, since + minutes * MINUTE))
    told = {
        begins + n * MINUTE for begins, ends in stretches for n in range(round((ends - begins) / MINUTE))
    }  # fmt: skip
    assert told == {since + n * MINUTE for n in range(minutes) if works(found, since + n * MINUTE)}
    assert all(begins < ends for begins, ends in stretches)
    assert all(one[1] <= other[0] for one, other in pairwise(stretches))
    assert all(moment.tzinfo is UTC for stretch in stretches for moment in stretch)


@settings(max_examples=40)
@given(working(), st.integers(1, 24 * 60), st.integers(1, 4 * 24 * 60))
def test_work_is_done_when_so_many_working_minutes_have_passed(
    drawn: tuple[Calendar, datetime], work: int, limit: int
) -> None:
    found, since = drawn
    minutes = [n for n in range(limit) if works(found, since + n * MINUTE)]
    expected = since + (minutes[work - 1] + 1 if work <= len(minutes) else limit) * MINUTE
    done = found.after(since, work * MINUTE, since + limit * MINUTE)
    assert (done, done.tzinfo) == (expected, UTC)


@settings(max_examples=40)
@given(working())
def test_a_reps_day_holds_what_came_since_the_last_one_ended(drawn: tuple[Calendar, datetime]) -> None:
    """Every minute between the day's beginning and now is today, or came after the last working time before."""
    found, now = drawn
    begins = next((b for b, _ in found.stretches(now, now + 7 * DAY)), None)
    if begins is None:
        return
    began = found.day_began(now, begins, 5 * DAY)
    today = found.day_of(begins)
    expected = now
    while expected > now - 5 * DAY:
        minute = expected - MINUTE
        before = works(found, minute) and found.day_of(minute) != today
        if before and found.day_of(minute) != found.day_of(now):
            break
        if before and found.day_of(minute) == found.day_of(now):  # after work: the day began with its midnight
            expected = datetime.combine(found.day_of(now), time(), found.zone).astimezone(UTC)
            break
        expected = minute
    assert began == expected


def test_a_start_the_clock_skips_is_met_by_the_moment_after_it() -> None:
    night = Calendar(ZoneInfo("Europe/Berlin"), None, (), frozenset({6}), time(2), time(4))
    assert list(night.stretches(at("2025-03-29"), at("2025-03-31"))) == [
        (at("2025-03-30T01:00"), at("2025-03-30T02:00"))
    ]
    assert list(night.stretches(at("2025-10-25"), at("2025-10-27"))) == [
        (at("2025-10-26T00:00"), at("2025-10-26T03:00"))
    ]


def test_calendars_are_the_policys_hours_on_each_ones_clock() -> None:
    found = calendars(PEOPLE, policy(assignment__working_time__weekdays=[6, 0]).assignment.working_time)
    assert found["dan@v.com"] == calendar("Europe/Berlin", "DE", (), {0, 6})
    assert found["eve@v.com"].leave == ((date(2025, 3, 11), date(2025, 3, 12)),)
    assert found["ana@v.com"].country is None
    assert list(calendars(PEOPLE.assign(country=np.nan), POLICY.assignment.working_time).values())[2].country is None


# ── By when ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def due(
    as_of: datetime, hours: float, owner: str = "ana", start: Any = None, limit: float = np.nan, use: Policy = POLICY
) -> datetime:
    row = {"owner_email": f"{owner}@v.com", "hours": hours, "start": start, "limit_days_left": limit}
    found = due_at(pd.DataFrame([row], index=[7]), PEOPLE, use, as_of)
    assert (found.index.tolist(), str(found.dtype)) == ([7], "datetime64[us, UTC]")
    return found[7].to_pydatetime()


LONG = policy(handoff__expires_hours=24 * 30)


@pytest.mark.parametrize(
    ("as_of", "hours", "owner", "expected"),
    [
        ("2025-03-10T09:00", 2, "ana", "2025-03-10T11:00"),
        ("2025-03-10T08:59", 2, "ana", "2025-03-10T11:00"),  # before work: the clock starts with it
        ("2025-03-10T15:00", 2, "ana", "2025-03-10T17:00"),  # the end of the day is still today
        ("2025-03-10T15:01", 2, "ana", "2025-03-11T09:01"),  # over the night
        ("2025-03-10T17:00", 2, "ana", "2025-03-11T11:00"),
        ("2025-03-07T16:00", 2, "ana", "2025-03-10T10:00"),  # over the weekend
        ("2025-03-08T12:00", 2, "ana", "2025-03-10T11:00"),
        ("2025-03-10T09:00", 24, "ana", "2025-03-12T17:00"),
        ("2025-03-10T12:00", 24, "ana", "2025-03-13T12:00"),
        ("2025-03-10T16:00", 2, "eve", "2025-03-13T10:00"),  # over two days of leave
        ("2025-03-07T16:00", 2, "ben", "2025-03-07T18:00"),  # 11:00 in New York
        ("2025-03-07T21:00", 2, "ben", "2025-03-10T14:00"),  # the clocks there went forward on Sunday
        ("2025-10-31T20:00", 2, "ben", "2025-11-03T15:00"),  # and back
        ("2025-04-30T14:00", 2, "dan", "2025-05-02T08:00"),  # over the first of May
        ("2025-12-24T15:00", 2, "dan", "2025-12-29T09:00"),  # 24th to 5 p.m., then Christmas and a weekend
    ],
)
def test_due_in_working_hours_of_the_owner(as_of: str, hours: float, owner: str, expected: str) -> None:
    assert due(at(as_of), hours, owner, use=LONG) == at(expected)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (np.nan, "2025-03-10T17:00"), (None, "2025-03-10T17:00"),
        (0.0, "2025-03-10T17:00"),  # it is hit: too late to be before it
        (-1.0, "2025-03-10T17:00"), (0.25, "2025-03-10T15:00"), (8 / 24, "2025-03-10T17:00"),
        (7.99 / 24, "2025-03-10T16:59:24"), (3.0, "2025-03-10T17:00"),
        (1e-7, "2025-03-10T09:00:00.008640"), (float("inf"), "2025-03-10T17:00"),
    ],
)  # fmt: skip
def test_due_before_the_limit_is_hit(limit: Any, expected: str) -> None:
    assert due(NINE, 8, limit=limit) == at(expected)


def test_due_before_the_task_expires() -> None:
    assert due(at("2025-03-07T15:00"), 24) == at("2025-03-10T15:00")  # the fourth working day would be too late
    assert due(at("2025-03-07T15:00"), 24, use=policy(handoff__expires_hours=400)) == at("2025-03-12T15:00")
    assert due(at("2025-03-10T09:00"), 2, use=policy(handoff__expires_hours=1)) == at("2025-03-10T10:00")


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (NINE + HOUR, "2025-03-10T12:00"),
        (NINE - 10 * DAY, "2025-03-10T09:00"),  # long overdue: now
        (at("2025-03-07T16:00"), "2025-03-10T10:00"),
        (at("2025-03-07T15:00"), "2025-03-10T09:00"),
        (pd.NaT, "2025-03-10T11:00"),
        (at("2025-03-10T08:30", "America/New_York"), "2025-03-10T14:30"),
    ],
)
def test_due_from_the_trigger_on(start: Any, expected: str) -> None:
    assert due(NINE, 2, start=start) == at(expected)


def test_each_row_has_its_own_due_time() -> None:
    rows = pd.DataFrame(
        {
            "owner_email": ["ana@v.com", "ben@v.com", "ana@v.com", "ana@v.com"],
            "hours": [2, 2, 4, 2],
            "start": [None, pd.NaT, at("2025-03-10T05:00", "America/New_York"), NINE + HOUR],
            "limit_days_left": [1 / 24, np.nan, np.nan, np.nan],
        },
        index=[3, 1, 2, 0],
    )
    found = due_at(rows, PEOPLE, POLICY, NINE)
    expected = ["2025-03-10T10:00", "2025-03-10T15:00", "2025-03-10T13:00", "2025-03-10T12:00"]
    assert found.to_dict() == {i: pd.Timestamp(at(e)) for i, e in zip(rows.index, expected, strict=True)}


# ── When best ────────────────────────────────────────────────────────────────────────────────────────────────────────


def contact(
    as_of: datetime, by: datetime, hour: Any = np.nan, weekday: Any = np.nan, zone: Any = None, owner: str = "ana"
) -> datetime:
    row = {"timezone": zone, "usual_hour": hour, "usual_weekday": weekday, "owner_email": f"{owner}@v.com"}
    by_row = pd.Series([by], index=[7]).astype("datetime64[us, UTC]")
    found = contact_at(pd.DataFrame([row], index=[7]).astype({"timezone": "str"}), by_row, PEOPLE, POLICY, as_of)
    assert (found.index.tolist(), str(found.dtype)) == ([7], "datetime64[us, UTC]")
    return found[7].to_pydatetime()


@pytest.mark.parametrize(
    ("hour", "weekday", "zone", "expected"),
    [
        (11, 0, "Europe/Berlin", "2025-03-10T10:00"),  # 11:00 there
        (10, 0, "Europe/Berlin", "2025-03-10T09:00"),  # now
        (12, 0, "Europe/Berlin", "2025-03-10T11:00"),  # the last moment it is due
        (13, 0, "Europe/Berlin", "2025-03-10T09:00"),  # after it is due
        (11, 1, "Europe/Berlin", "2025-03-10T09:00"),  # not today
        (10, 0, None, "2025-03-10T10:00"),
        (10, np.nan, None, "2025-03-10T10:00"),
        (8, np.nan, None, "2025-03-10T09:00"),  # that hour is over
        (0, 0, "Pacific/Kiritimati", "2025-03-10T09:00"),  # Monday night has begun there at 10:00 UTC; it is 23:00
        (np.nan, np.nan, None, "2025-03-10T09:00"),
    ],
)
def test_contact_at_the_accounts_own_hour_if_that_is_in_time(
    hour: float, weekday: float, zone: str | None, expected: str
) -> None:
    assert contact(NINE, NINE + 2 * HOUR, hour, weekday, zone) == at(expected)


@pytest.mark.parametrize(
    ("as_of", "by", "hour", "weekday", "zone", "owner", "expected"),
    [
        # Within the usual hour the rest of it will do; the rep's day cuts it.
        ("2025-03-10T09:40", "2025-03-12T17:00", 9, 0, None, "ana", "2025-03-10T09:40"),
        ("2025-03-10T08:20", "2025-03-12T17:00", 8, 0, None, "ana", "2025-03-10T09:00"),  # before work: then Monday
        ("2025-03-10T05:00", "2025-03-12T17:00", 9, 0, "America/New_York", "ben", "2025-03-10T13:00"),
        ("2025-03-10T09:00", "2025-03-12T17:00", 14, 2, None, "ana", "2025-03-12T14:00"),
        ("2025-03-10T09:00", "2025-03-12T17:00", 17, 2, None, "ana", "2025-03-12T09:00"),  # the day, if not the hour
        ("2025-03-10T09:00", "2025-03-12T14:30", 14, 2, None, "ana", "2025-03-12T14:00"),
        ("2025-03-10T09:00", "2025-03-12T13:30", 14, 2, None, "ana", "2025-03-12T09:00"),
        ("2025-03-10T09:00", "2025-03-12T09:00", 14, 2, None, "ana", "2025-03-12T09:00"),
        ("2025-03-10T09:00", "2025-03-12T08:59", 14, 2, None, "ana", "2025-03-10T09:00"),
        ("2025-03-10T10:00", "2025-03-13T10:00", 9, 0, None, "ana", "2025-03-10T10:00"),  # their day, a little late
        # The usual weekday is the account's: Tuesday in Auckland is Monday noon here.
        ("2025-03-10T09:00", "2025-03-12T17:00", 1, 1, "Pacific/Auckland", "ana", "2025-03-10T12:00"),
        ("2025-03-10T09:00", "2025-03-10T12:30", 1, 1, "Pacific/Auckland", "ana", "2025-03-10T12:00"),
        ("2025-03-10T09:00", "2025-03-10T12:00", 0, None, "Pacific/Kiritimati", "ana", "2025-03-10T10:00"),
        ("2025-03-07T10:00", "2025-03-10T17:00", 19, 0, None, "ana", "2025-03-10T09:00"),  # Monday, if not the hour
        # Any weekday: the next such hour in working time.
        ("2025-03-10T10:00", "2025-03-12T17:00", 9, None, None, "ana", "2025-03-11T09:00"),
        ("2025-03-07T10:00", "2025-03-10T10:00", 9, None, None, "ana", "2025-03-10T09:00"),  # not at the weekend
        ("2025-03-10T18:00", "2025-03-12T17:00", 19, None, None, "ana", "2025-03-11T09:00"),  # never while we work
        # The rep's leave and evenings.
        ("2025-03-10T18:00", "2025-03-13T17:00", 10, 2, None, "eve", "2025-03-13T09:00"),
        ("2025-03-10T12:00", "2025-03-10T14:00", 12, 0, None, "ben", "2025-03-10T13:00"),
        # A Tuesday account on Friday: in the morning rather than not, in the afternoon only if nothing else is left.
        ("2025-03-07T11:59", "2025-03-10T11:59", 9, 1, None, "ana", "2025-03-07T11:59"),
        ("2025-03-07T12:00", "2025-03-10T12:00", 9, 1, None, "ana", "2025-03-10T09:00"),
        ("2025-03-07T15:00", "2025-03-10T15:00", 9, 2, None, "ana", "2025-03-10T09:00"),
        ("2025-03-07T15:00", "2025-03-10T08:00", 9, 1, None, "ana", "2025-03-07T15:00"),
        ("2025-03-07T15:00", "2025-03-11T15:00", 9, 1, None, "ana", "2025-03-11T09:00"),
        ("2025-03-07T15:00", "2025-03-10T15:00", 16, 4, None, "ana", "2025-03-07T16:00"),  # a Friday account
        ("2025-03-07T15:00", "2025-03-10T15:00", 9, 4, None, "ana", "2025-03-07T15:00"),
        ("2025-03-07T15:00", "2025-03-10T15:00", 19, None, None, "ana", "2025-03-07T15:00"),  # no day known
        ("2025-03-06T23:30", "2025-03-10T10:30", 9, 1, "Pacific/Auckland", "ana", "2025-03-10T09:00"),
        ("2025-03-07T10:00", "2025-03-10T10:00", 9, 1, "Asia/Tokyo", "ana", "2025-03-10T09:00"),  # 19:00 there
        ("2025-03-07T16:30", "2025-03-10T16:30", 9, 1, "America/New_York", "ana", "2025-03-07T16:30"),  # 11:30 there
        # No working time by then: the deadline stands.
        ("2025-03-08T10:00", "2025-03-08T20:00", 12, 5, None, "ana", "2025-03-08T20:00"),
        ("2025-03-08T10:00", "2025-03-08T10:00", None, None, None, "ana", "2025-03-08T10:00"),
        ("2025-03-10T10:00", "2025-03-10T10:00", 14, 2, None, "ana", "2025-03-10T10:00"),
    ],
)  # fmt: skip
def test_contact_when_the_account_is_there_and_the_rep_works(
    as_of: str, by: str, hour: Any, weekday: Any, zone: Any, owner: str, expected: str
) -> None:
    assert contact(at(as_of), at(by), hour, weekday, zone, owner) == at(expected)


def test_an_hour_the_clock_skips_is_met_by_the_one_after_it() -> None:
    night = policy(assignment__working_time__start="00:00", assignment__working_time__weekdays=[6])
    row = pd.DataFrame(
        {"timezone": ["Europe/Berlin"], "usual_hour": [2.0], "usual_weekday": [6.0], "owner_email": ["ana@v.com"]}
    )
    by = pd.Series([at("2025-03-30T05:00")]).astype("datetime64[us, UTC]")
    assert contact_at(row, by, PEOPLE, night, at("2025-03-29T12:00"))[0] == pd.Timestamp("2025-03-30T01:00Z")


ROW = st.fixed_dictionaries(
    {
        "owner_email": st.sampled_from(PEOPLE.index.tolist()),
        "hours": st.sampled_from([1, 2, 8, 24, 60]),
        "start": st.one_of(st.none(), st.integers(-100, 100).map(lambda h: NINE + h * HOUR)),
        "limit_days_left": st.one_of(st.just(np.nan), st.floats(0, 4)),
        "timezone": st.sampled_from([None, "Asia/Tokyo", "America/New_York", "Europe/Berlin"]),
        "usual_hour": st.one_of(st.just(np.nan), st.integers(0, 23)),
        "usual_weekday": st.one_of(st.just(np.nan), st.integers(0, 6)),
    }
)


@settings(max_examples=40)
@given(st.lists(ROW, min_size=1, max_size=8), st.integers(0, 7 * 24 * 60), st.randoms(use_true_random=False))
def test_never_before_now_never_after_due_and_in_working_time_where_there_is_some(
    rows: list, minutes: int, random: Any
) -> None:
    as_of = NINE + minutes * MINUTE
    table = pd.DataFrame(rows).astype({"timezone": "str", "start": "datetime64[us, UTC]"})
    by = due_at(table, PEOPLE, POLICY, as_of)
    best = contact_at(table, by, PEOPLE, POLICY, as_of)
    work = calendars(PEOPLE, POLICY.assignment.working_time)
    for row, last, moment in zip(table.itertuples(), by, best, strict=True):
        assert as_of <= moment <= last <= as_of + 72 * HOUR
        if row.limit_days_left > 0:
            assert last <= as_of + row.limit_days_left * DAY
        mine = work[row.owner_email]
        assert works(mine, moment) or not list(mine.stretches(as_of, last + timedelta(microseconds=1)))
        there = moment.tz_convert(row.timezone if isinstance(row.timezone, str) else "UTC")
        if there.weekday() == 4 and there.hour >= 12 and not np.isnan(row.usual_weekday) and row.usual_weekday != 4:
            later = there.normalize() + 3 * DAY  # Monday
            assert not list(mine.stretches(later, last + timedelta(microseconds=1)))
    order = random.sample(range(len(table)), k=len(table))
    pd.testing.assert_series_equal(due_at(table.iloc[order], PEOPLE, POLICY, as_of), by.iloc[order])
    pd.testing.assert_series_equal(
        contact_at(table.iloc[order], by.iloc[order], PEOPLE, POLICY, as_of), best.iloc[order]
    )


def test_nobody_to_contact_is_no_error() -> None:
    none = pd.DataFrame(
        columns=[
            "owner_email", "hours", "start", "limit_days_left", "timezone", "usual_hour", "usual_weekday",
        ]
    )  # fmt: skip
    by = due_at(none, PEOPLE, POLICY, NINE)
    assert (len(by), str(by.dtype)) == (0, "datetime64[us, UTC]")
    assert len(contact_at(none, by, PEOPLE, POLICY, NINE)) == 0


# ── Escalation ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("decided", "due", "opened", "rep", "escalated"),
    [
        ("2025-03-10T09:00", "2025-03-10T11:00", "2025-03-10T09:00", "ana", "2025-03-10T13:00"),
        # Nobody's working time passes at night, or on a Saturday.
        ("2025-03-10T16:00", "2025-03-11T10:00", "2025-03-10T16:00", "ana", "2025-03-11T12:00"),
        ("2025-03-14T16:00", "2025-03-17T10:00", "2025-03-14T16:00", "ana", "2025-03-17T12:00"),
        # Ben's day in New York begins at 13:00 UTC.
        ("2025-03-10T09:00", "2025-03-10T15:00", "2025-03-10T09:00", "ben", "2025-03-10T17:00"),
        # Due at once, because the trigger event was days ago: the rep has the SLA of the high tier.
        ("2025-03-10T09:00", "2025-03-10T09:00", "2025-03-10T09:00", "ana", "2025-03-10T11:00"),
        # The task was created hours after the decision, because the CRM could not be reached.
        ("2025-03-10T09:00", "2025-03-10T11:00", "2025-03-10T12:00", "ana", "2025-03-10T16:00"),
        # Eve is away for two days.
        ("2025-03-10T16:00", "2025-03-13T10:00", "2025-03-10T16:00", "eve", "2025-03-13T12:00"),
        # A medium task has three working days; it expires before it could be escalated.
        ("2025-03-10T09:00", "2025-03-12T17:00", "2025-03-10T09:00", "ana", "2025-03-13T09:00"),
    ],
)
def test_a_task_is_escalated_after_twice_the_working_time_given(
    decided: str, due: str, opened: str, rep: str, escalated: str
) -> None:
    owner = PEOPLE.loc[[f"{rep}@v.com"]]
    assert escalated_at(at(decided), at(due), at(opened), owner, POLICY) == at(escalated)
