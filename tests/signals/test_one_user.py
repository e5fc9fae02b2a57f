"""Whatever one user sends, the account table stays one that its check lets pass; and so under any windows."""

from __future__ import annotations

import json
import random
import tempfile
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onetouch.lake import Lake
from onetouch.ledger import Run
from onetouch.policy import Policy, read_policy, review_policy
from onetouch.quality import ChecksFailed, check_signals
from onetouch.signals import compute

POLICY = read_policy()
AS_OF = datetime(2025, 3, 10, 12, tzinfo=UTC)
SNAPSHOT = pd.DataFrame({"account_id": ["acme"], "plan_limits": [json.dumps({"seats": 10})]}, dtype="str")
NUMBERS = st.one_of(
    st.integers(-(10**40), 10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["-1", "1e999", "NaN", "-Infinity", "", "ten", None]),
)
FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def checked(lake: Lake, policy: Policy) -> dict[str, Any]:
    table, _ = compute(lake, policy, SNAPSHOT, AS_OF)
    run = Run("r", AS_OF, policy.version, True)
    lake.write(table, "signals", "r.parquet")
    return check_signals(lake, None, policy, run)  # type: ignore[arg-type]


@FEW
@given(st.lists(st.tuples(st.sampled_from(["usage_recorded", "demo_viewed", "plan_upgraded"]), NUMBERS), max_size=6))
def test_no_number_of_one_user_stops_the_run(event, stage, sent):
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        theirs = [
            event(AS_OF - timedelta(days=n, hours=1), name, limit="seats", used=value, completion=value, arr=value)
            for n, (name, value) in enumerate(sent)
        ]
        stage(lake, [event("2025-03-09T09:00:00", "feature_used", user="u2", feature="x"), *theirs])
        assert checked(lake, POLICY)["passed"]


def test_the_true_readings_beside_it_count(lake, event, stage):
    stage(lake, [
        event("2025-03-09T09:00:00", "usage_recorded", limit="seats", used=8),
        event("2025-03-09T10:00:00", "usage_recorded", limit="seats", used=-1),
        event("2025-03-09T09:00:00", "demo_viewed", completion=40),
        event("2025-03-09T10:00:00", "demo_viewed", completion=4000),
    ])  # fmt: skip
    row = compute(lake, POLICY, SNAPSHOT, AS_OF)[0].to_pandas().iloc[0]
    assert (row["limit_share"], row["demo_completion"]) == (0.8, 40)


FEW = [{"engagement_days": 21}, {"recent_days": 42}, {"lookback_days": 30},
       {"recent_days": 1, "engagement_days": 20, "abandoned_barrier_hours": 12}]  # fmt: skip
MORE = [{"recent_days": 5}, {"recent_days": 7}, {"engagement_days": 60}, {"recent_days": 90}, {"lookback_days": 400}]


@pytest.mark.parametrize("windows", [*FEW, *(pytest.param(windows, marks=pytest.mark.long) for windows in MORE)])
def test_windows_that_policy_check_allows_can_pass(lake, event, stage, windows):
    policy = POLICY.changed(**{f"signals__{name}": days for name, days in windows.items()})
    assert not [f for f in review_policy(policy) if f.field.startswith("signals")]
    rng = random.Random(1)
    names = ["feature_used", "checkout_started", "checkout_abandoned", "pricing_viewed", "teammate_invited", "ci_run"]
    stage(lake, [
        event(AS_OF - timedelta(days=rng.randrange(120), minutes=rng.randrange(1, 60)), rng.choice(names),
              f"a{rng.randrange(6)}", f"u{rng.randrange(5)}", feature="x")
        for _ in range(400)
    ])  # fmt: skip
    assert checked(lake, policy)["passed"]


def test_an_impossible_count_of_ours_still_stops(lake, event, stage):
    stage(lake, [event("2025-03-09T09:00:00", "feature_used", feature="x")])
    table = compute(lake, POLICY, SNAPSHOT, AS_OF)[0].to_pandas()
    table["active_users_7d"] = table["active_users"] + 1
    lake.write(table, "signals", "r.parquet")
    with pytest.raises(ChecksFailed, match="more active_users_7d than active_users"):
        check_signals(lake, None, POLICY, Run("r", AS_OF, POLICY.version, True))  # type: ignore[arg-type]
