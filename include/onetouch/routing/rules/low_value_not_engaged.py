"""The matrix, low value and not engaged: onboarding within the product helps the account to use it."""

from __future__ import annotations

from onetouch.catalogue import SELF_SERVE_ONBOARDING
from onetouch.columns import Mask, truth
from onetouch.policy import Part, Policy
from onetouch.routing.rule import Facts, Known, Rule
from onetouch.routing.wording import short_of, under_the_floor, worth


def _applies(facts: Facts, policy: Policy) -> Mask:
    return ~truth(facts, "high_value") & ~truth(facts, "engaged")


def _why(known: Known, policy: Policy) -> str:
    return f"{under_the_floor(known, policy)}, and not engaged: {short_of(known, policy.routing.engaged)}"


def _why_not(known: Known, policy: Policy) -> str:
    return f"{worth(known)}: high value"


RULE = Rule[Part](
    name="matrix: low value, not engaged",
    action=SELF_SERVE_ONBOARDING,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    reads=("value.floor", "routing.engaged"),
)
