"""One touch as a machine: which moves a handoff makes, from what the CRM shows of it and what the clock says.

Two pure functions. `moves` is told what has happened in the CRM, so nothing has to be written there; `ending` says
what we end ourselves, so the task is closed first (`back_off`). Both may be asked again with the same facts.

What the CRM shows, and the state it leads to (R is the rep who owns the handoff or its task now):

| in state          | seen                                                    | moves to                            |
|-------------------|---------------------------------------------------------|-------------------------------------|
| any active one    | the account deleted, not merged                         | withdrawn                           |
| context_written   | its task (the run that wrote it died)                   | task_open, and on from there        |
| task_open         | R completes it, notes an outcome on it, logs a call,    | touched, at the first of these      |
|                   | e-mail or meeting after the decision, or opens a deal   |                                     |
| task_open         | it is deleted, before any of these                      | withdrawn                           |
| task_open         | it has another owner                                    | (the handoff follows)               |
| task_open         | a colleague was in touch after the decision             | `ending`: withdrawn                 |
| task_open         | anybody was in touch before the decision, logged since  | `ending`: withdrawn                 |
| touched           | outcome Replied or Meeting booked, R's meeting, a deal, | replied                             |
|                   | an e-mail of the customer's after the touch             |                                     |
| touched, replied  | a deal created since the touch is won; all are lost     | won; lost                           |
| replied           | no open deal, and the rep's disposition, noted with the | lost                                |
|                   | answer or after it, is another one than Good            |                                     |
| replied           | no deal within `handoff.reply_days` of the reply        | lost                                |
| touched           | the task reopened, deleted or completed once more       | (stays: the first touch counts)     |
| an ended one      | a reply, a touch logged late                            | (stays: the touch is recorded)      |

The clocks: an untouched handoff expires `handoff.expires_hours` after its decision. The days of silence run from the
moment of the rep's first touch as the CRM has it, never from our task: a touch logged three days late has four days
left, and one that is logged after its seven days are over is released by the next run. A reply stops them for good;
from then on the days of `handoff.reply_days` run, which a deal stops.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from onetouch.crm import DISPOSITIONS, EXPIRED, OUTCOMES, RELEASED, WITHDRAWN, Activity
from onetouch.ledger import STATES, Handoff
from onetouch.policy import Automation, Policy

Move = dict[str, Any]
"""A row for `Ledger.move_all`, without its handoff: to_state, at, and what the move has learned."""

LABELS = {"released": RELEASED, "expired": EXPIRED, "withdrawn": WITHDRAWN}
"""State we end a handoff in → how its task's subject begins then."""

REPLIES = OUTCOMES[1:]
"""Outcomes that are an answer of the customer."""

NO_DEAL = DISPOSITIONS[1:]
"""What a rep thinks of a handoff no deal will come of."""

MEETING = "meeting"

UNTOUCHED = ("decided", "context_written", "task_open")
"""States in which no rep has been in touch yet."""


@dataclass(frozen=True)
class Seen:
    """What the CRM shows of one handoff.

    `task`: its own. `activities`: others of its account. `deals`: rows of `crm/{run_id}/opportunities.parquet` of its
    account, unknown is None. `account_deleted`: its record is gone, and was not merged into another.
    """

    task: Activity | None = None
    activities: Sequence[Activity] = ()
    deals: Sequence[Mapping[str, Any]] = ()
    account_deleted: bool = False


def by_people(
    activities: Iterable[Activity], automation: Automation, emails: Mapping[str, str | None]
) -> Iterator[Activity]:
    """The activities without those that software logs as done, by the policy's `crm.automation`: nobody's touch.

    `emails`: user → e-mail. Tasks of ours and what the customer wrote stay, whoever has them.
    """
    subjects = tuple(automation.subjects)
    for activity in activities:
        owner = emails.get(activity.owner_id or "") or ""
        by_software = owner.casefold() in automation.owners or activity.subject.casefold().startswith(subjects)
        if activity.handoff_id or activity.is_answer or not by_software:
            yield activity


