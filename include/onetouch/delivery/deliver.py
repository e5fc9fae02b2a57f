"""Decisions to send become tasks: context first, then the task, each exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from onetouch.delivery.failure import DeliveryFailed
from onetouch.delivery.rows import rows_where, timezones
from onetouch.delivery.salesforce import WITHDRAWN, Salesforce
from onetouch.handoff import account_fields, missing_context, task_fields
from onetouch.lake import Lake
from onetouch.ledger import ACTIVE, Handoff, IllegalMove, Ledger, Outbox, Run
from onetouch.policy import Policy

Recheck = Callable[[list[str]], Mapping[str, str]]
"""Account ids → those that may not be interrupted now, each with the reason."""

_UNSEEN = ("decided", "context_written")
"""States in which no rep has seen anything yet."""


@dataclass
class _Work:
    """Handoffs on their way into the CRM, with what to write, and what stood in the way."""

    handoffs: dict[str, Handoff] = field(default_factory=dict)
    decisions: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    signals: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    before: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def in_state(self, *states: str) -> list[Handoff]:
        """Handoffs in one of the states that have not failed."""
        return [h for h in self.handoffs.values() if h.state in states and h.handoff_id not in self.failed]


def deliver_tasks(
    lake: Lake,
    ledger: Ledger,
    policy: Policy,
    run: Run,
    salesforce: Salesforce | None,
    *,
    recheck: Recheck,
    held: str | None,
) -> dict[str, Any]:
    """Withdraws what may no longer be open, then writes context and task for every `sales_now` of the run.

    Every step can be repeated: after a crash between any two of them a re-run ends with the same ledger and CRM.
    What an earlier run left half done is finished here, too, with that run's own decision. `salesforce` may be
    None when `held` says why nothing may be sent: then nothing is read or written outside, and the ledger does
    not move.

    Returns {"to_send", "delivered", "withheld": {reason: n}, "failed": [{account_id, reason}], "withdrawn",
    "earlier": {"delivered", "withheld", "failed"}}: to_send = delivered + withheld + failed. Raises DeliveryFailed
    with the same summary, after all other rows are done, when any failed.
    """
    due = rows_where(lake, "decisions", run.run_id, "action", ["sales_now"])
    if held or salesforce is None:
        return _summary(len(due), 0, {held or "no CRM": len(due)} if due else {}, [])

    withdrawn = _withdraw_overtaken(lake, ledger, run, salesforce)
    _check_radius(ledger, policy, run, len(due))
    opened = [handoff for handoff in ledger.open_handoffs(due, run) if handoff is not None]
    own = {handoff.handoff_id for handoff in opened}
    earlier = [h for h in ledger.handoffs(states=_UNSEEN) if h.handoff_id not in own and h.decided_at < run.as_of]
    work = _gather(lake, run, due, opened, earlier)

    _hold_back(ledger, run, salesforce, work, recheck)
    _write_context(ledger, policy, run, salesforce, work)
    _write_tasks(ledger, policy, run, salesforce, work, timezones(lake, run.run_id))

    mine = [h for h in work.handoffs.values() if h.handoff_id in own]
    others = [h for h in work.handoffs.values() if h.handoff_id not in own and h.handoff_id in work.decisions]
    delivered, withheld, failed = _account_for(mine, work)
    if len(opened) < len(due):
        withheld["another handoff of the account is active"] = len(due) - len(opened)
    summary = _summary(len(due), delivered, withheld, failed) | {"withdrawn": withdrawn}
    if others:
        summary["earlier"] = dict(zip(("delivered", "withheld", "failed"), _account_for(others, work), strict=True))
    if work.failed:
        named = [(f"Salesforce account {work.handoffs[h].crm_account_id}", reason) for h, reason in work.failed.items()]
        raise DeliveryFailed("decisions could not be delivered", summary, named)
    return summary


def _summary(to_send: int, delivered: int, withheld: dict[str, int], failed: list[dict[str, str]]) -> dict[str, Any]:
    return {"to_send": to_send, "delivered": delivered, "withheld": withheld, "failed": failed}


def _account_for(handoffs: Iterable[Handoff], work: _Work) -> tuple[int, dict[str, int], list[dict[str, str]]]:
    """Delivered, withheld by reason, failed: a handoff that ever had a task was delivered."""
    delivered, withheld, failed = 0, Counter[str](), []
    for handoff in handoffs:
        if handoff.task_id is not None:
            delivered += 1
        elif not handoff.active:
            withheld[handoff.reason.split(":")[0]] += 1
        else:
            reason = work.failed.get(handoff.handoff_id, "not finished")
            failed.append({"account_id": handoff.account_id, "reason": reason})
    return delivered, dict(withheld), failed


def _check_radius(ledger: Ledger, policy: Policy, run: Run, due: int) -> None:
    """The last gate of the daily cap: more tasks than it stops here and asks, before anything is written."""
    load = ledger.rep_load(run.as_of)
    today = sum(moment.date() == run.as_of.date() for moments in load["recent"] for moment in moments)  # UTC's day
    cap = policy.assignment.tasks_per_day
    if due and today + due > cap:
        reason = (
            f"{due} new tasks on top of {today} today are more than assignment.tasks_per_day ({cap}); "
            "look at the decisions, then raise it or tighten the policy"
        )
        raise DeliveryFailed(
            "runs stopped at the daily cap", _summary(due, 0, {reason: due}, []), [(run.run_id, reason)]
        )


# ── never interrupt ──────────────────────────────────────────────────────────────────────────────


def _withdraw_overtaken(lake: Lake, ledger: Ledger, run: Run, salesforce: Salesforce) -> int:
    """Withdraws handoffs whose account has begun to buy by itself, or with someone else. Returns how many.

    A conversation that has been answered stays the rep's: its task is done, and the deal is theirs to finish.
    """
    active = {h.account_id: h for h in ledger.handoffs(states=ACTIVE) if h.decided_at < run.as_of}
    decisions = rows_where(lake, "decisions", run.run_id, "account_id", sorted(active))
    # A policy may draw accounts into the control group that have a task: of these the signals alone tell the rest.
    held_out = sorted(row["account_id"] for row in decisions if row["action"] == "hold_holdout")
    signals = {row["account_id"]: row for row in rows_where(lake, "signals", run.run_id, "account_id", held_out)}
    reasons: dict[str, str] = {}
    for row in decisions:
        handoff, known = active[row["account_id"]], signals.get(row["account_id"], {})
        buying = known.get("checkout_state") in ("started", "stalled")
        taken = (known.get("open_opportunities") or 0) > 0
        if (buying or row["action"] == "hold_converting") and handoff.state != "replied":
            reasons[handoff.handoff_id] = "checkout: started by the customer"
        elif (taken or row["action"] == "hold_open_opportunity") and handoff.state in (*_UNSEEN, "task_open"):
            reasons[handoff.handoff_id] = "open opportunity: in the hands of someone else"
    by_id = {h.handoff_id: h for h in active.values()}
    moved = _withdraw(ledger, run, salesforce, [by_id[i] for i in reasons], reasons)
    return len(moved)


def _withdraw(
    ledger: Ledger, run: Run, salesforce: Salesforce, handoffs: list[Handoff], reasons: Mapping[str, str]
) -> dict[str, Handoff]:
    """Closes their tasks, then moves them to `withdrawn`; gives those that moved.

    A handoff whose task the rep has just closed was touched: it waits until `extract_crm` has read that. One whose
    task could not be closed does not move either; the next run tries again.
    """
    if not handoffs:
        return {}
    outcomes = salesforce.close_tasks({h.handoff_id: (WITHDRAWN, reasons[h.handoff_id]) for h in handoffs})
    free = [
        h
        for h in handoffs
        if outcomes[h.handoff_id].ok and not (outcomes[h.handoff_id].by_rep and h.state != "touched")
    ]
    return _move(ledger, run, "withdrawn", {h.handoff_id: {"reason": reasons[h.handoff_id]} for h in free})


def _hold_back(ledger: Ledger, run: Run, salesforce: Salesforce, work: _Work, recheck: Recheck) -> None:
    """The last look before writing: checkouts begun since, opportunities opened since, accounts deleted since."""
    unseen = work.in_state(*_UNSEEN)
    if not unseen:
        return
    crm_ids = [h.crm_account_id for h in unseen if h.crm_account_id]
    converting = recheck(sorted(h.account_id for h in unseen))
    opportunities, existing = salesforce.open_opportunities(crm_ids), salesforce.existing_accounts(crm_ids)
    reasons: dict[str, str] = {}
    for handoff in unseen:
        if handoff.account_id in converting:
            reasons[handoff.handoff_id] = f"checkout: {converting[handoff.account_id]}"
        elif handoff.crm_account_id in opportunities:
            reasons[handoff.handoff_id] = "open opportunity: opened since the decision"
        elif handoff.crm_account_id and handoff.crm_account_id not in existing:
            reasons[handoff.handoff_id] = "account deleted: no longer in the CRM"
        elif not handoff.crm_account_id:
            work.failed[handoff.handoff_id] = "the account has no record in the CRM"
    prevented = [h for h in unseen if h.handoff_id in reasons]
    work.handoffs |= _withdraw(ledger, run, salesforce, prevented, reasons)
    for handoff in work.in_state(*_UNSEEN):
        if handoff.handoff_id in reasons:
            work.failed[handoff.handoff_id] = f"to be withdrawn ({reasons[handoff.handoff_id]}), but its task stands"


# ── context, then task ───────────────────────────────────────────────────────────────────────────


def _gather(lake: Lake, run: Run, due: list[dict[str, Any]], opened: list[Handoff], earlier: list[Handoff]) -> _Work:
    """The handoffs with the decision, signals and earlier handoff of the run each was decided in."""
    work = _Work(handoffs={h.handoff_id: h for h in [*opened, *earlier]})
    by_run: dict[str, list[Handoff]] = {}
    for handoff in earlier:
        by_run.setdefault(handoff.run_id, []).append(handoff)
    decided = {run.run_id: (opened, due)}
    for run_id, theirs in by_run.items():
        accounts = [h.account_id for h in theirs]
        found = rows_where(lake, "decisions", run_id, "account_id", accounts) if _kept(lake, run_id) else []
        decided[run_id] = (theirs, found)
    for run_id, (theirs, rows) in decided.items():
        decisions = {row["account_id"]: row for row in rows}
        signals = {
            row["account_id"]: row
            for row in (rows_where(lake, "signals", run_id, "account_id", list(decisions)) if decisions else [])
        }
        before = {row["account_id"]: row for row in _before(lake, run_id, list(decisions))}
        for handoff in theirs:
            if handoff.account_id in decisions:
                work.decisions[handoff.handoff_id] = decisions[handoff.account_id]
                work.signals[handoff.handoff_id] = signals.get(handoff.account_id, {})
                work.before[handoff.handoff_id] = before.get(handoff.account_id, {})
            else:  # the lake no longer holds it: nothing to write, `back_off` will let it expire
                del work.handoffs[handoff.handoff_id]
    return work


def _kept(lake: Lake, run_id: str) -> bool:
    return all(lake.exists(room, f"{run_id}.parquet") for room in ("decisions", "signals"))


def _before(lake: Lake, run_id: str, account_ids: list[str]) -> list[dict[str, Any]]:
    """The accounts' latest handoffs before the run, as it saw them."""
    kept = account_ids and lake.exists("inputs", run_id, "handoffs.parquet")
    return rows_where(lake, "inputs", f"{run_id}/handoffs", "account_id", account_ids) if kept else []


