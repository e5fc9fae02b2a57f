"""The rules of one touch: which moves a handoff makes, given what the CRM shows and the time that has passed.

Two pure functions. `moves` gives the moves that events in the CRM have caused, so nothing has to be written there;
`ending` gives the endings we cause ourselves, so the task is closed first (`back_off`). Calling either again with the
same facts is harmless.

What the CRM shows, and the state it leads to (R is the rep who owns the handoff or its task now):

| in state          | seen                                                    | moves to                            |
|-------------------|---------------------------------------------------------|-------------------------------------|
| any active one    | the account deleted, not merged                         | withdrawn                           |
| context_written   | its task (the run that wrote it crashed)                | task_open, and on from there        |
| task_open         | R completes it, notes an outcome on it, logs a call,    | touched, at the first of these      |
|                   | e-mail or meeting after the decision, or opens a deal   |                                     |
| task_open         | it is deleted, before any of these                      | withdrawn                           |
| task_open         | it has another owner                                    | (the handoff follows)               |
| task_open         | a colleague was in touch after the decision             | `ending`: withdrawn                 |
| task_open         | anybody was in touch before the decision, logged since  | `ending`: withdrawn                 |
| touched           | outcome Replied or Meeting booked, R's meeting, a deal, | replied                             |
|                   | an e-mail of the customer's after the touch, or a call  |                                     |
| touched, replied  | a deal created since the touch is won; all are lost     | won; lost                           |
| replied           | no open deal, and the rep's disposition, noted with the | lost                                |
|                   | answer or after it, is another one than Good            |                                     |
| replied           | no deal within `handoff.reply_days` of the reply        | lost                                |
| touched           | the task reopened, deleted or completed once more; a    | (stays: the first touch counts)     |
|                   | follow-up's task completed                              |                                     |
| an ended one      | a reply, a touch logged late                            | (stays: the touch is recorded)      |

Deadlines: an untouched handoff expires `handoff.expires_hours` after its decision. The days of silence count from the
moment of the rep's first touch in the CRM, never from our task: with seven days of silence, a touch logged three days
late has four days left, and a handoff whose touch is logged after the seven days is released by the next run. A reply
ends the count for good; from then on `handoff.reply_days` count, until there is a deal. Where the policy allows more
than one touch, the silence is as many times as long, and the rep is given follow-ups within it (`next_follow_up`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from onetouch.crm import DISPOSITIONS, EXPIRED, MEETING, OUTCOMES, RELEASED, WITHDRAWN, Activity
from onetouch.ledger import NOT_DELIVERED, STATES, Handoff
from onetouch.policy import Automation, Policy

Move = dict[str, Any]
"""A row for `Ledger.move_all` without its handoff id: to_state, at, and the facts learned with the move."""

LABELS = {"released": RELEASED, "expired": EXPIRED, "withdrawn": WITHDRAWN}
"""State we end a handoff in → the label in front of its task's subject."""

REPLIES = OUTCOMES[1:]
"""Outcomes that count as a reply of the customer."""

NO_DEAL = DISPOSITIONS[1:]
"""Dispositions of a handoff that will not lead to a deal."""

UNTOUCHED = ("decided", "context_written", "task_open")
"""States in which no rep has been in touch yet."""


@dataclass(frozen=True)
class Seen:
    """What the CRM shows of one handoff.

    `task`: the handoff's task. `activities`: other activities of its account. `deals`: rows of its account in
    `crm/{run_id}/opportunities.parquet`; unknown is None. `account_deleted`: its record was deleted, not merged.
    """

    task: Activity | None = None
    activities: Sequence[Activity] = ()
    deals: Sequence[Mapping[str, Any]] = ()
    account_deleted: bool = False


def by_people(
    activities: Iterable[Activity], automation: Automation, emails: Mapping[str, str | None]
) -> Iterator[Activity]:
    """The activities without automatic replies and those logged by software, as the policy's `crm.automation` names it.

    `emails`: user → e-mail. Tasks we created and messages from the customer stay, whoever owns them.
    """
    subjects = tuple(automation.subjects)
    for activity in activities:
        owner = emails.get(activity.owner_id or "") or ""
        by_software = owner.casefold() in automation.owners or activity.subject.casefold().startswith(subjects)
        if activity.is_automatic:
            continue
        if activity.handoff_id or activity.is_answer or not by_software:
            yield activity


def in_touch_at(activity: Activity, as_of: datetime) -> datetime | None:
    """When a rep was in touch according to this activity; None: it shows no touch.

    Noting an outcome is a touch, also when the task is still open or was closed by us. An activity dated after `as_of`
    counts when it was created: a meeting was arranged then, and for a call or an e-mail dated 2052 nothing better is
    known. An activity done between `as_of` and the reading has happened, and counts with its own time. A message from
    the customer is not a touch.
    """
    if activity.is_deleted or activity.is_answer:
        return None
    if activity.outcome and (activity.closed_by_us or not activity.is_done):
        return activity.changed_at
    if activity.closed_by_us or not activity.is_done:
        return None
    return _moment(activity, as_of)


