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
    unknown = {"timezone": "UTC", "usual_hour": -1, "usual_weekday": -1}
    habits = accounts[list(unknown)].fillna(unknown).astype({"usual_hour": int, "usual_weekday": int})
    moments = {
        (zone, hour, weekday): as_of if hour < 0 else _next(as_of.astimezone(ZoneInfo(zone)), hour, weekday)
        for zone, hour, weekday in habits.drop_duplicates().itertuples(index=False, name=None)
    }
    best = pd.Series([moments[habit] for habit in habits.itertuples(index=False, name=None)], index=accounts.index)
    start = pd.Timestamp(as_of).tz_convert("UTC")
    best = pd.to_datetime(best, utc=True).astype("datetime64[us, UTC]")
    return best.where(best <= due, start)


def _next(moment: datetime, hour: int, weekday: int) -> datetime:
    """The first moment at or after `moment` in that hour of that weekday (-1: any), on the clock of its zone; UTC."""
    for days in range(8):
        day = moment.date() + timedelta(days=days)
        # On the zone's own clock: an hour that the change to summer time skips is met by the one after it.
        begins = datetime(day.year, day.month, day.day, hour, tzinfo=moment.tzinfo).astimezone(UTC)
        if weekday in (-1, day.weekday()) and begins + timedelta(hours=1) > moment:
            return max(begins, moment.astimezone(UTC))
    raise AssertionError("a weekday comes round within eight days")