def _write_context(ledger: Ledger, policy: Policy, run: Run, salesforce: Salesforce, work: _Work) -> None:
    """Fields and dossier onto the account's record: no task before they are complete."""
    decided = work.in_state("decided")
    for handoff in decided:
        if missing := missing_context(work.signals[handoff.handoff_id], policy):
            work.failed[handoff.handoff_id] = f"context missing: {', '.join(missing)}"
    ready = work.in_state("decided")
    laid = _lay_out(ledger, run, "account_fields", ready)
    outcomes = salesforce.update_accounts(
        {
            str(h.crm_account_id): account_fields(work.decisions[h.handoff_id], work.signals[h.handoff_id], policy)
            for h in ready
            if laid[h.handoff_id].state != "sent"
        }
    )
    sent: dict[str, str] = {}
    deleted: dict[str, dict[str, str]] = {}
    written: dict[str, dict[str, str]] = {}
    for handoff in ready:
        row = laid[handoff.handoff_id]
        outcome = outcomes.get(str(handoff.crm_account_id))
        if outcome is None or outcome.ok:
            sent[row.key] = str(row.external_id or handoff.crm_account_id)
            written[handoff.handoff_id] = {}
            continue
        ledger.failed(row.key, outcome.reason, retryable=not outcome.deleted)
        if outcome.deleted:
            deleted[handoff.handoff_id] = {"reason": "account deleted: no longer in the CRM"}
        else:
            work.failed[handoff.handoff_id] = outcome.reason
    ledger.sent_all(sent)
    work.handoffs |= _move(ledger, run, "withdrawn", deleted)
    work.handoffs |= _move(ledger, run, "context_written", written)


