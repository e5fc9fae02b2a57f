"""Account signals: from the daily activity of the lookback to one row per account, as Ibis expressions.

The same expressions run on DuckDB and on every other backend of Ibis. Days are those of the account's own zone (`days`;
unknown: UTC). The age of a day is its distance to yesterday there, the last whole day, so "7 days" are the ages 0 to 6
and today is -1.

Signals are defined in the catalogue (`catalogue/signals.py`; reference in `docs/policy.md`). This module computes them,
and each table must make exactly the signals that the catalogue assigns to it. *Use* means every event that counts as
use of the product (`catalogue/events.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime, timedelta

import ibis
import ibis.expr.types as ir

from onetouch.catalogue import DETAIL_COLUMNS, NOT_USE, SIGNALS, SIGNALS_BY_NAME, WEEK_DAYS, Window
from onetouch.events import last_day
from onetouch.lake import Engine
from onetouch.policy import SEATS, Policy
from onetouch.signals.account_values import domain_of
from onetouch.signals.days import OF_HOUR, PARTS, UTC_ZONE, before, first_date, first_hour, moment
from onetouch.signals.people import contacts
from onetouch.signals.sums import CHECKOUT_STEPS, Sums, counted_in
from onetouch.signals.working_days import working_days

DAY_HOURS = 24
DAY_SECONDS = 86_400

DEVELOPER = SIGNALS_BY_NAME["developer_days"].events
SESSION = SIGNALS_BY_NAME["sessions_7d"].events

_NAMED = {"feature_used": "features_used_list", "premium_feature_attempted": "premium_attempted"}
"""Event → the column that lists what it was done with."""

_AMOUNTS = {"feature_used": "features_by_use", "action_failed": "failures"}
"""Event → the column that lists what it was done with in the recent days and how often, the most frequent first."""

COUNTS, ACCOUNT = "counts", "account"
"""The table that counts events, and the table made from all the others."""


def account_signals(
    engine: Engine,
    sums: Sums,
    activity: ir.Table,
    history: ir.Table,
    checkouts: ir.Table,
    people: ir.Table,
    of_people: ir.Table,
    snapshot: ir.Table,
    caps: ir.Table,
    seats: ir.Table,
    zones: ir.Table,
    local_hours: ir.Table,
    calendars: ir.Table,
    policy: Policy,
    as_of: datetime,
) -> ir.Table:
    """One row for each account of `snapshot` or product: snapshot columns, signals, their moments, detail columns.

    `activity`: the days of the lookback as known at `as_of`; `sums`: the result of `sum_up` for them; `history`: what
    `activity.build_history` kept of earlier days, placed and summed up; `checkouts`: `sums.sum_checkouts` of steps that
    may be any account's to which their person belongs, for each of them;
    `people` and `of_people`: what `people.people` gives;
    `snapshot`: identified accounts; `caps`: plan_limits, limit_name,
    limit_cap; `seats`: account_id, limit_cap of the accounts whose seats are counted by active users (`seat_caps`);
    `zones` and `local_hours`: what `days.beginnings` and `days.local_hours` give of the accounts' zones; `calendars`:
    what `working_days.calendars` gives of their places.
    Raises ValueError when a table does not make exactly the signals that the catalogue assigns to it.
    """
    seen = _seen(sums.user, history, policy)
    joined = ibis.union(seen.select("account_id"), snapshot.select("account_id"), distinct=True)
    where = snapshot.select("account_id", "timezone", "region")
    zoned = joined.left_join(where, "account_id").drop("account_id_right")
    zoned = zoned.mutate(timezone=zoned.timezone.fill_null(UTC_ZONE), region=zoned.region.fill_null(""))
    calendar = zoned.join(calendars, ["timezone", "region"]).select("account_id", "workdays", "rank")
    clocks = engine.keep(zoned.drop("region").join(zones, "timezone"), "clocks")
    longest = max(policy.signals.recent_days, policy.signals.engagement_days, 2 * WEEK_DAYS)
    lived = activity.filter(activity.event_date >= first_date(as_of, longest))
    active = _active(sums.user, sums.new, clocks)
    users = engine.keep(_users(active), "users")
    teams = users.filter(users.users >= policy.signals.team_from_users).select("account_id")
    there = _there_together(lived, teams, clocks, local_hours, policy)
    day = engine.keep(_with_teams(_local_days(lived, clocks, local_hours), teams, there), "local_days")
    tables = {
        "users": users,
        "people": of_people,
        "days": _days(day, policy),
        "working_days": working_days(day, calendar, policy),
        "pricing": _pricing(activity, clocks, local_hours, policy, as_of),
        "demos": _demos(activity, policy, as_of),
        COUNTS: _counts(sums.event, policy, as_of),
        "milestones": _milestones(sums.event, history, policy),
        "checkout": _checkout(sums.event, sums.left, checkouts, policy, as_of),
        "limits": _fullest(
            _limits(activity, snapshot, caps, seats, clocks, local_hours, policy, as_of),
            _seats(active, seats, clocks, policy),
        ),
    }
    for name, table in tables.items():
        _made(name, table.columns)
    if strangers := sorted({signal.table or COUNTS for signal in SIGNALS} - {*tables, ACCOUNT}):
        raise ValueError(f"catalogue/signals.py: {', '.join(strangers)}: no such table of signals/account.py")
    habits, top_user = _habits(day, policy), _top_user(sums.user)
    others = [snapshot, clocks.drop("zone", "timezone"), seen, *tables.values(), habits, top_user, contacts(people)]
    for number, table in enumerate(others):  # one chain of joins: Ibis takes long over a projection after each
        joined = joined.left_join(table, "account_id", rname=f"{{name}}_{number}")
    joined = joined.drop(*(f"account_id_{number}" for number in range(len(others))))
    return _finish(joined, snapshot, policy)


def _made(table: str, columns: Collection[str]) -> None:
    """Raises ValueError unless the signals among the table's columns are exactly those the catalogue assigns to it."""
    made = {signal.name for signal in SIGNALS if signal.name in columns}
    named = {signal.name for signal in SIGNALS if (signal.table or COUNTS) == table}
    if made != named:
        raise ValueError(
            f"signals/account.py: table {table} makes {', '.join(sorted(made - named)) or 'nothing else'} and lacks "
            f"{', '.join(sorted(named - made)) or 'nothing'}; catalogue/signals.py says which signals name it"
        )


