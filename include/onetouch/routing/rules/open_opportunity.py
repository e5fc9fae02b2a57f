"""Open opportunity: a colleague is already talking to the account about a deal."""

from __future__ import annotations

from collections.abc import Iterator

from onetouch.catalogue import HOLD_OPEN_OPPORTUNITY
from onetouch.columns import Mask, number
from onetouch.policy import Part, Policy
from onetouch.routing.rule import Facts, Figures, Known, Obstacle, Rule


def _applies(facts: Facts, policy: Policy) -> Mask:
    return number(facts, "open_opportunities") > 0


def _why(known: Known, policy: Policy) -> str:
    return "a colleague has an open opportunity there"


def _why_not(known: Known, policy: Policy) -> str:
    return "no open opportunity"


def _obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterator[Obstacle]:
    yield Obstacle("open_opportunity", _applies(facts, policy))


def _open_opportunity(figures: Figures, policy: Policy) -> str:
    return "Its open opportunity has to be closed: a colleague is talking to it already."


RULE = Rule[Part](
    name="open opportunity",
    action=HOLD_OPEN_OPPORTUNITY,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    obstacles=_obstacles,
    sentences={"open_opportunity": _open_opportunity},
    checked_again="whether an opportunity was opened since the run read the CRM",
)
