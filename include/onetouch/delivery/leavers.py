"""Gives the open tasks of reps who have left, are away, or have lost the territory to somebody else
(`assignment.when_owner_leaves`, `assignment.when_territory_changes`).

It stays the same handoff and the same task, which gets another owner and a due time of that owner's. Who was in touch
keeps the handoff: what becomes of that conversation is for people to decide, and `alert_reps` says so in the channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pandas as pd

from onetouch.crm import Crm, CrmError, left_alone
from onetouch.crm_sync import REPS, read_reps
from onetouch.delivery.escalate import BEGUN, PassedOn, giver, people_of, takers
from onetouch.delivery.recheck import Barred, Checkouts, undisturbed
from onetouch.delivery.send import send
from onetouch.lake import Lake, rows_where
from onetouch.ledger import ESCALATION, REASSIGNMENT, Handoff, Ledger, Outbox, Run
from onetouch.policy import NEXT_REP, Leave, Policy, listed_reps
from onetouch.routing import due_at, territories_of

Because = Literal["left", "away", "territory"]
"""Why a task goes to another rep: its owner is deactivated in the CRM, on leave, or has lost the territory."""


def reassign(
    lake: Lake, ledger: Ledger, policy: Policy, run: Run, crm: Crm, checkouts: Checkouts, barred: Barred
) -> PassedOn:
    """Gives on the untouched tasks whose owner is gone; what an earlier run laid out and could not send is sent now.

    The CRM's task gets its new owner and due day first, then the ledger, then the outbox row is `sent`: a run that
    continues after a crash finds the task where it belongs. Without users of the CRM (accounts from a file) nobody is
    known to have left. When the CRM cannot be used, all that are due are refused with that reason.
    """
    result = PassedOn()
    rules = policy.assignment
    if NEXT_REP not in (rules.when_owner_leaves, rules.when_territory_changes):
        return result
    waiting = {
        h.handoff_id: h for h in ledger.handoffs(states=["task_open"]) if h.decided_at < run.as_of and h.owner_id
    }
    unsent = [row for row in ledger.outbox(destination=crm.name, states=BEGUN) if str(row.handoff_id) in waiting]
    begun = {str(row.handoff_id): row for row in unsent if row.kind == REASSIGNMENT}
    # What is being given on already is left to that: one step at a time.
    other = {row.handoff_id for row in unsent if row.kind == ESCALATION and rules.escalate_to is not None}
    mine = [h for i, h in waiting.items() if i not in begun and i not in other]
    gone = _gone(lake, policy, run, mine, known_reps(lake, run))
    tasks = {
        str(r.handoff_id): r for r in ledger.outbox(destination=crm.name, keys=[f"task:{i}" for i in gone | begun])
    }
    new = [h for h in mine if h.handoff_id in gone and h.handoff_id in tasks]
    theirs = [*new, *(waiting[i] for i in begun)]
    if not theirs:
        return result
    try:
        reps = read_reps(crm)
        gone = _gone(lake, policy, run, new, reps)  # the hour's reading may be over: they are asked for again
        there = crm.tasks_of([h.handoff_id for h in theirs])
        new = [h for h in new if h.handoff_id in gone and _theirs(h, there)]
        theirs = [*new, *(waiting[i] for i in begun)]
        free = (
            undisturbed(policy, run, crm, theirs, reps, checkouts, barred, tasks, there.values()) if theirs else set()
        )
        people = people_of(lake, run, reps, policy)
        to = takers(lake, ledger, policy, run, [h for h in new if h.handoff_id in free], people, reps, result)
        rows = _rows(lake, ledger, policy, run, crm, new, gone, to, people, result)
        due = {i: row for i, row in begun.items() if i in free}
        due |= {str(row.handoff_id): row for row in (ledger.put_all(rows) if rows else ())}
        outcomes = send(ledger, due, giver(ledger, crm)) if due else {}
    except CrmError as error:
        result.refused |= dict.fromkeys((h.handoff_id for h in theirs), str(error))
        return result
    result.count(outcomes)
    return result


def known_reps(lake: Lake, run: Run) -> pd.DataFrame:
    """The CRM's users as the run has read them; none where it has read no CRM."""
    if not lake.exists("crm", run.run_id, "reps.parquet"):
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in REPS.items()})
    return lake.read("crm", run.run_id, "reps.parquet")


