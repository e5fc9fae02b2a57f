"""When a task is due and when to contact the account, from the rep's working time and the account's habits."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pandas as pd

from onetouch.policy import Policy
from onetouch.routing.working_time import Calendar, calendars

Span = tuple[datetime, datetime]

FRIDAY, NOON = 4, time(12)  # S1: do not write on a Friday afternoon to an account that is active on other days
_DAY, _HOUR, _MICROSECOND = timedelta(days=1), timedelta(hours=1), timedelta(microseconds=1)


def due_at(decided: pd.DataFrame, people: pd.DataFrame, policy: Policy, as_of: datetime) -> pd.Series:
    """By when each account must be contacted: datetime64[us, UTC], indexed as `decided`; never before `as_of`.

    `decided`: owner_email (one of `people`, as `assignment.team` returns them), hours (the rep's working hours until
    the task is due), start (when they begin to count; null: `as_of`), limit_days_left (days from `as_of` until the
    account hits its plan limit; ignored if null or 0). A task is never due after the limit is hit (S1) or after the
    task expires (S2).
    """
    work = _calendars(decided, people, policy)
    expires = as_of + timedelta(hours=policy.handoff.expires_hours)
    rows = decided.assign(
        start=pd.to_datetime(decided["start"], utc=True).fillna(pd.Timestamp(as_of)),
        limit_days_left=decided["limit_days_left"].astype("float64"),
    )[["owner_email", "hours", "start", "limit_days_left"]]
    found: dict[tuple[str, float, datetime], datetime] = {}
    due = []
    for owner, hours, start, left in rows.itertuples(index=False, name=None):
        key = owner, hours, start.to_pydatetime()
        if key not in found:
            found[key] = max(work[owner].after(key[2], timedelta(hours=hours), expires), as_of)
        by = found[key]
        due.append(as_of + left * _DAY if 0 < left < (by - as_of) / _DAY else by)
    return _moments(due, decided.index)


def escalated_at(
    decided_at: datetime, due_at: datetime, opened_at: datetime, owner: pd.DataFrame, policy: Policy
) -> datetime:
    """When an untouched task goes to somebody else: after twice the working time that its owner was given for it.

    That counts from `opened_at`, when the task was created. The second half is never shorter than the SLA of the high
    tier, because a task may be due almost at once. `owner`: the row of the owner among the people of `assignment.team`.
    A task expires first if the result is not before that moment.
    """
    [work] = calendars(owner, policy.assignment.working_time).values()
    given = sum((ends - begins for begins, ends in work.stretches(decided_at, due_at)), timedelta())
    again = max(given, timedelta(hours=policy.handoff.sla_hours.high))
    expires = decided_at + timedelta(hours=policy.handoff.expires_hours)
    return work.after(opened_at, given + again, max(opened_at, expires))


def contact_at(
    decided: pd.DataFrame, due: pd.Series, people: pd.DataFrame, policy: Policy, as_of: datetime
) -> pd.Series:
    """When to contact each account, between `as_of` and `due`: datetime64[us, UTC], indexed as `decided`.

    `decided`: timezone (unknown: UTC), usual_hour (0–23), usual_weekday (Monday 0; null: any), owner_email. The result
    is the first moment of the owner's working time until `due` that meets the first of these conditions for which there
    is one:

    1. within the account's usual hour on its usual weekday;
    2. on its usual weekday;
    3. not from Friday noon to Sunday, for an account whose usual weekday is known and not Friday (S1);
    4. any moment.

    It is `due` if the rep has no working time before it.
    """
    work = _calendars(decided, people, policy)
    unknown = {"timezone": "UTC", "usual_hour": -1, "usual_weekday": -1}
    rows = decided[["owner_email", *unknown]].fillna(unknown).astype({"usual_hour": int, "usual_weekday": int})
    found: dict[tuple[str, datetime, str, int, int], datetime] = {}
    best = []
    for owner, zone, hour, weekday, by in rows.assign(due=due).itertuples(index=False, name=None):
        key = owner, by.to_pydatetime(), zone, hour, weekday
        if key not in found:
            found[key] = _contact(work[owner], as_of.astimezone(UTC), key[1], ZoneInfo(zone), hour, weekday)
        best.append(found[key])
    return _moments(best, decided.index)


def _contact(work: Calendar, as_of: datetime, due: datetime, zone: ZoneInfo, hour: int, weekday: int) -> datetime:
    # Working time that begins at `due` itself still counts.
    stretches = list(work.stretches(as_of, due + _MICROSECOND))
    first, last = as_of.astimezone(zone).date(), due.astimezone(zone).date()
    days = [first + at * _DAY for at in range((last - first).days + 1)]
    usual = [day for day in days if weekday in (-1, day.weekday())]
    choices: list[list[Span]] = []
    if hour >= 0:
        choices.append([_hour(day, hour, zone) for day in usual])
    if weekday >= 0:
        choices.append([_span(day, time(), day + _DAY, time(), zone) for day in usual])
    if weekday not in (-1, FRIDAY):
        before_noon = [_span(day, time(), day, NOON, zone) for day in days if day.weekday() == FRIDAY]
        others = [_span(day, time(), day + _DAY, time(), zone) for day in days if day.weekday() < FRIDAY]
        choices.append(sorted(before_noon + others))
    choices.append([(as_of, due + _MICROSECOND)])
    for spans in choices:
        if both := next(_common(spans, stretches), None):
            return both
    return due


def _hour(day: date, hour: int, zone: ZoneInfo) -> Span:
    """That hour on the zone's clock; if the change to summer time skips it, the hour after it."""
    begins = datetime.combine(day, time(hour), zone).astimezone(UTC)
    return begins, begins + _HOUR


def _span(day: date, start: time, until: date, end: time, zone: ZoneInfo) -> Span:
    return datetime.combine(day, start, zone).astimezone(UTC), datetime.combine(until, end, zone).astimezone(UTC)


def _common(spans: list[Span], stretches: list[Span]) -> Iterator[datetime]:
    """The beginnings of the intersections of both, in the order of `spans`."""
    for begins, ends in spans:
        for opens, closes in stretches:
            if max(begins, opens) < min(ends, closes):
                yield max(begins, opens)


def _calendars(decided: pd.DataFrame, people: pd.DataFrame, policy: Policy) -> dict[str, Calendar]:
    return calendars(people.loc[decided["owner_email"].unique()], policy.assignment.working_time)


def _moments(values: list[datetime], index: pd.Index) -> pd.Series:
    return pd.Series(pd.to_datetime(values, utc=True), index=index, dtype="datetime64[us, UTC]")
