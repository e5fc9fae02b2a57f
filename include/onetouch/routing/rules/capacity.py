"""Capacity: the assigned rep has no room for another task today, or there is no rep who may take the account."""

from __future__ import annotations

from collections.abc import Iterator

from onetouch.catalogue import HOLD_CAPACITY
from onetouch.columns import Mask, truth
from onetouch.policy import Part, Policy
from onetouch.routing.rule import Facts, Figures, Known, Obstacle, Rule
from onetouch.routing.wording import obstacles_of


def _applies(facts: Facts, policy: Policy) -> Mask:
    return ~truth(facts, "has_room")


def _why(known: Known, policy: Policy) -> str:
    if known["owner_email"] is None:
        return "there is no rep who may take it"
    if "day" in obstacles_of(known):
        return f"the day is full: {_most(policy)} tasks of all reps; the account waits its turn"
    return f"{known['owner_email']} has no room, and the account waits its turn there"


def _why_not(known: Known, policy: Policy) -> str:
    return f"{known['owner_email']} has room"


def _obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterator[Obstacle]:
    for what in ("day", "room", "return", "rep"):
        yield Obstacle(what, decided & facts["waits_for"].eq(what).to_numpy(bool))


def _day(figures: Figures, policy: Policy) -> str:
    return f"The next day has to begin: all reps together take {_most(policy)} tasks a day."


def _most(policy: Policy) -> str:
    ramp = ", ".join(map(str, policy.delivery.ramp))
    return f"{policy.assignment.tasks_per_day}{f' (since going live, day by day: {ramp})' if ramp else ''}"


def _room(figures: Figures, policy: Policy) -> str:
    return f"A rep has to have room: each takes {policy.assignment.tasks_per_rep_per_day} tasks a day."


def _return(figures: Figures, policy: Policy) -> str:
    return "The rep in whose queue it waits has to come back: everybody who may take it is away."


def _rep(figures: Figures, policy: Policy) -> str:
    return "There has to be an active rep for it."


RULE = Rule[Part](
    name="capacity",
    action=HOLD_CAPACITY,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    obstacles=_obstacles,
    sentences={"day": _day, "room": _room, "return": _return, "rep": _rep},
    reads=("assignment",),
    checked_again="whether the rep's day, and the day of all reps, still has room for the task",
    assigned=True,
)
