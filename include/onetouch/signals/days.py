"""The accounts' own days: which quarters of an hour a day of a time zone consists of.

Activity is kept by the hour (UTC), with the number of events in its first quarter and in its first half. The clocks of
every zone strike at a whole hour of UTC, a quarter past or at half past (offsets are whole hours, and 30 or 45
minutes), so the days and hours of any zone, also those on which the clocks change, are sums of such parts, and the zone
need not be known before the signals are built.

A **quarter** is a number: the quarters of an hour since the beginning of 1970, UTC. An **hour** is the number of its
first quarter.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa

from onetouch.catalogue import WEEK_DAYS
from onetouch.policy import Policy

if TYPE_CHECKING:
    import ibis.expr.types as ir

UTC_ZONE = "UTC"
"""The zone of an account whose own is unknown."""

OF_HOUR = 4
"""Quarters of an hour."""

_QUARTER = timedelta(minutes=15)
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

LONGEST_DAY = timedelta(hours=26)
"""No day of any zone is longer, so today has begun everywhere within that time."""


def quarter(at: datetime) -> int:
    """The quarter that a moment lies in."""
    return (at - _BEGINNING) // _QUARTER


def hour(at: datetime) -> int:
    """The hour (UTC) that a moment lies in."""
    return quarter(at) // OF_HOUR * OF_HOUR


def moment(of: int) -> datetime:
    """The first moment of a quarter."""
    return _BEGINNING + of * _QUARTER


def first_hour(as_of: datetime, days: int) -> int:
    """The first hour of a window of that many days before `as_of`, which slides by the hour."""
    return hour(as_of - timedelta(days=days))


def first_date(as_of: datetime, days: int) -> date:
    """The first UTC date with a moment in any window of that many days, whole ones of any zone included."""
    return (as_of - timedelta(days=days) - LONGEST_DAY).date()


def beginnings(zones: Iterable[str], policy: Policy, as_of: datetime) -> pa.Table:
    """Where the windows of whole days begin and end in each zone: one row a zone.

    zone (its number) · timezone · today (the date there) · ends (the quarter in which today began: all windows end
    there) · ends_at (the same as a moment) · week_at, recent_at, lookback_at (the first moment of each window).
    """
    lengths = {
        "ends": 0,
        "week": WEEK_DAYS,
        "recent": policy.signals.recent_days,
        "lookback": policy.signals.lookback_days,
    }
    rows = []
    for number, name in enumerate(sorted(zones)):
        zone = ZoneInfo(name)
        today = as_of.astimezone(zone).date()
        at = {key: _begins(today - timedelta(days=days), zone) for key, days in lengths.items()}
        row = {"zone": number, "timezone": name, "today": today, "ends": quarter(at["ends"])}
        rows.append(row | {f"{key}_at": moment(quarter(value)) for key, value in at.items()})
    return pa.Table.from_pylist(rows, schema=_BEGINNINGS)


_MOMENT = pa.timestamp("us", tz="UTC")
_BEGINNINGS = pa.schema(
    [("zone", pa.int32()), ("timezone", pa.string()), ("today", pa.date32()), ("ends", pa.int32())]
    + [(f"{key}_at", _MOMENT) for key in ("ends", "week", "recent", "lookback")]
)


def local_hours(zones: Iterable[str], first: date, as_of: datetime) -> pa.Table:
    """What each hour (UTC) from the date `first` up to `as_of` is on the clock of each zone.

    zone (as in `beginnings`) · hour · since, until (the hour's quarters from `since` up to, but without, `until`; 0 to
    4) · date and clock (0 to 23) there. An hour has two rows where the clock there strikes within it.
    """
    start = quarter(datetime.combine(first, datetime.min.time(), UTC))
    quarters = np.arange(start, hour(as_of) + OF_HOUR, dtype=np.int64)
    utc = pd.DatetimeIndex(quarters * np.int64(_QUARTER.total_seconds()) * 10**9, tz="UTC")
    within = quarters % OF_HOUR
    tables = [pa.table({name: [] for name in _LOCAL.names}, schema=_LOCAL)]
    for number, name in enumerate(sorted(zones)):
        local = utc.tz_convert(ZoneInfo(name)).tz_localize(None)
        struck = np.asarray(local.floor("h")).astype("datetime64[h]")
        begins = np.flatnonzero((within == 0) | np.append(True, struck[1:] != struck[:-1]))
        ends = np.append(begins[1:], len(quarters))
        dates = struck[begins].astype("datetime64[D]")
        columns = {
            "zone": np.full(len(begins), number),
            "hour": quarters[begins] - within[begins],
            "since": within[begins],
            "until": within[begins] + ends - begins,
            "date": dates,
            "clock": (struck[begins] - dates).astype(np.int64),
        }
        tables.append(pa.table(columns).cast(_LOCAL))
    return pa.concat_tables(tables)


_LOCAL = pa.schema(
    [
        ("zone", pa.int32()),
        ("hour", pa.int32()),
        ("since", pa.int32()),
        ("until", pa.int32()),
        ("date", pa.date32()),
        ("clock", pa.int32()),
    ]
)

PARTS = ("n", "n_15", "n_30")
"""Columns of activity: the events of an hour, and those before that minute of it."""


def before(rows: ir.Table, quarters: ir.IntegerValue) -> ir.IntegerValue:
    """How many events (PARTS) of each row's hour lie before the hour's first `quarters` are over.

    0 or fewer, 1, 2, or at least 4 quarters: no clock strikes at a quarter to (tests ask all zones).
    """
    import ibis

    return ibis.cases((quarters <= 0, 0), (quarters == 1, rows.n_15), (quarters == 2, rows.n_30), else_=rows.n)


def _begins(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of a date on the zone's clock, UTC."""
    return datetime.combine(day, datetime.min.time(), zone).astimezone(UTC)