def _counts(by_event: ir.Table, policy: Policy, as_of: datetime) -> ir.Table:
    """Signals that count events, with their moments, and the names of what was used, tried and completed."""
    counted = [signal for signal in SIGNALS if signal.counted]
    asked = {name for signal in counted for name in signal.events} | {*_NAMED, *_AMOUNTS, "demo_viewed"}
    e = by_event.filter(by_event.event.isin(sorted(asked)))
    since = ibis.literal(moment(first_hour(as_of, policy.signals.lookback_days)))

    def details(name: str) -> ir.ArrayValue:
        named = (e.event == name) & e.detail.notnull() & (e.last_at >= since)
        return e.detail.collect(where=named, order_by=e.detail)

    def amounts(name: str) -> ir.ArrayValue:
        times = e[counted_in(Window.RECENT)].cast("int64")
        named = (e.event == name) & e.detail.notnull() & (times > 0)
        one = ibis.struct({"name": e.detail, "times": times})
        return one.collect(where=named, order_by=[times.desc(), e.detail])

    return e.group_by("account_id").agg(
        **{s.name: e[counted_in(s.window)].sum(where=e.event.isin(s.events)) for s in counted},
        # A window ends at as_of, so an event that occurred within the window also had its last occurrence within it.
        **{s.moment: e.last_at.max(where=e.event.isin(s.events) & (e[counted_in(s.window)] > 0)) for s in counted},
        **{column: details(event) for event, column in _NAMED.items()},
        **{column: amounts(event) for event, column in _AMOUNTS.items()},
        demo_completion=e.value_max.max(where=e.event == "demo_viewed"),
    )


