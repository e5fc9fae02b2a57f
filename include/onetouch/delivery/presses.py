"""What the buttons of an alert do: a task done, put off, or judged, from the chat.

A press is what its rep would have done in the CRM. It is kept in the outbox with who pressed and when, the message says
so at once, and the next run does the task in the CRM; that touch is then read from there like any other. The first
press counts, and only one of the rep who has the task.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from onetouch.chat import Button, Chat, ChatError, Place, Press
from onetouch.crm import DISPOSITIONS, Crm, CrmError, Outcome
from onetouch.delivery.alert_message import Told, one
from onetouch.delivery.send import send
from onetouch.handoff import near_moment, zone
from onetouch.ledger import Handoff, Ledger, Outbox, Run
from onetouch.policy import Policy
from onetouch.stop import Stopped

PRESS, SNOOZE = "press", "snooze"
"""Kinds of the outbox rows of a press: one that the CRM is told of, and one that puts off the reminder."""

_NOT_NOW, _ANYWAY = DISPOSITIONS[1], DISPOSITIONS[3]

ANSWERS: Mapping[str, tuple[str, str | None]] = {
    "done": ("Done", None),
    "not_now": (_NOT_NOW, _NOT_NOW),
    "anyway": (_ANYWAY, _ANYWAY),
}
"""Name of a button that ends the task → its text, and the disposition that is noted on the task."""

_BEGUN = ("pending", "sending")


def buttons(handoff_id: str) -> list[Button]:
    """The buttons of the announcement of an open task."""
    done, not_now, anyway = (Button(name, text, handoff_id, main=name == "done") for name, (text, _) in ANSWERS.items())
    return [done, Button(SNOOZE, "Snooze", handoff_id), not_now, anyway]


def pressed(ledger: Ledger, policy: Policy, chat: Chat, press: Press, now: datetime) -> str:
    """Does what a press asks for, and returns what its person alone is told; empty: the message itself says it.

    The same press sent again, a second one, and one of another button after the first change nothing. Raises ChatError
    when the chat cannot be asked who has the task; then nothing was done.
    """
    found = ledger.handoffs(handoff_ids=[press.value])
    if not found or (press.name not in ANSWERS and press.name != SNOOZE):
        return "This task is not known here any more."
    handoff = found[0]
    if handoff.state != "task_open":
        return f"Nothing was changed: this task is over or was done already ({handoff.state.replace('_', ' ')})."
    owner = chat.user(handoff.owner_email)
    if owner is None or press.user != owner:
        return "Nothing was changed: only the rep who has this task can do that. In the CRM it can be given to you."
    if press.name == SNOOZE:
        return _put_off(ledger, policy, chat, press, handoff, now)
    row = ledger.put(
        f"{PRESS}:{handoff.handoff_id}",
        policy.crm.system,
        PRESS,
        handoff.run_id,
        handoff.handoff_id,
        {"name": press.name, "by": press.user, "at": now.isoformat(), "request": press.request},
    )
    if row.payload.get("request") != press.request:
        return f"Nothing was changed: {ANSWERS[row.payload['name']][0]!r} was pressed before."
    _say(ledger, chat, handoff, row)
    return ""


def answer_tasks(ledger: Ledger, run: Run, crm: Crm) -> dict[str, str]:
    """Does in the CRM what was pressed since; returns handoff id → why it was refused.

    A task that its rep has done or deleted there meanwhile keeps what it says: the rep's own edit comes first.
    """
    waiting = [row for row in ledger.outbox(destination=crm.name, states=_BEGUN) if row.kind == PRESS and row.payload]
    rows = {str(row.handoff_id): row for row in waiting}
    if not rows:
        return {}

    def write(due: Mapping[str, Outbox], _unsure: set[str]) -> Mapping[str, Outcome]:
        outcomes = crm.answer_tasks({i: ANSWERS[row.payload["name"]][1] for i, row in due.items()})
        # Done already, by the rep or by a run that ended there: nothing is left to do.
        return {i: Outcome(ok=True, id=o.id or "") if o.by_rep else o for i, o in outcomes.items()}

    try:
        outcomes = send(ledger, rows, write)
    except CrmError as error:
        return dict.fromkeys(rows, str(error))
    return {i: outcome.reason for i, outcome in outcomes.items() if not (outcome.ok or outcome.deleted)}


def put_off(rows: list[Outbox], now: datetime) -> bool:
    """Whether the reminder waits at that moment, by the outbox rows of a handoff."""
    return any(row.kind == SNOOZE and row.payload and now < _until(row) for row in rows)


def _until(row: Outbox) -> datetime:
    return datetime.fromisoformat(row.payload["until"])


def _put_off(ledger: Ledger, policy: Policy, chat: Chat, press: Press, handoff: Handoff, now: datetime) -> str:
    rows = ledger.outbox(destination=chat.name, handoff_ids=[handoff.handoff_id])
    before = [row for row in rows if row.kind == SNOOZE and row.payload]
    where = zone(policy.assignment.working_time.timezone)
    active = next((row for row in before if now < _until(row)), None)
    if active is None:
        until = now + timedelta(hours=policy.slack.snooze_hours)
        key = f"{SNOOZE}:{handoff.handoff_id}:{len(before) + 1}"
        payload = {"by": press.user, "at": now.isoformat(), "until": until.isoformat()}
        active = ledger.put(key, chat.name, SNOOZE, handoff.run_id, handoff.handoff_id, payload)
        if active.state == "pending":
            ledger.sending(key)
            ledger.sent(key, press.request)
    return f"You are not reminded before {near_moment(_until(active), where)}. The task stays due when it was."


def _say(ledger: Ledger, chat: Chat, handoff: Handoff, row: Outbox) -> None:
    """Writes who has pressed what into the announcements; what the chat does not take now, the next run writes."""
    for alert in ledger.outbox(destination=chat.name, states=["sent"], handoff_ids=[handoff.handoff_id]):
        if alert.kind == "alert" and "alert" in alert.payload and "digest" not in alert.payload:
            told = Told.now(alert.payload, handoff, chat.user(handoff.owner_email))
            try:
                chat.update(Place.of(alert), one(told.pressed_by(said(row))))
            except (ChatError, Stopped):
                return


def said(row: Outbox) -> tuple[str, str]:
    """What was pressed, as it is shown, and by whom."""
    payload: dict[str, Any] = row.payload
    return ANSWERS[payload["name"]][0], str(payload["by"])
