"""A decision's id: the same for the same inputs, wherever and whenever; another one for any other input."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from onetouch.policy import upgrade
from onetouch.routing import ids
from onetouch.routing.ids import decision_ids
from onetouch.routing.known import known_facts

from tests.routing.world import AS_OF, POLICY, PQL, accounts, ago, handoffs, inputs, previous, touches

# Not the default's version: that changes with every number of it.
FIXED: Any = SimpleNamespace(version="v1", handoff=SimpleNamespace(required_context=["name", "users", "domain"]))
ONE = {**PQL, "seats": 4.0, "arr": 0.0, "owner_active": True, "timezone": "Europe/Berlin", "usual_hour": 9.0}


def facts(*rows: dict[str, Any]) -> pd.DataFrame:
    past = {"account_id": "a00", "handoff_id": "h", "state": "won", "closed_at": ago(3), "signals": ["users", "x"]}
    last = {"account_id": "a00", "action": "monitor", "rule": "tier medium", "since": ago(1), "call": "trigger",
            "trigger_at": ago(2)}  # fmt: skip
    given = inputs(
        accounts(*(rows or (ONE,))), past=handoffs(past), touched=touches({"account_id": "a00", "at": ago(20)}),
        last=previous(last),
    )  # fmt: skip
    return known_facts(given, POLICY, AS_OF)


SIGNALS = [*map(upgrade.current_name, ids._SIGNALS)]
MOMENTS = [*map(upgrade.current_name, ids._SIGNAL_MOMENTS)]
KNOWN = facts()


def among(column: str, values: Any) -> list[str]:
    """The ids of an account that differs in nothing but the column."""
    same = KNOWN.loc[[0] * len(values)].reset_index(drop=True)
    return decision_ids(same.assign(**{column: values}), FIXED, AS_OF).tolist()


def test_ids_stay_what_they_are_in_later_versions() -> None:
    """Replays compare ids: these were computed once and for all."""
    known = facts(ONE, {**PQL, "name": None, "domain": "ünï.example"})
    passed = dict.fromkeys(["gate_icp", "gate_activated", "gate_engagement", "gate_intent", "pql"], True)
    known = known.assign(score=61.5, usage_score=59.5, score_before=np.nan, **passed)
    assert decision_ids(known, FIXED, AS_OF).tolist() == GOLDEN


GOLDEN = ["a46fc98cfe35b14c9e95fcb3", "6d2045c086d363a88b213a72"]


@pytest.mark.parametrize(
    "column",
    ["account_id", "account_basis", "domain", "industry", "region", "timezone", "owner_email", "owner_id", "name",
     "crm_account_id", "checkout_state", "handoff_state", "handoff_signals", "previous_action", "previous_rule",
     "previous_call"],
)  # fmt: skip
def test_every_text_counts(column: str) -> None:
    texts = pd.Series([None, "", "other", "othe", "\0"], dtype="str")
    assert len(set(among(column, texts))) == len(texts)


@pytest.mark.parametrize(
    "column",
    [*SIGNALS, "employees", "seats", "arr", "open_opportunities", "usual_hour", "usual_weekday", "score",
     "usage_score", "score_before"],
)  # fmt: skip
def test_every_number_counts(column: str) -> None:
    odd = np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)[0]  # unknown, of other bits
    found = among(column, np.array([np.nan, 0.0, 5e-324, 1.0, np.nextafter(1.0, 2), 1e300, -0.0, odd]))
    assert len(set(found[:6])) == 6
    assert (found[6], found[7]) == (found[1], found[0])


@pytest.mark.parametrize(
    "column", ["owner_active", "gate_icp", "gate_activated", "gate_engagement", "gate_intent", "pql"]
)
def test_every_yes_and_no_counts(column: str) -> None:
    assert len(set(among(column, [True, False]))) == 2


@pytest.mark.parametrize(
    "column",
    ["handoff_closed_at", "touched_at", "previous_since", "previous_trigger_at", *MOMENTS],
)
def test_every_moment_counts(column: str) -> None:
    moments = pd.Series([pd.NaT, AS_OF, AS_OF + timedelta(microseconds=1)], dtype="datetime64[us, UTC]")
    assert len(set(among(column, moments))) == 3


def test_what_one_text_loses_and_the_next_gains_is_another_account() -> None:
    known = KNOWN
    one = known.assign(domain="ab", industry="c")
    other = known.assign(domain="a", industry="bc")
    assert decision_ids(one, FIXED, AS_OF).iloc[0] != decision_ids(other, FIXED, AS_OF).iloc[0]


def test_the_policy_and_the_moment_count_and_the_zone_it_is_told_in_does_not() -> None:
    known = KNOWN
    id_of = decision_ids(known, FIXED, AS_OF).iloc[0]
    other: Any = SimpleNamespace(version="v2", handoff=FIXED.handoff)
    assert decision_ids(known, other, AS_OF).iloc[0] != id_of
    assert decision_ids(known, FIXED, AS_OF + timedelta(microseconds=1)).iloc[0] != id_of
    assert decision_ids(known, FIXED, AS_OF.astimezone(timezone(timedelta(hours=5.5)))).iloc[0] == id_of
    assert datetime(2025, 3, 10, 9, tzinfo=UTC) == AS_OF


def test_columns_that_no_rule_looks_at_and_the_order_of_all_change_nothing() -> None:
    known = facts(ONE, PQL)
    mixed = known.assign(top_user="u1", plan="free")[::-1]
    mixed = mixed[sorted(mixed.columns)]
    assert decision_ids(mixed, FIXED, AS_OF).tolist() == decision_ids(known, FIXED, AS_OF).tolist()[::-1]


def test_a_required_list_counts_by_being_there() -> None:
    known = KNOWN
    policy: Any = SimpleNamespace(version="v1", handoff=SimpleNamespace(required_context=["features_used_list"]))
    ids_of = [
        decision_ids(known.assign(features_used_list=pd.Series([v], dtype=object)), policy, AS_OF).iloc[0]
        for v in (["a"], ["a", "b"], None)
    ]
    assert ids_of[0] == ids_of[1] != ids_of[2]


def test_however_many_are_laid_out_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    known = facts(*[{**ONE, "users": float(n)} for n in range(7)])
    whole = decision_ids(known, FIXED, AS_OF).tolist()
    monkeypatch.setattr(ids, "ROWS", 3)
    assert decision_ids(known, FIXED, AS_OF).tolist() == whole
    assert len(set(whole)) == 7
    assert decision_ids(known.head(0), FIXED, AS_OF).tolist() == []


def test_a_column_added_later_changes_no_id() -> None:
    known = facts(ONE, {**PQL, "name": None})
    more = known.assign(exports_7d=[3.0, np.nan], exports_7d_at=pd.Timestamp(AS_OF), partner="x")
    assert decision_ids(more, FIXED, AS_OF).tolist() == decision_ids(known, FIXED, AS_OF).tolist()


def test_a_column_added_later_counts_once_the_policy_requires_it() -> None:
    known = facts(ONE, {**PQL, "name": None}).assign(exports_7d=[3.0, np.nan])
    asking: Any = SimpleNamespace(version="v1", handoff=SimpleNamespace(required_context=["name", "exports_7d"]))
    there, lacking = (decision_ids(known.assign(exports_7d=value), asking, AS_OF) for value in (1.0, np.nan))
    assert not set(there) & set(lacking)


def test_a_signal_called_otherwise_today_changes_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    again = {"users": "people", "tickets": "requests"}
    known = facts(ONE, {**PQL, "name": None, "tickets": 3.0})
    given: Any = SimpleNamespace(version="v1", handoff=SimpleNamespace(required_context=["users"]))
    ids_of_then = decision_ids(known, given, AS_OF).tolist()
    monkeypatch.setattr(upgrade, "RENAMED", upgrade.RENAMED | {"users": "people", "tickets_28d": "requests"})
    today = known.rename(columns={**again, "tickets_at": "requests_at"})
    today["handoff_signals"] = today["handoff_signals"].str.replace("users", "people")
    given.handoff.required_context = ["people"]
    assert decision_ids(today, given, AS_OF).tolist() == ids_of_then
