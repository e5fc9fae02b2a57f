"""More new tasks at once than the policy lets through unasked: what a person is shown before they are delivered."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

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
    """What is asked: may these tasks of the run be made? `until`: an answer after that comes too late.

    `decisions`: a digest of which; `by_rep`: owner's e-mail → tasks; `top`: (company, score, call) of the best, no
    person's name among them.
    """

    run_id: str
    tasks: int
    decisions: str
    limit: int
    by_rep: dict[str, int]
    top: list[tuple[str, float, str]]
    until: datetime


def unasked(ledger: Ledger, policy: Policy, run: Run, due: int) -> int | None:
    """How many new tasks the run may make without a person's yes, of the `due` ones; None: any number.

    `delivery.approval_above`; or what is left of `delivery.approval_jump` times the busiest (UTC) day of the trailing
    ones, when that is less, but never less than one rep's day.
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
    """The question to ask about the run's new tasks at `now`; None when none is (left) to be asked.

    Asked is once a run, about its `sales_now` decisions on accounts without a handoff under way, when they are more
    than may go `unasked`, while an answer can still be acted on (`approval_hours`, never beyond the run's
    freshness), and unless a later run has decided anew.
    """
    until = min(
        now + timedelta(hours=policy.delivery.approval_hours),
        run.as_of + timedelta(hours=policy.delivery.fresh_hours) - _MARGIN,
    )
    if until <= now or ledger.stage_summary(run.run_id, "approve") or _overtaken(ledger, run):
        return None
    due = rows_where(lake, "decisions", run.run_id, "action", ["sales_now"])
    which = _digest(due)
    under_way = {h.account_id for h in ledger.handoffs(states=ACTIVE, account_ids=[d["account_id"] for d in due])}
    due = [decision for decision in due if decision["account_id"] not in under_way]
    limit = unasked(ledger, policy, run, len(due))
    if limit is None or len(due) <= limit:
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
    )


def approved(lake: Lake, ledger: Ledger, run: Run) -> bool:
    """Whether a person has said yes to the very tasks the run asks for now.

    Routed anew to others, it has no yes: they are withheld, and as a run is asked about once, the next one asks. So it
    is with the answer of an earlier version, which does not tell what it was given for.
    """
    answer = ledger.stage_summary(run.run_id, "approve")
    if answer is None or not answer["approved"]:
        return False
    return bool(answer.get("decisions") == wanted(lake, run)["decisions"])


def wanted(lake: Lake, run: Run) -> dict[str, Any]:
    """How many "tasks" the run's "decisions" ask for now, and a digest of which: what an answer is kept with."""
    kept = lake.exists("decisions", f"{run.run_id}.parquet")
    due = rows_where(lake, "decisions", run.run_id, "action", ["sales_now"]) if kept else []
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