def _active(user: ir.Table, new: ir.Table, clocks: ir.Table) -> ir.Table:
    """account_id, user_id, first_at of the users with use, and whether they were active within each window."""
    known = user.filter(user.user_id.notnull() & user.last_at.notnull())
    # a user with two e-mail domains counts once
    one = known.group_by("account_id", "user_id").agg(earlier_at=known.earlier_at.max(), first_at=known.first_at.min())
    n = new.join(clocks.select("account_id", "ends"), "account_id")
    n = n.filter(before(n, n.ends - n.quarter) > 0).select("account_id", "user_id").distinct()
    both = one.left_join(n.mutate(new=True), ["account_id", "user_id"]).drop("account_id_right", "user_id_right")
    u = both.join(clocks, "account_id")
    since = {
        window: u.new.fill_null(False) | (u.earlier_at >= u[f"{window}_at"]).fill_null(False)
        for window in ("lookback", "week", "recent")
    }
    return u.select("account_id", "user_id", "first_at", **since)


def _users(active: ir.Table) -> ir.Table:
    """Number of distinct users with use, by window."""
    return active.group_by("account_id").agg(
        users=active.lookback.sum(), active_users_7d=active.week.sum(), active_users=active.recent.sum()
    )


def _local_days(activity: ir.Table, clocks: ir.Table, local_hours: ir.Table) -> ir.Table:
    """account_id, date (the account's own), age, n (events of use), sessions, developer (whether API, SDK or CI were
    among them), hours (24 bits, of the clock there); only days with use, today among them.
    """
    use = activity.filter(activity.event.notin(NOT_USE))
    # Summed up before it is joined, because an account's hour has many rows.
    kinds = {"developer": use.event.isin(DEVELOPER), "session": use.event.isin(SESSION)}
    hours = use.group_by("account_id", hour=use.quarter, **kinds).agg(**{name: use[name].sum() for name in PARTS})
    u = _there(hours, clocks, local_hours)
    bit = ibis.literal(1, type="int32") << u.clock
    day = u.group_by("account_id", "today", "date").agg(
        n=u.there.sum(),
        sessions=u.there.sum(where=u.session),
        developer=u.developer.any(),
        hours=bit.bit_or().cast("int32"),
    )
    return day.mutate(age=day.today.delta(day.date, unit="day") - 1).drop("today")


def _there(hours: ir.Table, clocks: ir.Table, local_hours: ir.Table) -> ir.Table:
    """Hours (account_id, hour, PARTS) with the date, the clock and today of the account's zone, and `there`: the events
    of the hour on that date. An hour that is cut by midnight has a row for each date with events."""
    u = hours.join(clocks.select("account_id", "zone", "today"), "account_id").join(local_hours, ["zone", "hour"])
    u = u.mutate(there=before(u, u.until) - before(u, u.since))
    return u.filter(u.there > 0)


def _dated(rows: ir.Table, clocks: ir.Table, local_hours: ir.Table) -> ir.Table:
    """Rows of activity with the date of their quarter, and today, in the account's zone."""
    r = rows.mutate(hour=rows.quarter - rows.quarter % OF_HOUR, within=rows.quarter % OF_HOUR)
    r = r.join(clocks.select("account_id", "zone", "today"), "account_id").join(local_hours, ["zone", "hour"])
    return r.filter((r.within >= r.since) & (r.within < r.until))


def _there_together(
    activity: ir.Table, teams: ir.Table, clocks: ir.Table, local_hours: ir.Table, policy: Policy
) -> ir.Table:
    """account_id and date (the account's own) of the days on which `signals.team_day_users` users were there.

    Of `teams` (account_id) only: whose day it is needs a row for each user and hour, which most accounts are spared.
    """
    use = activity.filter(activity.event.notin(NOT_USE), activity.user_id.notnull()).semi_join(teams, "account_id")
    hours = use.group_by("account_id", "user_id", hour=use.quarter).agg(**{name: use[name].sum() for name in PARTS})
    u = _there(hours, clocks, local_hours)
    day = u.group_by("account_id", "date").agg(users=u.user_id.nunique())
    return day.filter(day.users >= policy.signals.team_day_users).select("account_id", "date")


