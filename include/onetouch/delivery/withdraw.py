"""Ends a handoff from our side: its task is closed in the CRM with the reason, then the handoff moves in the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from onetouch.catalogue import HOLD_CONVERTING, HOLD_NEVER_CONTACT, HOLD_OPEN_OPPORTUNITY
from onetouch.crm import WITHDRAWN, Crm, Outcome
from onetouch.crm_sync import UNTOUCHED
from onetouch.lake import Lake, rows_where
from onetouch.ledger import ACTIVE, Handoff, IllegalMove, Ledger, Run

_ELSEWHERE = "OTHER_CRM"


def withdraw_overtaken(lake: Lake, ledger: Ledger, run: Run, crm: Crm) -> tuple[int, dict[str, str]]:
    """Withdraws the `overtaken` handoffs. Returns how many, and handoff id → why its task could not be closed."""
    found, refused = overtaken(lake, ledger, run), dict[str, str]()
    reasons = {handoff.handoff_id: why for handoff, why in found}
    withdrawn = withdraw(ledger, run, crm, [handoff for handoff, _ in found], reasons, refused)
    return len(withdrawn), refused


def overtaken(lake: Lake, ledger: Ledger, run: Run) -> list[tuple[Handoff, str]]:
    """Handoffs whose account has begun to buy by itself, has bought, is with a colleague or was until lately, or may
    not be contacted; each with the reason.

    A handoff with a reply stays with its rep: its task is done, and the deal is the rep's to finish.
    """
    active = {h.account_id: h for h in ledger.handoffs(states=ACTIVE) if h.decided_at < run.as_of}
    decisions = rows_where(lake, "decisions", run.run_id, "account_id", sorted(active))
    ids = sorted(row["account_id"] for row in decisions)
    signals = {row["account_id"]: row for row in rows_where(lake, "signals", run.run_id, "account_id", ids)}
    reasons: dict[str, str] = {}
    for row in decisions:
        handoff, known = active[row["account_id"]], signals.get(row["account_id"], {})
        if handoff.state == "replied":
            continue
        state, untouched = known.get("checkout_state"), handoff.state != "touched"
        at = known.get("bought_at") or (known.get("checkout_at") if state == "completed" else None)
        held = row["action"] == HOLD_CONVERTING
        if state in ("started", "stalled") or (held and at is None):
            reasons[handoff.handoff_id] = "checkout: started by the customer"
        elif at is not None and (at >= handoff.decided_at or (held and untouched)):
            reasons[handoff.handoff_id] = "bought: by themselves"
        elif untouched and (known.get("open_opportunities") or 0) > 0:
            reasons[handoff.handoff_id] = "open opportunity: in the hands of someone else"
        elif untouched and row["action"] == HOLD_OPEN_OPPORTUNITY:
            # Opened and closed between two runs, or read late: the task would be a second call all the same.
            reasons[handoff.handoff_id] = "open opportunity: a deal of someone else's has just closed"
        elif untouched and row["action"] == HOLD_NEVER_CONTACT:
            reasons[handoff.handoff_id] = "never contact: listed, or nobody there may be contacted any more"
    return [(h, reasons[h.handoff_id]) for h in active.values() if h.handoff_id in reasons]


def withdraw(
    ledger: Ledger,
    run: Run,
    crm: Crm,
    handoffs: list[Handoff],
    reasons: Mapping[str, str],
    refused: dict[str, str] | None = None,
) -> dict[str, Handoff]:
    """Closes the tasks of the handoffs, then moves the handoffs to `withdrawn`; returns those that moved, by id.

    A handoff whose task the rep has just closed was touched: it waits until `extract_crm` has read the touch. A
    handoff whose task could not be closed does not move either; `refused` gets its id and the reason, and the next
    run tries again.
    """
    if not handoffs:
        return {}
    outcomes = close(ledger, crm, {h.handoff_id: (WITHDRAWN, reasons[h.handoff_id]) for h in handoffs})
    if refused is not None:
        refused |= {h.handoff_id: outcomes[h.handoff_id].reason for h in handoffs if not outcomes[h.handoff_id].ok}
    free = may_end(handoffs, outcomes)
    # The task id may be new to the ledger: the run that wrote the task may have crashed before recording it.
    facts = {h.handoff_id: {"reason": reasons[h.handoff_id], "task_id": outcomes[h.handoff_id].id} for h in free}
    return move(ledger, run, "withdrawn", facts)


def unheard(ledger: Ledger, ended: Iterable[Handoff]) -> list[Handoff]:
    """Those of these ended handoffs whose task may exist although the ledger does not know it: they were ended while
    another process was writing it."""
    unknown = [handoff for handoff in ended if handoff.task_id is None]
    rows = ledger.outbox(keys=[f"task:{handoff.handoff_id}" for handoff in unknown])
    never_sent = {row.handoff_id for row in rows if row.attempts == 0}
    return [handoff for handoff in unknown if handoff.handoff_id not in never_sent]


def close(ledger: Ledger, crm: Crm, reasons: Mapping[str, tuple[str, str]]) -> dict[str, Outcome]:
    """`Crm.close_tasks`; a task in another CRM (the policy has changed since) gets an outcome that says so."""
    rows = ledger.outbox(keys=[f"task:{handoff_id}" for handoff_id in reasons])
    where = {str(row.handoff_id): row.destination for row in rows if row.destination != crm.name and row.external_id}
    here = {handoff_id: why for handoff_id, why in reasons.items() if handoff_id not in where}
    outcomes = crm.close_tasks(here) if here else {}
    told = {i: f"its task is in {name}, and stays open there: close it by hand" for i, name in where.items()}
    return outcomes | {i: Outcome(ok=False, code=_ELSEWHERE, message=message) for i, message in told.items()}


def may_end(handoffs: Iterable[Handoff], outcomes: Mapping[str, Outcome]) -> list[Handoff]:
    """The handoffs that may end, given the outcomes of closing their tasks (handoff id → outcome).

    A handoff may not end when its task could not be closed, or when the rep has just closed it: that is the first
    touch. A handoff whose task is in another CRM ends all the same, so that it is reported once, not every hour.
    """
    told = {handoff_id for handoff_id, outcome in outcomes.items() if outcome.ok or outcome.code == _ELSEWHERE}
    closed = [handoff for handoff in handoffs if handoff.handoff_id in told]
    return [h for h in closed if not (outcomes[h.handoff_id].by_rep and h.state in UNTOUCHED)]


def move(ledger: Ledger, run: Run, to_state: str, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Handoff]:
    """Moves handoffs (id → facts) at the run's `as_of`; returns each as it is after the move.

    A handoff that another run has meanwhile moved to another state stays there, and is returned as it is.
    """
    moves = [{"handoff_id": i, "to_state": to_state, "at": run.as_of} | dict(fact) for i, fact in facts.items()]
    try:
        return {handoff.handoff_id: handoff for handoff in ledger.move_all(moves)}
    except IllegalMove:
        pass
    for step in moves:
        try:
            ledger.move_all([step])
        except IllegalMove:
            continue
    return {h.handoff_id: h for h in ledger.handoffs() if h.handoff_id in facts}
