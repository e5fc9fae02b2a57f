"""Follow-ups: where the policy allows more than one touch, a task for each of the others (`handoff.follow_ups`).

A follow-up belongs to its handoff: it is no second handoff, takes no place of anybody's day, and never extends the
handoff's time. There is one task a number, under a unique key of its own. What ends the handoff, or answers it, also
closes the task that is still open.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from onetouch.catalogue import HOLD_TOUCHED
from onetouch.crm import NOT_YET, WITHDRAWN, Crm, CrmError, Outcome, follow_up_key, stored_payload, task_of
from onetouch.crm_sync import next_follow_up, read_reps, timezones
from onetouch.delivery.opportunities import PERSON, Contacts
from onetouch.delivery.recheck import Barred, Checkouts, undisturbed
from onetouch.delivery.send import send
from onetouch.handoff import TaskContent, follow_up_content
from onetouch.lake import Lake, rows_where
from onetouch.ledger import FOLLOW_UP, FOLLOW_UP_END, Handoff, Ledger, Outbox, Run
from onetouch.policy import Policy
from onetouch.routing import due_at

People = Callable[[pd.DataFrame], pd.DataFrame]
"""The CRM's users → the people of the run, as `routing.team` returns them."""

Named = Callable[[Collection[str]], Collection[str]]
"""Account ids → those of them that are meant."""

_BEGUN = ("pending", "sending")


@dataclass
class FollowUps:
    """How many tasks were `written` now, how many wait for the rep to do the one before, and handoff id → why it was
    refused."""

    written: int = 0
    waiting: int = 0
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Due:
    """The handoffs with a follow-up due: its `number`, and the rows of all their follow-ups and of their own task."""

    handoffs: dict[str, Handoff]
    number: dict[str, int]
    rows: dict[str, list[Outbox]]
    tasks: dict[str, Outbox]
    touches: dict[str, list[tuple[datetime, str]]]


def follow_up(
    lake: Lake,
    ledger: Ledger,
    policy: Policy,
    run: Run,
    crm: Crm,
    checkouts: Checkouts,
    barred: Barred,
    contacts: Contacts,
    people: People,
) -> FollowUps:
    """Writes the tasks of the follow-ups that are due; what an earlier run laid out and could not send is sent now.

    None is written while the one before is still open, and only for an account that the run itself holds because it was
    touched. Directly before, product and CRM are asked once more (`undisturbed`). When the CRM cannot be used, all that
    are due are refused with that reason.
    """
    result = FollowUps()
    due = _due(lake, ledger, policy, run, crm.name)
    if not due.handoffs:
        return result
    try:
        earlier = {i: [row for row in due.rows.get(i, ()) if row.state not in _BEGUN] for i in due.handoffs}
        before = {_key(row): i for i, theirs in earlier.items() for row in theirs}
        there = crm.tasks_of(before) if before else {}
        busy = {
            before[key] for key, task in there.items() if not (task.is_done or task.is_deleted or task.closed_by_us)
        }
        result.waiting = len(busy)
        asked = [h for i, h in due.handoffs.items() if i not in busy]
        reps = read_reps(crm) if asked else pd.DataFrame()
        free = undisturbed(policy, run, crm, asked, reps, checkouts, barred, due.tasks) if asked else set()
        rows = {str(row.handoff_id): row for i in free for row in due.rows.get(i, ()) if row.state in _BEGUN}
        new = [h for h in asked if h.handoff_id in free and h.handoff_id not in rows]
        laid_out = _rows(lake, policy, run, crm, due, new, people(reps)) if new else []
        rows |= {str(row.handoff_id): row for row in ledger.put_all(laid_out)}

        def write(its: Mapping[str, Outbox], unsure: set[str]) -> dict[str, Outcome]:
            whom = contacts(its, {i: due.handoffs[i] for i in its})
            tasks = {_key(row): _content(row, due.handoffs[i], whom.get(i)) for i, row in its.items()}
            outcomes = crm.create_tasks(tasks, {_key(its[i]) for i in unsure})
            return {i: outcomes[_key(row)] for i, row in its.items()}

        outcomes = send(ledger, rows, write) if rows else {}
    except CrmError as error:
        result.refused = dict.fromkeys(due.handoffs, str(error))
        return result
    for i, outcome in outcomes.items():
        if outcome.ok and not outcome.deleted:
            result.written += 1
        elif not outcome.deleted:
            result.refused[i] = outcome.reason
    return result


