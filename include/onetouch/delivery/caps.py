"""The last check of the daily caps: how many tasks a run delivered late, or beside another, may still add."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pandas as pd

from onetouch.crm_sync import REPS, frame_of
from onetouch.lake import Lake
from onetouch.ledger import RECENT, Ledger, Run
from onetouch.policy import Policy
from onetouch.routing import tasks_of_the_day, team

FULL = "rep's day is full"
"""The reason for withholding a decision whose rep has reached the daily cap; the next run decides again."""


DAY_FULL = "the day is full"
"""The reason for withholding a decision beyond `assignment.tasks_per_day`; the account stays in the queue."""


def beyond_the_cap(ledger: Ledger, policy: Policy, run: Run, new: int) -> str | None:
    """Why none of the run's new handoffs is opened; None: they are within `assignment.tasks_per_day`, or the rest
    queues (`assignment.beyond_the_day`).

    All tasks of the (UTC) day count, also those of later runs when this one is delivered late.
    """
    if policy.assignment.beyond_the_day == "queue":
        return None
    today, cap = _of_the_day(ledger, run), _cap(ledger, policy, run)
    if not new or today + new <= cap:
        return None
    return (
        f"stopped at the daily cap: {new} new tasks on top of {today} today are more than assignment.tasks_per_day "
        f"({cap}); look at the decisions, then raise it or tighten the policy"
    )


def beyond_the_day(ledger: Ledger, policy: Policy, run: Run, new: list[dict[str, Any]]) -> set[str]:
    """The accounts whose new decisions exceed the day's cap (`routing.tasks_of_the_day`); the last in the line are left
    out.

    Routing kept to it as far as it knew, but other runs may have opened handoffs since.
    """
    left = max(_cap(ledger, policy, run) - _of_the_day(ledger, run), 0)
    return {decision["account_id"] for decision in sorted(new, key=_turn)[left:]}


def _cap(ledger: Ledger, policy: Policy, run: Run) -> int:
    return tasks_of_the_day(policy, ledger.first_task_at(run.as_of), run.as_of)


def _of_the_day(ledger: Ledger, run: Run) -> int:
    day = run.as_of.replace(hour=0, minute=0, second=0, microsecond=0)
    return len(ledger.decided(day, day + timedelta(days=1)))


def _turn(decision: dict[str, Any]) -> tuple[float, float, str]:
    """The decision's place in the line; one of an earlier release stands there by its score, then by its account."""
    turn = decision.get("turn")
    return (math.inf if turn is None or turn != turn else turn), -decision["score"], decision["account_id"]


def beyond_the_reps_days(lake: Lake, ledger: Ledger, policy: Policy, run: Run, new: list[dict[str, Any]]) -> set[str]:
    """The accounts whose new decisions exceed their rep's daily cap; the lowest scores are left out first.

    Routing kept to each rep's capacity as it was then, but other runs may have opened handoffs since. A day is the
    calendar day in the rep's time zone at the run's `as_of`.
    """
    owners = pd.DataFrame(new, columns=["owner_email", "owner_id"]).assign(owner_active=True)
    kept = lake.exists("crm", run.run_id, "reps.parquet")
    reps = lake.read("crm", run.run_id, "reps.parquet") if kept else frame_of([], REPS)
    theirs = owners["owner_email"].str.strip().str.lower().dropna().unique()
    people = team(owners, reps[reps["email"].isin(theirs)], policy, run.as_of)
    began, room = people["day_began"].to_dict(), people["tasks_per_day"].to_dict()
    for at, email in ledger.decided(min(began.values(), default=run.as_of), run.as_of + RECENT):
        if email in room and at >= began[email]:
            room[email] -= 1
    beyond = set()
    for decision in sorted(new, key=_turn):
        email = str(decision["owner_email"] or "").strip().lower()
        if room.get(email, 1) < 1:
            beyond.add(decision["account_id"])
        elif email in room:
            room[email] -= 1
    return beyond
