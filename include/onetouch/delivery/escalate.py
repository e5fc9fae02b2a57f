"""Gives a task that stays untouched for twice its SLA to somebody else, where the policy says so
(`assignment.escalate_to`).

It stays the same handoff and the same task, which gets another owner, once. Whatever a rep has done with it meanwhile
comes first: the CRM is asked directly before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import pandas as pd

from onetouch.crm import Crm, CrmError, Due, Outcome
from onetouch.crm_sync import read_reps
from onetouch.delivery.recheck import Barred, Checkouts, undisturbed
from onetouch.delivery.send import send
from onetouch.lake import Lake, read_table, rows_where
from onetouch.ledger import ESCALATION, REASSIGNMENT, Handoff, Ledger, Outbox, Run
from onetouch.policy import NEXT_REP, Policy
from onetouch.routing import escalated_at, next_in_turn, team

_OWNERS = ["owner_email", "owner_id", "owner_active"]

BEGUN = ("pending", "sending")
"""States of a row that is laid out and not known to have arrived."""

_NOW = timedelta(microseconds=1)


@dataclass
class PassedOn:
    """How many tasks were passed on now (`done`), how many wait for a rep with room, and handoff id → why it was
    refused."""

    done: int = 0
    waiting: int = 0
    refused: dict[str, str] = field(default_factory=dict)

    def count(self, outcomes: Mapping[str, Outcome]) -> None:
        """Counts the outcomes of giving tasks to others, handoff id → outcome."""
        for i, outcome in outcomes.items():
            if outcome.ok:
                self.done += 1
            elif not (outcome.deleted or outcome.by_rep):
                self.refused[i] = outcome.reason


def escalate(
    lake: Lake, ledger: Ledger, policy: Policy, run: Run, crm: Crm, checkouts: Checkouts, barred: Barred
) -> PassedOn:
    """Passes on the tasks that are due for it; what an earlier run laid out and could not send is sent now.

    The CRM's task gets its new owner first, then the ledger, then the outbox row is `sent`: a run that continues after
    a crash finds the task where it belongs. When the CRM cannot be used, all that are due are refused with that reason.
    """
    result = PassedOn()
    if policy.assignment.escalate_to is None:
        return result
    waiting = [h for h in ledger.handoffs(states=["task_open"]) if h.decided_at < run.as_of and h.due_at and h.owner_id]
    keys = [f"{kind}:{h.handoff_id}" for h in waiting for kind in ("task", ESCALATION)]
    rows = {(str(row.handoff_id), row.kind): row for row in ledger.outbox(destination=crm.name, keys=keys)}
    ours = [h for h in waiting if (h.handoff_id, "task") in rows and h.due_at and h.due_at <= run.as_of]
    given = _reassigned(ledger, crm, ours)
    ours = [h for h in ours if h.handoff_id not in given or given[h.handoff_id].state not in BEGUN]
    begun = {h.handoff_id: row for h in ours if (row := rows.get((h.handoff_id, ESCALATION))) and row.state in BEGUN}
    new = [h for h in ours if (h.handoff_id, ESCALATION) not in rows]
    if not begun and not new:
        return result
    theirs: list[Handoff] = []
    try:
        reps = read_reps(crm)
        people = people_of(lake, run, reps, policy)
        opened = _opened(ledger, new)
        since = {i: _moment(row.payload["at"]) for i, row in given.items() if row.state == "sent"}
        late = [h for h in new if _is_late(h, opened, since, people, policy, run.as_of)]
        theirs = [*late, *(h for h in ours if h.handoff_id in begun)]
        tasks = {h.handoff_id: rows[h.handoff_id, "task"] for h in theirs}
        there = crm.tasks_of(tasks).values() if theirs else ()
        free = undisturbed(policy, run, crm, theirs, reps, checkouts, barred, tasks, there) if theirs else set()
        named = str(policy.assignment.escalate_to).strip().lower()
        to = takers(lake, ledger, policy, run, [h for h in late if h.handoff_id in free], people, reps, result, named)
        due = {i: row for i, row in begun.items() if i in free}
        due |= {str(row.handoff_id): row for row in ledger.put_all(_rows(run, crm, late, to))}
        outcomes = send(ledger, due, giver(ledger, crm)) if due else {}
    except CrmError as error:
        result.refused |= dict.fromkeys((h.handoff_id for h in theirs or ours), str(error))
        return result
    result.count(outcomes)
    return result


def people_of(lake: Lake, run: Run, reps: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """The people to whom the run assigns, as `routing.team` returns them. `reps`: the CRM's users."""
    owners = read_table(lake, "signals", f"{run.run_id}.parquet", columns=_OWNERS).to_pandas()
    return team(owners, reps, policy, run.as_of)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _opened(ledger: Ledger, handoffs: list[Handoff]) -> dict[str, datetime]:
    """Handoff id → when its task was created."""
    moves = ledger.moves([h.handoff_id for h in handoffs])
    opened = moves[moves["to_state"] == "task_open"]
    return {i: at.to_pydatetime() for i, at in zip(opened["handoff_id"], opened["at"], strict=True)}