def _with_teams(day: ir.Table, teams: ir.Table, together: ir.Table) -> ir.Table:
    """The days with `team`: whether the account is no team, or enough of its users were there."""
    t = day.left_join(teams, "account_id").rename(team_id="account_id_right")
    t = t.left_join(together.mutate(together=True), ["account_id", "date"])
    return t.select(*day.columns, team=t.team_id.isnull() | t.together.fill_null(False))


def _days(day: ir.Table, policy: Policy) -> ir.Table:
    """Number of days with use and of events of use, by window."""

    def within(days: int) -> ir.BooleanValue:
        return day.age.between(0, days - 1)

    recent = within(policy.signals.recent_days)
    return day.group_by("account_id").agg(
        active_days_7d=within(WEEK_DAYS).sum(),
        active_days=within(policy.signals.engagement_days).sum(),
        active_days_recent=recent.sum(),
        developer_days=(recent & day.developer).sum(),
        sessions_7d=day.sessions.sum(where=within(WEEK_DAYS)),
        events_7d=day.n.sum(where=within(WEEK_DAYS)),
        events_7d_before=day.n.sum(where=day.age.between(WEEK_DAYS, 2 * WEEK_DAYS - 1)),
        events=day.n.sum(where=recent),
    )


def _pricing(activity: ir.Table, clocks: ir.Table, local_hours: ir.Table, policy: Policy, as_of: datetime) -> ir.Table:
    """Different days of the account's own zone on which somebody looked at pricing."""
    a = activity.filter(activity.event.isin(SIGNALS_BY_NAME["pricing_days"].events))
    a = a.filter(a.quarter >= first_hour(as_of, policy.signals.engagement_days))
    r = _dated(a, clocks, local_hours)
    return r.group_by("account_id").agg(pricing_days=r.date.nunique())


def _demos(activity: ir.Table, policy: Policy, as_of: datetime) -> ir.Table:
    """Demos that were watched to the end, and when the last one was."""
    a = activity.filter(activity.event.isin(SIGNALS_BY_NAME["demos_watched"].events))
    a = a.filter(
        (a.value_max >= policy.signals.demo_watched) & (a.quarter >= first_hour(as_of, policy.signals.recent_days))
    )
    return a.group_by("account_id").agg(demos_watched=a.count(), demos_watched_at=a.last_at.max())


def _seen(user: ir.Table, history: ir.Table, policy: Policy) -> ir.Table:
    """Every account of the product: basis, whether a user has a business address, and one of an enterprise, first and
    last known use."""
    columns = ["account_id", "account_basis", "email_domain", "first_at", "last_at"]
    both = ibis.union(user.select(columns), history.filter(history.event.isnull()).select(columns))
    return both.group_by("account_id").agg(
        # An organisation stays one even if some events lack the group: by text, domain and group precede personal.
        account_basis=both.account_basis.min(),
        business_mail=both.email_domain.notnull().any(),
        enterprise_mail=both.email_domain.isin(_listed(policy)).any(),
        first_seen_at=both.first_at.min(),
        last_seen_at=both.last_at.max(),
    )


def _milestones(by_event: ir.Table, history: ir.Table, policy: Policy) -> ir.Table:
    """First time of each milestone (`first_…`, ever), and integrations connected."""
    lasting = list(dict.fromkeys([*policy.product.milestones, *policy.product.activation]))
    now = by_event.filter(by_event.event.isin([*lasting, "integration_connected"]))
    before = history.filter(history.event.notnull())
    first = ibis.union(
        now.select("account_id", "event", "detail", "first_at"),
        before.select("account_id", "event", "detail", "first_at"),
    )
    return first.group_by("account_id").agg(
        **{f"first_{event}": first.first_at.min(where=first.event == event) for event in lasting},
        # All integrations without a name count as one.
        integrations=first.detail.fill_null("").nunique(where=first.event == "integration_connected"),
    )


