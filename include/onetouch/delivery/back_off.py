"""One touch, then back off: silent accounts return to self-serve, tasks nobody worked in time are closed (S0 S2)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from onetouch.delivery.failure import DeliveryFailed
from onetouch.delivery.salesforce import EXPIRED, RELEASED, WITHDRAWN, Salesforce
from onetouch.ledger import Handoff, Ledger, Run
from onetouch.policy import Policy

_LABELS = {"released": RELEASED, "expired": EXPIRED, "withdrawn": WITHDRAWN}


def back_off(ledger: Ledger, policy: Policy, run: Run, salesforce: Salesforce, *, held: str | None) -> dict[str, Any]:
    """Releases touched handoffs that stayed without a reply, expires untouched ones after `expires_hours`.

    A rep may write `touches` times, each followed by `silence_days` of waiting: so long after the first touch the
    account is released. The CRM is written first, then the ledger moves; either may be repeated, so a crash in
    between ends the same after a re-run. With `held` (why nothing may be sent) nothing is written and nothing
    moves. A task the rep has closed meanwhile is a touch, not an expiry: it waits for the next `extract_crm`.
    Returns {"released", "expired", "failed": [{account_id, reason}], "held"}; raises DeliveryFailed after the rest when
    a task could not be closed.
    """
    days = policy.handoff.touches * policy.handoff.silence_days
    silence = timedelta(days=days)
    waiting = timedelta(hours=policy.handoff.expires_hours)
    silent = [
        h
        for h in ledger.handoffs(states=["touched"])
        if h.touched_at is not None and h.touched_at + silence <= run.as_of
    ]
    unworked = [
        h
        for h in ledger.handoffs(states=["decided", "context_written", "task_open"])
        if h.decided_at + waiting <= run.as_of
    ]
    touch = "touch" if policy.handoff.touches == 1 else "first touch"
    ending = [(h, "released", f"no response within {days} days of the {touch}") for h in silent]
    ending += [(h, "expired", f"not contacted within {policy.handoff.expires_hours} hours") for h in unworked]
    summary: dict[str, Any] = {"released": len(silent), "expired": len(unworked), "failed": [], "held": held}
    if held:
        return summary

    # A task written by a run that lost its handoff to another at that very moment, and died: closed here.
    ended = {"withdrawn", "expired"}
    lost = [h for h in ledger.handoffs(states=ended) if h.task_id is None and _recent(h, run, waiting)]
    reasons = {h.handoff_id: (_LABELS[state], reason) for h, state, reason in ending}
    outcomes = salesforce.close_tasks(reasons | {h.handoff_id: (_LABELS[h.state], h.reason) for h in lost})
    done = [
        (h, state, reason)
        for h, state, reason in ending
        if outcomes[h.handoff_id].ok and not (state == "expired" and outcomes[h.handoff_id].by_rep)
    ]
    ledger.move_all(
        {"handoff_id": h.handoff_id, "to_state": state, "at": run.as_of, "reason": reason} for h, state, reason in done
    )
    summary |= {state: sum(1 for _, reached, _ in done if reached == state) for state in ("released", "expired")}
    refused = [h for h in [*silent, *unworked, *lost] if not outcomes[h.handoff_id].ok]
    if refused:
        summary["failed"] = [{"account_id": h.account_id, "reason": outcomes[h.handoff_id].reason} for h in refused]
        named = [(f"handoff {h.handoff_id}", outcomes[h.handoff_id].reason) for h in refused]
        raise DeliveryFailed("tasks could not be closed", summary, named)
    return summary


def _recent(handoff: Handoff, run: Run, waiting: timedelta) -> bool:
    return handoff.closed_at is not None and handoff.closed_at + waiting > run.as_of
