"""Routing: the rules of engagement hold for every account, whatever it looks like and in whatever order it comes."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from onetouch.catalogue import ACTIONS
from onetouch.ledger import ACTIVE
from onetouch.routing import DECISION, RULES, Inputs, decide, rules_of
from onetouch.routing.motion import motion
from onetouch.routing.route import facts
from onetouch.routing.value import potential_arr
from onetouch.scoring import score_frame

from tests.routing.world import (
    AS_OF,
    POLICY,
    PQL,
    accounts,
    ago,
    changed,
    decided,
    handoffs,
    inputs,
    load,
    previous,
    said,
    touches,
    users,
)  # fmt: skip

NOT_YET = {"insufficient_data"}
"""Actions that no rule leads to."""


def action(change: dict[str, Any], **memory: Any) -> tuple[str, str]:
    row = decided(accounts({**PQL, **change}), **memory).iloc[0]
    return row["action"], said(row)


ALL_REASONS = ["activated", "active_days_7d", "invites", "pricing_views", "premium_attempts", "users",
               "active_days"]  # fmt: skip


# ── Each rule ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pql_with_room_context_and_value_goes_to_its_owner_now() -> None:
    row = decided(accounts(PQL)).iloc[0]
    assert (row["action"], row["rule"], row["owner_email"], row["owner_id"]) == (
        "sales_now", "sales now", "ana@v.com", "id-ana@v.com",
    )  # fmt: skip
    assert (row["value_band"], row["engagement_band"], row["motion"]) == ("high", "high", "sales_assist")
    assert row["potential_arr"] == 240 * 40
    assert row["due_at"] == AS_OF + timedelta(hours=2)
    assert len(row["would_change"]) == 0


@pytest.mark.parametrize(
    ("change", "expected", "says"),
    [
        ({"checkout_state": "started"}, "hold_converting", "self-serve checkout has to end"),
        ({"checkout_state": "stalled"}, "hold_converting", "72 hours"),
        ({"checkout_state": "abandoned"}, "sales_now", ""),
        ({"checkout_state": "completed"}, "sales_now", ""),
        ({"bought_at": AS_OF - timedelta(days=3, hours=1)}, "hold_converting", "14 days have to pass since it bought"),
        ({"checkout_state": "completed", "bought_at": AS_OF - timedelta(minutes=1)}, "hold_converting", "0 days ago"),
        ({"bought_at": AS_OF - timedelta(days=14)}, "sales_now", ""),
        (
            {"bought_at": AS_OF - timedelta(days=3), "demo_requests": 1, "demo_requests_at": AS_OF - timedelta(days=2)},
            "sales_now",
            "",
        ),
        (
            {"bought_at": AS_OF - timedelta(days=3), "demo_requests": 1, "demo_requests_at": AS_OF - timedelta(days=4)},
            "hold_converting",
            "ask for a person",
        ),
        (
            {
                "bought_at": AS_OF - timedelta(days=3),
                "demo_requests": 1,
                "demo_requests_at": AS_OF - timedelta(days=2),
                "checkout_state": "started",
            },
            "hold_converting",
            "self-serve checkout has to end",
        ),
        ({"open_opportunities": 1}, "hold_open_opportunity", "opportunity"),
        (
            {"deal_closed_at": AS_OF - timedelta(days=1)},
            "hold_open_opportunity",
            "7 days have to pass since a deal there",
        ),
        ({"deal_closed_at": AS_OF + timedelta(minutes=5)}, "hold_open_opportunity", "0 days ago"),  # read after as_of
        ({"deal_closed_at": AS_OF - timedelta(days=7)}, "sales_now", ""),
        (
            {"deal_closed_at": ago(3), "demo_requests": 1, "demo_requests_at": ago(2)},
            "sales_now",
            "",
        ),
        (
            {"deal_closed_at": ago(3), "demo_requests": 1, "demo_requests_at": ago(4)},
            "hold_open_opportunity",
            "ask for a person",
        ),
        ({"employees": 20.0}, "below_floor", "$1,440 has to reach $5,000"),
        ({"employees": 20.0, "arr": 5000.0}, "sales_now", ""),
        ({"employees": 20.0, "pricing_views": 0, "premium_attempts": 0}, "self_serve_hero", "$1,440"),
        ({"employees": 20.0, "active_days": 6, "activated": 0}, "self_serve_onboarding", "It has to activate"),
        ({"employees": 20.0, "activated": 0, "demo_requests": 1}, "below_floor", "$1,440"),
        ({"active_days": 7}, "nurture", "working_days_share (0.7) has to reach 0.8."),
        ({"active_days": 10, "team_days": 5}, "nurture", "team_days (5) has to reach 6."),
        ({"premium_attempts": 0, "invites": 0}, "monitor", "score of 45 has to reach 50"),
        ({"activated": 0}, "nurture", "workspace_created and data_imported"),
        ({"active_users": 1}, "nurture", "active_users (1) has to reach 2"),
        ({"name": None}, "hold_context", "missing: name."),
        (
            {"name": "", "domain": None},
            "hold_context",
            "missing: name. The account record has to be completed; missing: domain.",
        ),
    ],
)
def test_each_rule(change: dict[str, Any], expected: str, says: str) -> None:
    got, would_change = action(change)
    assert got == expected
    assert says in would_change


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_an_account_in_a_reps_hands_is_left_there(state: str) -> None:
    past = handoffs({"account_id": "a00", "handoff_id": "h", "state": state, "closed_at": None, "signals": []})
    assert action({}, past=past)[0] == "hold_touched"


@pytest.mark.parametrize(("days", "expected"), [(6.9, "hold_touched"), (7, "sales_now")])
def test_a_reps_own_touch_counts(days: float, expected: str) -> None:
    assert action({}, touched=touches({"account_id": "a00", "at": ago(days)}))[0] == expected


def test_of_several_touches_the_last_counts() -> None:
    rows = [{"account_id": "a00", "at": ago(days)} for days in (30, 6, 20)]
    row = decided(accounts(PQL), touched=touches(*rows)).iloc[0]
    assert row["action"] == "hold_touched"
    assert [(o["obstacle"], o["has"]) for o in row["would_change"]] == [("recent_touch", 6)]


def test_a_touch_kept_under_the_crms_name_of_the_account_counts():
    known = {"crm_account_id": "001A"}
    assert action(known, touched=touches({"account_id": "crm:001A", "at": ago(1)}))[0] == "hold_touched"
    assert action(known, touched=touches({"account_id": "crm:001B", "at": ago(1)}))[0] == "sales_now"


ENDED = {"account_id": "a00", "handoff_id": "h", "signals": ALL_REASONS}
"""A handoff that has ended, at which every signal was there that is there now."""


def ended(state: str, days: float, *, touched: bool = True, **more: Any) -> pd.DataFrame:
    rest = {"rest_state": state, "rest_at": ago(days), "rest_owner": "ben@v.com"} if touched else {}
    return handoffs({**ENDED, "state": state, "closed_at": ago(days), **rest, **more})


@pytest.mark.parametrize(
    ("state", "touched", "days", "last_view", "expected"),
    [
        ("released", True, 89, 1, "hold_cooldown"),  # silence: 90 days, whatever it does
        ("released", True, 91, 1, "sales_now"),  # and then what it does counts, also if it did the same before
        ("lost", True, 89, 1, "hold_cooldown"),
        ("lost", True, 91, 1, "sales_now"),
        ("won", True, 29, 1, "hold_cooldown"),  # a customer settles in for a month
        ("won", True, 31, 1, "sales_now"),
        ("expired", True, 89, 1, "hold_cooldown"),  # somebody was in touch, and logged it late
        ("expired", False, 2, 1, "sales_now"),  # nobody was: what has happened since is called at once
        ("expired", False, 2, 2.5, "hold_cooldown"),  # the occasion that nobody took is over
        ("withdrawn", False, 2, 2.5, "sales_now"),  # nobody was called: decided on like any other
    ],
)
def test_what_each_end_of_a_handoff_means(
    state: str, touched: bool, days: float, last_view: float, expected: str
) -> None:
    seen = {"pricing_views_at": ago(last_view), "premium_attempts": 0.0, "invites_at": ago(20), "users": 20}
    assert action(seen, past=ended(state, days, touched=touched))[0] == expected


def test_who_deleted_the_task_has_judged_the_occasion() -> None:
    seen = {"pricing_views_at": ago(2.5), "premium_attempts": 0.0, "invites_at": ago(20), "users": 20}
    deleted = ended("withdrawn", 2, touched=False, reason="task deleted: by a rep")
    assert action(seen, past=deleted)[0] == "hold_cooldown"
    assert action({**seen, "pricing_views_at": ago(1)}, past=deleted)[0] == "sales_now"


@pytest.mark.parametrize("state", ["released", "lost", "won"])
@pytest.mark.parametrize(("asked", "expected"), [(1, "sales_now"), (21, "hold_cooldown")])
def test_who_asks_for_a_person_after_the_end_is_called_at_once(state: str, asked: float, expected: str) -> None:
    asks = {"demo_requests": 1, "demo_requests_at": ago(asked)}
    got = decided(accounts({**PQL, **asks}), past=ended(state, 20)).iloc[0]
    assert got["action"] == expected
    if expected == "sales_now":
        assert (got["owner_email"], got["assigned_by"]) == ("ben@v.com", "rep of before")


def test_a_request_is_no_reason_to_call_twice_where_the_policy_says_so() -> None:
    asks = {"demo_requests": 1, "demo_requests_at": ago(1)}
    strict = changed(routing__returns={**POLICY.document()["routing"]["returns"], "hand_raise": False})
    assert action(asks, past=ended("released", 20), policy=strict)[0] == "hold_cooldown"


@pytest.mark.parametrize(
    ("near", "read", "expected"),
    [(25, 1, "sales_now"), (60, 1, "sales_now"), (60, 28, "hold_cooldown"), (60, 33, "hold_cooldown")],
)
def test_a_customer_who_was_won_is_watched_by_readings_after_the_close(near: float, read: float, expected: str) -> None:
    """Outgrowing takes 14 days of readings near the limit; those of before the close belong to the plan of before."""
    grown = {
        "arr": 9600.0, "limit_share": 0.9, "limit_held_days": near - read + 1, "limit_near_at": ago(near),
        "limit_read_at": ago(read), "pricing_views": 0.0, "premium_attempts": 0.0, "invites": 0.0,
    }  # fmt: skip
    assert action(grown, past=ended("won", 35))[0] == expected


def test_a_handoff_that_nobody_was_called_for_does_not_shorten_the_rest_of_the_one_before() -> None:
    before = {"rest_state": "released", "rest_at": ago(40), "rest_owner": "ben@v.com"}
    assert action({}, past=ended("withdrawn", 2, touched=False, **before))[0] == "hold_cooldown"
    before["rest_at"] = ago(91)
    assert action({}, past=ended("withdrawn", 2, touched=False, **before))[0] == "sales_now"


@pytest.mark.parametrize(("days", "expected"), [(119, "rep of before"), (121, "owner")])
def test_a_customer_who_comes_back_meets_the_rep_of_before(days: float, expected: str) -> None:
    assert decided(accounts(PQL), past=ended("released", days)).iloc[0]["assigned_by"] == expected


def test_a_rep_of_before_who_has_left_or_is_away_is_not_waited_for() -> None:
    gone = users("ana@v.com", "ben@v.com").assign(active=[True, False])
    got = decided(accounts(PQL), past=ended("released", 100), reps=gone).iloc[0]
    assert (got["owner_email"], got["assigned_by"]) == ("ana@v.com", "owner")


THEN = changed(
    routing__returns={
        "lost_days": None, "won_days": None, "untouched_days": None, "new": "signal", "hand_raise": False,
        "same_rep_days": None,
    },
    routing__fresh_intent_hours=None,
)  # fmt: skip
"""The default as it was before ends of handoffs were told apart; stored policies are read so."""


@pytest.mark.parametrize(
    ("state", "days", "then", "expected"),
    [
        ("released", 89, [], "hold_cooldown"),
        ("expired", 89, [], "hold_cooldown"),
        ("lost", 89, [], "hold_cooldown"),
        ("withdrawn", 89, [], "hold_cooldown"),
        ("released", 91, [], "sales_now"),
        ("released", 91, ALL_REASONS, "hold_cooldown"),
        ("released", 91, ALL_REASONS[1:], "sales_now"),
        ("won", 1, ALL_REASONS[1:], "hold_cooldown"),
        ("won", 89, ALL_REASONS[1:], "hold_cooldown"),
        ("won", 91, ALL_REASONS, "hold_cooldown"),
        ("won", 91, ALL_REASONS[1:], "sales_now"),
    ],
)
def test_a_policy_of_then_backs_off_until_a_signal_is_new(
    state: str, days: float, then: list[str], expected: str
) -> None:
    row = {"account_id": "a00", "handoff_id": "h", "state": state, "closed_at": ago(days), "signals": then}
    assert action({}, past=handoffs(row), policy=THEN)[0] == expected


# ── Fresh intent ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"pricing_views_at": ago(2.9), "premium_attempts_at": ago(9)}, "sales_now"),
        ({"pricing_views_at": ago(3.1), "premium_attempts_at": ago(9)}, "monitor"),
        ({"pricing_views_at": ago(9), "premium_attempts_at": ago(9), "limit_share": 0.8}, "sales_now"),  # it lasts
        ({"pricing_views_at": ago(9), "premium_attempts_at": ago(9), "limit_share": 0.79}, "monitor"),
        ({"pricing_views_at": ago(9), "premium_attempts_at": ago(9), "demo_requests": 1,
          "demo_requests_at": ago(2)}, "sales_now"),
        ({"pricing_views_at": ago(9), "premium_attempts_at": ago(9), "checkouts_abandoned": 1,
          "checkouts_abandoned_at": ago(5.9)}, "sales_now"),  # silent for three days before it counts
        ({"pricing_views_at": ago(9), "premium_attempts_at": ago(9), "checkouts_abandoned": 1,
          "checkouts_abandoned_at": ago(6.1)}, "monitor"),
    ],
)  # fmt: skip
def test_nobody_is_called_for_what_happened_long_ago(known: dict[str, Any], expected: str) -> None:
    row = decided(accounts({**PQL, **known})).iloc[0]
    assert row["action"] == expected
    assert (row["rule"] == "stale intent") == (expected == "monitor")
    if expected == "monitor":
        assert [o["obstacle"] for o in row["would_change"]] == ["fresh_intent"]
        assert "It has to show intent anew" in said(row)


def test_the_line_for_a_rep_keeps_the_intent_that_an_account_came_with() -> None:
    stale = {"pricing_views_at": ago(5), "premium_attempts_at": ago(5)}
    before = {"account_id": "a00", "action": "hold_capacity", "rule": "capacity", "since": ago(2), "call": "pql"}
    for queued, expected in ((2.9, "sales_now"), (3.1, "monitor")):
        last = previous(before).assign(queued_since=pd.Series([ago(queued)], dtype="datetime64[us, UTC]"))
        assert decided(accounts({**PQL, **stale}), last=last).iloc[0]["action"] == expected


def test_the_control_group_is_sticky_and_of_the_size_asked_for() -> None:
    signals = accounts(*[{**PQL, "account_id": f"acct-{n}"} for n in range(1000)])
    few = decided(signals, policy=changed(routing__holdout_share=0.1))["action"] == "hold_holdout"
    more = decided(signals, policy=changed(routing__holdout_share=0.2))["action"] == "hold_holdout"
    assert 70 < few.sum() < 130
    assert (more >= few).all()
    later = decided(signals.head(500), policy=changed(routing__holdout_share=0.1), as_of=AS_OF + timedelta(days=30))
    assert ((later["action"] == "hold_holdout") == few[later.index]).all()


def test_a_required_field_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="required_context: shoe_size"):
        decided(accounts(PQL), policy=changed(handoff__required_context=["shoe_size"]))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"employees": 500.0}, "sales_led"),
        ({"arr": 25_001.0}, "sales_led"),
        ({"employees": 499.0}, "sales_assist"),
        ({"employees": 50.0, "active_users": 0}, "sales_assist"),
        ({"employees": 49.0, "active_users": 0, "seats": 40.0}, "self_serve"),
        ({"employees": 10.0, "arr": 6000.0}, "sales_assist"),
        ({"employees": np.nan, "active_users": 1}, "self_serve"),
        ({"employees": np.nan, "active_users": 1, "seats": 5.0}, "sales_assist"),
        ({"employees": np.nan, "active_users": 1, "admin_actions": 1}, "sales_assist"),
        ({"employees": np.nan, "active_users": 1, "seats": 4.0}, "self_serve"),
        ({"employees": np.nan, "active_users": 1, "tickets": 1}, "sales_assist"),
        ({"employees": np.nan, "active_users": 1, "failed_actions": 1}, "sales_assist"),
        ({"employees": np.nan, "active_users": 1, "arr": 4999.0}, "self_serve"),
        ({"employees": np.nan, "active_users": 1, "arr": 5000.0}, "sales_assist"),
        ({"employees": np.nan, "active_users": 1, "arr": 25_000.0}, "sales_assist"),
        ({"employees": 4.0, "active_users": 1}, "self_serve"),
        ({"employees": 4.0, "active_users": 1, "admin_actions": 1}, "sales_assist"),
        ({"employees": 5.0, "active_users": 1, "admin_actions": 1, "tickets": 1}, "self_serve"),
        ({"employees": 49.0, "active_users": 1, "admin_actions": 1}, "self_serve"),
    ],
)
def test_motion(change: dict[str, Any], expected: str) -> None:
    signals = accounts({**PQL, **change})
    assert motion(signals, potential_arr(signals, POLICY.value), POLICY).tolist() == [expected]


def test_potential_arr_is_to_the_cent() -> None:
    policy = changed(value__seat_price_year=100.0, value__seats_within_reach=0.07)
    rows = accounts({"employees": 100.0}, {"employees": 100.0, "arr": 700.01}, {"active_users": 8, "employees": 100.0})
    assert potential_arr(rows, policy.value).tolist() == [700.0, 700.01, 800.0]


# ── Who gets it ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_owners_are_known_whatever_their_spelling_and_left_out_when_gone() -> None:
    signals = accounts(
        {**PQL, "owner_email": "ANA@v.com"}, {**PQL, "owner_email": "gone@v.com"},
        {**PQL, "owner_email": "left@v.com", "owner_active": False},
    )  # fmt: skip
    reps = pd.concat([users("Ana@V.com", "ben@v.com"), users("gone@v.com", active=False)])
    got = decided(signals, reps=reps, policy=changed(assignment__reps=[{"email": "BEN@v.com"}]))
    assert got["owner_email"].tolist() == ["ana@v.com", "ben@v.com", "ben@v.com"]


def test_round_robin_goes_to_the_least_busy_and_stops_when_the_day_is_full() -> None:
    reps = [{"email": e} for e in ("a@v.com", "b@v.com", "c@v.com")]
    policy = changed(assignment__reps=reps, assignment__tasks_per_rep_per_day=3, assignment__ties="account_id")
    busy = load(("A@v.com", 9, 2, ago(0.1)), ("b@v.com", 5, 0, ago(3)), ("c@v.com", 5, 0, ago(4)))
    signals = accounts(*[{**PQL, "owner_email": None, "pricing_views": n < 4} for n in range(9)])
    got = decided(signals, reps=users("a@v.com", "b@v.com", "c@v.com"), busy=busy, policy=policy)
    # The longest without first; a, with two today, only when the others have as many.
    assert got["owner_email"].tolist()[:2] == ["c@v.com", "b@v.com"]
    assert sorted(got["owner_email"][2:6]) == ["b@v.com"] * 2 + ["c@v.com"] * 2
    assert got["owner_email"].iloc[6] == "a@v.com"
    assert got["action"].tolist() == ["sales_now"] * 7 + ["hold_capacity"] * 2
    assert got["owner_email"].notna().all()  # nobody waits with nobody
    assert said(got.iloc[-1], policy) == "A rep has to have room: each takes 3 tasks a day."


def test_the_best_account_goes_first_and_an_owner_over_the_cap_keeps_the_account() -> None:
    policy = changed(assignment__tasks_per_rep_per_day=1)
    signals = accounts(PQL, {**PQL, "demo_requests": 1}, {**PQL, "owner_email": None})
    got = decided(signals, policy=policy)
    assert got["action"].tolist() == ["hold_capacity", "sales_now", "hold_capacity"]
    assert got["owner_email"].tolist() == ["ana@v.com"] * 3  # who waits, waits for the account's own rep
    assert got["owner_id"].notna().tolist() == [False, True, False]


def test_an_account_nobody_may_take_says_so() -> None:
    got = decided(accounts({**PQL, "owner_email": None}), reps=users("gone@v.com", active=False)).iloc[0]
    assert (got["action"], said(got)) == ("hold_capacity", "There has to be an active rep for it.")
    assert pd.isna(got["owner_email"])


def test_accounts_from_a_file_go_to_the_policys_reps() -> None:
    got = decided(
        accounts({**PQL, "owner_email": None}), reps=users(), policy=changed(assignment__reps=[{"email": "e@v.com"}])
    )
    assert got["owner_email"].tolist() == ["e@v.com"]


# ── When ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("hour", "weekday", "zone", "expected"),
    [
        (11, 0, "Europe/Berlin", "2025-03-10T10:00"),  # 11:00 there
        (10, 0, "Europe/Berlin", "2025-03-10T09:00"),  # now
        (12, 0, "Europe/Berlin", "2025-03-10T11:00"),  # the last moment it is due
        (13, 0, "Europe/Berlin", "2025-03-10T09:00"),  # after it is due
        (11, 1, "Europe/Berlin", "2025-03-10T09:00"),  # not today
        (10, 0, None, "2025-03-10T10:00"),
        (10, np.nan, None, "2025-03-10T10:00"),
        (np.nan, np.nan, None, "2025-03-10T09:00"),
    ],
)
def test_contact_at_the_accounts_own_hour_if_that_is_in_time(
    hour: float, weekday: float, zone: str | None, expected: str
) -> None:
    row = decided(accounts({**PQL, "usual_hour": hour, "usual_weekday": weekday, "timezone": zone})).iloc[0]
    assert row["contact_at"] == pd.Timestamp(expected, tz="UTC")


# ── The whole ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_signals_and_scores_must_be_of_the_same_accounts() -> None:
    signals = accounts(PQL, PQL)
    scores = score_frame(signals.head(1), POLICY, AS_OF)
    with pytest.raises(ValueError, match="same accounts"):
        decide(Inputs(signals, scores, handoffs(), load(), users(), touches(), previous()), POLICY, AS_OF)


def test_every_action_has_a_rule_and_the_last_rule_takes_all() -> None:
    assert {rule.action for rule in RULES} == set(ACTIONS) - NOT_YET
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert RULES[-1].applies(pd.DataFrame(index=range(3)), POLICY).all()
    assert set(DECISION) >= {"decision_id", "would_change", "inputs_ref"}


# ── Why, since when, until when ──────────────────────────────────────────────────────────────────────────────────────

# Medium without premium attempt and invitation: 45 points. Its events: a look at pricing.
MEDIUM = {"premium_attempts": 0, "invites": 0, "plan_questions": 0}


def last(action: str, rule: str, since: float, call: str = "", event: float | None = None) -> pd.DataFrame:
    at = pd.NaT if event is None else ago(event)
    return previous(
        {"account_id": "a00", "action": action, "rule": rule, "since": ago(since), "call": call, "trigger_at": at}
    )


def test_a_watched_account_is_called_on_its_next_event() -> None:
    row = {**PQL, **MEDIUM, "pricing_views_at": ago(0.1), "demo_requests": 0}
    got = decided(accounts(row), last=last("monitor", "tier medium", 3)).iloc[0]
    assert (got["action"], got["call"], got["tier"], got["trigger_at"]) == ("sales_now", "trigger", "medium", ago(0.1))
    assert got["due_at"] == pd.Timestamp("2025-03-12T17:00", tz="UTC")  # 24 of the rep's working hours
    assert got["since"] == AS_OF


@pytest.mark.parametrize(
    ("seen", "expected"),
    [(ago(3), "monitor"), (ago(3) + timedelta(microseconds=1), "sales_now")],
)
def test_an_event_before_it_was_watched_is_none(seen: datetime, expected: str) -> None:
    before = last("monitor", "tier medium", 3)
    got = decided(accounts({**PQL, **MEDIUM, "pricing_views_at": seen}), last=before).iloc[0]
    assert got["action"] == expected
    assert got["since"] == (ago(3) if expected == "monitor" else AS_OF)
    assert pd.isna(got["trigger_at"]) == (expected == "monitor")


def test_the_first_event_counts_and_what_the_policy_does_not_name_is_none() -> None:
    row = {**PQL, **MEDIUM, "pricing_views_at": ago(1), "exports": 1, "exports_at": ago(2.5)}
    both = {**row, "plan_questions": 1, "plan_questions_at": ago(2), "activated": 1, "users": 0}
    before = last("monitor", "tier medium", 3)
    for account, moment in ((row, ago(1)), (both, ago(2))):
        assert decided(accounts(account), last=before).iloc[0]["trigger_at"] == moment


@pytest.mark.parametrize("waits", ["hold_capacity", "hold_context"])
def test_who_waits_keeps_the_reason_and_its_moment(waits: str) -> None:
    row = {**PQL, **MEDIUM, "pricing_views_at": ago(2)}
    before = last(waits, "capacity", 1, "trigger", 1.5)
    got = decided(accounts(row), last=before).iloc[0]
    assert (got["action"], got["call"], got["trigger_at"]) == ("sales_now", "trigger", ago(1.5))
    assert decided(accounts(row), last=last(waits, "capacity", 1, "pql")).iloc[0]["action"] == "monitor"


def test_a_checkout_given_up_by_a_watched_account_calls() -> None:
    row = {**PQL, **MEDIUM, "checkout_state": "abandoned", "checkouts_abandoned": 1, "users": 0,
           "checkouts_abandoned_at": ago(1.2)}  # fmt: skip
    got = decided(accounts(row), last=last("hold_converting", "never interrupt", 2)).iloc[0]
    assert (got["action"], got["call"]) == ("sales_now", "trigger")


@pytest.mark.parametrize(
    "lacks", [{"active_days": 7}, {"active_users": 1}, {"activated": 0}, {"employees": 20.0}, {"users": 0}]
)
def test_an_event_calls_nobody_who_lacks_the_rest(lacks: dict[str, Any]) -> None:
    row = {**PQL, **MEDIUM, "pricing_views_at": ago(0.1), "active_days_7d": 0, **lacks}
    got = decided(accounts(row), last=last("monitor", "tier medium", 3)).iloc[0]
    assert (got["call"], got["action"] == "sales_now") == ("", False)


def test_nobody_is_watched_where_medium_is_nurtured() -> None:
    row = accounts({**PQL, **MEDIUM})
    got = decided(row, last=last("monitor", "tier medium", 3), policy=changed(routing__medium="nurture")).iloc[0]
    assert (got["action"], got["rule"], got["call"]) == ("nurture", "no PQL", "")


@pytest.mark.parametrize(
    ("change", "call"),
    [
        ({}, "pql"),
        ({"demo_requests": 1}, "pql"),
        ({"demo_requests": 1, "active_days": 5}, "hand_raised"),
        ({**MEDIUM, "demo_requests": 1, "pricing_views": 0, "invites": 0, "users": 0}, "hand_raised"),
        ({**MEDIUM, "arr": 6000.0, "limit_share": 0.8, "limit_held_days": 14, "users": 0}, "expansion"),
        ({**MEDIUM, "arr": 0.0, "limit_share": 0.8, "limit_held_days": 14, "users": 0}, ""),
        ({**MEDIUM, "arr": 6000.0, "limit_share": 0.8, "limit_held_days": 13, "users": 0}, ""),
        ({**MEDIUM, "arr": 6000.0, "limit_share": 0.8, "limit_held_days": 14, "active_days": 7}, ""),
        ({"demo_requests": 1, "active_days": 4}, ""),
        ({"demo_requests": 1, "activated": 0}, ""),
        ({"demo_requests": 1, "employees": 4.0, "arr": 9000.0}, ""),
        ({"demo_requests": 1, "employees": 20.0}, ""),
    ],
)
def test_why_it_is_called(change: dict[str, Any], call: str) -> None:
    got = decided(accounts({**PQL, **change})).iloc[0]
    assert (got["call"], got["action"] == "sales_now") == (call, call != "")
    if call:
        assert got["due_at"] == AS_OF + timedelta(hours=2)


@pytest.mark.parametrize(
    ("employees", "mode", "expected"),
    [(500.0, "sales", "pql"), (499.0, "sales", ""), (500.0, "nurture", ""), (None, "sales", "")],
)
def test_large_and_quiet_is_what_the_policy_says(employees: float | None, mode: str, expected: str) -> None:
    row = {**PQL, "employees": np.nan if employees is None else employees, "arr": 9000.0, "active_days": 7}
    got = decided(accounts(row), policy=changed(routing__large_not_engaged=mode)).iloc[0]
    assert (got["call"], got["engagement_band"]) == (expected, "low")


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (("hold_capacity", "capacity", 3.0), "queue expired"),
        (("hold_capacity", "capacity", 2.9999), "sales now"),
        (("nurture", "queue expired", 0.5), "queue expired"),
        (("nurture", "queue expired", 4.0), "sales now"),  # its events were 2 days ago
        (("nurture", "no PQL", 5.0), "sales now"),
        (("hold_context", "never without context", 5.0), "sales now"),
    ],
)
def test_a_queue_has_an_end_until_something_happens(before: tuple[str, str, float], expected: str) -> None:
    happened = {f"{name}_at": ago(2) for name in ("invites", "pricing_views", "premium_attempts")}
    row = accounts({**PQL, **happened})
    got = decided(row, last=last(*before)).iloc[0]
    assert got["rule"] == expected
    stood = expected == before[1]
    assert got["since"] == (ago(before[2]) if stood else AS_OF)


def test_a_policy_from_before_lets_a_closed_deal_pass_and_needs_no_column() -> None:
    then = changed(routing__deal_closed_days=None)
    row = accounts({**PQL, "deal_closed_at": ago(1)})
    assert decided(row, policy=then).iloc[0]["action"] == "sales_now"
    assert decided(row.drop(columns="deal_closed_at"), policy=then).iloc[0]["action"] == "sales_now"


def test_where_a_hand_raise_counts_for_nothing_a_closed_deal_holds_who_asks() -> None:
    row = {**PQL, "deal_closed_at": ago(3), "demo_requests": 1, "demo_requests_at": ago(2)}
    returns = {**POLICY.routing.returns.model_dump(), "hand_raise": False}
    policy = changed(routing__returns=returns)
    got = decided(accounts(row), policy=policy).iloc[0]
    assert got["action"] == "hold_open_opportunity"
    assert "ask for a person" not in said(got, policy)


@pytest.mark.parametrize(
    ("state", "closed", "action"),
    [
        ("won", 2, "sales_now"),  # by its own handoff: the table of returns alone
        ("lost", 2, "sales_now"),
        ("lost", 3, "sales_now"),  # its close date is a day, which began before the reply
        ("won", 1.9, "hold_open_opportunity"),  # another deal, after the handoff was over
        ("released", 2, "hold_open_opportunity"),
    ],
)
def test_the_deal_of_its_own_handoff_is_the_returns_alone(state: str, closed: float, action: str) -> None:
    returns = {**POLICY.routing.returns.model_dump(), "won_days": 0, "lost_days": 0}
    policy = changed(routing__returns=returns, routing__cooldown_days=1)
    row = {**PQL, "deal_closed_at": ago(closed), "pricing_views_at": ago(0.1)}
    past = {"account_id": "a00", "handoff_id": "h", "state": state, "closed_at": ago(2), "signals": []}
    past |= {"rest_state": state, "rest_at": ago(2)}
    assert decided(accounts(row), handoffs(past), policy=policy).iloc[0]["action"] == action


def test_one_rule_of_nurture_is_not_another() -> None:
    row = accounts({**PQL, "activated": 0})
    assert decided(row, last=last("nurture", "no PQL", 5)).iloc[0]["since"] == ago(5)
    assert decided(row, last=last("nurture", "queue expired", 5)).iloc[0]["since"] == AS_OF


def test_who_waits_is_in_the_owners_queue_and_has_no_due_time() -> None:
    full = changed(assignment__tasks_per_rep_per_day=1)
    got = decided(accounts({**PQL, "owner_email": "ben@v.com"}), busy=load(("ben@v.com", 1, 1, ago(0.1))), policy=full)
    row = got.iloc[0]
    assert (row["action"], row["owner_email"], row["assigned_by"]) == ("hold_capacity", "ben@v.com", "owner")
    assert row[["owner_id", "due_at", "contact_at"]].isna().all()


def test_a_required_text_and_a_required_number_may_be_missing() -> None:
    policy = changed(handoff__required_context=["name", "limit_share"])
    rows = [{**PQL, "limit_share": 0.0}, {**PQL, "limit_share": np.nan}, {**PQL, "name": "", "limit_share": 0.0}]
    got = decided(accounts(*rows), policy=policy)
    named = [[o["obstacle"] for o in found] for found in got["would_change"]]
    assert named == [[], ["context:limit_share"], ["context:name"]]


def test_a_trigger_column_that_is_not_there_is_named() -> None:
    signals = accounts(PQL)
    given = inputs(signals)
    bare = dataclasses.replace(given, signals=signals.drop(columns=["invites_at", "plan_questions_at"]))
    message = "^signals: no column plan_questions_at, invites_at; build the run's signals again$"
    with pytest.raises(ValueError, match=message):
        decide(bare, POLICY, AS_OF)


def test_previous_decisions_without_call_and_moment_are_enough() -> None:
    """As they were kept before there were calls."""
    before = last("monitor", "tier medium", 3).drop(columns=["call", "trigger_at"])
    got = decided(accounts({**PQL, **MEDIUM, "pricing_views_at": ago(0.1)}), last=before).iloc[0]
    assert got["call"] == "trigger"


def test_an_account_twice_is_refused_however_it_is_spelled() -> None:
    signals = accounts(PQL, PQL).assign(account_id="a00")
    given = inputs(signals)
    with pytest.raises(ValueError, match="each once"):
        decide(given, POLICY, AS_OF)


def test_facts_are_one_row_an_account_with_all_that_rules_look_at() -> None:
    known = facts(
        inputs(accounts({**PQL, "account_id": "b"}, {**PQL, "account_id": "a", "activated": 0})), POLICY, AS_OF
    )
    assert known["account_id"].tolist() == ["a", "b"]
    assert known.index.tolist() == [0, 1]
    assert known["has_room"].tolist() == known["covered"].tolist() == [False, True]
    assert known["rep_email"].fillna("-").tolist() == ["-", "ana@v.com"]
    for rule in rules_of(POLICY):
        assert rule.applies(known, POLICY).shape == (2,)


@pytest.mark.parametrize(
    ("signal", "expected"),
    [("fundings", "hold_cooldown"), ("hirings", "hold_cooldown"), ("tickets", "sales_now")],
)
def test_news_about_the_company_do_not_bring_an_account_back(signal: str, expected: str) -> None:
    """Firmographics rank, they trigger nothing: not even the end of a pause."""
    row = {**PQL, signal: 1} if signal != "tickets" else {**PQL, "integrations": 3}
    got = decided(accounts(row), past=ended("released", 100), policy=THEN).iloc[0]
    assert got["action"] == expected
    assert (got["score"] > got["usage_score"]) == (signal != "tickets")
    before = {f"{name}_at": ago(101) for name in ("pricing_views", "premium_attempts", "invites")}
    today = {**row, **before, "limit_share": 0.9}
    got = decided(accounts({**today, "limit_near_at": ago(120)}), past=ended("released", 100)).iloc[0]
    assert got["action"] == "hold_cooldown"


def test_obstacles_are_the_same_however_many_accounts_are_looked_at_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**PQL, "active_days": float(n), "activated": n % 2, "name": None if n % 3 else "x"} for n in range(11)]
    whole = decided(accounts(*rows))["would_change"].tolist()
    monkeypatch.setattr("onetouch.routing.obstacles.ROWS", 4)
    assert decided(accounts(*rows))["would_change"].tolist() == whole
    assert len({len(found) for found in whole}) > 2


def test_obstacles_are_told_in_the_order_of_the_rules() -> None:
    policy = changed(routing__holdout_share=1.0)
    row = {
        "checkout_state": "started", "open_opportunities": 1, "account_basis": "personal", "limit_share": np.nan,
        "arr": 900.0,
    }  # fmt: skip
    past = {"account_id": "a00", "handoff_id": "h", "state": "released", "closed_at": ago(12.7), "signals": []}
    past |= {"rest_state": "released", "rest_at": ago(12.7)}
    at = touches({"account_id": "a00", "at": ago(3.2)})
    got = decided(accounts(row), past=handoffs(past), touched=at, policy=policy).iloc[0]
    assert [(o["obstacle"], o["has"], o["needs"]) for o in got["would_change"]] == [
        ("holdout", None, None), ("checkout", None, None), ("open_opportunity", None, None), ("recent_touch", 3, 7),
        ("cooldown", 12, 90), ("new_intent", None, None), ("potential_arr", 900, 5000), ("icp", None, None),
        ("activation", None, None), ("active_days", 0, 5), ("active_users", 0, 2),
        ("working_days_share", 0, 0.8), ("team_days", 0, 6), ("intent", None, None),
        ("score", 0, 50), ("context:name", None, None), ("context:domain", None, None),
    ]  # fmt: skip


def test_a_signal_is_new_that_was_not_there_whichever_it_is() -> None:
    """Also the first of all signals."""
    policy = THEN.changed(scoring__points=[{"signal": "users", "at_least": 1, "points": 60}])
    ended = {"state": "released", "closed_at": ago(100)}
    past = handoffs(
        {"account_id": "a0", "handoff_id": "h0", "signals": ["invites"], **ended},
        {"account_id": "a1", "handoff_id": "h1", "signals": ["users"], **ended},
    )
    keen = {**PQL, "users": 9}
    got = decided(accounts({**keen, "account_id": "a0"}, {**keen, "account_id": "a1"}), past, policy=policy)
    assert got["action"].tolist() == ["sales_now", "hold_cooldown"]


@pytest.mark.parametrize(("firmographics", "has"), [("rank", 12), ("combine", 14)])
def test_the_score_that_falls_short_is_the_one_that_counts(firmographics: str, has: float) -> None:
    points = [
        {"signal": "users", "at_least": 1, "points": 12},
        {"signal": "enterprise_domain", "at_least": 1, "points": 2},
    ]
    policy = changed(scoring__points=points, scoring__firmographics=firmographics)
    got = decided(accounts({**PQL, "users": 9, "enterprise_domain": 1}), policy=policy)
    [score] = [one for one in got["would_change"].iloc[0] if one["obstacle"] == "score"]
    assert (score["has"], score["needs"]) == (has, 50)
