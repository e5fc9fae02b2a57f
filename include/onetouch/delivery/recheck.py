"""The pre-send recheck: looks for events since the run read product and CRM, directly before tasks are written.

An account that is buying by itself, or that a colleague is already in touch with, is never interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import pandas as pd

from onetouch.crm import WITHDRAWN, Activity, Crm
from onetouch.crm_sync import by_people, emails_of, in_touch_at, read_reps
from onetouch.delivery.withdraw import unheard, withdraw
from onetouch.events import Checkout
from onetouch.ledger import TERMINAL, Handoff, Ledger, Outbox, Run
from onetouch.policy import Policy

LATE = timedelta(minutes=30)
"""Ours: how far the CRM's clock may be behind, and how long a record may take to become visible."""

Checkouts = Callable[[list[str]], Mapping[str, Checkout]]
"""Account ids → the last checkout, freshly read, of each account that has one in progress or has bought."""

Barred = Callable[[list[Handoff], Mapping[str, Outbox]], Mapping[str, str]]
"""Handoffs and the outbox rows of their tasks → handoff id → why it may not be contacted any more."""


def undisturbed(
    policy: Policy,
    run: Run,
    crm: Crm,
    handoffs: list[Handoff],
    reps: pd.DataFrame,
    checkouts: Checkouts,
    barred: Barred,
    tasks: Mapping[str, Outbox],
    more: Iterable[Activity] = (),
) -> set[str]:
    """The handoffs that nobody has touched or answered lately and nothing speaks against, as the CRM and the product
    show them now, for what is done to a handoff that a rep has already.

    The others stay as they are: the next run knows what has happened, and moves or ends them. `reps`: the CRM's users;
    `tasks`: handoff id → the outbox row of its task; `more`: activities to look at, however old they are.
    """
    since = run.as_of - LATE
    activities = chain(crm.read_activities(since), more)
    spoken, answered = set[str | None](), set[str | None]()
    for activity in by_people(activities, policy.crm.automation, emails_of(reps)):
        if in_touch_at(activity, run.as_of) is not None:
            spoken |= {activity.handoff_id, activity.crm_account_id} - {None}
        elif activity.is_answer and activity.is_done and not activity.is_deleted:
            answered.add(activity.crm_account_id)
    gone = {*crm.opportunities_since(since), *crm.gone_since(since)}
    buying = checkouts(sorted({h.account_id for h in handoffs}))
    no_more = barred(handoffs, tasks)
    return {
        h.handoff_id
        for h in handoffs
        if not {h.handoff_id, h.crm_account_id} & (spoken | gone)
        and not (h.touched_at and h.crm_account_id in answered)
        and h.handoff_id not in no_more
        and not ((bought := buying.get(h.account_id)) and (not bought.bought or bought.at >= h.decided_at))
    }


def pre_send_recheck(
    ledger: Ledger,
    policy: Policy,
    run: Run,
    crm: Crm,
    unseen: list[Handoff],
    checkouts: Checkouts,
    strangers: Collection[str] = (),
    asked: Mapping[str, datetime] | None = None,
    barred: Mapping[str, str] | None = None,
) -> tuple[dict[str, Handoff], dict[str, str]]:
    """Withdraws the handoffs that no rep has seen yet and that events since the decision rule out.

    It checks checkouts, opportunities, deleted or merged accounts, touches by anybody, and earlier handoffs of the same
    record. For `strangers`, records that the decision did not know, it checks them however old they are. `asked`:
    account id → when somebody there last asked for a person (`last_asked`), which lets a purchase before it pass.
    `barred`: handoff id → why its account, or somebody its task names, may not be contacted (`never_contact.barred`).
    Returns the handoffs that were withdrawn, by id, and handoff id → reason of those that could not be.
    """
    if not unseen:
        return {}, {}
    failed: dict[str, str] = {}
    buying = checkouts(sorted(h.account_id for h in unseen))
    since = run.as_of - LATE
    opportunities, gone = crm.opportunities_since(since, strangers), crm.gone_since(since)
    touched = _touched(ledger, policy, run, crm, unseen, strangers, asked or {})
    at_work = _at_work(ledger, policy, crm, unseen, failed)
    cooling = _cooling(ledger, policy, run, unseen, asked or {})
    reasons: dict[str, str] = {}
    for handoff in unseen:
        if why := (barred or {}).get(handoff.handoff_id):
            reasons[handoff.handoff_id] = why
        elif (checkout := buying.get(handoff.account_id)) and not checkout.bought:
            reasons[handoff.handoff_id] = f"checkout: in progress, last step {checkout.at:%Y-%m-%d %H:%M} UTC"
        elif checkout and _just_bought(checkout, handoff, policy, run, (asked or {}).get(handoff.account_id)):
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


def last_asked(known: Mapping[str, Any], policy: Policy) -> datetime | None:
    """When somebody last asked for a person, from an account's row of the run's signals; None: nobody, or unknown."""
    moments = [
        known.get(f"{condition.signal}_at")
        for condition in policy.routing.hand_raised
        if (known.get(condition.signal) or 0) >= condition.at_least
    ]
    return max((at for at in moments if at is not None), default=None)


