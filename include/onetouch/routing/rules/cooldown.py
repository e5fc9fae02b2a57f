"""Cooldown: after a handoff has ended, sales stays away for a while, and then until something happens anew.

How long, and what has to happen, depends on the end (`routing/returns.py`, docs/returns.md). An account that asks for a
person after the end is not interrupted by an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import numpy as np

from onetouch.catalogue import HOLD_COOLDOWN
from onetouch.columns import Mask, number, truth
from onetouch.policy import Part, Policy
from onetouch.routing import returns
from onetouch.routing.inputs import Inputs
from onetouch.routing.rule import Facts, Figures, Known, Obstacle, Rule
from onetouch.routing.wording import ago, day, figure, obstacles_of


def _columns(facts: Facts, inputs: Inputs, policy: Policy, as_of: datetime) -> Mapping[str, Any]:
    return returns.columns(facts, inputs.handoffs, policy, as_of)


def _applies(facts: Facts, policy: Policy) -> Mask:
    return truth(facts, "cooling") | truth(facts, "nothing_new")


def _why(known: Known, policy: Policy) -> str:
    since = f"its last handoff ended {day(known['handoff']['closed_at'])} ({known['handoff']['state']})"
    return since if "cooldown" in obstacles_of(known) else f"{since}, and nothing is new since"


def _why_not(known: Known, policy: Policy) -> str:
    past = known["handoff"]
    if past is None:
        return "never handed over"
    since = f"its last handoff ended {day(past['closed_at'])} ({past['state']})"
    if policy.routing.returns.new == "occurrence":
        return f"{since}, and something has happened since"
    new = [r["signal"] for r in known["reasons"] if r["signal"] not in (past["signals"] or [])]
    return f"{since}; new since: {', '.join(new[:2])}" if new else since


def _obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterator[Obstacle]:
    # A handoff that still goes on is followed by the cooldown: it has passed none of its days.
    going_on = truth(facts, "handed_over")
    needs = np.where(going_on, float(policy.routing.cooldown_days), number(facts, "rest_days"))
    yield Obstacle("cooldown", truth(facts, "cooling") | going_on, np.floor(number(facts, "rested_days")), needs)
    what = "new_signal" if policy.routing.returns.new == "signal" else "new_intent"
    yield Obstacle(what, truth(facts, "nothing_new") | truth(facts, "nothing_new_yet"))


def _cooldown(figures: Figures, policy: Policy) -> str:
    if figures.has is None:
        said = f"After that, {figure(figures.needs)} days have to pass."
    else:
        said = f"{figure(figures.needs)} days have to pass since its last handoff ended; that was {ago(figures.has)}."
    asks = " or ".join(condition.signal for condition in policy.routing.hand_raised)
    return said + (f" Or it has to ask for a person: {asks}." if asks and policy.routing.returns.hand_raise else "")


def _new_signal(figures: Figures, policy: Policy) -> str:
    return "A signal has to appear that was not there at its last handoff."


def _new_intent(figures: Figures, policy: Policy) -> str:
    return "It has to show intent after its last handoff; the same as before counts again."


RULE = Rule[Part](
    name="cooldown",
    action=HOLD_COOLDOWN,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    columns=_columns,
    obstacles=_obstacles,
    sentences={"cooldown": _cooldown, "new_signal": _new_signal, "new_intent": _new_intent},
    reads=("routing.cooldown_days", "routing.returns", "routing.hand_raised"),
    checked_again="whether a handoff of another account that is the same record of the CRM has ended lately",
)