def _moment(activity: Activity, as_of: datetime) -> datetime:
    """When the activity was done; for one dated ahead, when it was recorded."""
    at = activity.done_at or activity.changed_at
    if at <= as_of or (activity.kind != MEETING and at <= activity.changed_at):
        return at
    # A task is written long before it is done: it was done at its last change at the latest.
    return activity.changed_at if activity.kind == "task" else activity.created_at


def moves(
    handoff: Handoff,
    seen: Seen,
    emails: Mapping[str, str | None],
    as_of: datetime,
    reply_days: int | None = None,
) -> list[Move]:
    """The moves a handoff has made according to the CRM, in order; empty when nothing is new.

    `emails`: owner id → e-mail of every user of the CRM. `as_of`: the run's. `reply_days`: the policy's; None when the
    deals were not read: then no handoff with a reply ends for lack of a deal.
    """
    if not handoff.active:
        return []
    if seen.account_deleted:
        return [{"to_state": "withdrawn", "at": as_of, "reason": "account deleted: no longer in the CRM"}]
    task, steps, state = seen.task, list[Move](), handoff.state
    if state == "context_written" and task is not None:
        steps.append({"to_state": "task_open", "at": task.created_at, "task_id": task.activity_id})
        state = "task_open"

    touched_at = handoff.touched_at
    if state == "task_open":
        touch = _first_touch(handoff, seen, as_of)
        if task is not None and task.is_deleted and (touch is None or task.changed_at < touch[0]):
            return [*steps, {"to_state": "withdrawn", "at": task.changed_at, "reason": "task deleted: by a rep"}]
        if touch is not None:
            touched_at, owner_id = touch
            who = {"owner_id": owner_id, "owner_email": emails[owner_id]} if owner_id and owner_id in emails else {}
            steps.append({"to_state": "touched", "at": touched_at} | who)
            state = "touched"
    if state not in ("touched", "replied") or touched_at is None:
        return steps

    deals = [deal for deal in seen.deals if deal["created_at"] >= touched_at]
    replied_at = handoff.replied_at
    if state == "touched":
        answers = _answers(handoff, seen, touched_at, as_of) + [deal["created_at"] for deal in deals]
        if answers:
            replied_at = min(answers)
            steps.append({"to_state": "replied", "at": replied_at})
            state = "replied"
    won = [deal for deal in deals if deal["is_won"]]
    if deals and (won or all(deal["is_closed"] for deal in deals)):
        closes = [closed_at(deal["closed_at"], deal["changed_at"]) for deal in won or deals]
        ends = [max(at, replied_at or touched_at) for at in closes]
        steps.append({"to_state": "won" if won else "lost", "at": min(ends) if won else max(ends)})
    elif state == "replied" and replied_at is not None and reply_days is not None:
        steps += _without_deal(seen, replied_at, as_of, reply_days)
    return steps


def _without_deal(seen: Seen, replied_at: datetime, as_of: datetime, reply_days: int) -> list[Move]:
    """The end of a handoff with a reply but no deal: its rep noted that none will come, or none came in time."""
    if not all(deal["is_closed"] for deal in seen.deals):
        return []
    task = seen.task
    # A disposition noted before the reply does not judge the reply.
    if task is not None and not task.is_deleted and task.disposition in NO_DEAL and task.changed_at >= replied_at:
        reason = f"no deal: {task.disposition.lower()}, says the rep"
        return [{"to_state": "lost", "at": task.changed_at, "reason": reason}]
    if replied_at + timedelta(days=reply_days) <= as_of:
        return [{"to_state": "lost", "at": as_of, "reason": f"no deal: none within {reply_days} days of the reply"}]
    return []


def _owners(handoff: Handoff, task: Activity | None) -> set[str]:
    """The reps whose touches count for the handoff: its owner, and the task's owner, who may have changed since."""
    owners = {handoff.owner_id, None if task is None or task.is_deleted else task.owner_id}
    return {owner for owner in owners if owner}


def _first_touch(handoff: Handoff, seen: Seen, as_of: datetime) -> tuple[datetime, str | None] | None:
    """When the handoff's rep was first in touch after the decision, and which rep."""
    decided, owners = handoff.decided_at, _owners(handoff, seen.task)
    touches: list[tuple[datetime, str | None]] = []
    if seen.task is not None and (at := in_touch_at(seen.task, as_of)):
        touches.append((max(at, decided), seen.task.owner_id))
    theirs = [activity for activity in seen.activities if activity.owner_id in owners]
    touches += [(at, a.owner_id) for a in theirs if (at := in_touch_at(a, as_of)) and at > decided]
    touches += [
        (deal["created_at"], deal["owner_id"])
        for deal in seen.deals
        if deal["owner_id"] in owners and deal["created_at"] > decided
    ]
    return min(touches, key=lambda touch: touch[0], default=None)


