"""The matrix, high value and not engaged: the account is nurtured until it uses the product.

It is the first of the three rules for accounts without a contact reason, so it reports what such an account lacks.
"""

from __future__ import annotations

from onetouch.catalogue import NURTURE
from onetouch.columns import Mask, truth
from onetouch.policy import Part, Policy
from onetouch.routing import contact_reasons
from onetouch.routing.rule import Facts, Known, Rule
from onetouch.routing.wording import figures, short_of


def _applies(facts: Facts, policy: Policy) -> Mask:
    return ~contact_reasons.called(facts) & ~truth(facts, "engaged_enough")


def _why(known: Known, policy: Policy) -> str:
    return f"not engaged: {short_of(known, policy.routing.engaged)}"


def _why_not(known: Known, policy: Policy) -> str:
    if known["call"]:
        return contact_reasons.in_words(known)
    if known["engagement_band"] == "high":
        return f"engaged: {figures(known, policy.routing.engaged)}"
    return f"large: {known['employees']:g} employees"


RULE = Rule[Part](
    name="matrix: high value, not engaged",
    action=NURTURE,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    obstacles=contact_reasons.lacking,
    sentences=contact_reasons.SENTENCES,
    reads=(*contact_reasons.READS, "gates.icp", "gates.intent", "scoring.firmographics", "scoring.tiers.high"),
)