def _write_tasks(
    ledger: Ledger, policy: Policy, run: Run, salesforce: Salesforce, work: _Work, zones: Mapping[str, str]
) -> None:
    """One task a handoff, and its id into the ledger."""
    ready = work.in_state("context_written")
    rows = {
        h.handoff_id: task_fields(
            work.decisions[h.handoff_id],
            work.signals[h.handoff_id],
            policy,
            zones.get(h.owner_id or ""),
            work.before[h.handoff_id],
        )
        | {"OwnerId": h.owner_id, "WhatId": h.crm_account_id}
        for h in ready
    }
    laid = _lay_out(ledger, run, "task", ready)
    outcomes = salesforce.upsert_tasks({i: fields for i, fields in rows.items() if laid[i].state != "sent"})
    sent: dict[str, str] = {}
    opened: dict[str, dict[str, Any]] = {}
    deleted: dict[str, dict[str, str]] = {}
    for handoff in ready:
        row, outcome = laid[handoff.handoff_id], outcomes.get(handoff.handoff_id)
        if outcome is None or (outcome.ok and not outcome.deleted):
            sent[row.key] = str(row.external_id if outcome is None else outcome.id)
            opened[handoff.handoff_id] = {"task_id": sent[row.key]}
            continue
        if outcome.ok:  # a rep has deleted it: it is not made again
            ledger.failed(row.key, "deleted in the CRM", retryable=False)
            deleted[handoff.handoff_id] = {"reason": "task deleted: by a rep"}
        else:
            work.failed[handoff.handoff_id] = outcome.reason
            ledger.failed(row.key, outcome.reason, retryable=True)
    ledger.sent_all(sent)
    work.handoffs |= _move(ledger, run, "withdrawn", deleted)
    work.handoffs |= _move(ledger, run, "task_open", opened)
    # Withdrawn by another run while the task was on its way: it must not stay open.
    overtaken = {i: work.handoffs[i].reason for i in opened if not work.handoffs[i].active}
    if overtaken:
        salesforce.close_tasks({i: (WITHDRAWN, reason) for i, reason in overtaken.items()})


