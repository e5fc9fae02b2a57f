"""Account signals against a plain Python reading of their definitions, and each edge on its own."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from onetouch.catalogue import SIGNAL_NAMES, SIGNALS, Window
from onetouch.lake import Lake
from onetouch.policy import Policy, read_policy
from onetouch.signals import compute
from onetouch.signals.build import built

from tests.signals.working_week import working_week

POLICY = read_policy()
AS_BEFORE = POLICY.changed(signals__limit_fall=None, signals__limit_reading_days=36_500)
"""What a policy means that was stored before readings had periods."""
EVERY_BUSINESS = POLICY.changed(signals__enterprise="business")
"""What a policy means that was stored before enterprises were listed."""
NOT_USE = {
    "usage_recorded", "limit_reached", "demo_viewed", "support_ticket_opened", "company_funded", "company_hiring",
}  # fmt: skip
COUNTRY = {
    "Europe/Berlin": "DE", "America/New_York": "US", "Pacific/Auckland": "NZ", "Asia/Kathmandu": "NP",
    "Australia/Lord_Howe": "AU",
}  # fmt: skip
Rows = list[dict[str, Any]]


def signals_of(lake: Lake, snapshot: pd.DataFrame, as_of: datetime, policy: Policy = POLICY) -> pd.DataFrame:
    table, _ = compute(lake, policy, snapshot, as_of)
    return table.to_pandas().set_index("account_id")


def accounts(*ids: str, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"account_id": list(ids), **columns})


# ── A plain Python reading ───────────────────────────────────────────────────────────────────────────────────────────


def plain(
    events: Rows, as_of: datetime, caps: dict[str, float], signed_up: datetime | None, zone: str,
    policy: Policy = POLICY,
) -> dict:  # fmt: skip
    """The signals of one account, from its events one by one."""
    events = [e for e in events if e["occurred_at"] < as_of and e["received_at"] <= as_of]
    events = [e for e in events if e["event"] in POLICY.vocabulary]
    today = as_of.astimezone(ZoneInfo(zone)).date()
    for e in events:
        e["local"] = e["occurred_at"].astimezone(ZoneInfo(zone))
        e["age"] = (today - e["local"].date()).days - 1  # today is -1
        e["properties_"] = json.loads(e["properties"])
    near = [e for e in events if slides(e, 90, as_of)]
    use = [e for e in events if e["event"] not in NOT_USE]

    def n(days: int, *names: str) -> float:
        return sum(e["event"] in names and slides(e, days, as_of) for e in near)

    def days(limit: int, rows: Rows) -> float:
        return len({e["age"] for e in rows if 0 <= e["age"] < limit})

    def latest(days: int, *names: str) -> datetime | None:
        return max((e["occurred_at"] for e in near if e["event"] in names and slides(e, days, as_of)), default=None)

    def users(limit: int) -> float:
        return len({e["user_id"] for e in use if 0 <= e["age"] < limit and e["user_id"]})

    first: dict[str, datetime] = {}
    for e in sorted(events, key=lambda e: e["occurred_at"]):
        first.setdefault(e["event"], e["occurred_at"])
    activation = [first.get(name) for name in POLICY.product.activation]
    activated_at = max(activation) if all(activation) else None
    ever = [e["occurred_at"] for e in events if e["event"] not in NOT_USE]
    first_day = min(ever).astimezone(ZoneInfo(zone)).date() if ever else None
    begun = signed_up or (min(ever) if ever else activated_at)

    week = sum(0 <= e["age"] < 7 for e in use)
    before = sum(7 <= e["age"] < 14 for e in use)
    demos = [e["properties_"]["completion"] for e in near if e["event"] == "demo_viewed"]
    watched = [
        e for e in near
        if e["event"] == "demo_viewed" and slides(e, 28, as_of)
        and e["properties_"]["completion"] >= policy.signals.demo_watched
    ]  # fmt: skip
    looked = [e for e in near if e["event"] == "pricing_viewed" and slides(e, 14, as_of)]
    own = {e["email_domain"] for e in events if e["email_domain"]}
    share, held, days_left, limit_name = limits(
        [e for e in events if e["age"] < 89], caps, today, as_of, policy, users(28)
    )
    state, left = checkout(near, as_of)
    hours, weekdays = habits([e for e in use if 0 <= e["age"] < 28])
    return {
        **{signal.name: n(WINDOWS[signal.window], *signal.events) for signal in SIGNALS if signal.counted},
        "users": users(90),
        "active_users_7d": users(7),
        "active_users": users(28),
        "decision_makers": 0,
        "qualified_users": qualified(near, use, as_of),
        "invites": n(28, "teammate_invited"),
        "milestones_done": sum(name in first for name in POLICY.product.milestones),
        "activated": float(activated_at is not None),
        "days_to_activate": max((int(activated_at.timestamp()) - int(begun.timestamp())) / 86400, 0)
        if activated_at and begun
        else None,
        "features_used": len({e["properties_"]["feature"] for e in near if e["event"] == "feature_used"}),
        "integrations": len(
            {e["properties_"].get("integration") for e in events if e["event"] == "integration_connected"}
        ),
        "developer_days": days(28, [e for e in events if e["event"] in ("api_called", "sdk_used", "ci_run")]),
        "limit_share": share,
        "limit_held_days": held,
        "limit_days_left": days_left,
        "limits_reached": n(28, "limit_reached"),
        "active_days_7d": days(7, use),
        "active_days": days(14, use),
        **working_week(
            [(e["local"].date(), e["user_id"]) for e in use if e["age"] >= 0], today, COUNTRY.get(zone), int(users(90))
        ),
        "return_days": days(28, [e for e in use if e["local"].date() != first_day]),
        "events_7d": week,
        "events": sum(0 <= e["age"] < 28 for e in use),
        "usage_growth_7d": week / before if before else None,
        "exports": n(28, "export_created"),
        "shares": n(28, "content_shared"),
        "pricing_views": n(14, "pricing_viewed"),
        "plan_questions": n(28, "plan_question_asked"),
        "demo_requests": n(28, "demo_requested"),
        "premium_attempts": n(28, "premium_feature_attempted"),
        "admin_actions": n(28, "sso_configured", "permissions_changed"),
        "failed_actions": n(28, "action_failed"),
        "failed_share": min(n(28, "action_failed") / all_of_it, 1)
        if (all_of_it := sum(0 <= e["age"] < 28 for e in use))
        else None,
        "features_by_use": most_used([e for e in near if e["event"] == "feature_used" and slides(e, 28, as_of)]),
        "tickets": n(28, "support_ticket_opened"),
        "demo_completion": max(demos, default=None),
        "checkouts_abandoned": len(left),
        "checkouts_abandoned_at": max(left, default=None),
        "demos_watched": len(
            {(e["user_id"], e["occurred_at"].replace(minute=0, second=0, microsecond=0)) for e in watched}
        ),
        "demos_watched_at": max((e["occurred_at"] for e in watched), default=None),
        "pricing_days": len({e["local"].date() for e in looked}),
        "sessions_7d": sum(e["event"] == "session_started" and 0 <= e["age"] < 7 for e in events),
        "enterprise_domain": float(
            bool(own if policy.signals.enterprise == "business" else own & set(policy.signals.enterprise_domains))
        ),
        "fundings": n(90, "company_funded"),
        "hirings": n(90, "company_hiring"),
        **{f"{name}_at": latest(days, *of) for name, (days, of) in MOMENTS_OF.items()},
        "checkout_state": state,
        "limit_name": limit_name,
        "usual_hour": hours,
        "usual_weekday": weekdays,
        "features_used_list": sorted({e["properties_"]["feature"] for e in near if e["event"] == "feature_used"}),
        "first_seen_at": min(ever, default=None),
        "last_seen_at": max(ever, default=None),
        "activated_at": activated_at,
    }


PERSONAL = {
    "demo_requested": 28, "plan_question_asked": 28, "pricing_viewed": 14, "premium_feature_attempted": 28,
    "limit_reached": 28, "sso_configured": 28, "permissions_changed": 28, "teammate_invited": 28,
}  # fmt: skip
"""What a user does who qualifies in person, and for how many days it counts."""


def qualified(near: Rows, use: Rows, as_of: datetime) -> int:
    """How many users did one of these, and used the product on five of the last 14 dates (UTC), today among them."""
    today = (as_of - timedelta(microseconds=1)).date()
    dates: dict[str, set[date]] = defaultdict(set)
    for e in use:
        day = e["occurred_at"].date()
        if e["user_id"] and (today - day).days < 14:
            dates[e["user_id"]].add(day)
    did = {e["user_id"] for e in near if slides(e, PERSONAL.get(e["event"], -999), as_of)}
    return sum(len(dates[user]) >= 5 for user in did - {None})


def most_used(rows: Rows) -> list[dict[str, Any]]:
    often = Counter(e["properties_"]["feature"] for e in rows)
    return [{"name": name, "times": often[name]} for name in sorted(often, key=lambda name: (-often[name], name))]


def slides(e: dict[str, Any], days: int, as_of: datetime) -> bool:
    """Whether an event is in a window that slides by the hour."""
    first = (as_of - timedelta(days=days)).replace(minute=0, second=0, microsecond=0)
    return e["occurred_at"] >= first


def limits(
    near: Rows, caps: dict[str, float], today: date, as_of: datetime, policy: Policy, people: float = 0
) -> tuple[float | None, float | None, float | None, str | None]:
    readings: dict[str, dict[date, tuple[datetime, float]]] = defaultdict(dict)
    last = (as_of - timedelta(microseconds=1)).date()  # meters begin anew by the UTC calendar
    for e in near:
        name = e["properties_"].get("limit")
        if e["event"] == "usage_recorded" and name in caps and this_period(name, e["occurred_at"].date(), last, policy):
            day = readings[name]
            key = (e["occurred_at"], e["properties_"]["used"])
            day[e["local"].date()] = max(day.get(e["local"].date(), key), key)
    fullest, read = None, set()
    for name in sorted(readings):
        used = [(day, used) for day, (_, used) in sorted(readings[name].items())]
        used, ends = period(name, used, today, last, policy)
        if not used:
            continue
        read.add(name)
        share = used[-1][1] / caps[name]
        run: list[date] = []
        for day, reading in used:
            run = [*run, day] if reading / caps[name] >= 0.8 else []
        held = (run[-1] - run[0]).days + 1 if run else 0
        if fullest is None or share > fullest[0]:
            left = days_left(used, caps[name], today)
            fullest = (share, held, None if left and ends and left >= (ends - last).days else left, name)
    if people and "seats" in caps.keys() - read and policy.signals.seats_used == "active_users":
        share = people / caps["seats"]
        assert share < 0.8  # so nobody was ever near it
        if fullest is None or share > fullest[0]:
            fullest = (share, 0, None, "seats")
    return fullest or (None, None, None, None)


CALENDAR = {"week": lambda d: d.isocalendar()[:2], "month": lambda d: (d.year, d.month), "year": lambda d: d.year}


def this_period(name: str, day: date, last: date, policy: Policy) -> bool:
    key = CALENDAR.get(policy.signals.limit_resets.get(name, "never"))
    return key is None or key(day) == key(last)


def period(
    name: str, used: list[tuple[date, float]], today: date, last: date, policy: Policy
) -> tuple[list[tuple[date, float]], date | None]:
    """The readings of the current period, and the day on which the next begins, if the policy says it."""
    resets = policy.signals.limit_resets.get(name)
    if resets == "never":
        return used, None
    if (today - used[-1][0]).days >= policy.signals.limit_reading_days:
        return [], None
    ends = None
    if resets is not None:
        ends = next(d for n in range(1, 400) if not this_period(name, d := last + timedelta(days=n), last, policy))
    begins = 0
    for n in range(1, len(used)):
        if policy.signals.limit_fall is not None and used[n][1] < policy.signals.limit_fall * used[n - 1][1]:
            begins = n
    return used[begins:], ends


def days_left(used: list[tuple[date, float]], cap: float, last: date) -> float | None:
    (first_day, first), (latest_day, latest) = used[0], used[-1]
    if latest >= cap:
        return 0
    if latest <= first:
        return None
    of_the_latest = (cap - latest) / (latest - first) * (latest_day - first_day).days
    return max(of_the_latest - (last - latest_day).days, 0)


WINDOWS = {window: window.days(POLICY.signals) or 0 for window in Window}

MOMENTS_OF = {
    **{signal.name: (WINDOWS[signal.window], signal.events) for signal in SIGNALS if signal.counted},
    "invites": (28, ["teammate_invited"]),
    "limits_reached": (28, ["limit_reached"]),
    "exports": (28, ["export_created"]),
    "shares": (28, ["content_shared"]),
    "pricing_views": (14, ["pricing_viewed"]),
    "plan_questions": (28, ["plan_question_asked"]),
    "demo_requests": (28, ["demo_requested"]),
    "premium_attempts": (28, ["premium_feature_attempted"]),
    "admin_actions": (28, ["sso_configured", "permissions_changed"]),
    "failed_actions": (28, ["action_failed"]),
    "tickets": (28, ["support_ticket_opened"]),
    "fundings": (90, ["company_funded"]),
    "hirings": (90, ["company_hiring"]),
}


def checkout(near: Rows, as_of: datetime) -> tuple[str, list[datetime]]:
    """State after playing the steps in order, and when the abandonments that count happened."""
    day_old = as_of - timedelta(hours=24)
    by_hour: dict[tuple, list[datetime]] = defaultdict(list)
    for e in sorted(near, key=lambda e: e["occurred_at"]):
        if e["event"] == "checkout_abandoned" and slides(e, 28, as_of):
            hour = e["occurred_at"].replace(minute=0, second=0, microsecond=0)
            by_hour[e["user_id"], e["email_domain"], hour].append(e["occurred_at"])
    left = [at for hour in by_hour.values() if hour[-1] <= day_old for at in hour]
    left += [hour[0] for hour in by_hour.values() if hour[0] <= day_old < hour[-1]]  # cut in two: one
    steps = sorted((e["occurred_at"], e["event"]) for e in near if e["event"] in CHECKOUT)
    started = [at for at, name in steps if name == "checkout_started"]
    given_up = [at for at, name in steps if name == "checkout_abandoned"]
    if not started and not given_up:
        return "none", left
    begun = max(started or given_up)
    if any(name in ("checkout_completed", "plan_upgraded") and at >= begun for at, name in steps):
        return "completed", left
    if given_up and (not started or given_up[-1] > begun):
        return ("abandoned" if given_up[-1] <= day_old else "stalled"), left
    silent = as_of - begun
    if silent >= timedelta(hours=72):
        recent = slides({"occurred_at": begun}, 28, as_of)
        return "abandoned", [*left, begun] if recent else left
    return ("stalled" if silent >= timedelta(hours=24) else "started"), left


CHECKOUT = ("checkout_started", "checkout_completed", "checkout_abandoned", "plan_upgraded")


def habits(use: Rows) -> tuple[int | None, int | None]:
    on = {(e["local"].date(), e["local"].hour) for e in use}
    if not on:
        return None, None
    hours = Counter(hour for _, hour in on)
    weekdays = Counter(day.weekday() for day in {day for day, _ in on})
    return min(hours, key=lambda h: (-hours[h], h)), min(weekdays, key=lambda d: (-weekdays[d], d))


def some_events(rng: random.Random, event: Callable[..., dict], account: str, as_of: datetime) -> Rows:
    """Up to 250 events over half a year, most around the edges of windows, some received late."""
    names = [*POLICY.vocabulary, *CHECKOUT, "feature_used", "usage_recorded", "usage_recorded", "unheard_of"]
    # Not every account does everything: or all would be activated.
    names = rng.sample(names, k=rng.randint(8, len(names)))
    business = rng.random() < 0.5
    people = rng.choice([["ann", "ben", "cy"], ["ann", "ben", "cy", "dee", "eli", "fay"]])
    days = [0, 1, 2, 6, 7, 13, 14, 27, 28, 89, 90, *range(3, 200, 17)]
    rows = []
    for _ in range(rng.randint(1, 250)):
        at = as_of - timedelta(days=rng.choice(days), seconds=rng.uniform(-43200, 43200))
        if rng.random() < 0.1:  # the very edge of a day
            at = at.replace(hour=0, minute=0, second=0, microsecond=0)
        name = rng.choice(names)
        properties: dict[str, Any] = {
            "feature_used": {"feature": rng.choice(["alerts", "api", "o'clock"])},
            "premium_feature_attempted": {"feature": rng.choice(["sso", "roles"])},
            "integration_connected": {"integration": rng.choice(["mail", "chat", "crm"])},
            "usage_recorded": {"limit": rng.choice(["rows", "seats", "none"]), "used": rng.randint(0, 120)},
            "limit_reached": {"limit": "rows"},
            "demo_viewed": {"completion": rng.choice([25, 50, 90, 100])},
        }.get(name, {})
        user = None if name.startswith("company") else rng.choice(people) + account
        received = rng.choice([1, 1, 1, 60 * 24 * 3])
        mail = f"{account}.example" if business and rng.random() < 0.1 else None
        rows.append(event(at, name, account, user, received=received, email_domain=mail, **properties))
    return rows


PERIODS = [
    POLICY,
    AS_BEFORE,
    POLICY.changed(signals__limit_resets={"rows": "month", "seats": "never"}, signals__limit_reading_days=7),
    POLICY.changed(signals__limit_resets={"rows": "week", "seats": "year"}, signals__limit_fall=0.9),
]


@pytest.mark.parametrize("seed", range(4))
def test_signals_are_what_their_definitions_say(
    seed: int, lake: Lake, event: Callable[..., dict], stage: Callable[..., None]
) -> None:
    rng = random.Random(seed)
    as_of = datetime(2025, 3, 31, 15 if seed % 2 else 0, 30 * (seed % 2), tzinfo=UTC)  # the day after summer time
    zones = ["Europe/Berlin", "America/New_York", "Pacific/Auckland", None, "Asia/Kathmandu", "Australia/Lord_Howe"]
    ids = [f"acct{i}" for i in range(6)]
    events = {i: some_events(rng, event, i, as_of) for i in ids}
    stage(lake, [e for rows in events.values() for e in rows])
    caps = {"rows": 100.0, "seats": 90.0}
    snapshot = accounts(
        *ids, plan_limits=json.dumps(caps), timezone=zones,
        signed_up_at=["2024-12-01T00:00:00Z", None] * 3,
    )  # fmt: skip
    policy = PERIODS[seed]
    got = signals_of(lake, snapshot, as_of, policy)
    signed_up = datetime(2024, 12, 1, tzinfo=UTC)
    for i, account in enumerate(ids):
        since = signed_up if i % 2 == 0 else None
        expected = plain(events[account], as_of, caps, since, zones[i] or "UTC", policy)
        assert set(SIGNAL_NAMES) <= expected.keys()
        for name, value in expected.items():
            found = got.loc[account, name]
            if value is None:
                assert pd.isna(found), (account, name, found)
            elif isinstance(value, list):
                assert list(found) == value, (account, name)
            elif isinstance(value, float | int):
                assert found == pytest.approx(value), (account, name)
            else:
                assert found == value, (account, name)


# ── Edges ────────────────────────────────────────────────────────────────────────────────────────────────────────────

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)


def test_what_happens_at_as_of_is_not_known_yet(lake: Lake, event: Callable, stage: Callable) -> None:
    stage(
        lake,
        [
            event("2025-03-10T11:59:59", "export_created", received=0),
            event("2025-03-10T12:00:00", "export_created", received=-30),
            event("2025-03-10T11:00:00", "export_created", received=61),
        ],
    )
    assert signals_of(lake, accounts("acme"), NOON).loc["acme", "exports"] == 1
    assert signals_of(lake, accounts("acme"), NOON + timedelta(hours=1)).loc["acme", "exports"] == 3


def test_a_past_as_of_says_today_what_it_said_then(lake: Lake, event: Callable, stage: Callable) -> None:
    stage(lake, [event("2025-03-01T09:00:00", "data_imported"), event("2024-10-01T09:00:00", "report_created")])
    then = signals_of(lake, accounts("acme"), NOON)
    late = [
        event("2025-03-01T10:00:00", "workspace_created", received=60 * 24 * 20),
        event("2024-10-01T10:00:00", "workspace_created", received=60 * 24 * 200),
    ]
    stage(lake, late, batch="b2")
    pd.testing.assert_frame_equal(signals_of(lake, accounts("acme"), NOON), then)
    assert signals_of(lake, accounts("acme"), NOON + timedelta(days=30)).loc["acme", "activated"] == 1


def test_a_meter_that_reports_nightly_makes_no_idle_account_active(
    lake: Lake, event: Callable, stage: Callable
) -> None:
    nights = [NOON - timedelta(days=n) for n in range(20)]
    stage(lake, [event(night, "usage_recorded", limit="rows", used=85) for night in nights])
    row = signals_of(lake, accounts("acme", plan_limits='{"rows": 100}'), NOON + timedelta(hours=1)).loc["acme"]
    assert (row["active_days"], row["users"], row["events"]) == (0, 0, 0)
    assert (row["limit_share"], row["limit_held_days"]) == (0.85, 20)


def test_activation_is_not_forgotten(lake: Lake, event: Callable, stage: Callable) -> None:
    old = [event(f"2023-0{m}-15T09:00:00", name) for m, name in enumerate(POLICY.product.activation, 1)]
    stage(lake, [*old, event("2023-02-01T09:00:00", "integration_connected", integration="mail")])
    stage(lake, [event("2025-03-09T09:00:00", "session_started")], batch="b2")
    row = signals_of(lake, accounts("acme"), NOON).loc["acme"]
    assert (row["activated"], row["milestones_done"], row["integrations"]) == (1, 4, 1)
    assert row["milestones_left"].tolist() == ["teammate_invited"]
    assert row["first_seen_at"] == pd.Timestamp("2023-01-15T09:00:00Z")
    assert row["activated_at"] == pd.Timestamp("2023-03-15T09:00:00Z")


def test_an_account_is_not_lost_when_it_falls_silent(lake: Lake, event: Callable, stage: Callable) -> None:
    stage(lake, [event("2023-01-15T09:00:00", "session_started", "g1", email_domain="acme.com")])
    stage(lake, [event("2025-03-09T09:00:00", "session_started", "other")], batch="b2")
    got = signals_of(lake, pd.DataFrame({"domain": ["acme.com"], "name": ["Acme"]}), NOON)
    assert got.index.tolist() == ["g1", "other"]
    assert got.loc["g1", "name"] == "Acme"


STEPS = [
    ([(1, "checkout_started")], "started", 0),
    ([(24, "checkout_started")], "stalled", 0),
    ([(23.99, "checkout_started")], "started", 0),
    ([(72, "checkout_started")], "abandoned", 1),
    ([(71.99, "checkout_started")], "stalled", 0),
    ([(80, "checkout_started"), (3, "checkout_started")], "started", 0),
    ([(5, "checkout_started"), (4, "checkout_abandoned")], "stalled", 0),
    ([(25, "checkout_started"), (23.99, "checkout_abandoned")], "stalled", 0),
    ([(25, "checkout_started"), (24, "checkout_abandoned")], "abandoned", 1),
    ([(90, "checkout_started"), (1, "checkout_abandoned")], "stalled", 0),
    ([(5, "checkout_started"), (4, "checkout_abandoned"), (3, "checkout_started")], "started", 0),
    ([(35, "checkout_started"), (34, "checkout_abandoned"), (3, "checkout_started")], "started", 1),
    ([(5, "checkout_started"), (4, "checkout_abandoned"), (3, "checkout_completed")], "completed", 0),
    ([(35, "checkout_started"), (34, "checkout_abandoned"), (33, "checkout_completed")], "completed", 1),
    ([(5, "checkout_started"), (5, "checkout_abandoned")], "started", 0),
    ([(75, "checkout_started"), (75, "checkout_abandoned")], "abandoned", 2),
    ([(4, "checkout_abandoned")], "stalled", 0),
    ([(24, "checkout_abandoned")], "abandoned", 1),
    ([(5, "checkout_abandoned"), (4, "plan_upgraded")], "completed", 0),
    ([(50, "checkout_abandoned"), (3, "checkout_abandoned")], "stalled", 1),
    ([(5, "checkout_started"), (4, "plan_upgraded")], "completed", 0),
    ([(5, "plan_upgraded"), (4, "checkout_started")], "started", 0),
    ([(5, "checkout_completed")], "none", 0),
    ([(5, "plan_upgraded")], "none", 0),
    ([(9, "checkout_started"), (8, "checkout_completed"), (5, "checkout_started")], "started", 0),
    ([(99, "checkout_started"), (98, "checkout_completed"), (90, "checkout_started")], "abandoned", 1),
    ([(9, "checkout_completed"), (5, "plan_upgraded")], "none", 0),
    ([(9, "checkout_started"), (8, "checkout_completed"), (5, "plan_upgraded")], "completed", 0),
    ([(30 * 24, "checkout_started")], "abandoned", 0),
]
"""Hours before as_of and step; the state; checkouts abandoned recently."""


def test_checkout(lake: Lake, event: Callable, stage: Callable) -> None:
    stage(lake, [event(NOON - timedelta(hours=h), name, f"a{n}") for n, (s, _, _) in enumerate(STEPS) for h, name in s])
    got = signals_of(lake, accounts("a0"), NOON)
    for n, (steps, state, abandoned) in enumerate(STEPS):
        row = got.loc[f"a{n}"]
        assert (row["checkout_state"], row["checkouts_abandoned"]) == (state, abandoned), steps
        assert plain_moment(row["bought_at"]) == bought(steps), steps


def bought(steps: list[tuple[float, str]]) -> datetime | None:
    """The last self-serve purchase, read step by step: paid for, or a higher plan that ends the last checkout."""
    begun = [h for h, name in steps if name == "checkout_started"] or [h for h, name in steps if name.endswith("oned")]
    ends = [h for h, name in steps if name == "checkout_completed"]
    if begun:
        higher = [h for h, name in steps if name == "plan_upgraded" and h <= min(begun)]
        ends = higher + [h for h in ends if h <= min(begun)] or ends
    return NOON - timedelta(hours=min(ends)) if ends else None


def plain_moment(at: Any) -> datetime | None:
    return None if pd.isna(at) else at.to_pydatetime()


def test_a_vendors_word_on_an_abandoned_checkout_waits_as_long_as_the_policy_says(
    lake: Lake, event: Callable, stage: Callable
) -> None:
    stage(
        lake, [event(NOON - timedelta(hours=h), f"checkout_{step}") for h, step in [(41, "started"), (40, "abandoned")]]
    )
    for hours, state in [(0, "abandoned"), (41, "stalled")]:
        days = POLICY.signals.model_copy(update={"abandoned_barrier_hours": hours})
        row = signals_of(lake, accounts("acme"), NOON, POLICY.model_copy(update={"signals": days})).loc["acme"]
        counted = state == "abandoned"
        assert (row["checkout_state"], row["checkouts_abandoned"]) == (state, counted), hours
        assert row["checkout_at"] == NOON - timedelta(hours=40)
        assert (row["checkouts_abandoned_at"] == NOON - timedelta(hours=40)) == counted


CUTS = [
    ([("u1", 24.25), ("u1", 23.75)], 1, 24.25),
    (
        [("u1", 24.25), ("u1", 24.2), ("u1", 23.75)],
        1,
        24.25,
    ),  # of the one in between the hour does not tell when it was
    ([("u1", 24.25), ("u2", 24.2), ("u1", 23.75)], 2, 24.2),
    ([("u1", 26), ("u1", 25), ("u1", 23)], 2, 25),
    ([("u1", 50), ("u1", 23), ("u1", 22)], 1, 50),
    ([("u1", 27), ("u1", 25), ("u1", 24)], 3, 24),
]
"""Who gave up how many hours before; how many count, and which was the last of them."""


def test_of_an_hour_that_the_barrier_cuts_in_two_one_counts(lake: Lake, event: Callable, stage: Callable) -> None:
    as_of = NOON + timedelta(minutes=30)
    stage(
        lake,
        [
            event(as_of - timedelta(hours=hours), "checkout_abandoned", f"a{n}", user)
            for n, (left, _, _) in enumerate(CUTS)
            for user, hours in left
        ],
    )
    got = signals_of(lake, accounts("a0"), as_of)
    for n, (left, count, hours) in enumerate(CUTS):
        row = got.loc[f"a{n}"]
        assert row["checkouts_abandoned"] == count, left
        assert row["checkouts_abandoned_at"] == as_of - timedelta(hours=hours), left


def test_a_moment_is_the_last_one_its_window_counts(lake: Lake, event: Callable, stage: Callable) -> None:
    edge, silent = NOON - timedelta(days=14), NOON - timedelta(days=28)  # the first moments of the windows
    stage(
        lake,
        [
            event(edge, "pricing_viewed", "in"),
            event(edge - timedelta(days=20), "pricing_viewed", "in"),
            event(edge - timedelta(microseconds=1), "pricing_viewed", "out"),
            event(silent, "checkout_started", "silent"),
            event(silent - timedelta(microseconds=1), "checkout_started", "long silent"),
        ],
    )
    got = signals_of(lake, accounts("in"), NOON)
    views = got[["pricing_views", "pricing_views_at"]]
    assert views.loc["in"].tolist() == [1, edge]
    assert views.loc["out", "pricing_views"] == 0 and pd.isna(views.loc["out", "pricing_views_at"])
    left = got[["checkouts_abandoned", "checkouts_abandoned_at"]]
    assert left.loc["silent"].tolist() == [1, silent]
    assert left.loc["long silent", "checkouts_abandoned"] == 0
    assert pd.isna(left.loc["long silent", "checkouts_abandoned_at"])


READINGS = {
    "at two a day": ([(5, 50), (0, 60)], 20),
    "told three days ago": ([(8, 50), (3, 60)], 17),
    "by now it must be": ([(30, 10), (20, 90)], 0),
    "read too long ago": ([(80, 10), (70, 90)], None),
    "reached": ([(3, 100)], 0),
    "reached, and falling": ([(3, 140), (0, 100)], 0),
    "falling": ([(3, 60), (0, 50)], None),
    "standing": ([(3, 60), (0, 60)], None),
    "one day": ([(0, 60)], None),
    "older than the lookback": ([(90, 10), (0, 60)], None),
    "up and down and up": ([(4, 50), (3, 90), (2, 46), (0, 58)], 21),
    "begun anew": ([(4, 50), (3, 90), (2, 20), (0, 58)], 42 / 19),
    "begun anew just now": ([(4, 50), (3, 90), (0, 20)], None),
}
"""Days before and what was used of 100 then; days left."""


def test_days_left_go_by_the_pace_so_far(lake: Lake, event: Callable, stage: Callable) -> None:
    readings = [(name, days, used) for name, (known, _) in READINGS.items() for days, used in known]
    at = NOON - timedelta(hours=1)
    stage(lake, [event(at - timedelta(days=d), "usage_recorded", a, limit="rows", used=u) for a, d, u in readings])
    snapshot = accounts(*READINGS, plan_limits='{"rows": 100, "seats": 5}')
    got = signals_of(lake, snapshot, NOON)["limit_days_left"]
    assert {a: None if pd.isna(got[a]) else got[a] for a in READINGS} == {a: left for a, (_, left) in READINGS.items()}
    before = signals_of(lake, snapshot, NOON, AS_BEFORE)["limit_days_left"]
    assert (before["read too long ago"], before["begun anew"]) == (0, 21)


def meter(event: Callable, days: Any, used: Callable[[date], float], account: str = "acme") -> Rows:
    """A reading at six in the morning of each day before the 31st of March: `days` before, and what was used then."""
    at = [datetime(2025, 3, 31, 6, tzinfo=UTC) - timedelta(days=n) for n in days]
    return [event(day, "usage_recorded", account, limit="calls", used=used(day.date())) for day in at]


def test_the_pace_of_a_monthly_quota_is_that_of_the_month(lake: Lake, event: Callable, stage: Callable) -> None:
    stage(lake, meter(event, range(89), lambda day: 30 * day.day))
    as_of = datetime(2025, 3, 30, 12, tzinfo=UTC)
    for resets in ({}, {"calls": "month"}):
        policy = POLICY.changed(signals__limit_resets=resets)
        row = signals_of(lake, accounts("acme", plan_limits='{"calls": 930}'), as_of, policy).loc["acme"]
        assert (row["limit_used"], row["limit_share"]) == (900, pytest.approx(900 / 930))
        assert row["limit_days_left"] == pytest.approx(1)
        row = signals_of(lake, accounts("acme", plan_limits='{"calls": 1000}'), as_of, policy).loc["acme"]
        # By the pace it would be full on the 3rd of April; where the policy says that it begins anew before, it is not.
        assert pd.isna(row["limit_days_left"]) if resets else row["limit_days_left"] == pytest.approx(100 / 30)
        later = as_of + timedelta(days=1, hours=20)  # the first of April: nothing was read of the new month yet
        row = signals_of(lake, accounts("acme", plan_limits='{"calls": 930}'), later, policy).loc["acme"]
        assert pd.isna(row["limit_share"]) if resets else row["limit_share"] == 1


def test_a_quota_that_was_full_in_january_is_not_full_in_march(lake: Lake, event: Callable, stage: Callable) -> None:
    stage(lake, meter(event, range(59, 89), lambda day: 100))
    march, snapshot = datetime(2025, 3, 1, 12, tzinfo=UTC), accounts("acme", plan_limits='{"calls": 100}')
    assert signals_of(lake, snapshot, datetime(2025, 1, 31, 12, tzinfo=UTC)).loc["acme", "limit_share"] == 1
    for policy, share in [
        (POLICY, None), (POLICY.changed(signals__limit_resets={"calls": "month"}), None), (AS_BEFORE, 1),
        (POLICY.changed(signals__limit_resets={"calls": "never"}), 1),
    ]:  # fmt: skip
        row = signals_of(lake, snapshot, march, policy).loc["acme"]
        assert (None if pd.isna(row["limit_share"]) else row["limit_share"]) == share
        assert pd.isna(row["limit_name"]) == (share is None)


def test_an_older_reading_that_arrives_late_does_not_count(lake: Lake, event: Callable, stage: Callable) -> None:
    def reading(hours: int, used: int, received: int) -> dict:
        return event(NOON - timedelta(hours=hours), "usage_recorded", limit="rows", used=used, received=received)

    snapshot = accounts("acme", plan_limits='{"rows": 100}')
    stage(lake, [reading(26, 90, 1)])
    for n, hours in enumerate((27, 50, 200)):  # of the same day, and of days before
        stage(lake, [reading(hours, 10 + n, hours * 60 - 30)], batch=f"late{n}")
    row = signals_of(lake, snapshot, NOON).loc["acme"]
    assert (row["limit_used"], row["limit_held_days"]) == (90, 1)


def test_a_domain_is_a_companys_unless_anybody_can_have_an_address_there(
    lake: Lake, event: Callable, stage: Callable
) -> None:
    stage(
        lake,
        [
            event("2025-03-09T09:00:00", "session_started", "user:mail", "mail", basis="personal"),
            event("2025-03-09T09:00:00", "session_started", "a group"),
            event("2025-03-09T09:00:00", "session_started", "a group of the company", email_domain="acme.example"),
            event("2023-03-09T09:00:00", "session_started", "once", email_domain="once.example"),
            event(
                "2025-03-09T09:00:00", "session_started", "big.example", "u9", basis="domain",
                email_domain="big.example",
            ),
        ],
    )  # fmt: skip
    snapshot = pd.DataFrame(
        {"account_id": ["free", "site", "blank"], "domain": ["gmail.com", "https://www.site.example/", None]}
    )
    built = signals_of(lake, snapshot, NOON, EVERY_BUSINESS)
    assert built["domain"].dropna().to_dict() == {"site": "site.example"}, "a mail provider's domain is no company's"
    got = built["enterprise_domain"]
    assert got.to_dict() == {
        "user:mail": 0, "a group": 0, "a group of the company": 1, "once": 1, "big.example": 1,
        "free": 0, "site": 1, "blank": 0,
    }  # fmt: skip


def test_an_enterprise_is_listed_or_large(lake: Lake, event: Callable, stage: Callable) -> None:
    stage(
        lake,
        [
            event("2025-03-09T09:00:00", "session_started", "by mail", email_domain="big.example"),
            event("2025-03-09T09:00:00", "session_started", "another", email_domain="small.example"),
        ],
    )
    snapshot = pd.DataFrame(
        {
            "account_id": ["by site", "by size", "just under", "a firm of three", "of unknown size"],
            "domain": ["https://www.large.example/", None, "one.example", "three.example", None],
            "employees": [3, 1000, 999, 3, None],
        }
    )

    def enterprises(**said: Any) -> set[str]:
        policy = POLICY.changed(**{f"signals__{key}": value for key, value in said.items()})
        found = signals_of(lake, snapshot, NOON, policy)["enterprise_domain"]
        return set(found.index[found == 1])

    assert enterprises() == {"by size"}, "of the default policy, which lists nobody"
    assert enterprises(enterprise_domains=["Big.example", "www.large.example"]) == {"by mail", "by site", "by size"}
    assert enterprises(enterprise_domains=["big.example", "large.example"], enterprise_employees=None) == {
        "by mail",
        "by site",
    }
    assert "a firm of three" in enterprises(enterprise="business")


def test_a_demo_is_watched_to_the_end_at_the_moment_of_the_last_one(
    lake: Lake, event: Callable, stage: Callable
) -> None:
    stage(
        lake,
        [
            event("2025-02-09T09:00:00", "demo_viewed", "acme", completion=100),  # 29 days ago
            event("2025-03-01T09:00:00", "demo_viewed", "acme", completion=90),
            event("2025-03-05T09:30:00", "demo_viewed", "acme", completion=100),
            event("2025-03-09T09:00:00", "demo_viewed", "acme", completion=89.9),
            event("2025-03-09T09:00:00", "demo_viewed", "others", completion=50),
        ],
    )
    got = signals_of(lake, accounts("acme", "others", "silent"), NOON)
    assert got["demos_watched"].to_dict() == {"acme": 2, "others": 0, "silent": 0}
    assert got.loc["acme", "demos_watched_at"] == datetime(2025, 3, 5, 9, 30, tzinfo=UTC)
    assert pd.isna(got.loc["others", "demos_watched_at"])


def test_days_with_a_look_at_pricing_are_the_accounts_own(lake: Lake, event: Callable, stage: Callable) -> None:
    """Half an hour around midnight UTC is one evening in New York, and two days in London."""
    looks = ["2025-03-04T23:45:00", "2025-03-05T00:15:00", "2025-02-20T12:00:00", "2025-03-10T11:59:00"]
    stage(lake, [event(at, "pricing_viewed", account) for account in ("ny", "ldn") for at in looks])
    got = signals_of(lake, accounts("ny", "ldn", timezone=["America/New_York", "Europe/London"]), NOON)
    assert got["pricing_days"].to_dict() == {"ny": 2, "ldn": 3}, "today counts, the look of 18 days ago does not"


def test_two_readings_of_one_moment_count_the_greater(lake: Lake, event: Callable, stage: Callable) -> None:
    at = NOON - timedelta(hours=2)
    used = [event(at, "usage_recorded", "acme", f"u{n % 3}", limit="rows", used=n) for n in (40, 90, 10)]
    stage(lake, used)
    row = signals_of(lake, accounts("acme", plan_limits='{"rows": 100}'), NOON).loc["acme"]
    assert (row["limit_used"], row["limit_cap"], row["limit_name"]) == (90, 100, "rows")


def test_values_that_are_no_numbers_are_unknown(lake: Lake, event: Callable, stage: Callable) -> None:
    readings = ["many", None, "1e999", True, {"a": 1}, [1]]
    rows = [
        event(NOON - timedelta(hours=n + 1), "usage_recorded", limit="rows", used=v) for n, v in enumerate(readings)
    ]
    stage(lake, rows)
    row = signals_of(lake, accounts("acme", plan_limits='{"rows": 100}'), NOON).loc["acme"]
    assert pd.isna(row["limit_share"])


@pytest.mark.parametrize(
    ("values", "told"),
    [({"1,900": 1900, "1 900": 1900, "1.900.000": 1_900_000, "12,5": 12.5, " 900 ": 900, "1e3": 1000, 1.125: 1.125,
       None: None, "": None}, False),
     (dict.fromkeys(["1.125", "90%", "900 GB", "$5", "nan"]), True)],
    ids=["plain or absent", "not plain"],
)  # fmt: skip
def test_numbers_of_properties_are_read_where_plain_and_counted_where_not(
    values: dict[Any, float | None], told: bool, lake: Lake, event: Callable, stage: Callable
) -> None:
    """One account for each value."""
    at, ids = NOON - timedelta(hours=1), [f"a{n:02}" for n in range(len(values))]
    sent = [event(at, "usage_recorded", i, i, limit="rows", used=used) for i, used in zip(ids, values, strict=True)]
    stage(lake, [*sent, *(event(at, "demo_viewed", i, i, completion="90 %") for i in ids)])
    table, _, joined = built(lake, POLICY, accounts(*ids, plan_limits='{"rows": 1000}'), NOON)
    rows = table.to_pandas().set_index("account_id").loc[ids]
    assert [None if pd.isna(read) else read for read in rows["limit_used"]] == list(values.values())
    assert rows["demo_completion"].tolist() == [90] * len(ids)
    lines = [line for line in joined.warnings if line.startswith("usage_recorded:")]
    assert len(lines) == told
    assert all(line.startswith(f"usage_recorded: {len(ids)} of {len(ids)} events") for line in lines)


def test_an_account_without_events_has_zeros_and_unknowns(lake: Lake) -> None:
    row = signals_of(lake, accounts("acme", name="Acme"), NOON).loc["acme"]
    unknown = {name for name in SIGNAL_NAMES if pd.isna(row[name])}
    assert unknown == {signal.name for signal in SIGNALS if signal.unknown}
    assert {"days_to_activate", "limit_share", "limit_held_days", "limit_days_left", "usage_growth_7d"} <= unknown
    assert all(row[name] == 0 for name in SIGNAL_NAMES if name not in unknown)
    assert (row["checkout_state"], row["name"]) == ("none", "Acme")
    assert row["milestones_left"].tolist() == POLICY.product.milestones


def test_a_vendors_words_are_mapped_by_the_policy(lake: Lake, event: Callable, stage: Callable) -> None:
    document = POLICY.document()
    document["vocabulary"] = {
        "Merged Code": {"as": "feature_used", "detail_is": "it's merging"},
        "Meter": {"as": "usage_recorded", "detail": "a/b~ \"c'", "value": "n"},
    }
    policy = Policy.model_validate(document)
    odd = {"a/b~ \"c'": "rows"}
    stage(
        lake,
        [
            event("2025-03-09T09:00:00", "Merged Code"),
            event("2025-03-09T09:00:00", "Meter", n="50", **odd),
            event("2025-03-09T09:00:00", "feature_used", feature="alerts"),
        ],
    )
    row = signals_of(lake, accounts("acme", plan_limits='{"rows": 100}'), NOON, policy).loc["acme"]
    assert row["features_used_list"].tolist() == ["it's merging"]
    assert row["limit_share"] == 0.5


def test_usual_hours_are_the_accounts_own(lake: Lake, event: Callable, stage: Callable) -> None:
    # Tuesdays 22:30 UTC: Wednesday morning in Auckland, Tuesday night in Berlin.
    tuesdays = [datetime(2025, 2, 11, 22, 30, tzinfo=UTC) + timedelta(days=7 * n) for n in range(4)]
    stage(lake, [event(at, "session_started", account) for at in tuesdays for account in ("nz", "de", "nowhere")])
    snapshot = accounts("nz", "de", "nowhere", timezone=["Pacific/Auckland", "Europe/Berlin", "Mars/Olympus"])
    got = signals_of(lake, snapshot, NOON)
    assert got[["usual_hour", "usual_weekday"]].to_dict("index") == {
        "nz": {"usual_hour": 11, "usual_weekday": 2},
        "de": {"usual_hour": 23, "usual_weekday": 1},
        "nowhere": {"usual_hour": 22, "usual_weekday": 1},
    }


def test_the_order_of_rows_and_files_changes_nothing(tmp_path: Any, event: Callable, stage: Callable) -> None:
    rng = random.Random(7)
    events = [e for i in range(3) for e in some_events(rng, event, f"acct{i}", NOON)]
    snapshot = accounts("acct0", "acct1", plan_limits='{"rows": 100, "seats": 90}')
    one, other = Lake(tmp_path / "one"), Lake(tmp_path / "other")
    stage(one, events)
    shuffled = rng.sample(events, k=len(events))
    stage(other, shuffled[::2], batch="x")
    stage(other, shuffled[1::2], batch="a")
    pd.testing.assert_frame_equal(signals_of(one, snapshot, NOON), signals_of(other, snapshot.iloc[::-1], NOON))
