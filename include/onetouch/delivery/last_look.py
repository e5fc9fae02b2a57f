"""Never interrupt: what is withdrawn because the account buys by itself, or someone is with it already."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from onetouch.crm.protocol import WITHDRAWN, Crm, Outcome
from onetouch.crm_sync.extract_crm import emails_of, read_reps
from onetouch.crm_sync.one_touch import UNTOUCHED, by_people, in_touch_at
from onetouch.events import Checkout
from onetouch.lake import Lake
from onetouch.lake.rows import rows_where
from onetouch.ledger import ACTIVE, TERMINAL, Handoff, IllegalMove, Ledger, Run
from onetouch.policy import Policy

_ELSEWHERE = "OTHER_CRM"

_LATE = timedelta(minutes=30)
"""Ours: how far the CRM's clock may be behind, and how long a record may take to become visible."""

Recheck = Callable[[list[str]], Mapping[str, Checkout]]
"""Account ids → the last checkout of those that are at one, or have bought."""


def withdraw_overtaken(lake: Lake, ledger: Ledger, run: Run, crm: Crm) -> tuple[int, dict[str, str]]:
    """Withdraws what is `overtaken`: how many; and handoff id → why its task could not be closed."""
    found, refused = overtaken(lake, ledger, run), dict[str, str]()
    reasons = {handoff.handoff_id: why for handoff, why in found}
    withdrawn = withdraw(ledger, run, crm, [handoff for handoff, _ in found], reasons, refused)
    return len(withdrawn), refused


