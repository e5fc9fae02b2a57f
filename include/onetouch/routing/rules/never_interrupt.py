"""Never interrupt: an account whose self-serve upgrade is in progress, or was completed lately, is left alone.

After a purchase it is left alone for `routing.bought_days`, unless somebody there asks for a person later than that. A
checkout in progress holds the account whatever else happens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from onetouch.catalogue import HOLD_CONVERTING
from onetouch.columns import Mask, age_days, moments, number, truth, utc
from onetouch.policy import Part, Policy
from onetouch.routing import intent
from onetouch.routing.inputs import Inputs
from onetouch.routing.rule import Facts, Figures, Known, Obstacle, Rule
from onetouch.routing.wording import ago, day, figure, obstacles_of

_BOUGHT = "bought"
"""Name of the obstacle that the account has bought by itself lately."""


def _columns(facts: Facts, inputs: Inputs, policy: Policy, as_of: datetime) -> Mapping[str, Any]:
    lately = moments(facts, "bought_at") > utc(as_of - timedelta(days=policy.routing.bought_days))
    asked_since = intent.asked_at(facts, policy) > moments(facts, "bought_at")
    return {
        "converting": facts["checkout_state"].isin(["started", "stalled"]).to_numpy(bool),
        "just_bought": lately & ~asked_since,
        "days_since_purchase": age_days(facts, "bought_at", as_of),
    }


def _applies(facts: Facts, policy: Policy) -> Mask:
    return truth(facts, "converting") | truth(facts, "just_bought")


def _why(known: Known, policy: Policy) -> str:
    obstacles = obstacles_of(known)
    if _BOUGHT in obstacles and "checkout" not in obstacles:
        return f"it bought by itself {ago(obstacles[_BOUGHT])}"
    return f"a checkout is in progress: {known['checkout_state']}, last step {day(known['checkout_at'])}"


def _why_not(known: Known, policy: Policy) -> str:
    state, at = known.get("checkout_state"), known.get("checkout_at")
    return f"its checkout is over: {state} {day(at)}" if state not in (None, "none") else "no checkout in progress"


def _obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterator[Obstacle]:
    yield Obstacle("checkout", truth(facts, "converting"))
    days = np.floor(number(facts, "days_since_purchase"))
    yield Obstacle(_BOUGHT, truth(facts, "just_bought"), days, policy.routing.bought_days)


def _checkout(figures: Figures, policy: Policy) -> str:
    hours = policy.signals
    return (
        "Its self-serve checkout has to end without an upgrade: stay without a step for "
        f"{hours.checkout_abandoned_hours} hours, or be given up and stay so for {hours.abandoned_barrier_hours}."
    )


def _bought(figures: Figures, policy: Policy) -> str:
    asks = " or ".join(condition.signal for condition in policy.routing.hand_raised)
    sooner = f" Or it has to ask for a person: {asks}." if asks else ""
    return f"{figure(figures.needs)} days have to pass since it bought by itself; that was {ago(figures.has)}.{sooner}"


RULE = Rule[Part](
    name="never interrupt",
    action=HOLD_CONVERTING,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    columns=_columns,
    obstacles=_obstacles,
    sentences={"checkout": _checkout, _BOUGHT: _bought},
    reads=(
        "signals.checkout_stalled_hours",
        "signals.checkout_abandoned_hours",
        "signals.abandoned_barrier_hours",
        "routing.bought_days",
        "routing.hand_raised",
    ),
    checked_again="whether a checkout has begun, or was completed lately, as far as the product's events tell now",
)
