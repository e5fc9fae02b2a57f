"""Stale intent: what speaks for a call was shown too long ago (S2: after 72 hours a signal is worthless).

The account is watched: its next sign of intent makes it a sales touch. A state that lasts, like a limit that is nearly
used up, is never stale, and an account that waits in the line for a rep keeps the intent it came with.
"""

from __future__ import annotations

from onetouch.catalogue import MONITOR
from onetouch.columns import Mask, truth
from onetouch.policy import Part, Policy
from onetouch.routing import contact_reasons
from onetouch.routing.rule import Facts, Known, Rule

NAME = "stale intent"


def _applies(facts: Facts, policy: Policy) -> Mask:
    return truth(facts, "stale_intent") & truth(facts, "high_value") & ~contact_reasons.called(facts)


def _why(known: Known, policy: Policy) -> str:
    return f"it has shown no intent for {policy.routing.fresh_intent_hours} hours"


def _why_not(known: Known, policy: Policy) -> str:
    if known["call"]:
        return contact_reasons.in_words(known)
    return "it is not only fresh intent that it lacks"


RULE = Rule[Part](
    name=NAME,
    action=MONITOR,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    under=lambda policy: policy.routing.fresh_intent_hours is not None,
    reads=("routing.fresh_intent_hours", "gates.intent", "routing.hand_raised", "assignment.queue_hours"),
)