def overtaken(lake: Lake, ledger: Ledger, run: Run) -> list[tuple[Handoff, str]]:
    """Handoffs whose account has begun to buy by itself, has bought, or is with someone else; each with the reason.

    A conversation that has been answered stays the rep's: its task is done, and the deal is theirs to finish.
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
        state, at = known.get("checkout_state"), known.get("checkout_at")
        untouched = handoff.state != "touched"
        if state in ("started", "stalled") or row["action"] == "hold_converting":
            reasons[handoff.handoff_id] = "checkout: started by the customer"
        elif state == "completed" and at is not None and at >= handoff.decided_at:
            reasons[handoff.handoff_id] = "bought: by themselves"
        elif untouched and ((known.get("open_opportunities") or 0) > 0 or row["action"] == "hold_open_opportunity"):
            reasons[handoff.handoff_id] = "open opportunity: in the hands of someone else"
    return [(h, reasons[h.handoff_id]) for h in active.values() if h.handoff_id in reasons]


def last_look(
    ledger: Ledger,
    policy: Policy,
    run: Run,
    crm: Crm,
    unseen: list[Handoff],
    recheck: Recheck,
    strangers: Collection[str] = (),
) -> tuple[dict[str, Handoff], dict[str, str]]:
    """The look directly before tasks are written: what has begun since the run read product and CRM.

    Checkouts, opportunities, accounts deleted or merged, touches by anybody, earlier handoffs of the same record. Of
    `strangers`, records that the decision did not know, all of it is looked at, however old. What may not go out is
    withdrawn: gives the handoffs that were, by id, and of those that should be but could not, the reason.
    """
    if not unseen:
        return {}, {}
    failed: dict[str, str] = {}
    buying = recheck(sorted(h.account_id for h in unseen))
    since = run.as_of - _LATE
    opportunities, gone = crm.opportunities_since(since, strangers), crm.gone_since(since)
    touched = _touched(ledger, policy, run, crm, unseen, strangers)
    at_work = _at_work(ledger, policy, crm, unseen, failed)
    cooling = _cooling(ledger, policy, unseen)
    reasons: dict[str, str] = {}
    for handoff in unseen:
        if (checkout := buying.get(handoff.account_id)) and not checkout.bought:
            reasons[handoff.handoff_id] = f"checkout: in progress, last step {checkout.at:%Y-%m-%d %H:%M} UTC"
        elif checkout and checkout.at >= handoff.decided_at:
            reasons[handoff.handoff_id] = "bought: by themselves"
        elif handoff.crm_account_id in opportunities:
            reasons[handoff.handoff_id] = "open opportunity: opened since the decision"
        elif handoff.crm_account_id in gone:
            merged = gone[handoff.crm_account_id] is not None
            reasons[handoff.handoff_id] = (
                "account merged: into another" if merged else "account deleted: no longer there"
            )
        elif handoff.handoff_id in touched:
            reasons[handoff.handoff_id] = "touched: by a rep since the decision"
        elif handoff.handoff_id in at_work:
            reasons[handoff.handoff_id] = "touched: a rep is at an earlier task of the account"
        elif handoff.handoff_id in cooling:
            reasons[handoff.handoff_id] = "cooldown: of another account that is the same CRM record"
    prevented = [h for h in unseen if h.handoff_id in reasons]
    moved = withdraw(ledger, run, crm, prevented, reasons)
    for handoff in prevented:
        if moved.get(handoff.handoff_id, handoff).active:
            failed[handoff.handoff_id] = f"to be withdrawn ({reasons[handoff.handoff_id]}), but its task stands"
    return moved, failed


def _touched(
    ledger: Ledger, policy: Policy, run: Run, crm: Crm, unseen: list[Handoff], strangers: Collection[str]
) -> set[str]:
    """Handoffs whose account somebody has touched, as the decision could not know.

    Since the decision, as the ledger has it; or, logged in the CRM since the run's moment, within the days of silence
    before it: had the decision known of that one, the account would have been held. So with all that the CRM has of a
    record that the decision did not know.
    """
    silence = timedelta(days=policy.handoff.silence_days)
    since = min(h.decided_at for h in unseen)
    logged = ledger.touches(account_ids={h.account_id for h in unseen}, since=since)
    moments: dict[str, list[datetime]] = {}
    for account_id, at in zip(logged["account_id"], logged["at"], strict=True):
        moments.setdefault(account_id, []).append(at)
    records = {h.crm_account_id for h in unseen if h.crm_account_id}
    of_strangers = crm.activities_of(records & set(strangers), since - silence)
    activities = chain(crm.read_activities(run.as_of - _LATE, records), of_strangers)
    automation = policy.crm.automation
    emails = emails_of(read_reps(crm)) if automation.owners else {}
    for activity in by_people(activities, automation, emails):
        at = in_touch_at(activity, run.as_of)
        if at is not None and activity.crm_account_id:
            moments.setdefault(activity.crm_account_id, []).append(at + silence)  # what it would have held back
    return {
        h.handoff_id
        for h in unseen
        if any(at > h.decided_at for name in (h.account_id, h.crm_account_id) if name for at in moments.get(name, ()))
    }


def _cooling(ledger: Ledger, policy: Policy, unseen: list[Handoff]) -> set[str]:
    """Handoffs of a record with which another account's handoff ended lately: accounts that were merged in the CRM."""
    mine = {h.crm_account_id: h for h in unseen if h.crm_account_id}
    cooldown = timedelta(days=policy.routing.cooldown_days)
    return {
        mine[past.crm_account_id].handoff_id
        for past in ledger.handoffs(states=TERMINAL, crm_account_ids=mine)
        if past.crm_account_id
        and past.account_id != mine[past.crm_account_id].account_id
        and past.task_id
        and past.closed_at
        and past.closed_at > mine[past.crm_account_id].decided_at - cooldown
    }