def follow_ups_due(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> int:
    """How many follow-ups are due, for a run that writes nothing."""
    return len(_due(lake, ledger, policy, run, policy.crm.system).handoffs)


def close_follow_ups(
    ledger: Ledger, run: Run, crm: Crm, policy: Policy, never_contact: Named = lambda _: set()
) -> tuple[int, dict[str, str]]:
    """Closes the follow-ups whose handoff was answered or has ended, with our label and the reason.

    `never_contact`: those of some accounts that may no longer be contacted; their follow-ups are closed, too. A task
    that the rep did or deleted is left as it is. Returns how many were closed, and key → why one could not be: the next
    run tries it again.
    """
    rows = {_key(row): row for row in ledger.follow_ups(crm.name)}
    if not rows:
        return 0, {}
    known = {h.handoff_id: h for h in ledger.handoffs()}
    handoffs = {key: known[str(row.handoff_id)] for key, row in rows.items()}
    barred = never_contact({h.account_id for h in handoffs.values() if h.active})
    reasons = {key: why for key, handoff in handoffs.items() if (why := _over(handoff, barred)) is not None}
    # One whose arrival is unknown may still arrive: it is looked for as long as the task of a handoff is.
    lately = run.as_of - timedelta(hours=policy.handoff.expires_hours)
    unsure = {key for key in reasons if rows[key].state != "sent" and _over_at(handoffs[key], run) > lately}
    ends = ledger.put_all(
        {
            "key": f"{FOLLOW_UP_END}:{key}",
            "destination": crm.name,
            "kind": FOLLOW_UP_END,
            "run_id": run.run_id,
            "handoff_id": rows[key].handoff_id,
            "payload": {"reason": why},
        }
        for key, why in reasons.items()
    )
    closed = 0

    def write(its: Mapping[str, Outbox], _unsure: set[str]) -> dict[str, Outcome]:
        nonlocal closed
        outcomes = crm.close_tasks({key: (WITHDRAWN, reasons[key]) for key in its})
        told = {}
        for key, outcome in outcomes.items():
            closed += outcome.ok and outcome.id is not None and not outcome.by_rep
            if outcome.ok and outcome.id is None and key in unsure:
                outcome = Outcome(ok=False, code=NOT_YET, message="it may still arrive", retryable=True)
            told[key] = replace(outcome, id=outcome.id or "", retryable=True, deleted=False)
        return told

    outcomes = send(ledger, {_key(row): row for row in ends}, write) if ends else {}
    return closed, {key: o.reason for key, o in outcomes.items() if not o.ok and o.code != NOT_YET}


def _due(lake: Lake, ledger: Ledger, policy: Policy, run: Run, destination: str) -> _Due:
    """The follow-ups that are due by the clock, of accounts that the run holds because they were touched."""
    none = _Due({}, {}, {}, {}, {})
    if policy.handoff.touches == 1 or policy.handoff.follow_ups == "none":
        return none
    touched = [
        h for h in ledger.handoffs(states=["touched"]) if h.crm_account_id and h.owner_id and h.decided_at < run.as_of
    ]
    held = rows_where(lake, "decisions", run.run_id, "account_id", [h.account_id for h in touched])
    accounts = {row["account_id"] for row in held if row["action"] == HOLD_TOUCHED}
    touched = [h for h in touched if h.account_id in accounts]
    if not touched:
        return none
    rows: dict[str, list[Outbox]] = {}
    tasks: dict[str, Outbox] = {}
    for row in ledger.outbox(destination=destination, handoff_ids=[h.handoff_id for h in touched]):
        if row.kind == FOLLOW_UP:
            rows.setdefault(str(row.handoff_id), []).append(row)
        elif row.kind == "task":
            tasks[str(row.handoff_id)] = row
    touches = _touches(ledger, run, touched)
    number = {}
    for handoff in touched:
        theirs = rows.get(handoff.handoff_id, [])
        begun = [row for row in theirs if row.state in _BEGUN]
        last = touches[handoff.handoff_id][-1][0]
        # One that is laid out is sent as it is, if it is still due.
        its = next_follow_up(handoff, len(theirs) - len(begun), last, policy, run.as_of)
        if its is not None and handoff.handoff_id in tasks:
            number[handoff.handoff_id] = its
    return _Due({h.handoff_id: h for h in touched if h.handoff_id in number}, number, rows, tasks, touches)


def _touches(ledger: Ledger, run: Run, handoffs: list[Handoff]) -> dict[str, list[tuple[datetime, str]]]:
    """Handoff id → moment and kind of each touch of its account since the first one, in order; never empty."""
    since = min(h.touched_at for h in handoffs if h.touched_at)
    known = ledger.touches(account_ids={h.account_id for h in handoffs}, since=since, as_of=run.as_of)
    found: dict[str, list[tuple[datetime, str]]] = {}
    for handoff in handoffs:
        first = handoff.touched_at
        assert first is not None
        theirs = known[(known["account_id"] == handoff.account_id) & (known["at"] >= first)]
        touches = [(at.to_pydatetime(), str(kind)) for at, kind in zip(theirs["at"], theirs["kind"], strict=True)]
        found[handoff.handoff_id] = touches if touches and touches[0][0] == first else [(first, ""), *touches]
    return found


def _rows(
    lake: Lake, policy: Policy, run: Run, crm: Crm, due: _Due, handoffs: list[Handoff], people: pd.DataFrame
) -> list[dict[str, Any]]:
    ids = [h.account_id for h in handoffs]
    decisions = {row["account_id"]: row for row in rows_where(lake, "decisions", run.run_id, "account_id", ids)}
    signals = {row["account_id"]: row for row in rows_where(lake, "signals", run.run_id, "account_id", ids)}
    zones = timezones(lake, run.run_id)
    silence, at_work = timedelta(days=policy.handoff.silence_days), due_from(handoffs, people, policy, run.as_of)
    rows = []
    for handoff in handoffs:
        i, number = handoff.handoff_id, due.number[handoff.handoff_id]
        assert handoff.touched_at is not None
        over = handoff.touched_at + policy.handoff.touches * silence
        content = follow_up_content(
            decisions[handoff.account_id],
            signals.get(handoff.account_id, {}),
            policy,
            number=number,
            touches=due.touches[i],
            tier=handoff.tier,
            due_at=min(at_work[i], over),
            over_at=over,
            timezone=zones.get(handoff.owner_id or ""),
        )
        record = due.tasks[i].payload.get("record", {})
        content = replace(content, extra=task_of(due.tasks[i].payload).extra)
        rows.append(
            {
                "key": f"{FOLLOW_UP}:{follow_up_key(i, number)}",
                "destination": crm.name,
                "kind": FOLLOW_UP,
                "run_id": run.run_id,
                "handoff_id": i,
                "payload": stored_payload(content) | {"record": {n: record[n] for n in PERSON if n in record}},
            }
        )
    return rows


def due_from(handoffs: list[Handoff], people: pd.DataFrame, policy: Policy, as_of: datetime) -> dict[str, datetime]:
    """Handoff id → when a task that is given to its owner now is due: the SLA of its tier, in its owner's working time;
    by the clock for an owner who is not known."""
    sla = policy.handoff.sla_hours
    rows = pd.DataFrame(
        [
            {
                "handoff_id": h.handoff_id,
                "owner_email": (h.owner_email or "").strip().lower(),
                "hours": float(sla.high if h.tier == "high" else sla.medium),
                "start": None,
                "limit_days_left": None,
            }
            for h in handoffs
        ]
    )
    found = {i: as_of + timedelta(hours=hours) for i, hours in zip(rows["handoff_id"], rows["hours"], strict=True)}
    known = rows[rows["owner_email"].isin(people.index)]
    if len(known):
        due = due_at(known, people, policy, as_of)
        found |= {i: at.to_pydatetime() for i, at in zip(known["handoff_id"], due, strict=True)}
    return found


def _content(row: Outbox, handoff: Handoff, contact_id: str | None) -> TaskContent:
    return replace(
        task_of(row.payload), owner_id=handoff.owner_id, crm_account_id=handoff.crm_account_id, contact_id=contact_id
    )


def _key(row: Outbox) -> str:
    """The key of the follow-up's task in the CRM, which the keys of its rows end with."""
    return row.key.partition(":")[2]


def _over(handoff: Handoff, barred: Collection[str]) -> str | None:
    """Why the handoff's follow-up has lost its purpose; None: it has not."""
    if handoff.state == "replied":
        return "answered: the customer has replied"
    if not handoff.active:
        return handoff.reason or f"the handoff is {handoff.state}"
    if handoff.account_id in barred:
        return "never contact: listed, or nobody there may be contacted any more"
    return None


def _over_at(handoff: Handoff, run: Run) -> datetime:
    return handoff.closed_at or handoff.replied_at or run.as_of