def _reassigned(ledger: Ledger, crm: Crm, handoffs: list[Handoff]) -> dict[str, Outbox]:
    """Handoff id → the last row that gave its task to another rep because its owner had gone."""
    rows = ledger.outbox(destination=crm.name, handoff_ids=[h.handoff_id for h in handoffs]) if handoffs else []
    return {str(row.handoff_id): row for row in rows if row.kind == REASSIGNMENT and row.state != "failed"}


def _is_late(
    handoff: Handoff,
    opened: Mapping[str, datetime],
    since: Mapping[str, datetime],
    people: pd.DataFrame,
    policy: Policy,
    as_of: datetime,
) -> bool:
    """Whether twice the SLA is over, in the working time of its owner; by the clock for an owner who is not known.

    `opened`: when the task was created; `since`: when its present owner got it from one who had gone, if so: the clock
    starts anew with that.
    """
    assert handoff.due_at is not None
    decided_at = since.get(handoff.handoff_id, handoff.decided_at)
    opened_at = since.get(handoff.handoff_id, opened[handoff.handoff_id])
    owner = people[people.index == (handoff.owner_email or "").strip().lower()]
    if owner.empty:
        given = handoff.due_at - decided_at
        return opened_at + given + max(given, timedelta(hours=policy.handoff.sla_hours.high)) <= as_of
    return escalated_at(decided_at, handoff.due_at, opened_at, owner, policy) <= as_of


def takers(
    lake: Lake,
    ledger: Ledger,
    policy: Policy,
    run: Run,
    handoffs: list[Handoff],
    people: pd.DataFrame,
    reps: pd.DataFrame,
    result: PassedOn,
    named: str = NEXT_REP,
) -> dict[str, tuple[str, str]]:
    """Handoff id → id and e-mail of the user who takes it over, the highest score first.

    `named`: NEXT_REP, or the address of one user.
    """
    users = reps[reps["active"].fillna(True) & reps["email"].notna()]
    ids = dict(zip(users["email"], users["owner_id"], strict=True))
    load = ledger.rep_load(run.as_of + _NOW, set(reps["email"].dropna()))  # with the tasks that this run has given
    known = {
        row["account_id"]: row
        for row in rows_where(lake, "signals", run.run_id, "account_id", [h.account_id for h in handoffs])
    }
    chosen: dict[str, tuple[str, str]] = {}
    for handoff in sorted(handoffs, key=lambda h: (-(h.score or 0.0), h.handoff_id)):
        to: str | None = named
        if named == NEXT_REP:
            account = known.get(handoff.account_id, {"account_id": handoff.account_id}) | {
                "score": handoff.score or 0.0
            }
            to = next_in_turn(account, handoff.owner_email, people, load, policy, run.as_of)
        elif named not in ids:
            result.refused[handoff.handoff_id] = "assignment.escalate_to: no active user of the CRM has this address"
            continue
        if to is None or to not in ids:
            result.waiting += 1
        elif ids[to] != handoff.owner_id:
            chosen[handoff.handoff_id] = ids[to], to
            load = _with_one_more(load, to, run.as_of)
    return chosen


def _with_one_more(load: pd.DataFrame, email: str, at: datetime) -> pd.DataFrame:
    """The load of the reps when this one has been given one more task."""
    rows: dict[str, dict[Any, Any]] = {row["owner_email"]: row for row in load.to_dict("records")}
    before: dict[str, Any] = rows.get(email, {"owner_email": email, "open": 0, "recent": []})
    rows[email] = before | {"open": before["open"] + 1, "last_assigned_at": at, "recent": [*before["recent"], at]}
    return pd.DataFrame(list(rows.values()), columns=list(load.columns)).astype(load.dtypes.to_dict())


def _rows(run: Run, crm: Crm, handoffs: list[Handoff], takers: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {
            "key": f"{ESCALATION}:{h.handoff_id}",
            "destination": crm.name,
            "kind": ESCALATION,
            "run_id": run.run_id,
            "handoff_id": h.handoff_id,
            "payload": {
                "from": h.owner_id,
                "from_email": h.owner_email,
                "to": takers[h.handoff_id][0],
                "to_email": takers[h.handoff_id][1],
            },
        }
        for h in handoffs
        if h.handoff_id in takers
    ]


def giver(ledger: Ledger, crm: Crm) -> Callable[[Mapping[str, Outbox], set[str]], Mapping[str, Outcome]]:
    """Writes the new owner of each task, and notes it in the ledger before the row counts as sent."""

    def give(rows: Mapping[str, Outbox], _unsure: set[str]) -> Mapping[str, Outcome]:
        anew = {i: row.payload for i, row in rows.items() if "due_at" in row.payload}
        due = {i: Due(date.fromisoformat(p["due_on"]), _moment(p["remind_at"])) for i, p in anew.items()}
        outcomes = crm.reassign_tasks({i: (row.payload["from"], row.payload["to"]) for i, row in rows.items()}, due)
        for i, row in rows.items():
            if outcomes[i].ok:
                by = _moment(anew[i]["due_at"]) if i in anew else None
                ledger.reassign(i, row.payload["to"], row.payload["to_email"], by)
        return outcomes

    return give
