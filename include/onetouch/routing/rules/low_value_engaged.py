"""The matrix, low value and engaged: the account uses the product well and stays self-serve."""

from __future__ import annotations

from onetouch.catalogue import SELF_SERVE_HERO
from onetouch.columns import Mask, truth
from onetouch.policy import Part, Policy
from onetouch.routing.rule import Facts, Known, Rule
from onetouch.routing.wording import figures, short_of, under_the_floor, worth


def _applies(facts: Facts, policy: Policy) -> Mask:
    return ~truth(facts, "high_value") & truth(facts, "engaged")


def _why(known: Known, policy: Policy) -> str:
    return f"{under_the_floor(known, policy)}, and engaged: {figures(known, policy.routing.engaged)}"


def _why_not(known: Known, policy: Policy) -> str:
    if known["value_band"] == "high":
        return f"{worth(known)}: high value"
    return f"not engaged: {short_of(known, policy.routing.engaged)}"


RULE = Rule[Part](
    name="matrix: low value, engaged",
    action=SELF_SERVE_HERO,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    reads=("value.floor", "routing.engaged"),
)
