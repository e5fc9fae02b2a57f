"""Value floor: the account has a reason for contact, but its potential ARR is too low to pay for a rep's time."""

from __future__ import annotations

from collections.abc import Iterator

from onetouch.catalogue import BELOW_FLOOR
from onetouch.columns import Mask, number, truth
from onetouch.policy import Part, Policy
from onetouch.routing.rule import Facts, Figures, Known, Obstacle, Rule
from onetouch.routing.wording import dollars, under_the_floor, worth


def _applies(facts: Facts, policy: Policy) -> Mask:
    wanted = truth(facts, "pql") | truth(facts, "hand_raised") | truth(facts, "expanding")
    return wanted & ~truth(facts, "high_value")


def _why(known: Known, policy: Policy) -> str:
    return under_the_floor(known, policy)


def _why_not(known: Known, policy: Policy) -> str:
    if known["value_band"] == "high":
        return f"{worth(known)}, floor {dollars(policy.value.floor)}"
    return f"{worth(known)} is under the floor, but nothing calls for a person"


def _obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterator[Obstacle]:
    yield Obstacle("potential_arr", ~truth(facts, "high_value"), number(facts, "potential_arr"), policy.value.floor)


def _potential_arr(figures: Figures, policy: Policy) -> str:
    return f"Its potential ARR of {dollars(figures.has)} has to reach {dollars(figures.needs)}."


RULE = Rule[Part](
    name="value floor",
    action=BELOW_FLOOR,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    obstacles=_obstacles,
    sentences={"potential_arr": _potential_arr},
    reads=("value.floor", "value.seat_price_year", "value.seats_within_reach", "product.plans"),
)
