"""One touch: an account with an active handoff, or that a rep contacted recently, gets no second task.

Unless its handoff is over and somebody there has asked for a person since that contact: nobody has answered them yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from onetouch.catalogue import HOLD_TOUCHED
from onetouch.columns import Mask, age_days, moments, number, truth, utc
from onetouch.ledger import ACTIVE
from onetouch.policy import Part, Policy
from onetouch.routing import intent
from onetouch.routing.inputs import Inputs
from onetouch.routing.rule import Facts, Figures, Known, Obstacle, Rule
from onetouch.routing.wording import ago, figure, obstacles_of


def _columns(facts: Facts, inputs: Inputs, policy: Policy, as_of: datetime) -> Mapping[str, Any]:
    since = utc(as_of - timedelta(days=policy.handoff.silence_days))
    asked_since = intent.asked_at(facts, policy) > moments(facts, "touched_at")
    return {
        "handed_over": facts["handoff_state"].isin(ACTIVE).to_numpy(bool),
        "touched": (moments(facts, "touched_at") > since) & ~(asked_since & policy.routing.returns.hand_raise),
        "days_since_touch": age_days(facts, "touched_at", as_of),
    }


def _applies(facts: Facts, policy: Policy) -> Mask:
    return truth(facts, "handed_over") | truth(facts, "touched")


def _why(known: Known, policy: Policy) -> str:
    obstacles = obstacles_of(known)
    if "handoff" in obstacles:
        return f"it is handed over already: {known['handoff']['state']}"
    return f"a rep was in contact {ago(obstacles['recent_touch'])}"


def _why_not(known: Known, policy: Policy) -> str:
    days = policy.handoff.silence_days
    if known["handoff"] is None:
        return f"never handed over, no touch in {days} days"
    return f"its last handoff has ended ({known['handoff']['state']}), no touch in {days} days"


def _obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterator[Obstacle]:
    yield Obstacle("handoff", truth(facts, "handed_over"))
    days = np.floor(number(facts, "days_since_touch"))
    yield Obstacle("recent_touch", truth(facts, "touched"), days, policy.handoff.silence_days)


def _handoff(figures: Figures, policy: Policy) -> str:
    silence = policy.handoff.silence_days
    return f"Its present handoff has to end: {silence} days after a touch without response it is self-serve again."


def _recent_touch(figures: Figures, policy: Policy) -> str:
    return f"{figure(figures.needs)} days have to pass since the last touch of a rep; it was {ago(figures.has)}."


RULE = Rule[Part](
    name="one touch",
    action=HOLD_TOUCHED,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    columns=_columns,
    obstacles=_obstacles,
    sentences={"handoff": _handoff, "recent_touch": _recent_touch},
    reads=("handoff.silence_days", "routing.returns", "routing.hand_raised"),
    checked_again="whether anybody has touched the account since the decision, or is at an earlier task of it",
)
