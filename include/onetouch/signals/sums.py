"""Sums the activity of the lookback up to a few tables, from which the account signals are computed.

Two kinds of windows are summed up. What *happened* (a look at pricing, a request for a demo) counts at once, in windows
that end at `as_of` and slide by the hour. *Levels* (days, users and amounts of use) count in whole days of the
account's own zone, today not among them: they change once a day, at the midnight there, and not with the hour.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import ibis
import ibis.expr.types as ir

from onetouch.catalogue import NOT_USE, SIGNALS, Window
from onetouch.events import last_day
from onetouch.lake import Engine
from onetouch.policy import Policy
from onetouch.signals.days import LONGEST_DAY, PARTS, first_date, first_hour, hour, moment

if TYPE_CHECKING:
    import pyarrow as pa

COUNTED_IN = tuple(window for window in Window if any(s.counted and s.window is window for s in SIGNALS))
"""The windows in which at least one signal counts events."""


def counted_in(window: Window) -> str:
    """The column of `Sums.event` with the number of an event's occurrences in the window."""
    return f"n_{window.name.lower()}"


MOST_DAYS = 62
"""Dates that fit into the bits of a whole number: of a longer window a person's days are counted in these only."""


class Sums(NamedTuple):
    """The sums, as Ibis tables.

    `user`: account_id, account_basis, email_domain, user_id, n_recent (events of use of the recent days, up to now),
    days (a bit for each UTC date with use, the lowest for the last date; MOST_DAYS of them), first_at, last_at (of
    use), earlier_at (the last use before the longest day up to now; what came later is in `new`); null without use.
    `new`: account_id, user_id, quarter (of an hour), n, n_15, n_30: use within the longest day up to now.
    `event`: account_id, event, detail, n_recent, … (events in each window of COUNTED_IN), first_at, last_at, value_max
    (of the lookback).
    `left`: account_id, n_left, left_at: recent checkouts abandoned at least `signals.abandoned_barrier_hours` ago.
    """

    user: ir.Table
    new: ir.Table
    event: ir.Table
    left: ir.Table


def sum_up(activity: ir.Table, policy: Policy, as_of: datetime) -> Sums:
    """The sums of the lookback's activity (`activity.read_days`) as expressions."""
    days = policy.signals
    a = activity.mutate(used=activity.event.notin(NOT_USE))
    late = a.quarter >= hour(as_of - LONGEST_DAY)
    recent = a.quarter >= first_hour(as_of, days.recent_days)
    age = ibis.literal(last_day(as_of)).delta(a.event_date, unit="day")
    # A case for each row costs the engine less than a filter for each sum.
    by_user = ["account_id", "account_basis", "email_domain", "user_id"]
    u = a.select(
        *by_user,
        recent=(a.used & recent).ifelse(a.n, ibis.null()),
        day=(a.used & (age < MOST_DAYS)).ifelse(ibis.literal(1, type="int64") << age, ibis.null()),
        first_at=a.used.ifelse(a.first_at, ibis.null()),
        last_at=a.used.ifelse(a.last_at, ibis.null()),
        earlier_at=(a.used & ~late).ifelse(a.last_at, ibis.null()),
    )
    user = u.group_by(by_user).agg(
        n_recent=u.recent.sum(),
        days=u.day.bit_or(),
        first_at=u.first_at.min(),
        last_at=u.last_at.max(),
        earlier_at=u.earlier_at.max(),
    )
    new = a.filter(a.used & late & a.user_id.notnull())
    new = new.group_by("account_id", "user_id", "quarter").agg(**{name: new[name].sum() for name in PARTS})
    windows = {counted_in(window): length for window in COUNTED_IN if (length := window.days(days)) is not None}
    barrier = ibis.literal(as_of - timedelta(hours=days.abandoned_barrier_hours))
    e = a.select(
        "account_id", "event", "detail", "first_at", "last_at",
        **{name: (a.quarter >= first_hour(as_of, length)).ifelse(a.n, 0) for name, length in windows.items()},
        value_max=(a.quarter >= first_hour(as_of, days.lookback_days)).ifelse(a.value_max, ibis.null()),
    )  # fmt: skip
    event = e.group_by("account_id", "event", "detail").agg(
        **{name: e[name].sum() for name in windows},
        first_at=e.first_at.min(),
        last_at=e.last_at.max(),
        value_max=e.value_max.max(),
    )
    gone = a.filter(
        a.event == "checkout_abandoned", a.event_date >= first_date(as_of, days.recent_days), recent,
        a.first_at <= barrier,
    )  # fmt: skip
    whole = gone.last_at <= barrier  # otherwise the barrier is within an hour's events: only first and last are known
    left = gone.group_by("account_id").agg(
        n_left=whole.ifelse(gone.n, 1).sum(), left_at=whole.ifelse(gone.last_at, gone.first_at).max()
    )
    return Sums(user, new, event, left)


CHECKOUT_STEPS = ("checkout_started", "checkout_abandoned", "checkout_completed", "plan_upgraded")


def sum_checkouts(activity: ir.Table) -> ir.Table:
    """account_id, event and last_at of the steps of checkouts in activity."""
    steps = activity.filter(activity.event.isin(CHECKOUT_STEPS))
    return steps.group_by("account_id", "event").agg(last_at=steps.last_at.max())


def product_accounts(
    engine: Engine, sums: Sums, history: ir.Table, policy: Policy, as_of: datetime, moved_days: int
) -> tuple[pa.Table, pa.Table]:
    """The product's accounts (account_id, living), and the people of each e-mail domain in them: account_id,
    account_basis, email_domain (null for those without a business address), living, known, last_at.

    `living`: people who used the account within the recent days, and within `moved_days` of their last use of any
    account; `known`: all who were ever seen there. Accounts of lone users are not identified by a domain.
    """
    u = sums.user
    newest = u.last_at.max().over(ibis.window(group_by="user_id"))
    stays = u.last_at > newest - ibis.interval(days=moved_days)
    since = ibis.literal(moment(first_hour(as_of, policy.signals.recent_days)))
    u = u.mutate(lives=(stays & (u.last_at >= since)).fill_null(False))
    columns = ["account_id", "account_basis", "email_domain"]
    now = u.group_by(columns).agg(
        living=u.user_id.count(where=u.lives), known=u.user_id.count(), last_at=u.last_at.max()
    )
    h = history.filter(history.event.isnull())
    before = h.select(*columns, living=ibis.literal(0, type="int64"), known=h.users, last_at=h.last_at)
    both = ibis.union(now, before)
    summed = both.group_by(columns).agg(living=both.living.max(), known=both.known.max(), last_at=both.last_at.max())
    people = engine.keep(summed, "product_people")
    accounts = people.group_by("account_id").agg(living=people.living.sum())
    return engine.fetch(accounts), engine.fetch(people.filter(people.account_basis != "personal"))
