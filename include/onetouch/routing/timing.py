"""When a task is due, and when the account is best reached."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd

from onetouch.policy import Policy


def due_at(tiers: pd.Series, policy: Policy, as_of: datetime) -> pd.Series:
    """`as_of` and the tier's hours; null for the low tier, which nobody contacts."""
    hours = tiers.map({"high": policy.handoff.sla_hours.high, "medium": policy.handoff.sla_hours.medium})
    return (pd.Timestamp(as_of) + pd.to_timedelta(hours, unit="h")).astype("datetime64[us, UTC]")


def contact_at(accounts: pd.DataFrame, due: pd.Series, as_of: datetime) -> pd.Series:
    """The next usual hour of each account on its usual weekday, in its time zone, if that is by `due`; else `as_of`.

    `accounts`: timezone (unknown: UTC), usual_hour (0–23), usual_weekday (Monday 0; null: any). Within the usual
    hour itself, and without one, it is `as_of`.
    """
    habits = accounts[["timezone", "usual_hour", "usual_weekday"]].fillna({"timezone": "UTC"})
    moments = {}
    for zone, hour, weekday in habits.drop_duplicates().itertuples(index=False):
        if not pd.isna(hour):
            there = as_of.astimezone(ZoneInfo(zone))
            moments[zone, hour, weekday] = _next(there, int(hour), None if pd.isna(weekday) else int(weekday))
    best = pd.Series(
        [moments.get(key, as_of) for key in habits.itertuples(index=False, name=None)], index=accounts.index
    )
    start = pd.Timestamp(as_of).tz_convert("UTC")
    best = pd.to_datetime(best, utc=True).astype("datetime64[us, UTC]")
    return best.where(best <= due, start)


def _next(moment: datetime, hour: int, weekday: int | None) -> datetime:
    """The first moment at or after `moment` in that hour of that weekday, on the clock of its zone; UTC."""
    for days in range(8):
        day = moment.date() + timedelta(days=days)
        # On the zone's own clock: an hour that the change to summer time skips is met by the one after it.
        begins = datetime(day.year, day.month, day.day, hour, tzinfo=moment.tzinfo).astimezone(UTC)
        if weekday in (None, day.weekday()) and begins + timedelta(hours=1) > moment:
            return max(begins, moment.astimezone(UTC))
    raise AssertionError("a weekday comes round within eight days")