def _checkout(by_event: ir.Table, abandoned: ir.Table, also: ir.Table, policy: Policy, as_of: datetime) -> ir.Table:
    """The state of the last checkout, the number of abandoned ones, and the last self-serve purchase.

    `events.checkouts` does so for fresh events.

    `also`: steps of people who belong to several accounts, for each of these: such a checkout holds all of them, but
    is abandoned only where its events are placed.

    - started: from its first step.
    - stalled: after `checkout_stalled_hours` without a step, or from a checkout_abandoned event later than the last
      step until `abandoned_barrier_hours` after that event, because the customer may still come back.
    - abandoned: after `checkout_abandoned_hours` without a step, or `abandoned_barrier_hours` after such an event.
    - completed: by checkout_completed or plan_upgraded at or after its last step.

    `bought_at`: the last checkout_completed, whether or not its beginning is known and whatever began since, or the end
    of a completed checkout. A plan_upgraded without a checkout is not a self-serve purchase: somebody sold it.
    """
    hours = policy.signals
    steps = by_event.filter(by_event.event.isin(CHECKOUT_STEPS))
    columns = ["account_id", "event", "last_at"]
    e = ibis.union(steps.select(columns).mutate(own=True), also.select(columns).mutate(own=False))
    e = e.filter(e.last_at >= ibis.literal(moment(first_hour(as_of, hours.lookback_days))))
    moments = e.group_by("account_id").agg(
        started=e.last_at.max(where=e.event == "checkout_started"),
        paid=e.last_at.max(where=e.event == "checkout_completed"),
        ended=e.last_at.max(where=e.event.isin(["checkout_completed", "plan_upgraded"])),
        left=e.last_at.max(where=e.event == "checkout_abandoned"),
        own_at=e.last_at.max(where=(e.event == "checkout_started") & e.own),
    )
    m = moments.filter(moments.started.notnull() | moments.left.notnull() | moments.paid.notnull())
    m = m.left_join(abandoned, "account_id").drop("account_id_right")
    begun = m.started.notnull() | m.left.notnull()

    def before(hours: int) -> ir.TimestampScalar:
        return ibis.literal(as_of - timedelta(hours=hours))

    completed = (m.ended >= ibis.coalesce(m.started, m.left)).fill_null(False)
    # An abandonment at the same moment as a step is taken to precede it, so that a running checkout is not interrupted.
    said = (m.left.notnull() & (m.started.isnull() | (m.left > m.started))).fill_null(False)
    silent = (m.started <= before(hours.checkout_abandoned_hours)).fill_null(False)
    recent_since = ibis.literal(moment(first_hour(as_of, hours.recent_days)))
    fell_silent = (
        (m.own_at == m.started).fill_null(False)
        & ~completed
        & ~said
        & silent
        & (m.started >= recent_since).fill_null(False)
    )
    return m.select(
        "account_id",
        checkout_state=ibis.cases(
            (~begun, "none"),
            (completed, "completed"),
            (said & (m.left > before(hours.abandoned_barrier_hours)), "stalled"),
            (said | silent, "abandoned"),
            (m.started <= before(hours.checkout_stalled_hours), "stalled"),
            else_="started",
        ),
        checkout_at=ibis.cases((completed, m.ended), (said, m.left), else_=m.started),
        bought_at=completed.ifelse(m.ended, m.paid),
        checkouts_abandoned=m.n_left.fill_null(0) + fell_silent.cast("int64"),
        checkouts_abandoned_at=fell_silent.ifelse(m.started, m.left_at),
    )


