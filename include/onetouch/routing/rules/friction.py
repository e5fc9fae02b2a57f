"""Friction: a customer is offered more at the moment of most value (S4), not of frustration.

A paying customer whose use is falling, or whose failures or tickets pile up, is watched instead of called for
expansion, and the decision names what is in the way. Who asks for a person is called all the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onetouch.catalogue import MONITOR
from onetouch.columns import Mask, number, truth
from onetouch.policy import Condition, Part, Policy
from onetouch.routing import contact_reasons
from onetouch.routing.rule import Facts, Figures, Known, Obstacle, Rule
from onetouch.routing.wording import figure, obstacles_of
from onetouch.scoring import holds

_FALLING = "falling"


class Friction(Part):
    """`when`: any of these is friction. `falling`: so is use that has fallen by `signals.growing_ratio` in a week."""

    when: list[Condition]
    falling: bool


def _parameters(policy: Policy) -> Friction | None:
    return RULE.own(policy) if RULE.section in policy.routing.rules else None


def _customers(facts: Facts) -> Mask:
    """Paying accounts that have not just asked for a person."""
    return (number(facts, "arr") > 0) & ~(truth(facts, "hand_raised") & truth(facts, "asked_lately"))


def _falls(facts: Facts) -> Mask:
    return facts["trend"].eq("declining").eq(True).to_numpy(bool)


def _applies(facts: Facts, policy: Policy) -> Mask:
    its = RULE.own(policy)
    found = _falls(facts) if its.falling else np.zeros(len(facts), dtype=bool)
    for condition in its.when:
        found = found | holds(facts, condition)
    return contact_reasons.called(facts) & _customers(facts) & found


def _why(known: Known, policy: Policy) -> str:
    found = [name.partition(":")[2] for name in obstacles_of(known) if name.startswith("friction:")]
    said = ["use is falling" if name == _FALLING else f"{name} {figure(known.get(name))}" for name in found]
    return f"a customer in friction is not offered more: {', '.join(said)}"


def _why_not(known: Known, policy: Policy) -> str:
    if not known.get("arr"):
        return "it pays nothing yet"
    return "nothing piles up" if known["call"] else "nothing calls for a person"


def _obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterator[Obstacle]:
    if (its := _parameters(policy)) is None:
        return
    customers = _customers(facts)
    if its.falling:
        yield Obstacle(f"friction:{_FALLING}", customers & _falls(facts))
    for condition in its.when:
        stands = customers & holds(facts, condition)
        yield Obstacle(f"friction:{condition.signal}", stands, number(facts, condition.signal))


def _friction(figures: Figures, policy: Policy) -> str:
    if figures.detail == _FALLING:
        return "Its use has to stop falling: a customer is not offered more while it uses less."
    its = _parameters(policy)
    least = next((c.at_least for c in (its.when if its else ()) if c.signal == figures.detail), None)
    return (
        f"Its {figures.detail} ({figure(figures.has)}) have to be fewer than {figure(least)}: first help, then offer."
    )


RULE = Rule[Friction](
    name="friction",
    action=MONITOR,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    obstacles=_obstacles,
    sentences={"friction": _friction},
    reads=("signals.growing_ratio", "routing.hand_raised"),
    parameters=Friction,
)
