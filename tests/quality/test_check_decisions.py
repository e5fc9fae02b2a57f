"""Planted faults of the decisions: the last check before anything reaches the outside."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
from onetouch.policy import Policy
from onetouch.policy.schema import Rep
from onetouch.quality import ChecksFailed, check_decisions


def check(place, decisions, accounts):
    place.lake.write(accounts, "signals", f"{place.run.run_id}.parquet")
    place.lake.write(decisions, "decisions", f"{place.run.run_id}.parquet")
    return check_decisions(place.lake, place.ledger, place.policy, place.run)


def failed(place, decisions, accounts) -> list[str]:
    with pytest.raises(ChecksFailed) as caught:
        check(place, decisions, accounts)
    return caught.value.summary["critical"]


def capped(policy: Policy, **caps: Any) -> Policy:
    return policy.model_copy(update={"assignment": policy.assignment.model_copy(update=caps)})


def test_sound_decisions_pass(place, decisions, accounts):
    assert check(place, decisions, accounts)["passed"]


def test_decisions_without_a_task_pass(place, decisions, accounts):
    decisions["action"] = "nurture"
    assert check(place, decisions, accounts)["passed"]


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("action", "sales_later", "decisions: decisions with an unknown action: 1 of 20 (none allowed)"),
        ("decision_id", "d9", "decisions: decisions whose id is another's: 2 of 20 (none allowed)"),
        ("policy_version", "ffff", "decisions: decisions under another policy: 1 of 20 (none allowed)"),
        ("score", 31.0, "decisions: decisions whose reasons don't add up to the score: 1 of 20 (none allowed)"),
    ],
)
def test_a_faulty_decision_trips_its_check_alone(place, decisions, accounts, column, value, says):
    decisions.loc[5, column] = value
    assert failed(place, decisions, accounts) == [says]


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("owner_email", None, "tasks: tasks without an owner: 1 of 3 (none allowed)"),
        ("due_at", None, "tasks: tasks without a due time: 1 of 3 (none allowed)"),
        ("potential_arr", 4999.0, "tasks: tasks under the value floor: 1 of 3 (none allowed)"),
        ("potential_arr", None, "tasks: tasks without a potential ARR: 1 of 3 (none allowed)"),
        ("value_band", "low", "tasks: tasks for accounts of low value: 1 of 3 (none allowed)"),
        ("call", "", "tasks: tasks that nothing calls for: 1 of 3 (none allowed)"),
        ("pql", False, "tasks: tasks that nothing calls for: 1 of 3 (none allowed)"),
    ],
)
def test_a_faulty_task_trips_its_check_alone(place, decisions, accounts, column, value, says):
    decisions.loc[0, column] = value
    assert failed(place, decisions, accounts) == [says]


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        (
            "checkout_state",
            "started",
            "tasks: tasks for accounts already converting or in a rep's hands: 1 of 3 (none allowed)",
        ),
        (
            "open_opportunities",
            1,
            "tasks: tasks for accounts already converting or in a rep's hands: 1 of 3 (none allowed)",
        ),
        ("users", None, "tasks: tasks without their context: 1 of 3 (none allowed)"),
        (
            "activated",
            0.0,
            "tasks: tasks for accounts outside the ICP, not activated or idle: 1 of 3 (none allowed)",
        ),
    ],
)
def test_the_rules_of_engagement_are_held_against_the_inputs_again(place, decisions, accounts, column, value, says):
    accounts.loc[0, column] = value
    assert failed(place, decisions, accounts) == [says]


def test_an_account_already_handed_over_gets_no_second_task(place, decisions, accounts):
    before = place.ledger.begin_run(place.run.as_of - timedelta(days=2), place.policy, False)
    assert place.ledger.open_handoff({"account_id": "a0.example", "owner_email": "rep0@vendor.example"}, before)
    assert failed(place, decisions, accounts) == [
        "tasks: tasks for accounts already converting or in a rep's hands: 1 of 3 (none allowed)"
    ]


def test_an_account_decided_twice_fails(place, decisions, accounts):
    decisions.loc[6, "account_id"] = "a5.example"
    found = failed(place, decisions, accounts)
    assert found == [
        "decisions: decisions on an account that has another: 2 of 20 (none allowed)",
        "totals: accounts without a decision: 1 (at most 0)",
    ]


def test_an_account_without_a_decision_fails(place, decisions, accounts):
    assert failed(place, decisions.iloc[:-1], accounts) == ["totals: accounts without a decision: 1 (at most 0)"]


def test_a_decision_on_nobody_fails(place, decisions, accounts):
    found = failed(place, decisions, accounts.iloc[:-1])
    assert found == ["totals: decisions on accounts that are not there: 1 (at most 0)"]


def test_more_tasks_than_the_daily_cap_stop_the_run(place, decisions, accounts):
    place.policy = capped(place.policy, tasks_per_day=2)
    assert failed(place, decisions, accounts) == ["totals: tasks of the day, all reps: 3 (at most 2)"]


def test_the_daily_cap_counts_what_earlier_runs_of_the_day_handed_over(place, decisions, accounts):
    run = place.ledger.begin_run(place.run.as_of + timedelta(hours=9), place.policy, False)
    earlier = place.ledger.begin_run(run.as_of - timedelta(hours=1), place.policy, False)
    for i in range(3):
        place.ledger.open_handoff({"account_id": f"b{i}.example", "owner_email": "rep0@vendor.example"}, earlier)
    place.run = run
    decisions["due_at"] += timedelta(days=1)
    place.policy = capped(place.policy, tasks_per_day=5, tasks_per_rep_per_day=3)
    assert failed(place, decisions, accounts) == [
        "totals: tasks of the day, all reps: 6 (at most 5)",
        "totals: tasks beyond a rep's room on the rep's own day: 1 (at most 0)",
    ]


@pytest.mark.parametrize(("zone", "beyond"), [("UTC", 1), ("Asia/Tokyo", 0), ("nowhere", 1)])
def test_a_reps_day_is_the_one_of_their_own_clock(place, decisions, accounts, zone, beyond):
    """Three tasks at 14:30 and one at 16:00 UTC: the same day in London, another one in Tokyo."""
    earlier, now = (place.run.as_of.replace(hour=h, minute=m) for h, m in ((14, 30), (16, 0)))
    run = place.ledger.begin_run(earlier, place.policy, False)
    for i in range(3):
        place.ledger.open_handoff({"account_id": f"b{i}.example", "owner_email": "Rep0@vendor.example"}, run)
    place.run = place.ledger.begin_run(now, place.policy, False)
    reps = pd.DataFrame(
        {"owner_id": "1", "email": ["rep0@vendor.example"], "active": pd.array([None], "boolean"), "timezone": zone}
    )
    place.lake.write(reps, "crm", place.run.run_id, "reps.parquet")
    decisions["due_at"] += timedelta(days=1)
    place.policy = capped(place.policy, tasks_per_rep_per_day=3)
    found = [f"totals: tasks beyond a rep's room on the rep's own day: {beyond} (at most 0)"] if beyond else []
    assert (failed(place, decisions, accounts) if found else check(place, decisions, accounts)["critical"]) == found


def test_a_reps_own_cap_is_held(place, decisions, accounts):
    few = [{"email": "REP1@vendor.example", "tasks_per_day": 0}, {"email": "rep2@vendor.example", "tasks_per_day": 1}]
    place.policy = capped(place.policy, reps=[Rep.model_validate(rep) for rep in few])
    assert failed(place, decisions, accounts) == [
        "totals: tasks beyond a rep's room on the rep's own day: 1 (at most 0)"
    ]