def _just_bought(checkout: Checkout, handoff: Handoff, policy: Policy, run: Run, asked: datetime | None) -> bool:
    """Whether a purchase rules the handoff out: one since the decision, or, for `routing.bought_days`, a self-serve one
    that became known only now; but not one before the account asked for a person."""
    if checkout.at >= handoff.decided_at:
        return True
    at = checkout.self_serve_at
    since = run.as_of - timedelta(days=policy.routing.bought_days)
    return at is not None and at > since and (asked is None or asked <= at)


def _touched(
    ledger: Ledger,
    policy: Policy,
    run: Run,
    crm: Crm,
    unseen: list[Handoff],
    strangers: Collection[str],
    asked: Mapping[str, datetime],
) -> set[str]:
    """Handoffs whose account had a touch that the decision could not know of.

    Either a touch after the decision, by the ledger; or a touch logged in the CRM since the run's `as_of` that falls
    within the days of silence before the decision, which would have held the account had it been known, unless somebody
    there has asked for a person after it. For a record that the decision did not know, every touch in the CRM is
    checked that way.
    """
    silence = timedelta(days=policy.handoff.silence_days)
    since = min(h.decided_at for h in unseen)
    logged = ledger.touches(account_ids={h.account_id for h in unseen}, since=since)
    touches: dict[str, list[tuple[datetime, datetime]]] = {}  # account or record → (at, until when it holds)
    for account_id, at in zip(logged["account_id"], logged["at"], strict=True):
        touches.setdefault(account_id, []).append((at, at))
    records = {h.crm_account_id for h in unseen if h.crm_account_id}
    of_strangers = crm.activities_of(records & set(strangers), since - silence)
    activities = chain(crm.read_activities(run.as_of - LATE), of_strangers)
    automation = policy.crm.automation
    emails = emails_of(read_reps(crm)) if automation.owners else {}
    for activity in by_people(activities, automation, emails):
        touched_at = in_touch_at(activity, run.as_of)
        if touched_at is not None and activity.crm_account_id:
            touches.setdefault(activity.crm_account_id, []).append((touched_at, touched_at + silence))
    found = set()
    for handoff in unseen:
        last_asked = asked.get(handoff.account_id) if policy.routing.returns.hand_raise else None
        theirs = [t for name in (handoff.account_id, handoff.crm_account_id) if name for t in touches.get(name, ())]
        for at, until in theirs:
            answered = last_asked is not None and at < last_asked and at <= handoff.decided_at
            if until > handoff.decided_at and not answered:
                found.add(handoff.handoff_id)
    return found


def _cooling(
    ledger: Ledger, policy: Policy, run: Run, unseen: list[Handoff], asked: Mapping[str, datetime]
) -> set[str]:
    """Handoffs whose CRM record had a handoff of another account that still cools down: the accounts were merged."""
    mine = {h.crm_account_id: h for h in unseen if h.crm_account_id}
    others = [
        past
        for past in ledger.handoffs(states=TERMINAL, crm_account_ids=mine)
        if past.crm_account_id
        and past.account_id != mine[past.crm_account_id].account_id
        and past.task_id
        and past.closed_at
    ]
    contacted = ledger.contacted(others, run.as_of) if others else {}
    cooling = set()
    for past in others:
        its = mine[str(past.crm_account_id)]
        ended = max(at for at in (past.closed_at, contacted.get(past.handoff_id)) if at)
        days = policy.routing.days_away(past.state, past.handoff_id in contacted)
        answered = policy.routing.returns.hand_raise and asked.get(its.account_id, ended) > ended
        if ended + timedelta(days=days) > its.decided_at and not answered:
            cooling.add(its.handoff_id)
    return cooling


def _at_work(ledger: Ledger, policy: Policy, crm: Crm, unseen: list[Handoff], failed: dict[str, str]) -> set[str]:
    """Handoffs whose account a rep is still working on, as the task of an earlier handoff shows.

    Such a task was closed by us and reopened by the rep, or changed or completed by the rep lately. An earlier task
    that merely stayed open after its handoff ended (by a deal, for instance) is closed, so that no account has two;
    also one that the ledger does not know, because the handoff was ended while its task was being written (`unheard`).
    A task that can't be closed is named in `failed`.
    """
    again = {h.account_id: h for h in unseen if h.episode > 1}
    past = ledger.handoffs(states=TERMINAL, account_ids=set(again)) if again else []
    earlier = {h.handoff_id: h for h in past if h.task_id}
    if len(earlier) < len(past):
        earlier |= {h.handoff_id: h for h in unheard(ledger, past)}
    silence, ours = timedelta(days=policy.handoff.silence_days), timedelta(hours=policy.delivery.fresh_hours)
    busy: set[str] = set()
    outlived: dict[str, tuple[str, str]] = {}
    for handoff_id, task in crm.tasks_of(earlier).items() if earlier else ():
        before = earlier[handoff_id]
        now = again[before.account_id]
        if task.is_deleted:
            continue
        # We write at most `fresh_hours` after the moment in the ledger: any later change was made by a rep.
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
