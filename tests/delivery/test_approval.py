"""When a person is asked about new tasks, what is shown, and how long an answer counts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
from onetouch.delivery import approval
from onetouch.lake import Lake
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy, read_policy

from tests.delivery.world import AS_OF

MINUTE = timedelta(minutes=1)


@pytest.fixture
def policy() -> Policy:
    return read_policy().changed(delivery__approval_above=2, delivery__approval_hours=4)


@pytest.fixture
def lake(tmp_path: Any) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def ledger(tmp_path: Any) -> Ledger:
    found = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    found.migrate()
    return found


def decide(lake: Lake, ledger: Ledger, policy: Policy, count: int, at: Any = AS_OF, dry_run: bool = False) -> Run:
    run = ledger.begin_run(at, policy, dry_run)
    rows = [
        {
            "account_id": f"a{n}",
            "decision_id": f"{run.run_id}-{n}",
            "action": "sales_now",
            "score": 50.0 + n,
            "call": "pql",
            "owner_email": f"rep{n % 2}@rep.example",
        }
        for n in range(count)
    ] + [
        {
            "account_id": "other",
            "decision_id": "m",
            "action": "monitor",
            "score": 99.0,
            "call": None,
            "owner_email": None,
        }
    ]
    lake.write(pd.DataFrame(rows), "decisions", f"{run.run_id}.parquet")
    names = {"a3": "<!channel> Evil\n| Corp", "a4": "Grace Hopper"}
    lake.write(
        pd.DataFrame(
            [
                {
                    "account_id": row["account_id"],
                    "name": names.get(row["account_id"], f"Company {row['account_id']}"),
                    "domain": None,
                    "account_basis": "personal" if row["account_id"] == "a4" else "group",
                }
                for row in rows
            ]
        ),
        "signals",
        f"{run.run_id}.parquet",
    )
    ledger.finish_stage(run.run_id, "route", {"decisions": {"sales_now": count, "monitor": 1}})
    return run


def test_a_person_is_asked_above_the_limit_and_not_at_it(lake: Lake, ledger: Ledger, policy: Policy) -> None:
    assert approval.question(lake, ledger, policy, decide(lake, ledger, policy, 2), AS_OF) is None
    asked = approval.question(lake, ledger, policy, decide(lake, ledger, policy, 5, AS_OF + MINUTE), AS_OF + MINUTE)
    assert asked is not None
    assert (asked.tasks, asked.limit) == (5, 2)
    assert asked.by_rep == {"rep0@rep.example": 3, "rep1@rep.example": 2}
    assert [(name, score) for name, score, _ in asked.top] == [
        ("a single user", 54.0),  # a lone user's name is a person's
        ("<!channel> Evil | Corp", 53.0),
        ("Company a2", 52.0),
        ("Company a1", 51.0),
        ("Company a0", 50.0),
    ]


def test_nobody_is_asked_when_the_policy_has_no_limit(lake: Lake, ledger: Ledger, policy: Policy) -> None:
    free = policy.model_copy(
        update={"delivery": policy.delivery.model_copy(update={"approval_above": None, "approval_jump": None})}
    )
    assert approval.question(lake, ledger, free, decide(lake, ledger, free, 5), AS_OF) is None


@pytest.mark.parametrize(
    ("asked_after", "answer_within"),
    [
        (0, timedelta(hours=4)),
        (1, timedelta(hours=4)),
        (3, timedelta(hours=2, minutes=50)),
        (5, 50 * MINUTE),
        (6, None),
    ],
)
def test_an_answer_counts_as_long_as_the_policy_says_and_the_run_is_fresh(
    lake: Lake, ledger: Ledger, policy: Policy, asked_after: int, answer_within: timedelta | None
) -> None:
    run, now = decide(lake, ledger, policy, 3), AS_OF + timedelta(hours=asked_after)
    asked = approval.question(lake, ledger, policy, run, now)
    assert (None if asked is None else asked.until - now) == answer_within


@pytest.mark.parametrize("yes", [True, False])
def test_a_run_is_asked_about_once(lake: Lake, ledger: Ledger, policy: Policy, yes: bool) -> None:
    run = decide(lake, ledger, policy, 3)
    assert not approval.approved(lake, ledger, run)
    answer(lake, ledger, run, yes)
    assert approval.question(lake, ledger, policy, run, AS_OF) is None
    assert approval.approved(lake, ledger, run) == yes


@pytest.mark.parametrize("routed_anew_to", [["a0", "a1", "a2", "a9"], ["a0", "a1", "a9"], ["a0", "a1"]])
def test_a_yes_does_not_count_for_other_tasks_and_the_next_run_asks(
    lake: Lake, ledger: Ledger, policy: Policy, routed_anew_to: list[str]
) -> None:
    run = decide(lake, ledger, policy, 3)
    answer(lake, ledger, run, True)
    decisions = [{"account_id": its_id, "decision_id": f"{run.run_id}-{its_id[1:]}"} for its_id in routed_anew_to]
    lake.write(pd.DataFrame(decisions).assign(action="sales_now"), "decisions", f"{run.run_id}.parquet")
    assert not approval.approved(lake, ledger, run)
    assert approval.question(lake, ledger, policy, run, AS_OF) is None
    later = decide(lake, ledger, policy, 4, AS_OF + timedelta(hours=1))
    assert approval.question(lake, ledger, policy, later, later.as_of) is not None


def test_a_yes_that_does_not_tell_what_it_was_for_counts_for_nothing(
    lake: Lake, ledger: Ledger, policy: Policy
) -> None:
    run = decide(lake, ledger, policy, 3)
    ledger.finish_stage(run.run_id, "approve", {"approved": True, "tasks": 3})  # an earlier version kept the number
    assert not approval.approved(lake, ledger, run)


def answer(lake: Lake, ledger: Ledger, run: Run, yes: bool) -> None:
    ledger.finish_stage(run.run_id, "approve", {"approved": yes} | approval.wanted(lake, run))


def test_a_later_run_that_has_decided_anew_takes_the_question_over(lake: Lake, ledger: Ledger, policy: Policy) -> None:
    run = decide(lake, ledger, policy, 3)
    later = decide(lake, ledger, policy, 3, AS_OF + timedelta(hours=1))
    dry = decide(lake, ledger, policy, 3, AS_OF + timedelta(hours=2), dry_run=True)
    ledger.finish_stage(dry.run_id, "deliver_tasks", {})
    now = AS_OF + timedelta(hours=2)
    assert approval.question(lake, ledger, policy, run, now) is not None, "the later ones have not, or are for show"
    ledger.finish_stage(later.run_id, "deliver_tasks", {})
    assert approval.question(lake, ledger, policy, run, now) is None
    assert approval.question(lake, ledger, policy, later, now) is not None


def test_what_another_run_has_handed_over_meanwhile_is_not_asked_about(
    lake: Lake, ledger: Ledger, policy: Policy
) -> None:
    earlier = ledger.begin_run(AS_OF - timedelta(hours=1), policy, False)
    run = decide(lake, ledger, policy, 3)
    row = {"decision_id": "d", "crm_account_id": None, "score": 1.0, "tier": "high", "due_at": None}
    ledger.open_handoffs([row | {"account_id": "a0", "owner_email": None, "owner_id": None}], earlier)
    assert approval.question(lake, ledger, policy, run, AS_OF) is None


@pytest.mark.parametrize(
    ("days", "a_day", "earlier_today", "due", "asks"),
    [
        (14, 10, 0, 30, False),  # three times the busiest day
        (14, 10, 0, 31, True),
        (14, 10, 15, 16, True),  # with those of the hours before
        (14, 10, 30, 8, False),  # no more than one rep's day is no jump
        (14, 1, 0, 8, False),
        (14, 1, 0, 9, True),
        (6, 1, 0, 50, False),  # too young to know what is usual
        (7, 1, 0, 50, True),
        (0, 0, 0, 50, False),
    ],
)
def test_a_jump_beyond_the_busiest_of_the_trailing_days_asks(
    lake: Lake, ledger: Ledger, days: int, a_day: int, earlier_today: int, due: int, asks: bool
) -> None:
    policy = read_policy()
    for day in range(1, days + 1):
        hand_over(ledger, policy, AS_OF - timedelta(days=day), a_day)
    hand_over(ledger, policy, AS_OF - timedelta(hours=1), earlier_today)
    run = decide(lake, ledger, policy, due)
    assert (approval.question(lake, ledger, policy, run, AS_OF) is not None) == asks


def hand_over(ledger: Ledger, policy: Policy, at: Any, count: int) -> None:
    run = ledger.begin_run(at, policy, False)
    row = {"decision_id": "d", "crm_account_id": None, "score": 1.0, "tier": "high", "due_at": None}
    who = {"owner_email": None, "owner_id": None}
    ledger.open_handoffs([row | who | {"account_id": f"{at:%d%H}-{n}"} for n in range(count)], run)
