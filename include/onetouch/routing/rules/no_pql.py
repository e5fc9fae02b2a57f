"""No PQL: the account has no contact reason, and it does not qualify for monitoring."""

from __future__ import annotations

from onetouch.catalogue import NURTURE
from onetouch.columns import Mask
from onetouch.policy import Part, Policy
from onetouch.routing import contact_reasons
from onetouch.routing.rule import Facts, Known, Rule


def _applies(facts: Facts, policy: Policy) -> Mask:
    return ~contact_reasons.called(facts)


def _why(known: Known, policy: Policy) -> str:
    gates = [gate for gate in ("icp", "activated", "engagement", "intent") if not known[f"gate_{gate}"]]
    closed = f"gate not passed: {', '.join(gates)}" if gates else "every gate passed"
    return f"nothing calls for a person: {closed}, {known['tier']} tier"


def _why_not(known: Known, policy: Policy) -> str:
    return contact_reasons.in_words(known)


RULE = Rule[Part](
    name="no PQL",
    action=NURTURE,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    reads=contact_reasons.READS,
)
