"""The task for a follow-up: that no answer came, what was sent, what they have done since, and how it ends (S2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from onetouch.catalogue import SIGNALS
from onetouch.handoff.content import Priority, TaskContent
from onetouch.handoff.facts import Facts, account_name, known_facts
from onetouch.handoff.message import without_addresses
from onetouch.handoff.plain_text import plain
from onetouch.handoff.words import day, zone
from onetouch.policy import Policy

_LINE = 255
"""Ours: characters of the subject, which every CRM shows in a list."""

_EVENTS = 3
"""Ours: the latest events that a follow-up names; the others are on the account's record."""

_TOUCHES = 5
"""Ours: the latest touches that it names."""

_PRIORITIES: dict[str, Priority] = {"high": "high", "medium": "medium", "low": "low"}

_KINDS = {"call": "a call", "email": "an e-mail", "meeting": "a meeting", "task": "the task was done"}


def follow_up_content(
    decision: Mapping[str, Any],
    signals_row: Mapping[str, Any],
    policy: Policy,
    *,
    number: int,
    touches: Sequence[tuple[datetime, str]],
    tier: str | None,
    due_at: datetime,
    over_at: datetime,
    timezone: str | None = None,
) -> TaskContent:
    """The task for the nth of `handoff.touches` - 1 follow-ups. It names no person.

    `decision`, `signals_row`: what the run knows of the account. `touches`: moment and kind of each touch, the first
    one first. `tier`: the handoff's. `due_at`: by when to write; `over_at`: when the handoff ends without an answer.
    `timezone`: the rep's time zone (UTC when unknown).
    """
    facts, where = known_facts(decision, signals_row), zone(timezone)
    name, first = plain(without_addresses(account_name(facts)), 80), touches[0][0]
    said = [f"{day(at, where)}: {_KINDS.get(kind, 'a touch')}" for at, kind in touches]
    blocks = {
        "SO FAR, WITHOUT AN ANSWER": said if len(said) <= _TOUCHES else [said[0], "…", *said[1 - _TOUCHES :]],
        "WHAT THEY HAVE DONE SINCE": list(_since(facts, first, where)),
        "HOW IT ENDS": [
            "With an answer, a meeting or a deal, or when they buy by themselves: this task is then closed.",
            f"Without any of it they have the product to themselves again from {day(over_at, where)} on.",
        ],
    }
    return TaskContent(
        subject=plain(
            f"Follow-up {number} of {policy.handoff.touches - 1}: {name} has not answered since {day(first, where)}",
            _LINE,
        ),
        description="\n\n".join(
            "\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in blocks.items() if lines
        ),
        priority=_PRIORITIES.get(str(tier), "medium"),
        due_on=due_at.astimezone(where).date(),
        remind_at=due_at.astimezone(UTC).replace(microsecond=0),
    )


def _since(facts: Facts, first: datetime, where: tzinfo) -> Iterator[str]:
    """The latest events after the first touch, the latest first."""
    happened: dict[str, datetime] = {}
    for signal in SIGNALS:
        at = facts.get(signal.moment) if signal.happened is not None else None
        if signal.happened is not None and at is not None and at > first:
            clause = signal.happened.clause
            happened[clause] = max(at, happened.get(clause, at))
    for clause in sorted(happened, key=lambda clause: (happened[clause], clause), reverse=True)[:_EVENTS]:
        yield f"{day(happened[clause], where)}: {clause}"
