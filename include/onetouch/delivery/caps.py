"""The last gate of the caps: what a run delivered late, or beside another, may still add to a day."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pandas as pd

from onetouch.crm_sync import REPS, frame_of
from onetouch.lake import Lake
from onetouch.ledger import RECENT, Ledger, Run
from onetouch.policy import Policy
from onetouch.routing import team

FULL = "rep's day is full"
"""Why a decision is withheld that its rep's day does not take any more; the next run decides anew."""


def beyond_the_cap(ledger: Ledger, policy: Policy, run: Run, new: int) -> str | None:
    """Why none of the run's new handoffs is opened; None: they are within `assignment.tasks_per_day`.

    The (UTC) day is counted whole: a run delivered late comes on top of later ones, too.
    """
    day = run.as_of.replace(hour=0, minute=0, second=0, microsecond=0)
    today = len(ledger.decided(day, day + timedelta(days=1)))
    cap = policy.assignment.tasks_per_day
    if not new or today + new <= cap:
        return None
    return (
        f"stopped at the daily cap: {new} new tasks on top of {today} today are more than assignment.tasks_per_day "
        f"({cap}); look at the decisions, then raise it or tighten the policy"
    )


def beyond_the_reps_days(lake: Lake, ledger: Ledger, policy: Policy, run: Run, new: list[dict[str, Any]]) -> set[str]:
    """The accounts of those of the run's new decisions that their reps' days do not take any more: the lowest scores.

    Routing has kept to each rep's room as it was then; handoffs of other runs opened since have taken some of it. A
    day is that of the rep's own calendar, at the run's moment.
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
    for decision in sorted(new, key=lambda decision: (-decision["score"], decision["account_id"])):
        email = str(decision["owner_email"] or "").strip().lower()
        if room.get(email, 1) < 1:
            beyond.add(decision["account_id"])
        elif email in room:
            room[email] -= 1
    return beyond