def _answers(handoff: Handoff, seen: Seen, touched_at: datetime, as_of: datetime) -> list[datetime]:
    """When the customer replied: by e-mail, by a call, by outcomes that reps noted, by meetings of the handoff's rep.

    An e-mail counts as a reply whichever rep received it; an e-mail from before the touch replies to something else.
    """
    answers = []
    if seen.task is not None and not seen.task.is_deleted and seen.task.outcome in REPLIES:
        answers.append(max(touched_at, seen.task.changed_at))
    owners = _owners(handoff, seen.task)
    for activity in seen.activities:
        if activity.is_answer:
            written = _moment(activity, as_of)
            if activity.is_done and not activity.is_deleted and written > touched_at:
                answers.append(written)
            continue
        answered = activity.outcome in REPLIES or activity.is_inbound
        answered |= activity.kind == MEETING and activity.owner_id in owners
        at = in_touch_at(activity, as_of) if answered else None
        if at is not None and at >= touched_at:
            answers.append(at)
    return answers


def closed_at(day: datetime | None, changed_at: datetime) -> datetime:
    """When a deal closed, by its close date and its last edit: the date is a day, maybe a planned one or unknown."""
    return min(day or changed_at, changed_at)


def new_owner(handoff: Handoff, task: Activity | None, emails: Mapping[str, str | None]) -> str | None:
    """The task's present owner, if it is another rep than the handoff's; None if it is the same, or a queue."""
    if task is None or task.is_deleted or task.closed_by_us or not handoff.active:
        return None
    return task.owner_id if task.owner_id != handoff.owner_id and task.owner_id in emails else None


def ending(
    handoff: Handoff, touches: Iterable[Mapping[str, Any]], policy: Policy, as_of: datetime
) -> tuple[str, str] | None:
    """The state in which we end a handoff and the reason shown to its rep; None: it goes on.

    `touches`: rows {at, owner_email, handoff_id} of its account that its decision did not know of; touches of the
    handoff itself are ignored.
    """
    rules = policy.handoff
    silence = rules.touches * rules.silence_days
    if handoff.state == "touched" and handoff.touched_at and handoff.touched_at + timedelta(days=silence) <= as_of:
        touch = "touch" if rules.touches == 1 else "first touch"
        return "released", f"no response within {silence} days of the {touch}"
    if handoff.state == "task_open":
        others = [touch for touch in touches if touch["handoff_id"] != handoff.handoff_id]
        own = (handoff.owner_email or "").lower()
        if any(t["at"] > handoff.decided_at and own and t["owner_email"] not in (None, own) for t in others):
            return "withdrawn", "in the hands of a colleague: the account was touched since"
        # Had the decision known of such a touch, the account would have been held.
        first = handoff.decided_at - timedelta(days=rules.silence_days)
        if any(first < touch["at"] <= handoff.decided_at for touch in others):
            return "withdrawn", "touched before the decision: logged since"
    if handoff.state in UNTOUCHED and handoff.decided_at + timedelta(hours=rules.expires_hours) <= as_of:
        if handoff.state != "task_open":
            return "withdrawn", f"{NOT_DELIVERED}: the CRM did not take its task within {rules.expires_hours} hours"
        return "expired", f"not contacted within {rules.expires_hours} hours"
    return None


def next_follow_up(
    handoff: Handoff, written: int, last_touch: datetime | None, policy: Policy, as_of: datetime
) -> int | None:
    """The number of the follow-up that is due: 1 to `handoff.touches` - 1; None: none is.

    `written`: how many there are already. `last_touch`: when a rep was last in touch with the account. Follow-up k is
    due k × `silence_days` after the first touch, but not before the rep's last touch has met as many days of silence;
    and none is due any more when the handoff is to be released.
    """
    rules = policy.handoff
    if rules.follow_ups == "none" or handoff.state != "touched" or handoff.touched_at is None:
        return None
    silence, number = timedelta(days=rules.silence_days), written + 1
    due = max(handoff.touched_at + number * silence, (last_touch or handoff.touched_at) + silence)
    over = handoff.touched_at + rules.touches * silence
    return number if number < rules.touches and due <= as_of < over else None


def merged(handoffs: Collection[Handoff]) -> dict[str, str]:
    """Active handoffs to end because their accounts were merged: only one handoff of a CRM record may be active.

    The handoff in the furthest state stays; of two in the same state, the earlier. Handoff id → reason for its rep.
    """
    of_record: dict[str, list[Handoff]] = defaultdict(list)
    for handoff in handoffs:
        if handoff.active and handoff.crm_account_id:
            of_record[handoff.crm_account_id].append(handoff)
    return {
        handoff.handoff_id: "account merged: another handoff of it is active"
        for theirs in of_record.values()
        for handoff in sorted(theirs, key=lambda h: (-STATES.index(h.state), h.decided_at, h.handoff_id))[1:]
    }
