"""The accounts' own days: which quarters of an hour a day of a time zone consists of.

Activity is kept by the hour (UTC), with the number of events in each quarter of it. The offset of every time zone is a
whole number of quarters, so the days and hours of any zone, those with half hours and those on which the clocks change
included, are sums of quarters, and the zone need not be known before the signals are built.

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

    timezone · today (the date there) · ends (the quarter in which today began: all windows end there) · ends_at (the
    same as a moment) · week_at, recent_at, lookback_at (the first moment of each window).
    """
    lengths = {
        "ends": 0,
        "week": WEEK_DAYS,
        "recent": policy.signals.recent_days,
        "lookback": policy.signals.lookback_days,
    }
    rows = []
    for name in sorted(zones):
        zone = ZoneInfo(name)
        today = as_of.astimezone(zone).date()
        at = {key: _begins(today - timedelta(days=days), zone) for key, days in lengths.items()}
        row = {"timezone": name, "today": today, "ends": quarter(at["ends"])}
        rows.append(row | {f"{key}_at": moment(quarter(value)) for key, value in at.items()})
    return pa.Table.from_pylist(rows, schema=_BEGINNINGS)


_MOMENT = pa.timestamp("us", tz="UTC")
_BEGINNINGS = pa.schema(
    [("timezone", pa.string()), ("today", pa.date32()), ("ends", pa.int64())]
    + [(f"{key}_at", _MOMENT) for key in ("ends", "week", "recent", "lookback")]
)


def local_hours(zones: Iterable[str], first: date, as_of: datetime) -> pa.Table:
    """What each hour (UTC) from the date `first` up to `as_of` is on the clock of each zone.

    timezone · hour · since, until (the hour's quarters from `since` up to, but without, `until`; 0 to 4) · date and
    clock (0 to 23) there. An hour has two rows where the clock there strikes within it.
    """
    start = quarter(datetime.combine(first, datetime.min.time(), UTC))
    quarters = np.arange(start, hour(as_of) + OF_HOUR, dtype=np.int64)
    utc = pd.DatetimeIndex(quarters * np.int64(_QUARTER.total_seconds()) * 10**9, tz="UTC")
    within = quarters % OF_HOUR
    tables = [pa.table({name: [] for name in _LOCAL.names}, schema=_LOCAL)]
    for zone in sorted(zones):
        local = utc.tz_convert(ZoneInfo(zone)).tz_localize(None)
        struck = np.asarray(local.floor("h")).astype("datetime64[h]")
        begins = np.flatnonzero((within == 0) | np.append(True, struck[1:] != struck[:-1]))
        ends = np.append(begins[1:], len(quarters))
        dates = struck[begins].astype("datetime64[D]")
        columns = {
            "timezone": pa.array([zone]).take(pa.array(np.zeros(len(begins), np.int64))),
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
        ("timezone", pa.string()),
        ("hour", pa.int64()),
        ("since", pa.int64()),
        ("until", pa.int64()),
        ("date", pa.date32()),
        ("clock", pa.int64()),
    ]
)


def before(rows: ir.Table, quarters: ir.IntegerValue, of: str = "n") -> ir.IntegerValue:
    """How many events of each row's hour lie before the hour's first `quarters` (0 to 4) are over.

    `of`: the column with the number of events of the hour, beside `{of}_15`, `{of}_30` and `{of}_45`: those before that
    minute of it.
    """
    import ibis

    return ibis.cases(
        (quarters <= 0, 0),
        (quarters == 1, rows[f"{of}_15"]),
        (quarters == 2, rows[f"{of}_30"]),
        (quarters == 3, rows[f"{of}_45"]),
        else_=rows[of],
    )


def parts(column: str = "n") -> tuple[str, ...]:
    """The names of the columns that `before` reads."""
    return (column, f"{column}_15", f"{column}_30", f"{column}_45")


def _begins(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of a date on the zone's clock, UTC."""
    return datetime.combine(day, datetime.min.time(), zone).astimezone(UTC)