def _limits(
    activity: ir.Table,
    snapshot: ir.Table,
    caps: ir.Table,
    seats: ir.Table,
    clocks: ir.Table,
    local_hours: ir.Table,
    policy: Policy,
    as_of: datetime,
) -> ir.Table:
    """The plan limits of each account that has a cap and a usage reading for them.

    A reading is a state, so today's count at once; the days from one to the next are the account's own.

    Only readings of the current period count (`signals.limit_resets`, `signals.limit_fall`), and of a limit whose last
    one is older than `signals.limit_reading_days` nothing is known.
    """
    a, days, last = activity, policy.signals, last_day(as_of)
    readings = a.filter((a.event == "usage_recorded") & a.detail.notnull() & a.value_last.notnull())
    ends = {name: end for name, resets in days.limit_resets.items() if (end := _period(resets, last))}
    if ends:
        begun = [(readings.detail == name, ibis.literal(first)) for name, (first, _) in ends.items()]
        readings = readings.filter((readings.event_date >= ibis.cases(*begun)).fill_null(True))
    r = _dated(readings, clocks, local_hours)
    r = r.mutate(age=r.today.delta(r.date, unit="day"))
    r = r.filter(r.age < days.lookback_days)
    # Of several users' readings at one moment the greatest counts, of several readings on one day the last.
    at_once = r.group_by("account_id", "detail", "date", "age", "last_at").agg(used=r.value_last.max())
    day = at_once.group_by("account_id", "detail", "date", "age").agg(
        used=at_once.used.argmax(at_once.last_at), at=at_once.last_at.max()
    )
    columns = ["account_id", "limit_name", "limit_cap"]
    owned = ibis.union(
        snapshot.select("account_id", "plan_limits").join(caps, "plan_limits").select(columns),
        seats.mutate(limit_name=ibis.literal(SEATS)).select(columns),
    )
    share = day.join(owned, [("account_id", "account_id"), ("detail", "limit_name")]).mutate(
        share=lambda t: t.used / t.limit_cap
    )
    by_limit = ibis.window(group_by=["account_id", "limit_name"])
    lasts = share.limit_name.isin([name for name, resets in days.limit_resets.items() if resets == "never"])
    share = share.filter(lasts | (share.age.min().over(by_limit) < days.limit_reading_days))
    if days.limit_fall is not None:
        in_order = ibis.window(group_by=["account_id", "limit_name"], order_by="date")
        before = share.used.lag().over(in_order)
        lasts = share.limit_name.isin([name for name, resets in days.limit_resets.items() if resets == "never"])
        share = share.mutate(fell=(share.used < days.limit_fall * before).fill_null(False) & ~lasts)
        anew = share.mutate(anew=share.date.max(where=share.fell).over(by_limit))
        share = anew.filter((anew.date >= anew.anew).fill_null(True)).drop("fell", "anew")
    near = share.share >= days.limit_near
    runs = share.mutate(under=share.date.max(where=~near).over(by_limit))
    held = runs.under.isnull() | (runs.date > runs.under)
    limit = runs.group_by("account_id", "limit_name").agg(
        limit_used=runs.used.argmax(runs.date),
        limit_cap=runs.limit_cap.max(),
        limit_share=runs.share.argmax(runs.date),
        held_from=runs.date.min(where=held),
        limit_near_at=runs.at.min(where=held),
        limit_read_at=runs.at.max(),
        used_first=runs.used.argmin(runs.date),
        earliest=runs.date.min(),
        latest=runs.date.max(),
        latest_age=runs.age.min(),
    )
    f = limit
    a_day = (f.limit_used - f.used_first) / f.latest.delta(f.earliest, unit="day").nullif(0)
    # The last reading may be some days old; usage is assumed to have grown at the same pace since.
    left = (f.limit_cap - f.limit_used) / a_day - f.latest_age
    if ends:  # what would be reached after the period's end is not reached
        room = [(f.limit_name == name, ibis.literal((end - last).days)) for name, (_, end) in ends.items()]
        left = (left >= ibis.cases(*room)).fill_null(False).ifelse(ibis.null(), left)
    return f.select(
        *_LIMIT,
        limit_held_days=(f.latest.delta(f.held_from, unit="day") + 1).fill_null(0),
        limit_days_left=ibis.cases((f.limit_used >= f.limit_cap, 0.0), (a_day > 0, (left < 0).ifelse(0.0, left))),
    )


_LIMIT = ("account_id", "limit_name", "limit_used", "limit_cap", "limit_share", "limit_near_at", "limit_read_at")