def _at_work(ledger: Ledger, policy: Policy, crm: Crm, unseen: list[Handoff], failed: dict[str, str]) -> set[str]:
    """Handoffs whose account a rep is still at by the task of an earlier one, which only that task tells.

    One that we closed and the rep has opened again; one the rep has written or completed lately. A task that outlived
    its handoff (the deal ended it, the task was forgotten) is closed: no account has two. One that can't be closed is
    told in `failed`.
    """
    again = {h.account_id: h for h in unseen if h.episode > 1}
    past = ledger.handoffs(states=TERMINAL, account_ids=set(again)) if again else []
    earlier = {h.handoff_id: h for h in past if h.task_id}
    silence, ours = timedelta(days=policy.handoff.silence_days), timedelta(hours=policy.delivery.fresh_hours)
    busy: set[str] = set()
    outlived: dict[str, tuple[str, str]] = {}
    for handoff_id, task in crm.tasks_of(earlier).items() if earlier else ():
        before = earlier[handoff_id]
        now = again[before.account_id]
        if task.is_deleted:
            continue
        # We write at most `fresh_hours` after the moment the ledger has: what was done later, a rep did.
        acted_at = task.done_at if task.is_done else task.changed_at
        lately = acted_at and acted_at > max(now.decided_at - silence, (before.closed_at or acted_at) + ours)
        if lately or (not task.is_done and task.closed_by_us):
            busy.add(now.handoff_id)
        elif not task.is_done:
            outlived[handoff_id] = (WITHDRAWN, f"the handoff is {before.state}")
    for handoff_id, outcome in crm.close_tasks(outlived).items() if outlived else ():
        if not outcome.ok:
            its = again[earlier[handoff_id].account_id].handoff_id
            failed[its] = f"an earlier task of the account stands: {outcome.reason}"
    return busy


def withdraw(
    ledger: Ledger,
    run: Run,
    crm: Crm,
    handoffs: list[Handoff],
    reasons: Mapping[str, str],
    refused: dict[str, str] | None = None,
) -> dict[str, Handoff]:
    """Closes their tasks, then moves them to `withdrawn`; gives those that moved.

    A handoff whose task the rep has just closed was touched: it waits until `extract_crm` has read that. One whose
    task could not be closed does not move either, and is named in `refused`, with why; the next run tries again.
    """
    if not handoffs:
        return {}
    outcomes = close(ledger, crm, {h.handoff_id: (WITHDRAWN, reasons[h.handoff_id]) for h in handoffs})
    if refused is not None:
        refused |= {h.handoff_id: outcomes[h.handoff_id].reason for h in handoffs if not outcomes[h.handoff_id].ok}
    free = may_end(handoffs, outcomes)
    # The id tells of a task that its writer did not live to tell of.
    facts = {h.handoff_id: {"reason": reasons[h.handoff_id], "task_id": outcomes[h.handoff_id].id} for h in free}
    return move(ledger, run, "withdrawn", facts)


def close(ledger: Ledger, crm: Crm, reasons: Mapping[str, tuple[str, str]]) -> dict[str, Outcome]:
    """`Crm.close_tasks`, but for tasks that went to another CRM (the policy's has changed): those are told."""
    rows = ledger.outbox(keys=[f"task:{handoff_id}" for handoff_id in reasons])
    where = {str(row.handoff_id): row.destination for row in rows if row.destination != crm.name and row.external_id}
    here = {handoff_id: why for handoff_id, why in reasons.items() if handoff_id not in where}
    outcomes = crm.close_tasks(here) if here else {}
    told = {i: f"its task is in {name}, and stays open there: close it by hand" for i, name in where.items()}
    return outcomes | {i: Outcome(ok=False, code=_ELSEWHERE, message=message) for i, message in told.items()}


def may_end(handoffs: Iterable[Handoff], outcomes: Mapping[str, Outcome]) -> list[Handoff]:
    """Those that may end, by what became of closing their tasks (handoff id → outcome).

    Not one whose task could not be closed, nor one whose task the rep has just closed: that is its first touch. One
    whose task is in another CRM ends all the same: it is told once, not every hour.
    """
    told = {handoff_id for handoff_id, outcome in outcomes.items() if outcome.ok or outcome.code == _ELSEWHERE}
    closed = [handoff for handoff in handoffs if handoff.handoff_id in told]
    return [h for h in closed if not (outcomes[h.handoff_id].by_rep and h.state in UNTOUCHED)]


def move(ledger: Ledger, run: Run, to_state: str, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Handoff]:
    """Moves handoffs, id → facts, as of the run; gives each as it is then.

    One that another run has meanwhile taken elsewhere stays there, and is given as it is.
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