def has_left(reps: pd.DataFrame, owner_id: str | None) -> bool:
    """Whether the user is deactivated, or not among the CRM's users any more; False where no users are known.

    A rep is known by the CRM's own id, so that a new name or e-mail address does not make another one of them.
    """
    return not reps.empty and owner_id not in set(reps.loc[reps["active"].fillna(True), "owner_id"])


def _theirs(handoff: Handoff, there: Mapping[str, Any]) -> bool:
    """Whether the task is open, untouched and in the hands of the handoff's owner; a queue's, for one, is not."""
    return left_alone(there.get(handoff.handoff_id), str(handoff.owner_id), "") is None


def _gone(lake: Lake, policy: Policy, run: Run, handoffs: list[Handoff], reps: pd.DataFrame) -> dict[str, Because]:
    """Handoff id → why its owner is not there for it any more. `reps`: the CRM's users."""
    found: dict[str, Because] = {}
    if policy.assignment.when_territory_changes == NEXT_REP and not reps.empty:
        found |= dict.fromkeys(_moved(lake, policy, run, handoffs), "territory")
    if policy.assignment.when_owner_leaves == NEXT_REP:
        found |= dict.fromkeys(_away(lake, policy, run, handoffs, reps), "away")
        found |= {h.handoff_id: "left" for h in handoffs if has_left(reps, h.owner_id)}
    return found


def _away(lake: Lake, policy: Policy, run: Run, handoffs: list[Handoff], reps: pd.DataFrame) -> list[str]:
    """The handoffs whose owner is on leave today, and still is on the day on which they are due."""
    on_leave = {email: rep.leave for email, rep in listed_reps(policy.assignment).items() if rep.leave}
    theirs = [h for h in handoffs if (h.owner_email or "").strip().lower() in on_leave]
    if not theirs or reps.empty:
        return []
    people = people_of(lake, run, reps, policy)
    away = []
    for handoff in theirs:
        email = (handoff.owner_email or "").strip().lower()
        if email not in people.index:
            continue
        where = ZoneInfo(str(people.loc[email, "timezone"]))
        if is_away(on_leave[email], run.as_of, handoff.due_at or run.as_of, where):
            away.append(handoff.handoff_id)
    return away


def is_away(leave: Iterable[Leave], now: datetime, due_at: datetime, where: tzinfo) -> bool:
    """Whether a rep with that leave is away now, and not back on the day on which a task is due; days are the rep's."""
    today, due = now.astimezone(where).date(), due_at.astimezone(where).date()
    return any(out.first <= today <= out.last and due <= out.last for out in leave)


def _moved(lake: Lake, policy: Policy, run: Run, handoffs: list[Handoff]) -> list[str]:
    """The handoffs that went to their owner for a territory, and whose account is in one of other reps now.

    One that somebody has given on since the decision stays with whom it was given to.
    """
    by_run: dict[str, list[Handoff]] = {}
    for handoff in handoffs:
        by_run.setdefault(handoff.run_id, []).append(handoff)
    of_territory: dict[str, Handoff] = {}
    for run_id, theirs in by_run.items():
        if not lake.exists("decisions", f"{run_id}.parquet"):
            continue
        decided = rows_where(lake, "decisions", run_id, "account_id", [h.account_id for h in theirs])
        assigned = {
            row["account_id"]: row["owner_id"]
            for row in decided
            if str(row.get("assigned_by") or "").startswith("territory ")
        }
        of_territory |= {h.account_id: h for h in theirs if assigned.get(h.account_id, "") == h.owner_id}
    known = rows_where(lake, "signals", run.run_id, "account_id", sorted(of_territory)) if of_territory else []
    if not known:
        return []
    accounts = pd.DataFrame(known).reindex(columns=["account_id", "region", "industry", "employees"])
    moved = []
    for account_id, territory in zip(accounts["account_id"], territories_of(accounts, policy), strict=True):
        handoff = of_territory[account_id]
        reps_of = {email.lower() for email in territory.reps} if territory else set()
        if reps_of and (handoff.owner_email or "").strip().lower() not in reps_of:
            moved.append(handoff.handoff_id)
    return moved


