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
from onetouch.lake import Engine
from onetouch.policy import Policy
from onetouch.signals.days import LONGEST_DAY, PARTS, first_hour, hour, moment

if TYPE_CHECKING:
    import pyarrow as pa

COUNTED_IN = tuple(window for window in Window if any(s.counted and s.window is window for s in SIGNALS))
"""The windows in which at least one signal counts events."""


def counted_in(window: Window) -> str:
    """The column of `Sums.event` with the number of an event's occurrences in the window."""
    return f"n_{window.name.lower()}"


class Sums(NamedTuple):
    """The sums, as Ibis tables.

    `user`: account_id, account_basis, email_domain, user_id, n_recent (events of use of the recent days, up to now),
    first_at, last_at (of use), earlier_at (the last use before the longest day up to now; what came later is in `new`);
    null without use.
    `new`: account_id, user_id, quarter (of an hour), n, n_15, n_30: use within the longest day up to now.
    `event`: account_id, event, detail, n_recent, … (events in each window of COUNTED_IN), first_at, last_at, value_max
    (of the lookback); of checkout_abandoned: n_left, left_at (recent ones of at least
    `signals.abandoned_barrier_hours` ago).
    """

    user: ir.Table
    new: ir.Table
    event: ir.Table


def sum_up(activity: ir.Table, policy: Policy, as_of: datetime) -> Sums:
    """The sums of the lookback's activity (`activity.read_days`) as expressions."""
    days = policy.signals
    a = activity.mutate(used=activity.event.notin(NOT_USE))
    recent = a.quarter >= first_hour(as_of, days.recent_days)
    late = a.quarter >= hour(as_of - LONGEST_DAY)
    user = a.group_by("account_id", "account_basis", "email_domain", "user_id").agg(
        n_recent=a.n.sum(where=a.used & recent),
        first_at=a.first_at.min(where=a.used),
        last_at=a.last_at.max(where=a.used),
        earlier_at=a.last_at.max(where=a.used & ~late),
    )
    new = a.filter(a.used & late & a.user_id.notnull())
    new = new.group_by("account_id", "user_id", "quarter").agg(**{name: new[name].sum() for name in PARTS})
    windows = {counted_in(window): length for window in COUNTED_IN if (length := window.days(days)) is not None}
    barrier = ibis.literal(as_of - timedelta(hours=days.abandoned_barrier_hours))
    left = (a.event == "checkout_abandoned") & recent & (a.first_at <= barrier)
    whole = a.last_at <= barrier  # otherwise the barrier is within an hour's events: only first and last are known
    event = a.group_by("account_id", "event", "detail").agg(
        **{name: a.n.sum(where=a.quarter >= first_hour(as_of, length)) for name, length in windows.items()},
        first_at=a.first_at.min(),
        last_at=a.last_at.max(),
        value_max=a.value_max.max(where=a.quarter >= first_hour(as_of, days.lookback_days)),
        n_left=whole.ifelse(a.n, 1).sum(where=left),
        left_at=whole.ifelse(a.last_at, a.first_at).max(where=left),
    )
    return Sums(user, new, event)


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
