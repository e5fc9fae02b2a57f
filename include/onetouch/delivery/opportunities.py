"""Creates an opportunity for a handoff whose customer has answered, where the policy says so (`crm.opportunity`).

It is created once a handoff and is the rep's from then on: nothing of it is ever written again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from onetouch.crm import MEETING, NOT_YET, OUTCOMES, Crm, CrmError, Outcome, opportunity_of, stored_payload
from onetouch.delivery.send import send
from onetouch.handoff import OpportunityContent, plain
from onetouch.ledger import Handoff, Ledger, Outbox, Run
from onetouch.policy import Policy

KIND = "opportunity"

_MEETING_BOOKED = OUTCOMES[-1]

PERSON = ("top_user", "contact", "named")
"""Parts of a task's record that say whom it names."""

_NAME = 120
"""Ours: characters of an opportunity's name; Salesforce takes no more."""


@dataclass
class Opportunities:
    """How many were `created` now, how many wait for a lead to be converted, and handoff id → why it was refused."""

    created: int = 0
    waiting: int = 0
    refused: dict[str, str] = field(default_factory=dict)


Contacts = Callable[[Mapping[str, Outbox], Mapping[str, Handoff]], Mapping[str, str]]
"""Outbox rows and handoffs, both by handoff id → the contact of each handoff that has one who may be named."""


def create_opportunities(ledger: Ledger, policy: Policy, run: Run, crm: Crm, contacts: Contacts) -> Opportunities:
    """Creates the opportunities that are due: of handoffs with a reply, or with a meeting, by the policy.

    None is created for an account that has an open one, because a rep was quicker. What an earlier run laid out and
    could not send is sent now; what was sent is never looked at again. When the CRM cannot be used for it (missing
    fields, no answer), all that are due are refused with that reason, so that tasks do not depend on it.
    """
    result = Opportunities()
    if policy.crm.opportunity == "never":
        return result
    answered = {h.handoff_id: h for h in ledger.handoffs(states=["replied"]) if h.crm_account_id and h.task_id}
    there = {row.handoff_id: row for row in ledger.outbox(keys=[f"{KIND}:{i}" for i in answered])}
    new = [h for h in answered.values() if h.handoff_id not in there]
    if policy.crm.opportunity == "on_meeting":
        met = _met(ledger, new)
        new = [h for h in new if h.handoff_id in met]
    if new:
        records = {str(h.crm_account_id) for h in new}
        try:
            busy = crm.opportunities_since(run.as_of + timedelta(days=1), records)  # only what `records` have open
        except CrmError as error:
            result.refused = {h.handoff_id: str(error) for h in new}
            return result
        new = [h for h in new if h.crm_account_id not in busy]
        there |= {row.handoff_id: row for row in ledger.put_all(_rows(ledger, policy, run, crm, new))}
    due = {
        str(i): row for i, row in there.items() if row.state in ("pending", "sending") and row.destination == crm.name
    }
    if not due:
        return result

    def write(rows: Mapping[str, Outbox], unsure: set[str]) -> dict[str, Outcome]:
        whom = contacts(rows, {i: answered[i] for i in rows})
        return crm.create_opportunities(
            {
                i: replace(
                    opportunity_of(row.payload),
                    owner_id=answered[i].owner_id,
                    crm_account_id=answered[i].crm_account_id,
                    contact_id=whom.get(i),
                )
                for i, row in rows.items()
            },
            unsure,
        )

    try:
        outcomes = send(ledger, due, write)
    except CrmError as error:
        result.refused = dict.fromkeys(due, str(error))
        return result
    for i, outcome in outcomes.items():
        if outcome.ok:
            result.created += 1
        elif outcome.code == NOT_YET:
            result.waiting += 1
        elif not outcome.deleted:
            result.refused[i] = outcome.reason
    return result


def _met(ledger: Ledger, handoffs: list[Handoff]) -> set[str]:
    """The handoffs with a meeting since the first touch, held or arranged."""
    if not handoffs:
        return set()
    since = {h.account_id: h for h in handoffs}
    touches = ledger.touches(account_ids=since)
    meetings = touches[touches["kind"].eq(MEETING) | touches["outcome"].eq(_MEETING_BOOKED)]
    found = set()
    for account_id, at in zip(meetings["account_id"], meetings["at"], strict=True):
        handoff = since[account_id]
        if handoff.touched_at is not None and at >= handoff.touched_at:
            found.add(handoff.handoff_id)
    return found


def _rows(ledger: Ledger, policy: Policy, run: Run, crm: Crm, handoffs: list[Handoff]) -> list[dict[str, object]]:
    tasks = {row.handoff_id: row for row in ledger.outbox(keys=[f"task:{h.handoff_id}" for h in handoffs])}
    close_on = run.as_of.date() + timedelta(days=policy.report.close_within_days)
    rows: list[dict[str, object]] = []
    for handoff in handoffs:
        task = tasks.get(handoff.handoff_id)
        record = task.payload.get("record", {}) if task else {}
        name = plain(f"{record.get('name') or record.get('domain') or 'A customer'} — {policy.product.name}", _NAME)
        content = OpportunityContent(name=name, amount=handoff.potential_arr, close_on=close_on)
        rows.append(
            {
                "key": f"{KIND}:{handoff.handoff_id}",
                "destination": crm.name,
                "kind": KIND,
                "run_id": run.run_id,
                "handoff_id": handoff.handoff_id,
                "payload": stored_payload(content) | {"record": {n: record[n] for n in PERSON if n in record}},
            }
        )
    return rows
