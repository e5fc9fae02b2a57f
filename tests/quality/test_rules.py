"""The rules of engagement as the last check reads them, beside what scoring and routing make of the same words."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from onetouch.lake import Lake
from onetouch.policy import Policy, read_policy
from onetouch.quality import rules
from onetouch.scoring.gates import gates

POLICY = read_policy()
AS_OF = datetime(2025, 1, 1, tzinfo=UTC)


def holds(condition: Callable[..., Any], signals: pd.DataFrame, decisions: pd.DataFrame, tmp_path: Path) -> list[bool]:
    with Lake(tmp_path).engine() as engine:
        s, d = engine.table(signals, "s"), engine.table(decisions, "d")
        both = s.join(d, "account_id")
        found = both.select("account_id", holds=condition(both, both)).order_by("account_id")
        return engine.fetch(found)["holds"].to_pylist()


def with_icp(**icp: Any) -> Policy:
    changed = POLICY.gates.icp.model_copy(update=icp)
    return POLICY.model_copy(update={"gates": POLICY.gates.model_copy(update={"icp": changed})})


ICPS = [
    POLICY,
    with_icp(organisation=False, min_employees=None),
    with_icp(max_employees=50, industries=["Retail", "it's odd"]),
    with_icp(min_employees=None, excluded_industries=["RETAIL"]),
]


@pytest.mark.parametrize("policy", ICPS)
def test_gates_are_what_scoring_takes_them_for(policy: Policy, tmp_path: Path) -> None:
    rng = random.Random(5)
    n = 400
    signals = pd.DataFrame(
        {
            "account_id": [f"a{i:03}" for i in range(n)],
            "account_basis": [rng.choice(["group", "domain", "personal", "personal"]) for _ in range(n)],
            "domain": pd.Series([rng.choice(["acme.example", None]) for _ in range(n)], dtype="str"),
            "employees": pd.Series([rng.choice([1, 4, 5, 50, 51, None]) for _ in range(n)], dtype="Int64"),
            "industry": pd.Series([rng.choice(["retail", "It's odd", "mining", None]) for _ in range(n)], dtype="str"),
            "activated": [rng.choice([1.0, 1.0, 0.0]) for _ in range(n)],
            "active_days": [rng.choice([4.0, 5.0, 6.0, float("nan")]) for _ in range(n)],
            "active_users": [rng.choice([1.0, 2.0, 3.0]) for _ in range(n)],
        }
    ).assign(**{c.signal: 0.0 for c in POLICY.gates.intent})
    passed = gates(signals, policy)[["gate_icp", "gate_activated", "gate_engagement"]].all(axis=1)
    assert 10 < passed.sum() < n / 2
    # DuckDB reads a missing number of pandas as NaN, which is more than everything; Parquet keeps it as null.
    known = signals.astype({"active_days": "Float64"})
    found = holds(lambda d, s: rules.gates_open(s, policy), known, signals[["account_id"]], tmp_path)
    assert found == passed.tolist()


CALLS = [
    ({"call": "pql", "pql": True}, {}, True),
    ({"call": "pql", "pql": False}, {}, False),
    ({"call": "hand_raised"}, {"demo_requests": 1}, True),
    ({"call": "hand_raised", "pql": True}, {"demo_requests": 0}, False),
    ({"call": "expansion"}, {"arr": 1, "limit_share": 0.8, "limit_held_days": 14}, True),
    ({"call": "expansion"}, {"arr": 0, "limit_share": 0.8, "limit_held_days": 14}, False),
    ({"call": "expansion"}, {"arr": None, "limit_share": 0.8, "limit_held_days": 14}, False),
    ({"call": "expansion"}, {"arr": 1, "limit_share": 0.79, "limit_held_days": 14}, False),
    ({"call": "expansion"}, {"arr": 1, "limit_share": 0.8, "limit_held_days": None}, False),
    ({"call": "trigger", "tier": "medium", "trigger_at": AS_OF - timedelta(hours=1)}, {}, True),
    ({"call": "trigger", "tier": "high", "trigger_at": AS_OF - timedelta(hours=1)}, {}, True),
    ({"call": "trigger", "tier": "low", "trigger_at": AS_OF - timedelta(hours=1)}, {}, False),
    ({"call": "trigger", "tier": "medium", "trigger_at": AS_OF + timedelta(hours=1)}, {}, False),
    ({"call": "trigger", "tier": "medium", "trigger_at": None}, {}, False),
    ({"call": "", "pql": True}, {}, False),
    ({"call": None, "pql": True}, {}, False),
    ({"call": "because", "pql": True}, {}, False),
]
"""What a decision says, what the signals say, and whether the call is there."""


def test_a_task_is_called_for_by_what_its_decision_names(tmp_path: Path) -> None:
    usual = {"call": "", "pql": False, "tier": "high", "trigger_at": None, "as_of": AS_OF}
    decisions = pd.DataFrame([{"account_id": f"a{n:03}"} | usual | said for n, (said, _, _) in enumerate(CALLS)])
    nothing = {"demo_requests": 0.0, "arr": 0.0, "limit_share": None, "limit_held_days": None}
    signals = pd.DataFrame([{"account_id": f"a{n:03}"} | nothing | had for n, (_, had, _) in enumerate(CALLS)])
    kinds = dict.fromkeys(nothing, "Float64")
    decisions["trigger_at"] = pd.to_datetime(decisions["trigger_at"], utc=True)
    found = holds(lambda d, s: rules.called_for(d, s, POLICY), signals.astype(kinds), decisions, tmp_path)
    assert found == [there for _, _, there in CALLS]


def test_without_a_word_on_hand_raisers_nobody_is_one(tmp_path: Path) -> None:
    policy = POLICY.model_copy(update={"routing": POLICY.routing.model_copy(update={"hand_raised": []})})
    decision = {"account_id": "a", "call": "hand_raised", "pql": True, "tier": "high", "trigger_at": AS_OF}
    signals = {"account_id": "a", "arr": 9.0, "limit_share": 1.0, "limit_held_days": 20.0}
    decisions = pd.DataFrame([decision | {"as_of": AS_OF}])
    found = holds(lambda d, s: rules.called_for(d, s, policy), pd.DataFrame([signals]), decisions, tmp_path)
    assert found == [False]
