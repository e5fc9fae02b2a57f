"""Routing: the rules of engagement hold for every account, whatever it looks like and in whatever order it comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onetouch.ledger import ACTIVE, STATES
from onetouch.policy import Policy, read_policy
from onetouch.policy.schema import MOMENTS, SIGNALS
from onetouch.routing import DECISION, RULES, Inputs, decide, sentence
from onetouch.scoring import score_frame

POLICY = read_policy()
AS_OF = datetime(2025, 3, 10, 9, tzinfo=UTC)  # a Monday
ACTIONS = {
    "sales_now", "monitor", "nurture", "self_serve_hero", "self_serve_onboarding", "hold_converting", "hold_touched",
    "hold_cooldown", "hold_open_opportunity", "hold_context", "hold_capacity", "hold_holdout", "below_floor",
}  # fmt: skip
PQL: dict[str, Any] = {
    "account_basis": "group", "name": "Acme", "domain": "acme.com", "employees": 200.0, "owner_email": "ana@v.com",
    "activated": 1, "active_days_14d": 12, "active_users_28d": 6, "active_days_7d": 5, "invites_28d": 2,
    "pricing_views_14d": 1, "premium_attempts_28d": 1, "features_used": 3, "users": 6, "events_28d": 400,
}  # fmt: skip
TEXT = (
    "account_id", "account_basis", "name", "domain", "industry", "region", "timezone", "owner_email", "owner_id",
    "crm_account_id", "checkout_state",
)  # fmt: skip


def accounts(*rows: dict[str, Any]) -> pd.DataFrame:
    base: dict[str, Any] = {
        **dict.fromkeys(TEXT), **dict.fromkeys(SIGNALS, 0.0), "employees": np.nan, "seats": np.nan, "arr": np.nan,
        "owner_active": None, "open_opportunities": 0, "checkout_state": "none", "usual_hour": np.nan,
        "usual_weekday": np.nan,
    }  # fmt: skip
    happened = {f"{name}_at": AS_OF for name in MOMENTS}
    table = pd.DataFrame([{**base, "account_id": f"a{n:02}", **happened, **row} for n, row in enumerate(rows)])
    for name in MOMENTS:  # null when there is none
        table[f"{name}_at"] = table[f"{name}_at"].where(table[name] > 0)
    moments = dict.fromkeys(happened, "datetime64[us, UTC]")
    return table.astype({**dict.fromkeys(TEXT, "str"), **dict.fromkeys(SIGNALS, "float64"), **moments})


def handoffs(*rows: dict[str, Any]) -> pd.DataFrame:
    columns = ["account_id", "handoff_id", "state", "closed_at", "signals"]
    return pd.DataFrame(list(rows), columns=columns).astype({"closed_at": "datetime64[us, UTC]"})


def touches(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["account_id", "at"]).astype({"at": "datetime64[us, UTC]"})


def previous(*rows: dict[str, Any]) -> pd.DataFrame:
    columns = ["account_id", "action", "rule", "since", "call", "trigger_at"]
    moments = dict.fromkeys(["since", "trigger_at"], "datetime64[us, UTC]")
    return pd.DataFrame(list(rows), columns=columns).astype({**dict.fromkeys(columns, "str"), **moments})


def load(*rows: tuple[str, int, int, datetime | None]) -> pd.DataFrame:
    """E-mail, open handoffs, handoffs of today, and when the last one came."""
    frame = pd.DataFrame(
        [(email, n_open, [ago(1 / 24)] * today, last) for email, n_open, today, last in rows],
        columns=["owner_email", "open", "recent", "last_assigned_at"],
    )
    return frame.astype({"owner_email": "str", "last_assigned_at": "datetime64[us, UTC]"})


def users(*emails: str, active: bool = True) -> pd.DataFrame:
    return pd.DataFrame({"owner_id": [f"id-{e}" for e in emails], "email": list(emails), "active": active}).astype(
        {"owner_id": "str", "email": "str"}
    )


def decided(
    signals: pd.DataFrame,
    past: pd.DataFrame | None = None,
    touched: pd.DataFrame | None = None,
    busy: pd.DataFrame | None = None,
    reps: pd.DataFrame | None = None,
    last: pd.DataFrame | None = None,
    policy: Policy = POLICY,
    as_of: datetime = AS_OF,
) -> pd.DataFrame:
    inputs = Inputs(
        signals=signals,
        scores=score_frame(signals, policy, as_of),
        handoffs=handoffs() if past is None else past,
        rep_load=load() if busy is None else busy,
        reps=users("ana@v.com", "ben@v.com") if reps is None else reps,
        touches=touches() if touched is None else touched,
        previous=previous() if last is None else last,
    )
    return decide(inputs, policy, as_of).set_index("account_id")


def said(row: pd.Series, policy: Policy = POLICY) -> str:
    return " ".join(sentence(o["obstacle"], o["has"], o["needs"], policy) for o in row["would_change"])


def action(change: dict[str, Any], **memory: Any) -> tuple[str, str]:
    row = decided(accounts({**PQL, **change}), **memory).iloc[0]
    return row["action"], said(row)


def changed(**sections: Any) -> Policy:
    document = POLICY.document()
    for path, value in sections.items():
        *parents, last = path.split("__")
        place = document
        for step in parents:
            place = place[step]
        place[last] = value
    return Policy.model_validate(document)


def ago(days: float) -> datetime:
    return AS_OF - timedelta(days=days)


ALL_REASONS = ["activated", "active_days_7d", "invites_28d", "pricing_views_14d", "premium_attempts_28d", "users",
               "active_days_14d"]  # fmt: skip


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
        ({"open_opportunities": 1}, "hold_open_opportunity", "opportunity"),
        ({"employees": 20.0}, "below_floor", "$1,440 has to reach $5,000"),
        ({"employees": 20.0, "arr": 5000.0}, "sales_now", ""),
        ({"employees": 20.0, "pricing_views_14d": 0, "premium_attempts_28d": 0}, "self_serve_hero", "$1,440"),
        ({"employees": 20.0, "active_days_14d": 6, "activated": 0}, "self_serve_onboarding", "It has to activate"),
        ({"employees": 20.0, "activated": 0, "demo_requests_28d": 1}, "below_floor", "$1,440"),
        ({"active_days_14d": 9}, "nurture", "active_days_14d (9) has to reach 10."),
        ({"premium_attempts_28d": 0, "invites_28d": 0}, "monitor", "score of 45 has to reach 50"),
        ({"activated": 0}, "nurture", "workspace_created and data_imported"),
        ({"active_users_28d": 1}, "nurture", "active_users_28d (1) has to reach 2"),
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


def test_a_touch_kept_under_the_crms_name_of_the_account_counts():
    known = {"crm_account_id": "001A"}
    assert action(known, touched=touches({"account_id": "crm:001A", "at": ago(1)}))[0] == "hold_touched"
    assert action(known, touched=touches({"account_id": "crm:001B", "at": ago(1)}))[0] == "sales_now"


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
        ("won", 1, ALL_REASONS, "hold_cooldown"),
        ("won", 1, ALL_REASONS[1:], "sales_now"),
    ],
)
def test_one_touch_then_back_off_until_something_new(state: str, days: float, then: list[str], expected: str) -> None:
    row = {"account_id": "a00", "handoff_id": "h", "state": state, "closed_at": ago(days), "signals": then}
    assert action({}, past=handoffs(row))[0] == expected


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
        ({"employees": 50.0, "active_users_28d": 0}, "sales_assist"),
        ({"employees": 49.0, "active_users_28d": 0, "seats": 40.0}, "self_serve"),
        ({"employees": 10.0, "arr": 6000.0}, "sales_assist"),
        ({"employees": np.nan, "active_users_28d": 1}, "self_serve"),
        ({"employees": np.nan, "active_users_28d": 1, "seats": 5.0}, "sales_assist"),
        ({"employees": np.nan, "active_users_28d": 1, "admin_actions_28d": 1}, "sales_assist"),
        ({"employees": np.nan, "active_users_28d": 1, "seats": 4.0}, "self_serve"),
        ({"employees": np.nan, "active_users_28d": 1, "tickets_28d": 1}, "sales_assist"),
        ({"employees": np.nan, "active_users_28d": 1, "failed_actions_28d": 1}, "sales_assist"),
        ({"employees": np.nan, "active_users_28d": 1, "arr": 4999.0}, "self_serve"),
        ({"employees": np.nan, "active_users_28d": 1, "arr": 5000.0}, "sales_assist"),
        ({"employees": np.nan, "active_users_28d": 1, "arr": 25_000.0}, "sales_assist"),
        ({"employees": 4.0, "active_users_28d": 1}, "self_serve"),
        ({"employees": 4.0, "active_users_28d": 1, "admin_actions_28d": 1}, "sales_assist"),
        ({"employees": 5.0, "active_users_28d": 1, "admin_actions_28d": 1, "tickets_28d": 1}, "self_serve"),
        ({"employees": 49.0, "active_users_28d": 1, "admin_actions_28d": 1}, "self_serve"),
    ],
)
def test_motion(change: dict[str, Any], expected: str) -> None:
    assert decided(accounts({**PQL, **change})).iloc[0]["motion"] == expected


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
    policy = changed(assignment__reps=reps, assignment__tasks_per_rep_per_day=3)
    busy = load(("A@v.com", 9, 2, ago(0.1)), ("b@v.com", 5, 0, ago(3)), ("c@v.com", 5, 0, ago(4)))
    signals = accounts(*[{**PQL, "owner_email": None, "pricing_views_14d": n < 4} for n in range(9)])
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
    signals = accounts(PQL, {**PQL, "demo_requests_28d": 1}, {**PQL, "owner_email": None})
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


# ── Whatever an account looks like ───────────────────────────────────────────────────────────────────────────────────

any_account = st.fixed_dictionaries(
    {
        "checkout_state": st.sampled_from(["none", "started", "stalled", "completed", "abandoned"]),
        "open_opportunities": st.integers(0, 1),
        "account_basis": st.sampled_from(["group", "domain", "personal", None]),
        "name": st.sampled_from(["Acme", None]),
        "domain": st.sampled_from(["acme.com", "acme.com", None]),
        "employees": st.sampled_from([np.nan, 3.0, 60.0, 200.0, 900.0]),
        "arr": st.sampled_from([np.nan, 0.0, 9000.0]),
        "owner_email": st.sampled_from(["ana@v.com", "zoe@v.com", None]),
        "activated": st.integers(0, 1),
        "active_days_14d": st.sampled_from([0, 6, 12]),
        "active_users_28d": st.sampled_from([0, 1, 6]),
        "invites_28d": st.integers(0, 1),
        "active_days_7d": st.sampled_from([0, 6]),
        "pricing_views_14d": st.integers(0, 2),
        "premium_attempts_28d": st.integers(0, 1),
        "demo_requests_28d": st.integers(0, 1),
    }
)
any_past = st.one_of(
    st.none(), st.tuples(st.sampled_from(STATES), st.floats(0, 200), st.lists(st.sampled_from(ALL_REASONS)))
)
worlds = st.lists(st.tuples(any_account, any_past, st.one_of(st.none(), st.floats(0, 20))), min_size=1, max_size=12)


def world(rows: list) -> dict[str, pd.DataFrame]:
    ids = [f"a{n:02}" for n in range(len(rows))]
    past = [
        {"account_id": i, "handoff_id": f"h{i}", "state": p[0], "closed_at": None if p[0] in ACTIVE else ago(p[1]),
         "signals": p[2]}
        for i, (_, p, _) in zip(ids, rows, strict=True) if p
    ]  # fmt: skip
    touched = [{"account_id": i, "at": ago(t)} for i, (_, _, t) in zip(ids, rows, strict=True) if t is not None]
    return {
        "signals": accounts(*[{**PQL, **account} for account, _, _ in rows]),
        "past": handoffs(*past),
        "touched": touches(*touched),
        "busy": load(("ana@v.com", 3, 1, ago(0.1))),
    }


@settings(max_examples=25, deadline=None)
@given(worlds, st.integers(1, 4))
def test_the_hard_rules(rows: list, cap: int) -> None:
    policy = changed(assignment__tasks_per_rep_per_day=cap)
    given_world = world(rows)
    signals, past = given_world["signals"].set_index("account_id"), given_world["past"].set_index("account_id")
    got = decided(**given_world, policy=policy)
    scores = score_frame(given_world["signals"], policy, AS_OF).set_index("account_id")

    assert got.index.tolist() == signals.index.tolist()  # exactly one decision an account
    assert set(got["action"]) <= ACTIONS
    assert got["decision_id"].is_unique
    assert ((got["would_change"].map(len) == 0) == (got["action"] == "sales_now")).all()
    now = got[got["action"] == "sales_now"]
    s = signals.loc[now.index]
    assert not s["checkout_state"].isin(["started", "stalled"]).any()
    assert (s["open_opportunities"] == 0).all()
    assert (s["activated"] == 1).all()
    assert (now["potential_arr"] >= policy.value.floor).all()
    assert s[["name", "domain"]].notna().all(axis=None)
    assert now["pql"].all()
    assert scores.loc[now.index, "pql"].all()
    assert now["owner_email"].notna().all()
    assert (now["due_at"] > AS_OF).all()
    assert (now["contact_at"] <= now["due_at"]).all()
    assert (now["contact_at"] >= AS_OF).all()
    for account in now.index.intersection(past.index):
        assert past.at[account, "state"] not in ACTIVE
        assert past.at[account, "state"] == "won" or past.at[account, "closed_at"] <= ago(90)
        reasons = {r["signal"] for r in now.at[account, "reasons"]}
        assert reasons - set(past.at[account, "signals"])
    assert not now.index.isin(given_world["touched"].query("at > @ago(7)")["account_id"]).any()
    assert now["owner_email"].value_counts().le(cap).all()
    assert (now["owner_email"] == "ana@v.com").sum() <= max(cap - 1, 0)
    assert got.loc[got["action"] != "sales_now", ["owner_id", "due_at", "contact_at"]].isna().all(axis=None)
    assert (
        got.loc[~got["action"].isin(["sales_now", "hold_capacity"]), ["owner_email", "assigned_by"]]
        .isna()
        .all(axis=None)
    )
    assert got.loc[got["action"] == "hold_capacity", "owner_email"].notna().all()


@settings(max_examples=12, deadline=None)
@given(worlds, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(rows: list, random: Any) -> None:
    given_world = world(rows)
    shuffled = {
        name: frame.iloc[random.sample(range(len(frame)), k=len(frame))].reset_index(drop=True)
        for name, frame in given_world.items()
    }
    pd.testing.assert_frame_equal(decided(**given_world), decided(**shuffled))


@settings(max_examples=5, deadline=None)
@given(worlds)
def test_a_decisions_id_tells_its_inputs_apart(rows: list) -> None:
    given_world = world(rows)
    got = decided(**given_world)["decision_id"]
    assert got.str.fullmatch("[0-9a-f]{24}").all()
    assert (decided(**given_world)["decision_id"] == got).all()
    assert (decided(**given_world, as_of=AS_OF + timedelta(seconds=1))["decision_id"] != got).all()
    assert (decided(**given_world, policy=changed(value__floor=1.0))["decision_id"] != got).all()
    more = given_world["signals"].assign(events_28d=given_world["signals"]["events_28d"] + 1)
    assert (decided(**{**given_world, "signals": more})["decision_id"] != got).all()
    held = handoffs({"account_id": "a00", "handoff_id": "h", "state": "decided", "closed_at": None, "signals": []})
    assert decided(**{**given_world, "past": held})["decision_id"].iloc[0] != got.iloc[0] or rows[0][1] is not None


def test_signals_and_scores_must_be_of_the_same_accounts() -> None:
    signals = accounts(PQL, PQL)
    scores = score_frame(signals.head(1), POLICY, AS_OF)
    with pytest.raises(ValueError, match="same accounts"):
        decide(Inputs(signals, scores, handoffs(), load(), users(), touches(), previous()), POLICY, AS_OF)


def test_every_action_has_a_rule_and_the_last_rule_takes_all() -> None:
    assert {rule.action for rule in RULES} == ACTIONS
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert RULES[-1].applies(pd.DataFrame(index=range(3)), POLICY).all()
    assert set(DECISION) >= {"decision_id", "would_change", "inputs_ref"}
