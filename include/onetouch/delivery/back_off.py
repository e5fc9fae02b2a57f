"""One touch, then back off: accounts that stay silent return to self-serve, and tasks without a purpose are closed."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from onetouch.crm import Crm
from onetouch.crm_sync import LABELS, ending, merged
from onetouch.delivery.failure import DeliveryFailed
from onetouch.delivery.follow_up import close_follow_ups
from onetouch.delivery.survivors import follow_records, moved
from onetouch.delivery.withdraw import close, may_end, move, unheard
from onetouch.lake import Lake
from onetouch.ledger import ACTIVE, Handoff, Ledger, Run
from onetouch.policy import Policy


def back_off(
    ledger: Ledger, policy: Policy, run: Run, crm: Crm, *, held: str | None, lake: Lake | None = None
) -> dict[str, Any]:
    """Ends the handoffs that deadlines or touches by others have ended (`crm_sync.ending`), and closes their tasks.

    The CRM is written first, then the ledger; both steps can be repeated, so a re-run after a crash in between ends
    with the same result. With `held` (why nothing may be sent) neither is written. A task the rep has closed
    meanwhile is a touch, not an expiry: its handoff waits for the next `extract_crm`. A handoff whose task the CRM
    refuses to close waits for the next run; all others are ended.
    Of the handoffs of accounts that were merged one is kept (`crm_sync.merged`), and the record that is left gets its
    context before any task is changed (`follow_records`; `lake`: where the run's accounts are).
    Follow-ups of handoffs that were answered or have ended are closed, too (`close_follow_ups`).
    Returns {"released", "expired", "withdrawn", "failed": [{account_id, reason}], "held"}, and "follow_ups" {closed,
    refused: n} if there were any; raises DeliveryFailed
    with the same after the rest when a task could not be closed.
    """
    active = ledger.handoffs(states=ACTIVE)
    touches = _touches(ledger, policy, run, [handoff for handoff in active if handoff.state == "task_open"])
    due = {h.handoff_id: end for h in active if (end := ending(h, touches.get(h.handoff_id, []), policy, run.as_of))}
    others = merged(active, moved(ledger, active))
    due |= {handoff_id: ("withdrawn", reason) for handoff_id, reason in others.items()}
    ending_ones = [handoff for handoff in active if handoff.handoff_id in due]
    counts = Counter(state for state, _ in due.values())
    summary: dict[str, Any] = {state: counts[state] for state in LABELS} | {"failed": [], "held": held}
    if held:
        return summary

    followed = follow_records(lake, ledger, run, crm, [h for h in active if h.handoff_id not in due])
    unwritten = {i: outcome.reason for i, outcome in followed.items() if not (outcome.ok or outcome.deleted)}
    ended = unheard(ledger, _lately_ended(ledger, policy, run))
    reasons = {handoff_id: (LABELS[state], reason) for handoff_id, (state, reason) in due.items()}
    reasons |= {h.handoff_id: (LABELS[h.state], h.reason) for h in ended}
    outcomes = close(ledger, crm, reasons) if reasons else {}
    free = may_end(ending_ones, outcomes)
    for state in LABELS:
        theirs = {h.handoff_id: {"reason": due[h.handoff_id][1]} for h in free if due[h.handoff_id][0] == state}
        summary[state] = sum(h.state == state for h in move(ledger, run, state, theirs).values())
    refused = [handoff for handoff in [*ending_ones, *ended] if not outcomes[handoff.handoff_id].ok]
    closed, standing = close_follow_ups(ledger, run, crm, policy)
    if closed or standing:
        summary["follow_ups"] = {"closed": closed, "refused": len(standing)}
    if refused or standing or unwritten:
        summary["failed"] = [{"account_id": h.account_id, "reason": outcomes[h.handoff_id].reason} for h in refused]
        summary["failed"] += [
            {"account_id": h.account_id, "reason": unwritten[h.handoff_id]} for h in active if h.handoff_id in unwritten
        ]
        named = [(f"handoff {h.handoff_id}", outcomes[h.handoff_id].reason) for h in refused]
        named += [(f"merged record of handoff {i}", reason) for i, reason in unwritten.items()]
        named += [(f"follow-up {key}", reason) for key, reason in standing.items()]
        beside = ", or merged records written" if unwritten else ""
        raise DeliveryFailed(f"tasks could not be closed{beside}", summary, named)
    return summary


def _lately_ended(ledger: Ledger, policy: Policy, run: Run) -> list[Handoff]:
    waiting = timedelta(hours=policy.handoff.expires_hours)
    ended = ledger.handoffs(states=["withdrawn", "expired"])
    return [handoff for handoff in ended if handoff.closed_at and handoff.closed_at + waiting > run.as_of]


def _touches(ledger: Ledger, policy: Policy, run: Run, handoffs: list[Handoff]) -> dict[str, list[dict[str, Any]]]:
    """Handoff id → the touches of its account that the run knows of and its decision did not."""
    if not handoffs:
        return {}
    since = min(handoff.decided_at for handoff in handoffs) - timedelta(days=policy.handoff.silence_days)
    known = ledger.touches(account_ids={handoff.account_id for handoff in handoffs}, since=since, as_of=run.as_of)
    of_account: dict[str, list[dict[str, Any]]] = {}
    for touch in known.astype(object).where(known.notna(), None).to_dict("records"):
        of_account.setdefault(touch["account_id"], []).append({str(name): value for name, value in touch.items()})
    for handoff in handoffs:
        theirs = of_account.get(handoff.account_id, [])
        if any(touch["at"] <= handoff.decided_at for touch in theirs):
            told = ledger.touches(account_ids=[handoff.account_id], since=since, as_of=handoff.decided_at)
            old = set(told["touch_id"])
            of_account[handoff.account_id] = [touch for touch in theirs if touch["touch_id"] not in old]
    return {handoff.handoff_id: of_account.get(handoff.account_id, []) for handoff in handoffs}