def _seats(active: ir.Table, seats: ir.Table, clocks: ir.Table, policy: Policy) -> ir.Table:
    """The seats of each account as a plan limit: its active users against its cap, without any usage event.

    The days near the limit count from the first use, in the lookback, of the user with whom as many of today's active
    users were there as are `signals.limit_near` of the seats. The pace is unknown, because who left is not counted.
    """
    known = active.filter(active.recent).join(seats, "account_id")
    joined = ibis.window(group_by="account_id", order_by=["first_at", "user_id"])
    near = known.mutate(number=ibis.row_number().over(joined) + 1)
    used = near.group_by("account_id", "limit_cap").agg(
        limit_used=near.count().cast("float64"),
        held_from=near.first_at.min(where=near.number >= near.limit_cap * policy.signals.limit_near),
    )
    f = used.join(clocks.select("account_id", "ends_at"), "account_id")
    f = f.mutate(
        limit_name=ibis.literal(SEATS),
        limit_share=f.limit_used / f.limit_cap,
        limit_near_at=f.held_from,
        limit_read_at=f.ends_at,
    )
    days = ((f.ends_at.epoch_seconds() - f.held_from.epoch_seconds()) / DAY_SECONDS).ceil()
    longest = policy.signals.lookback_days
    return f.select(
        *_LIMIT,
        limit_held_days=(days > longest).ifelse(longest, days).cast("int64").fill_null(0),
        limit_days_left=(f.limit_used >= f.limit_cap).ifelse(0.0, ibis.null()).cast("float64"),
    )


def _fullest(limits: ir.Table, seats: ir.Table) -> ir.Table:
    """Of each account the limit of which the greatest share is used; of equal ones the first by name.

    `seats` is left out where a usage event reports the seats in use.
    """
    reported = limits.filter(limits.limit_name == SEATS).select("account_id")
    both = ibis.union(limits, seats.anti_join(reported, "account_id").select(limits.columns))
    ranked = both.mutate(
        rank=ibis.row_number().over(group_by="account_id", order_by=[both.limit_share.desc(), both.limit_name])
    )
    return ranked.filter(ranked["rank"] == 0).drop("rank")


def _period(resets: str, day: date) -> tuple[date, date] | None:
    """The first day of the period of a limit that contains a day, and that of the next; None if it never resets."""
    if resets == "week":
        first = day - timedelta(days=day.weekday())
        return first, first + timedelta(days=WEEK_DAYS)
    if resets == "month":
        first = day.replace(day=1)
        return first, (first + timedelta(days=31)).replace(day=1)
    return (day.replace(month=1, day=1), date(day.year + 1, 1, 1)) if resets == "year" else None


def _habits(day: ir.Table, policy: Policy) -> ir.Table:
    """The hour of day and the weekday (Monday 0) that had use on the most of the recent days.

    On the account's own clock. Of equal hours or weekdays the earlier one is taken.
    """
    lived = day.filter(day.age.between(0, policy.signals.recent_days - 1))
    weekday = lived.date.day_of_week.index()
    counted = lived.group_by("account_id").agg(
        **{f"hour_{h}": ((lived.hours >> h) & 1).sum() for h in range(DAY_HOURS)},
        **{f"weekday_{d}": (weekday == d).sum() for d in range(WEEK_DAYS)},
    )
    return counted.select(
        "account_id",
        usual_hour=_most([counted[f"hour_{h}"] for h in range(DAY_HOURS)]),
        usual_weekday=_most([counted[f"weekday_{d}"] for d in range(WEEK_DAYS)]),
    )


def _most(counts: list[ir.IntegerValue]) -> ir.IntegerValue:
    """Index of the first of the greatest counts."""
    together = ibis.array(counts)
    return together.index(together.maxs())


def _top_user(user: ir.Table) -> ir.Table:
    """The user with the most events of use on the recent days; of equal users the first by id."""
    known = user.filter(user.user_id.notnull() & (user.n_recent > 0))
    one = known.group_by("account_id", "user_id").agg(n=known.n_recent.sum())
    ranked = one.mutate(rank=ibis.row_number().over(group_by="account_id", order_by=[one.n.desc(), one.user_id]))
    return ranked.filter(ranked["rank"] == 0).select("account_id", top_user=ranked.user_id)


