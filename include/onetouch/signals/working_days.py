"""How much of its working days a team is there: the week people work is the account's own.

An account has five working days a week. They are Monday to Friday, or where it is the weekend differs, those of its
country; what the account does moves them (Sunday to Thursday, shifts), but never makes them fewer or more. Its public
holidays are none. Any day of use counts for any working day, so nobody is expected to be there on a given weekday.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa

from onetouch.catalogue import WEEK_DAYS
from onetouch.policy import Policy
from onetouch.public_holidays import Place, is_public_holiday, place_of, weekend

if TYPE_CHECKING:
    import ibis.expr.types as ir

A_WEEK = 5
"""Working days of a week (ours): what an account does may move them, but not change their number."""

_WEEKDAYS = range(WEEK_DAYS)

Where = tuple[str, str]
"""A time zone, and the region as the CRM has it (empty: unknown)."""


def calendars(places: Iterable[tuple[Where, date]], policy: Policy) -> pa.Table:
    """The days of the engagement window that may be working days, for each place and its date of today.

    timezone, region · workdays: for each weekday (Monday first) the number of its dates in the window, which ends
    yesterday, that are no public holiday there · rank: which weekdays are worked first there, 7 first and 1 last.
    """
    rows = []
    for (timezone, region), today in sorted(places):
        workdays, rank = _calendar(place_of(region, timezone), today, policy.signals.engagement_days)
        rows.append({"timezone": timezone, "region": region, "workdays": workdays, "rank": rank})
    return pa.Table.from_pylist(rows, schema=_CALENDARS)


_CALENDARS = pa.schema(
    [("timezone", pa.string()), ("region", pa.string())]
    + [(name, pa.list_(pa.int32())) for name in ("workdays", "rank")]
)


@lru_cache(maxsize=4096)
def _calendar(place: Place, today: date, days: int) -> tuple[list[int], list[int]]:
    workdays = [0] * WEEK_DAYS
    for age in range(days):
        day = today - timedelta(days=age + 1)
        workdays[day.weekday()] += not is_public_holiday(day, place)
    free = weekend(place)
    order = sorted(_WEEKDAYS, key=lambda weekday: (weekday in free, weekday))
    return workdays, [WEEK_DAYS - order.index(weekday) for weekday in _WEEKDAYS]


def working_days(day: ir.Table, calendar: ir.Table, policy: Policy) -> ir.Table:
    """account_id, team_days, working_days_share, from the accounts' days and their calendars.

    `day`: account_id, date, age, team (whether enough of its users were there); only days with use. `calendar`:
    account_id, workdays, rank (`calendars`). The account's working days are the A_WEEK weekdays on which it was there
    most often within the recent days, of equal ones those that are worked first in its country. The share is at most 1,
    and 1 where all of them were public holidays.
    """
    import ibis

    d = day.filter(day.team)
    recent = d.age.between(0, policy.signals.recent_days - 1)
    weekday = d.date.day_of_week.index()
    counted = d.group_by("account_id").agg(
        team_days=d.age.between(0, policy.signals.engagement_days - 1).sum(),
        **{f"on_{n}": (recent & (weekday == n)).sum() for n in _WEEKDAYS},
    )
    c = counted.join(calendar, "account_id")
    # The number of days decides, and the rank between equal numbers; no two weekdays are alike then.
    c = c.mutate(worked=ibis.array([c[f"on_{n}"] * (WEEK_DAYS + 1) + c["rank"][n] for n in _WEEKDAYS]))
    least = c.worked.sort()[WEEK_DAYS - A_WEEK]
    expected = sum(((c.worked[n] >= least).ifelse(c.workdays[n], 0) for n in _WEEKDAYS), ibis.literal(0))
    share = ibis.least(c.team_days / expected.nullif(0), 1.0).fill_null(1.0)
    return c.select("account_id", "team_days", working_days_share=share)