def _rows(
    lake: Lake,
    ledger: Ledger,
    policy: Policy,
    run: Run,
    crm: Crm,
    handoffs: list[Handoff],
    gone: Mapping[str, Because],
    to: Mapping[str, tuple[str, str]],
    people: pd.DataFrame,
    result: PassedOn,
) -> list[dict[str, Any]]:
    """The outbox rows by which the tasks are given on. What the CRM has refused once is not tried with the same rep
    again, except when a person asks for it (`outbox retry`)."""
    theirs = [h for h in handoffs if h.handoff_id in to]
    earlier: dict[str, list[Outbox]] = {}
    for row in ledger.outbox(destination=crm.name, handoff_ids=[h.handoff_id for h in theirs]) if theirs else ():
        if row.kind == REASSIGNMENT:
            earlier.setdefault(str(row.handoff_id), []).append(row)
    due = _due(lake, policy, run, theirs, to, people)
    rows = []
    for handoff in theirs:
        i, (user, email) = handoff.handoff_id, to[handoff.handoff_id]
        before = earlier.get(i, [])
        refused = [
            r
            for r in before
            if r.state == "failed" and (r.payload["from"], r.payload["to"]) == (handoff.owner_id, user)
        ]
        if refused:
            result.refused[i] = refused[-1].reason
            continue
        by, begins = due[i]
        where = ZoneInfo(str(people.loc[email, "timezone"]))
        rows.append(
            {
                "key": f"{REASSIGNMENT}:{i}:{len(before) + 1}",
                "destination": crm.name,
                "kind": REASSIGNMENT,
                "run_id": run.run_id,
                "handoff_id": i,
                "payload": {
                    "from": handoff.owner_id,
                    "from_email": handoff.owner_email,
                    "to": user,
                    "to_email": email,
                    "because": gone[i],
                    "at": run.as_of.isoformat(),
                    "due_at": by.isoformat(),
                    "due_on": by.astimezone(where).date().isoformat(),
                    "remind_at": begins.isoformat(),
                },
            }
        )
    return rows


def _due(
    lake: Lake,
    policy: Policy,
    run: Run,
    handoffs: list[Handoff],
    to: Mapping[str, tuple[str, str]],
    people: pd.DataFrame,
) -> dict[str, tuple[datetime, datetime]]:
    """Handoff id → by when its new owner must make contact, and when that owner's working time begins.

    As for a new task (`routing.due_at`): the SLA of its tier, in the new owner's working time, never after the plan
    limit is hit; and not after the handoff expires, which stays as it was.
    """
    if not handoffs:
        return {}
    known = rows_where(lake, "signals", run.run_id, "account_id", [h.account_id for h in handoffs])
    left = {row["account_id"]: row.get("limit_days_left") for row in known}
    sla = policy.handoff.sla_hours
    clock = pd.DataFrame(
        {
            "owner_email": [to[h.handoff_id][1] for h in handoffs],
            "hours": [float(sla.high if h.tier == "high" else sla.medium) for h in handoffs],
            "start": pd.Series([None] * len(handoffs), dtype="datetime64[us, UTC]"),
            "limit_days_left": pd.Series([left.get(h.account_id) for h in handoffs], dtype="float64"),
        }
    )
    by = due_at(clock, people, policy, run.as_of)
    begins = due_at(clock.assign(hours=0.0), people, policy, run.as_of)
    found = {}
    for handoff, at, first in zip(handoffs, by, begins, strict=True):
        over = handoff.decided_at + timedelta(hours=policy.handoff.expires_hours)
        due = min(at.to_pydatetime(), max(over, run.as_of))
        found[handoff.handoff_id] = due, min(first.to_pydatetime(), due).astimezone(UTC).replace(microsecond=0)
    return found