def _finish(joined: ir.Table, snapshot: ir.Table, policy: Policy) -> ir.Table:
    """The columns of `signals/`, with their types, computed from the joined tables."""
    product = policy.product
    t = joined
    lasting = dict.fromkeys([*product.milestones, *product.activation])
    first: dict[str, ir.Value] = {event: t[f"first_{event}"] for event in lasting}
    activated = ibis.and_(*(first[event].notnull() for event in product.activation))
    activated_at = activated.ifelse(ibis.greatest(*(first[event] for event in product.activation)), ibis.null())
    signed_up = ibis.coalesce(t.signed_up_at, t.first_seen_at, activated_at)
    days = (activated_at.epoch_seconds() - signed_up.epoch_seconds()) / DAY_SECONDS
    growth = t.events_7d.fill_null(0) / t.events_7d_before.nullif(0)
    failed = t.failed_actions.fill_null(0) / t.events.nullif(0)

    def names(milestones: list[str], *, reached: bool) -> ir.ArrayValue:
        if not milestones:
            return _nothing()
        chosen = [(first[e].notnull() if reached else first[e].isnull()).ifelse(e, ibis.null()) for e in milestones]
        return ibis.array(chosen).filter(lambda name: name.notnull())

    features = ibis.array(product.features) if product.features else _nothing()
    used_list = t.features_used_list.fill_null(_nothing())
    premium = t.premium_attempted.fill_null(_nothing())
    done = names(list(product.milestones), reached=True)
    made = {
        "milestones_done": done.length(),
        "activated": activated.cast("int64"),
        # Events of other clocks may place the sign-up after the first steps: then the duration is 0.
        "days_to_activate": (days < 0).ifelse(0.0, days),
        "features_used": used_list.length(),
        "enterprise_domain": _enterprise(t, policy).cast("int64"),
        "usage_growth_7d": growth,
        "failed_share": (failed > 1).ifelse(1.0, failed),
        # The account's first day of use does not count as a return.
        "return_days": t.active_days_recent
        - ((t.first_seen_at >= t.recent_at) & (t.first_seen_at < t.ends_at)).fill_null(False).cast("int64"),
    }
    _made(ACCOUNT, made)
    details = {
        "account_basis": t.account_basis,
        "trend": ibis.cases(
            (growth >= policy.signals.growing_ratio, "growing"),
            (growth <= 1 / policy.signals.growing_ratio, "declining"),
            (growth.notnull(), "stable"),
        ),
        "checkout_state": t.checkout_state.fill_null("none"),
        "milestones_done_list": done,
        "milestones_left": names(list(product.milestones), reached=False),
        "features_used_list": used_list,
        "features_unused": features.filter(lambda name: ~used_list.contains(name)),
        "premium_attempted": premium,
        **{column: t[column].fill_null(_no_amounts()) for column in _AMOUNTS.values()},
        "usual_hour": t.usual_hour.cast("int64"),
        "usual_weekday": t.usual_weekday.cast("int64"),
        "activated_at": activated_at,
    }
    values = {s.name: made[s.name] if s.name in made else t[s.name] for s in SIGNALS}
    return t.select(
        *snapshot.columns,
        **{s.name: (values[s.name] if s.unknown else values[s.name].fill_null(0)).cast("float64") for s in SIGNALS},
        **{s.moment: t[s.moment] for s in SIGNALS if s.happened},
        **{c.name: details[c.name] if c.name in details else t[c.name] for c in DETAIL_COLUMNS},
    )


def _enterprise(t: ir.Table, policy: Policy) -> ir.BooleanValue:
    """Whether the account is an enterprise, as the policy understands it."""
    said = policy.signals
    if said.enterprise == "business":
        return t.business_mail.fill_null(False) | t.domain.notnull()
    listed = t.enterprise_mail.fill_null(False) | t.domain.isin(_listed(policy)).fill_null(False)
    if said.enterprise_employees is None:
        return listed
    return listed | (t.employees >= said.enterprise_employees).fill_null(False)


def _listed(policy: Policy) -> list[str]:
    """The registrable domains of enterprises; never empty, since Ibis makes no column of an empty list."""
    return [domain_of(domain) or domain.lower() for domain in policy.signals.enterprise_domains] or [""]


def _nothing() -> ir.ArrayValue:
    return ibis.literal([], type="array<string>")


def _no_amounts() -> ir.ArrayValue:
    return ibis.literal([], type="array<struct<name: string, times: int64>>")
