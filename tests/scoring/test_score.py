"""Points, gates and tiers: the properties that must hold whatever an account looks like."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onetouch import scoring
from onetouch.catalogue import MOMENTS, SIGNAL_NAMES
from onetouch.policy import Policy, read_policy

POLICY = read_policy()
AS_OF = datetime(2025, 3, 10, 9, tzinfo=UTC)
PLAIN = {"account_basis": "group", "domain": "acme.com", "employees": 80.0, "industry": None}

values = st.one_of(st.none(), st.integers(0, 40).map(float), st.floats(0, 1e9))
rows = st.lists(st.fixed_dictionaries(dict.fromkeys(SIGNAL_NAMES, values)), min_size=1, max_size=6)


def frame(*accounts: dict[str, Any]) -> pd.DataFrame:
    unknown = dict.fromkeys(SIGNAL_NAMES, np.nan)
    table = pd.DataFrame([{**PLAIN, **unknown, **account} for account in accounts])
    for name in MOMENTS:  # it has just happened, where it has
        if f"{name}_at" not in table:
            table[f"{name}_at"] = pd.Series(pd.Timestamp(AS_OF), table.index).where(table[name] > 0)
    table["account_id"] = [f"a{n}" for n in range(len(table))]
    return table.astype(dict.fromkeys(SIGNAL_NAMES, "float64"))


def score_frame(signals: pd.DataFrame, policy: Policy, as_of: datetime = AS_OF, **given: Any) -> pd.DataFrame:
    return scoring.score_frame(signals, policy, as_of, **given)


changed = POLICY.changed


PQL = {
    "activated": 1, "active_days": 12, "active_users": 6, "active_days_7d": 5, "invites": 2,
    "pricing_views": 1, "premium_attempts": 1,
}  # fmt: skip


@settings(max_examples=10, deadline=None)
@given(rows)
def test_reasons_add_up_to_the_score_exactly(accounts: list[dict[str, Any]]) -> None:
    scores = score_frame(frame(*accounts), POLICY)
    for row in scores.to_dict("records"):
        points = [reason["points"] for reason in row["reasons"]]
        assert sum(round(p * 10) for p in points) == round(row["score"] * 10)
        assert all(p > 0 and p == round(p, 1) for p in points)
        assert row["score"] == round(row["score"], 1)
        assert points == sorted(points, reverse=True)
        named = [reason["signal"] for reason in row["reasons"]]
        assert len(set(named)) == len(named)


@settings(max_examples=10, deadline=None)
@given(rows, st.data())
def test_more_of_a_signal_never_lowers_the_score(accounts: list[dict[str, Any]], data: st.DataObject) -> None:
    signal = data.draw(st.sampled_from([p.signal for p in POLICY.scoring.points]))
    more = [dict(account) for account in accounts]
    for account in more:
        account[signal] = (account[signal] or 0) + data.draw(st.floats(0, 100))
    before, after = score_frame(frame(*accounts), POLICY), score_frame(frame(*more), POLICY)
    assert (after["score"] >= before["score"]).all()
    assert (after["pql"] >= before["pql"]).all()


@settings(max_examples=8, deadline=None)
@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_accounts_changes_nothing(accounts: list[dict[str, Any]], random: Any) -> None:
    signals = frame(*accounts)
    order = random.sample(range(len(signals)), k=len(signals))
    one = score_frame(signals, POLICY).set_index("account_id")
    other = score_frame(signals.iloc[order], POLICY).set_index("account_id")
    pd.testing.assert_frame_equal(one, other.loc[one.index])


def test_an_empty_table_scores_to_an_empty_one() -> None:
    assert score_frame(frame({}).head(0), POLICY).empty


@pytest.mark.parametrize(("users", "points"), [(2, 0), (3, 6), (4, 8), (5, 10), (50, 10), (None, 0)])
def test_points_grow_with_the_signal_up_to_full(users: float | None, points: float) -> None:
    assert score_frame(frame({"users": users}), POLICY)["score"].tolist() == [points]


def test_unknown_earns_nothing_and_zero_is_not_unknown() -> None:
    policy = changed(scoring__points=[{"signal": "limit_share", "at_least": 0, "points": 4}])
    assert score_frame(frame({"limit_share": np.nan}, {"limit_share": 0}), policy)["score"].tolist() == [0, 4]


def test_a_reason_says_signal_value_and_points() -> None:
    [reasons] = score_frame(frame({"usage_growth_7d": 2.0, "activated": 1}), POLICY)["reasons"]
    assert reasons == [
        {"signal": "activated", "value": 1.0, "points": 10.0},
        {"signal": "usage_growth_7d", "value": 2.0, "points": 4.0},
    ]


def test_a_pql_passes_every_gate_and_is_high() -> None:
    row = score_frame(frame(PQL), POLICY).iloc[0]
    assert (row["score"], row["tier"], row["pql"]) == (70, "high", True)


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        ({"activated": 0}, "gate_activated"),
        ({"active_days": 4}, "gate_engagement"),
        ({"active_users": 1}, "gate_engagement"),
        ({"employees": 4}, "gate_icp"),
        ({"account_basis": "personal", "domain": None}, "gate_icp"),
    ],
)
def test_no_score_buys_off_a_gate(change: dict[str, Any], gate: str) -> None:
    everything = {**dict.fromkeys(SIGNAL_NAMES, 1e6), **change}
    row = score_frame(frame(everything), POLICY).iloc[0]
    assert row["tier"] == "high"
    assert not row[gate]
    assert not row["pql"]


def test_one_account_is_no_obstacle_to_another() -> None:
    assert score_frame(frame({**PQL, "activated": 0}, PQL), POLICY)["pql"].tolist() == [False, True]


def test_intent_is_a_gate() -> None:
    row = score_frame(frame({**PQL, "pricing_views": 0, "premium_attempts": 0, "users": 9}), POLICY).iloc[0]
    assert not row["gate_intent"]


@pytest.mark.parametrize(
    ("account", "fits"),
    [
        ({"employees": np.nan}, True),
        ({"account_basis": None}, True),
        ({"account_basis": "personal"}, True),  # in the CRM with a company's domain
        ({"employees": 5}, True),
        ({"industry": "Retail"}, True),
        ({"industry": "GAMBLING"}, False),
        ({"industry": "mining"}, False),
        ({"industry": None}, True),
        ({"employees": 1000}, True),
        ({"employees": 1001}, False),
        ({"employees": 4}, False),
    ],
)
def test_the_icp_excludes_only_what_is_known_not_to_fit(account: dict[str, Any], fits: bool) -> None:
    policy = changed(
        gates__icp__industries=["retail", "gambling"], gates__icp__excluded_industries=["Gambling"],
        gates__icp__max_employees=1000,
    )  # fmt: skip
    assert score_frame(frame(account), policy)["gate_icp"].tolist() == [fits]


# ── Age and trend ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("age", "points"),
    [
        (timedelta(0), 12),
        (timedelta(days=1) - timedelta(microseconds=1), 12),  # whole days
        (timedelta(days=1), 11.4),
        (timedelta(days=14), 6),
        (timedelta(days=28), 3),
        (timedelta(days=-1), 12),  # a clock that was ahead
        (None, 0),
    ],
)
def test_points_halve_with_every_so_many_days(age: timedelta | None, points: float) -> None:
    at = pd.Series([pd.NaT if age is None else AS_OF - age], dtype="datetime64[us, UTC]")
    assert score_frame(frame({"pricing_views": 1}).assign(pricing_views_at=at), POLICY)["score"].item() == points


def test_what_happened_too_seldom_earns_nothing_however_fresh() -> None:
    rule = {"signal": "pricing_views", "at_least": 2, "points": 4, "half_life_days": 14}
    scores = score_frame(frame({"pricing_views": 1}, {"pricing_views": 2}), changed(scoring__points=[rule]))
    assert scores["score"].tolist() == [0, 4]


def test_a_signal_without_half_life_needs_no_moment() -> None:
    rule = {"signal": "pricing_views", "at_least": 1, "points": 4}
    signals = frame({"pricing_views": 1}).drop(columns="pricing_views_at")
    assert score_frame(signals, changed(scoring__points=[rule]))["score"].tolist() == [4]
    with pytest.raises(ValueError, match=r"^signals: no column pricing_views_at; build the run's signals again$"):
        score_frame(signals, POLICY)


@pytest.mark.parametrize(
    ("before", "trend"),
    [
        (10.0, "steady"), (9.0, "rising"), (9.1, "steady"), (11.1, "steady"), (11.2, "falling"),  # a point at least …
        (100.0, "falling"), (0.0, "rising"), (None, None),
    ],
)  # fmt: skip
def test_a_score_rises_or_falls_by_a_point_at_least(before: float | None, trend: str | None) -> None:
    earlier = pd.DataFrame({"account_id": ["a0", "zz"], "score": [np.nan if before is None else before, 3.0]})
    row = score_frame(frame({"activated": 1}), POLICY, earlier=earlier).iloc[0]
    assert (row["score"], None if pd.isna(row["score_trend"]) else row["score_trend"]) == (10, trend)
    assert row["score_before"] == before or pd.isna(row["score_before"])


@pytest.mark.parametrize(
    ("before", "trend"), [(40.0, "steady"), (36.4, "steady"), (36.3, "rising"), (44.4, "steady"), (44.5, "falling")]
)
def test_and_by_a_tenth_of_what_it_was(before: float, trend: str) -> None:
    policy = changed(scoring__points=[{"signal": "users", "at_least": 1, "points": 40}])
    earlier = pd.DataFrame({"account_id": ["a0"], "score": [before]})
    assert score_frame(frame({"users": 1}), policy, earlier=earlier)["score_trend"].item() == trend


@pytest.mark.parametrize(
    ("points", "before", "trend"), [(11, 10.0, "rising"), (9, 10.0, "falling"), (1, 0.5, "steady"), (1, 0.0, "rising")]
)
def test_a_trend_begins_at_a_tenth_and_at_a_point(points: float, before: float, trend: str) -> None:
    policy = changed(scoring__points=[{"signal": "users", "at_least": 1, "points": points}])
    earlier = pd.DataFrame({"account_id": ["a0"], "score": [before]})
    assert score_frame(frame({"users": 1}), policy, earlier=earlier)["score_trend"].item() == trend


def test_an_account_without_an_earlier_score_has_no_trend() -> None:
    earlier = pd.DataFrame({"account_id": ["a1"], "score": [3.0]})
    scores = score_frame(frame({}, {}, {}), POLICY, earlier=earlier)
    assert scores["score_before"].isna().tolist() == [True, False, True]
    assert scores["score_trend"].isna().tolist() == [True, False, True]
    assert scores["score_trend"].iloc[1] == "falling"


def test_firmographics_rank_or_count_as_the_policy_says() -> None:
    everything = dict.fromkeys(SIGNAL_NAMES, 0.0) | {"enterprise_domain": 1, "users": 5, "activated": 1}
    rules = [
        {"signal": "enterprise_domain", "at_least": 1, "points": 45},
        {"signal": "users", "at_least": 1, "points": 5},
    ]
    for firmographics, tier in (("rank", "low"), ("combine", "high")):
        policy = changed(scoring__points=rules, scoring__firmographics=firmographics)
        row = score_frame(frame(everything), policy).iloc[0]
        assert (row["score"], row["usage_score"], row["tier"]) == (50, 5, tier)


@pytest.mark.parametrize(
    ("points", "tier"), [(50, "high"), (49.9, "medium"), (30, "medium"), (29.9, "low"), (0.1, "low")]
)
def test_tiers_begin_at_their_score(points: float, tier: str) -> None:
    policy = changed(scoring__points=[{"signal": "users", "at_least": 1, "points": points}])
    assert score_frame(frame({"users": 1}), policy)["tier"].item() == tier


def test_however_many_accounts_are_laid_out_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    signals = frame(*[{"users": n % 7, "activated": n % 2, "invites": n % 3} for n in range(11)])
    whole = score_frame(signals, POLICY)
    monkeypatch.setattr(sys.modules[scoring.score_frame.__module__], "ROWS", 4)
    parts = score_frame(signals, POLICY)
    assert parts.drop(columns="reasons").equals(whole.drop(columns="reasons"))
    assert parts["reasons"].tolist() == whole["reasons"].tolist()


def test_a_frame_of_another_index_is_scored_by_its_rows() -> None:
    signals = frame({"users": 5}, {"users": 3}).set_axis([7, 3])
    scores = score_frame(signals, POLICY)
    assert scores.index.tolist() == [7, 3]
    assert scores["score"].tolist() == [10, 6]
    assert scores.notna().all().drop(["score_before", "score_trend"]).all()