def in_touch_at(activity: Activity, as_of: datetime) -> datetime | None:
    """When somebody was in touch by this activity; None: nobody was, as far as it shows.

    A rep who notes an outcome was, also when the task is still open or was closed by us. What is dated ahead of `as_of`
    was written down when it was created: a meeting was arranged then, and of a call or an e-mail of the year 2052
    nobody knows better. What was done between the run's moment and its reading has happened, and counts as it is.
    What the customer wrote is nobody's touch.
    """
    if activity.is_deleted or activity.is_answer:
        return None
    if activity.outcome and (activity.closed_by_us or not activity.is_done):
        return activity.changed_at
    if activity.closed_by_us or not activity.is_done:
        return None
    return _moment(activity, as_of)


def _moment(activity: Activity, as_of: datetime) -> datetime:
    """When it was done, or, dated ahead, written down."""
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

    `emails`: owner id → e-mail of every user of the CRM. `as_of`: the run's. `reply_days`: the policy's; None where
    the deals were not looked at: then no answered conversation ends for want of one.
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
        ends = [_closed_at(deal, replied_at or touched_at) for deal in won or deals]
        steps.append({"to_state": "won" if won else "lost", "at": min(ends) if won else max(ends)})
    elif state == "replied" and replied_at is not None and reply_days is not None:
        steps += _without_deal(seen, replied_at, as_of, reply_days)
    return steps


def _without_deal(seen: Seen, replied_at: datetime, as_of: datetime, reply_days: int) -> list[Move]:
    """The end of an answered conversation that leads to no deal: its rep says so, or none came in time."""
    if not all(deal["is_closed"] for deal in seen.deals):
        return []
    task = seen.task
    # What the rep thought before the customer answered is not what came of the answer.
    if task is not None and not task.is_deleted and task.disposition in NO_DEAL and task.changed_at >= replied_at:
        reason = f"no deal: {task.disposition.lower()}, says the rep"
        return [{"to_state": "lost", "at": task.changed_at, "reason": reason}]
    if replied_at + timedelta(days=reply_days) <= as_of:
        return [{"to_state": "lost", "at": as_of, "reason": f"no deal: none within {reply_days} days of the reply"}]
    return []


def _owners(handoff: Handoff, task: Activity | None) -> set[str]:
    """Whose touch is the handoff's: it may have passed from one rep to the other since it was read."""
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
    """When the customer answered: by e-mail, by the outcomes reps have noted and the meetings of the handoff's rep.

    Whoever of us an e-mail went to, it is an answer; one from before the touch answers something else.
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
        answered = activity.outcome in REPLIES or (activity.kind == MEETING and activity.owner_id in owners)
        at = in_touch_at(activity, as_of) if answered else None
        if at is not None and at >= touched_at:
            answers.append(at)
    return answers


def _closed_at(deal: Mapping[str, Any], earliest: datetime) -> datetime:
    """When a deal closed. Its close date is a day, maybe a planned one: kept between the reply and the last edit."""
    at: datetime = min(deal["closed_at"] or deal["changed_at"], deal["changed_at"])
    return max(at, earliest)


def new_owner(handoff: Handoff, task: Activity | None, emails: Mapping[str, str | None]) -> str | None:
    """The rep who has the task now, when it is another one than the handoff's. A queue is nobody: then None."""
    if task is None or task.is_deleted or task.closed_by_us or not handoff.active:
        return None
    return task.owner_id if task.owner_id != handoff.owner_id and task.owner_id in emails else None


def ending(
    handoff: Handoff, touches: Iterable[Mapping[str, Any]], policy: Policy, as_of: datetime
) -> tuple[str, str] | None:
    """The state we end a handoff in and the reason its rep reads; None: it goes on.

    `touches`: rows {at, owner_email, handoff_id} of its account that its decision did not know of; its own among them
    don't matter.
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
        # Had the decision known of it, the account would have been held.
        first = handoff.decided_at - timedelta(days=rules.silence_days)
        if any(first < touch["at"] <= handoff.decided_at for touch in others):
            return "withdrawn", "touched before the decision: logged since"
    if handoff.state in UNTOUCHED and handoff.decided_at + timedelta(hours=rules.expires_hours) <= as_of:
        return "expired", f"not contacted within {rules.expires_hours} hours"
    return None


def merged(handoffs: Collection[Handoff]) -> dict[str, str]:
    """Active handoffs that another of the same CRM record leaves no room for, since two accounts became one.

    The conversation that has come furthest stays, of two alike the earlier. Handoff id → the reason its rep reads.
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
