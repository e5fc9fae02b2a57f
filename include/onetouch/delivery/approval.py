"""The approval a person must give before a run delivers more new tasks than the policy allows without asking."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from onetouch.catalogue import HOLD_CAPACITY, SALES_NOW
from onetouch.handoff import plain
from onetouch.lake import Lake, rows_where
from onetouch.ledger import ACTIVE, Ledger, Run
from onetouch.policy import Policy

_TOP = 10
"""Accounts shown by name."""

_MARGIN = timedelta(minutes=10)
"""Left between the latest answer and the end of the run's freshness, for the delivery itself."""


@dataclass(frozen=True)
class Question:
    """The question whether these tasks of the run may be created. `until`: an answer after that comes too late.

    `waiting`: accounts that only the day's places keep from a task (`assignment.tasks_per_day`); they count, because a
    jump does not become smaller by being sent in parts.
    `decisions`: a digest of the decision ids. `by_rep`: owner's e-mail → number of tasks. `top`: (company, score,
    contact reason) of the highest scores, without any person's name.
    """

    run_id: str
    tasks: int
    decisions: str
    limit: int
    by_rep: dict[str, int]
    top: list[tuple[str, float, str]]
    until: datetime
    waiting: int = 0


def wait_for_the_day(lake: Lake, run: Run) -> int:
    """How many accounts wait in the run only because the day of all reps together is full."""
    rows = rows_where(lake, "decisions", run.run_id, "action", [HOLD_CAPACITY])
    return sum(any(obstacle["obstacle"] == "day" for obstacle in row["would_change"] or ()) for row in rows)


def unasked(ledger: Ledger, policy: Policy, run: Run, due: int) -> int | None:
    """How many of the `due` tasks the run may ask for without approval, waiting ones included; None: any number.

    The limit is `delivery.approval_above`, or what is left today of `delivery.approval_jump` times the busiest (UTC)
    day of the trailing ones (`quality.trailing_days`), whichever is less. The second is never below one rep's day.
    """
    limits = [] if policy.delivery.approval_above is None else [policy.delivery.approval_above]
    least, jump, days = (
        policy.assignment.tasks_per_rep_per_day,
        policy.delivery.approval_jump,
        policy.quality.trailing_days,
    )
    if jump is not None and due > least:
        today = run.as_of.replace(hour=0, minute=0, second=0, microsecond=0)
        per_day = Counter(at.date() for at, _ in ledger.decided(today - timedelta(days=days), run.as_of))
        before = [n for day, n in per_day.items() if day < today.date()]
        first = min(per_day, default=today.date())
        if before and (today.date() - first).days * 2 >= days:
            limits.append(max(least, int(jump * max(before)) - per_day[today.date()]))
    return min(limits, default=None)


def question(lake: Lake, ledger: Ledger, policy: Policy, run: Run, now: datetime) -> Question | None:
    """The question to ask about the run's new tasks at `now`; None when there is nothing (more) to ask.

    A run asks once, about its `sales_now` decisions on accounts without an active handoff, when they are more than
    `unasked` allows. It asks only while an answer can still be acted on (within `approval_hours` and the run's
    freshness), and not when a later run has already been delivered.
    """
    until = min(
        now + timedelta(hours=policy.delivery.approval_hours),
        run.as_of + timedelta(hours=policy.delivery.fresh_hours) - _MARGIN,
    )
    if until <= now or ledger.stage_summary(run.run_id, "approve") or _overtaken(ledger, run):
        return None
    due = rows_where(lake, "decisions", run.run_id, "action", [SALES_NOW])
    which = _digest(due)
    under_way = {h.account_id for h in ledger.handoffs(states=ACTIVE, account_ids=[d["account_id"] for d in due])}
    due = [decision for decision in due if decision["account_id"] not in under_way]
    waiting = wait_for_the_day(lake, run)
    limit = unasked(ledger, policy, run, len(due) + waiting)
    if not due or limit is None or len(due) + waiting <= limit:
        return None
    best = sorted(due, key=lambda decision: (-decision["score"], decision["account_id"]))[:_TOP]
    signals = rows_where(lake, "signals", run.run_id, "account_id", [decision["account_id"] for decision in best])
    names = {row["account_id"]: _company(row) for row in signals}
    return Question(
        run_id=run.run_id,
        tasks=len(due),
        decisions=which,
        limit=limit,
        by_rep=dict(Counter(decision["owner_email"] or "nobody" for decision in due).most_common()),
        top=[(names.get(d["account_id"], "a company"), float(d["score"]), str(d["call"])) for d in best],
        until=until,
        waiting=waiting,
    )


def approved(lake: Lake, ledger: Ledger, run: Run) -> bool:
    """Whether a person has approved exactly the tasks the run asks for now.

    When the run was routed again and asks for other tasks, the approval does not count: they are withheld, and because
    a run asks only once, the next run asks. The same holds for an answer kept by an earlier version, which does not
    name the decisions it was given for.
    """
    answer = ledger.stage_summary(run.run_id, "approve")
    if answer is None or not answer["approved"]:
        return False
    return bool(answer.get("decisions") == wanted(lake, run)["decisions"])


def wanted(lake: Lake, run: Run) -> dict[str, Any]:
    """The number of "tasks" the run asks for now and a digest of its "decisions"; kept together with an answer."""
    kept = lake.exists("decisions", f"{run.run_id}.parquet")
    due = rows_where(lake, "decisions", run.run_id, "action", [SALES_NOW]) if kept else []
    return {"tasks": len(due), "decisions": _digest(due)}


def _digest(decisions: list[dict[str, Any]]) -> str:
    ids = sorted(decision["decision_id"] for decision in decisions)
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def _overtaken(ledger: Ledger, run: Run) -> bool:
    later = (r for r in ledger.runs() if r.as_of > run.as_of and not r.dry_run)
    return any(ledger.stage_summary(r.run_id, "deliver_tasks") is not None for r in later)


def _company(account: dict[str, Any]) -> str:
    """A company's name or domain; a lone user's may be the person's own."""
    if account.get("account_basis") == "personal":
        return "a single user"
    return plain(str(account.get("name") or account.get("domain") or ""), 60) or "a company without a name"
