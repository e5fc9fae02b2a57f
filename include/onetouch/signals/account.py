"""Account signals: daily activity of the lookback → one row an account, as Ibis expressions.

The same expressions run on DuckDB and on any cluster Ibis speaks. Days are UTC dates; the age of a day is its
distance in days to the last day (the date of the last moment before `as_of`), so "7 days" are the ages 0 to 6.
Below, *recent* is `signals.recent_days` (28 by default), *fortnight* `signals.engagement_days` (14), *lookback*
`signals.lookback_days` (90). *Use* is every event that is not in `activity.NOT_USE`.

Signal (unit) · meaning · source:

- `users` (users) · different users with use in the lookback · S0
- `active_users_7d`, `active_users_28d` (users) · with use in 7 days, recently · S0 S2
- `invites_28d` (events) · teammate_invited recently · S4
- `milestones_done` (milestones) · of `product.milestones`, ever reached · S2 S4
- `activated` (0 or 1) · all of `product.activation` ever seen · S2
- `days_to_activate` (days) · from sign-up (CRM, else first seen) to the last of them; null before · S2 S4
- `features_used` (features) · different details of feature_used in the lookback · S0
- `integrations` (integrations) · different details of integration_connected, ever · S0
- `developer_days_28d` (days) · with api_called, sdk_used or ci_run, recently · S1
- `limit_share` (used ÷ cap) · last usage_recorded of the lookback against the plan's cap, of the fullest limit;
  null without cap or reading · S0 S1
- `limit_held_days` (days) · from that limit's first reading of the unbroken run at or over `signals.limit_near` to
  its last reading, both included; 0 when the last is under it · S0
- `limit_days_left` (days) · from the last day until that limit is reached, at the pace from its first reading in the
  lookback to its last; 0 when reached, null while it falls or stands, and with readings of one day only · S1
- `limits_reached_28d` (events) · limit_reached recently · S1
- `active_days_7d`, `active_days_14d` (days) · with use in 7 days, in the fortnight · S4 S0
- `return_days_28d` (days) · with use recently, without the account's very first day · S1 S4
- `events_7d`, `events_28d` (events) · of use · S0
- `usage_growth_7d` (ratio) · events_7d ÷ events of the 7 days before; null when those are none · S1
- `exports_28d`, `shares_28d` (events) · export_created, content_shared recently · S1
- `pricing_views_14d` (events) · pricing_viewed in the fortnight · S4
- `plan_questions_28d`, `demo_requests_28d`, `premium_attempts_28d` (events) · recently · S4 S0 S3
- `admin_actions_28d` (events) · sso_configured and permissions_changed recently · S1
- `failed_actions_28d`, `tickets_28d` (events) · action_failed, support_ticket_opened recently · S4
- `demo_completion` (percent, 0–100) · greatest value of demo_viewed in the lookback; null without · S4
- `checkouts_abandoned_28d` (checkouts) · recent checkout_abandoned of at least `signals.abandoned_barrier_hours` ago
  (of one user's day that this moment cuts in two: one), and the last checkout if it fell silent recently · S0
- `enterprise_domain` (0 or 1) · an organisation known by a domain that is no free-mail provider's: of its users'
  e-mail addresses or of its website · S0
- `fundings_90d`, `hirings_90d` (events) · company_funded, company_hiring in the lookback · S1

Every signal of `policy.schema.MOMENTS` has its moment beside it, `{signal}_at`: the last occurrence it counts (of a
checkout that fell silent: its last step), null when it counts none.

No event of the vocabulary tells of these, so they are no signals: time in the product (nothing says when a session
ended), departments and offices, clicks in a demo, papers published. Acceleration (S1: 2 → 5 logins a week) is
`usage_growth_7d`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir

from onetouch.policy import Policy
from onetouch.policy.schema import MOMENTS, SIGNALS
from onetouch.signals.activity import last_day
from onetouch.signals.sums import FORTNIGHT, LOOKBACK, RECENT, Sums

ADMIN = ("sso_configured", "permissions_changed")

WEEK = 7  # the "7d" of a signal's name
DAY_HOURS = 24
DAY_SECONDS = 86_400

MAY_BE_UNKNOWN = frozenset(
    {
        "days_to_activate", "limit_share", "limit_held_days", "limit_days_left", "usage_growth_7d", "demo_completion",
    }
)  # fmt: skip
"""Signals that are null without something to tell them from; all others are 0 then."""

COUNTED: dict[str, tuple[Sequence[str], str]] = {
    "invites_28d": (["teammate_invited"], RECENT),
    "limits_reached_28d": (["limit_reached"], RECENT),
    "exports_28d": (["export_created"], RECENT),
    "shares_28d": (["content_shared"], RECENT),
    "pricing_views_14d": (["pricing_viewed"], FORTNIGHT),
    "plan_questions_28d": (["plan_question_asked"], RECENT),
    "demo_requests_28d": (["demo_requested"], RECENT),
    "premium_attempts_28d": (["premium_feature_attempted"], RECENT),
    "admin_actions_28d": (ADMIN, RECENT),
    "failed_actions_28d": (["action_failed"], RECENT),
    "tickets_28d": (["support_ticket_opened"], RECENT),
    "fundings_90d": (["company_funded"], LOOKBACK),
    "hirings_90d": (["company_hiring"], LOOKBACK),
}
"""Signals that count events: which, and in which window."""


def account_signals(
    sums: Sums,
    activity: ir.Table,
    history: ir.Table,
    snapshot: ir.Table,
    caps: ir.Table,
    offsets: ir.Table,
    policy: Policy,
    as_of: datetime,
) -> ir.Table:
    """One row an account of `snapshot` or product: its snapshot columns, every name of SIGNALS, and what explains them.

    `activity`: the days of the lookback as known at `as_of`, `sums` what `sum_up` makes of them; `history`: what
    `activity.build_history` remembers of before; `snapshot`: identified accounts; `caps`: plan_limits, limit_name,
    limit_cap; `offsets`: timezone, event_date, offset (whole hours to add to UTC).
    """
    seen = _seen(sums.user, history)
    tables = [
        _users(sums.user, policy),
        _days(sums.day, policy),
        _counts(sums.event),
        _milestones(sums.event, history, policy),
        _checkout(sums.event, policy, as_of),
        _limits(activity, snapshot, caps, policy, as_of),
        _habits(sums.day, snapshot, offsets, policy),
        _top_user(sums.user),
    ]
    joined = ibis.union(seen.select("account_id"), snapshot.select("account_id"), distinct=True)
    for table in [snapshot, seen, *tables]:
        joined = joined.left_join(table, "account_id").drop("account_id_right")
    return _finish(joined, snapshot, policy, as_of)


def _counts(by_event: ir.Table) -> ir.Table:
    """Signals that count events with their moments, and what was used, tried and completed."""
    e = by_event

    def details(name: str) -> ir.ArrayValue:
        return e.detail.collect(where=(e.event == name) & e.detail.notnull(), order_by=e.detail)

    return e.group_by("account_id").agg(
        **{signal: e[period].sum(where=e.event.isin(events)) for signal, (events, period) in COUNTED.items()},
        # A window reaches up to as_of: what has something in it has its last occurrence in it.
        **{
            f"{signal}_at": e.last_at.max(where=e.event.isin(events) & (e[period] > 0))
            for signal, (events, period) in COUNTED.items()
        },
        features_used_list=details("feature_used"),
        premium_attempted=details("premium_feature_attempted"),
        demo_completion=e.value_max.max(where=e.event == "demo_viewed"),
    )


def _users(user: ir.Table, policy: Policy) -> ir.Table:
    """Different users with use, by window."""
    known = user.filter(user.user_id.notnull() & user.age.notnull())
    one = known.group_by("account_id", "user_id").agg(age=known.age.min())  # with two e-mail domains still one
    return one.group_by("account_id").agg(
        users=one.count(),
        active_users_7d=(one.age < WEEK).sum(),
        active_users_28d=(one.age < policy.signals.recent_days).sum(),
    )


def _days(day: ir.Table, policy: Policy) -> ir.Table:
    """Days with use and events of use, by window."""
    recent = day.age < policy.signals.recent_days
    return day.group_by("account_id").agg(
        active_days_7d=(day.age < WEEK).sum(),
        active_days_14d=(day.age < policy.signals.engagement_days).sum(),
        active_days_recent=recent.sum(),
        developer_days_28d=(recent & day.developer).sum(),
        events_7d=day.n.sum(where=day.age < WEEK),
        events_7d_before=day.n.sum(where=day.age.between(WEEK, 2 * WEEK - 1)),
        events_28d=day.n.sum(where=recent),
    )


def _seen(user: ir.Table, history: ir.Table) -> ir.Table:
    """Every account of the product: basis, whether a user has a business address, first and last known use."""
    columns = ["account_id", "account_basis", "email_domain", "first_at", "last_at"]
    both = ibis.union(user.select(columns), history.filter(history.event.isnull()).select(columns))
    return both.group_by("account_id").agg(
        # An organisation of which some event came without a group is one still: domain, group < personal.
        account_basis=both.account_basis.min(),
        business_mail=both.email_domain.notnull().any(),
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
        # One without a name counts as one.
        integrations=first.detail.fill_null("").nunique(where=first.event == "integration_connected"),
    )


def _checkout(by_event: ir.Table, policy: Policy, as_of: datetime) -> ir.Table:
    """The state of the last checkout, and how many were given up. `events.checkouts` asks the same of fresh events.

    started, without a step for `checkout_stalled_hours` stalled, for `checkout_abandoned_hours` abandoned. By a later
    checkout_abandoned stalled, too: who gave up may come back, so it is `abandoned_barrier_hours` later that it is
    abandoned. By checkout_completed or plan_upgraded at or after its last step completed.
    """
    hours = policy.signals
    e = by_event
    moments = e.group_by("account_id").agg(
        started=e.last_at.max(where=e.event == "checkout_started"),
        ended=e.last_at.max(where=e.event.isin(["checkout_completed", "plan_upgraded"])),
        left=e.last_at.max(where=e.event == "checkout_abandoned"),
        n_left=e.n_left.sum(),
        barrier_at=e.left_at.max(),
    )
    m = moments.filter(moments.started.notnull() | moments.left.notnull())

    def before(hours: int) -> ir.TimestampScalar:
        return ibis.literal(as_of - timedelta(hours=hours))

    completed = (m.ended >= ibis.coalesce(m.started, m.left)).fill_null(False)
    # An abandonment at the very moment of a step is taken to be before it: rather wait than interrupt.
    said = (m.started.isnull() | (m.left > m.started)).fill_null(False)
    silent = (m.started <= before(hours.checkout_abandoned_hours)).fill_null(False)
    recent_since = ibis.literal(last_day(as_of) - timedelta(days=hours.recent_days))
    fell_silent = ~completed & ~said & silent & (m.started.date() > recent_since).fill_null(False)
    return m.select(
        "account_id",
        checkout_state=ibis.cases(
            (completed, "completed"),
            (said & (m.left > before(hours.abandoned_barrier_hours)), "stalled"),
            (said | silent, "abandoned"),
            (m.started <= before(hours.checkout_stalled_hours), "stalled"),
            else_="started",
        ),
        checkout_at=ibis.cases((completed, m.ended), (said, m.left), else_=m.started),
        checkouts_abandoned_28d=m.n_left.fill_null(0) + fell_silent.cast("int64"),
        checkouts_abandoned_28d_at=fell_silent.ifelse(m.started, m.barrier_at),
    )


def _limits(activity: ir.Table, snapshot: ir.Table, caps: ir.Table, policy: Policy, as_of: datetime) -> ir.Table:
    """The fullest limit of each account with a cap and a reading."""
    a = activity
    readings = a.filter((a.event == "usage_recorded") & a.detail.notnull() & a.value_last.notnull())
    # Several users' readings of one moment: the greatest; of one day: the last.
    moment = readings.group_by("account_id", "detail", "event_date", "last_at").agg(used=readings.value_last.max())
    day = moment.group_by("account_id", "detail", "event_date").agg(used=moment.used.argmax(moment.last_at))
    owned = snapshot.select("account_id", "plan_limits").join(caps, "plan_limits").drop("plan_limits")
    share = day.join(owned, [("account_id", "account_id"), ("detail", "limit_name")]).mutate(
        share=lambda t: t.used / t.limit_cap
    )
    near = share.share >= policy.signals.limit_near
    by_limit = ibis.window(group_by=["account_id", "limit_name"])
    runs = share.mutate(under=share.event_date.max(where=~near).over(by_limit))
    held = runs.under.isnull() | (runs.event_date > runs.under)
    limit = runs.group_by("account_id", "limit_name").agg(
        limit_used=runs.used.argmax(runs.event_date),
        limit_cap=runs.limit_cap.max(),
        limit_share=runs.share.argmax(runs.event_date),
        held_from=runs.event_date.min(where=held),
        used_first=runs.used.argmin(runs.event_date),
        earliest=runs.event_date.min(),
        latest=runs.event_date.max(),
    )
    fullest = limit.mutate(
        rank=ibis.row_number().over(group_by="account_id", order_by=[limit.limit_share.desc(), limit.limit_name])
    )
    f = fullest.filter(fullest["rank"] == 0)
    a_day = (f.limit_used - f.used_first) / f.latest.delta(f.earliest, unit="day").nullif(0)
    # The last reading may be some days old: the pace is taken to have gone on since.
    left = (f.limit_cap - f.limit_used) / a_day - ibis.literal(last_day(as_of)).delta(f.latest, unit="day")
    return f.select(
        "account_id", "limit_name", "limit_used", "limit_cap", "limit_share",
        limit_held_days=(f.latest.delta(f.held_from, unit="day") + 1).fill_null(0),
        limit_days_left=ibis.cases((f.limit_used >= f.limit_cap, 0.0), (a_day > 0, (left < 0).ifelse(0.0, left))),
    )  # fmt: skip


def _habits(day: ir.Table, snapshot: ir.Table, offsets: ir.Table, policy: Policy) -> ir.Table:
    """The hour of day and the weekday (Monday 0) with use on the most recent days, in the account's time zone.

    Without a known zone: UTC. Ties: the earlier one. Hours are told apart by the whole hour.
    """
    utc = day.filter(day.age < policy.signals.recent_days).select("account_id", "event_date", "hours")
    zone = snapshot.select("account_id", "timezone")
    zoned = utc.left_join(zone, "account_id").drop("account_id_right")
    local = zoned.mutate(timezone=zoned.timezone.fill_null("UTC")).join(offsets, ["timezone", "event_date"])
    # One bit an hour. The 24 hours of a UTC date lie on up to three local dates: three times 24 bits,
    # into which the offset shifts them.
    bits = local.hours.cast("int64") << (local.offset + DAY_HOURS)
    dates = [
        local.select(
            "account_id",
            date=local.event_date + ibis.interval(days=step),
            hours=(bits >> ((step + 1) * DAY_HOURS)) & ((1 << DAY_HOURS) - 1),
        )
        for step in (-1, 0, 1)
    ]
    on = ibis.union(*dates).filter(lambda t: t.hours != 0)
    lived = on.group_by("account_id", "date").agg(hours=on.hours.bit_or())
    weekday = lived.date.day_of_week.index()
    counted = lived.group_by("account_id").agg(
        **{f"hour_{h}": ((lived.hours >> h) & 1).sum() for h in range(DAY_HOURS)},
        **{f"weekday_{d}": (weekday == d).sum() for d in range(WEEK)},
    )
    return counted.select(
        "account_id",
        usual_hour=_most([counted[f"hour_{h}"] for h in range(DAY_HOURS)]),
        usual_weekday=_most([counted[f"weekday_{d}"] for d in range(WEEK)]),
    )


def _most(counts: list[ir.IntegerValue]) -> ir.IntegerValue:
    """Place of the first greatest one."""
    together = ibis.array(counts)
    return together.index(together.maxs())


def _top_user(user: ir.Table) -> ir.Table:
    """The user with the most use recently; ties: the first by id."""
    known = user.filter(user.user_id.notnull() & (user.n_recent > 0))
    one = known.group_by("account_id", "user_id").agg(n=known.n_recent.sum())
    ranked = one.mutate(rank=ibis.row_number().over(group_by="account_id", order_by=[one.n.desc(), one.user_id]))
    return ranked.filter(ranked["rank"] == 0).select("account_id", top_user=ranked.user_id)


def _finish(joined: ir.Table, snapshot: ir.Table, policy: Policy, as_of: datetime) -> ir.Table:
    """What follows from the joined tables, in the columns and types of `signals/`."""
    product = policy.product
    t = joined
    lasting = dict.fromkeys([*product.milestones, *product.activation])
    first: dict[str, ir.Value] = {event: t[f"first_{event}"] for event in lasting}
    activated = ibis.and_(*(first[event].notnull() for event in product.activation))
    activated_at = activated.ifelse(ibis.greatest(*(first[event] for event in product.activation)), ibis.null())
    signed_up = ibis.coalesce(t.signed_up_at, t.first_seen_at, activated_at)
    days = (activated_at.epoch_seconds() - signed_up.epoch_seconds()) / DAY_SECONDS
    growth = t.events_7d.fill_null(0) / t.events_7d_before.nullif(0)

    def names(milestones: list[str], *, reached: bool) -> ir.ArrayValue:
        if not milestones:
            return _nothing()
        chosen = [(first[e].notnull() if reached else first[e].isnull()).ifelse(e, ibis.null()) for e in milestones]
        return ibis.array(chosen).filter(lambda name: name.notnull())

    features = ibis.array(product.features) if product.features else _nothing()
    used_list = t.features_used_list.fill_null(_nothing())
    premium = t.premium_attempted.fill_null(_nothing())
    done = names(list(product.milestones), reached=True)
    values = {
        **{name: t[name] for name in SIGNALS if name in t.columns},
        "milestones_done": done.length(),
        "activated": activated.cast("int64"),
        # Somebody else's clock may have set the sign-up later than the first steps.
        "days_to_activate": (days < 0).ifelse(0.0, days),  # a clock that was ahead when they signed up
        "features_used": used_list.length(),
        "enterprise_domain": (t.business_mail.fill_null(False) | t.domain.notnull()).cast("int64"),
        "usage_growth_7d": growth,
        # The account's very first day is no return.
        "return_days_28d": t.active_days_recent
        - (t.first_seen_at.date() > ibis.literal(last_day(as_of) - timedelta(days=policy.signals.recent_days))).cast(
            "int64"
        ),
    }
    return t.select(
        *snapshot.columns,
        "account_basis",
        **{
            name: (value if name in MAY_BE_UNKNOWN else value.fill_null(0)).cast("float64")
            for name, value in ((name, values[name]) for name in SIGNALS)
        },
        **{f"{name}_at": t[f"{name}_at"] for name in MOMENTS},
        trend=ibis.cases(
            (growth >= policy.signals.growing_ratio, "growing"),
            (growth <= 1 / policy.signals.growing_ratio, "declining"),
            (growth.notnull(), "stable"),
        ),
        checkout_state=t.checkout_state.fill_null("none"),
        checkout_at=t.checkout_at,
        milestones_done_list=done,
        milestones_left=names(list(product.milestones), reached=False),
        features_used_list=used_list,
        features_unused=features.filter(lambda name: ~used_list.contains(name)),
        premium_attempted=premium,
        limit_name=t.limit_name,
        limit_used=t.limit_used,
        limit_cap=t.limit_cap,
        top_user=t.top_user,
        usual_hour=t.usual_hour.cast("int64"),
        usual_weekday=t.usual_weekday.cast("int64"),
        first_seen_at=t.first_seen_at,
        last_seen_at=t.last_seen_at,
        activated_at=activated_at,
    )


def _nothing() -> ir.ArrayValue:
    return ibis.literal([], type="array<string>")