def _lay_out(ledger: Ledger, run: Run, kind: str, handoffs: list[Handoff]) -> dict[str, Outbox]:
    """Says in the outbox that these are about to be written; handoff id → its row there.

    Both kinds may be written again without harm, so what is found `sending` needs no look first; what is `sent`
    already (a crash came before the ledger's move) is left out by the callers.
    """
    rows = [
        {
            "key": f"{kind}:{h.handoff_id}",
            "destination": "salesforce",
            "kind": kind,
            "run_id": run.run_id,
            "handoff_id": h.handoff_id,
            "payload": {"crm_account_id": h.crm_account_id},
        }
        for h in handoffs
    ]
    while True:
        laid = ledger.put_all(rows)
        try:
            ledger.sending(*(row.key for row in laid if row.state in ("pending", "sending")))
            break
        except IllegalMove:  # another run has just sent one of them: look again
            continue
    return {h.handoff_id: row for h, row in zip(handoffs, laid, strict=True)}


def _move(ledger: Ledger, run: Run, to_state: str, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Handoff]:
    """Moves handoffs, id → facts, as of the run; gives each as it is then.

    One that another run has meanwhile taken elsewhere stays there, and is given as it is.
    """
    moves = [{"handoff_id": i, "to_state": to_state, "at": run.as_of} | dict(fact) for i, fact in facts.items()]
    try:
        return {handoff.handoff_id: handoff for handoff in ledger.move_all(moves)}
    except IllegalMove:
        pass
    for move in moves:
        try:
            ledger.move_all([move])
        except IllegalMove:
            continue
    return {h.handoff_id: h for h in ledger.handoffs() if h.handoff_id in facts}
