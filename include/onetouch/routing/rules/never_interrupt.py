"""Never interrupt: an account whose self-serve upgrade is in progress is left alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from onetouch.catalogue import HOLD_CONVERTING
from onetouch.columns import Mask, truth
from onetouch.policy import Part, Policy
from onetouch.routing.inputs import Inputs
from onetouch.routing.rule import Facts, Figures, Known, Obstacle, Rule
from onetouch.routing.wording import day


def _columns(facts: Facts, inputs: Inputs, policy: Policy, as_of: datetime) -> Mapping[str, Mask]:
    return {"converting": facts["checkout_state"].isin(["started", "stalled"]).to_numpy(bool)}


def _applies(facts: Facts, policy: Policy) -> Mask:
    return truth(facts, "converting")


def _why(known: Known, policy: Policy) -> str:
    return f"a checkout is in progress: {known['checkout_state']}, last step {day(known['checkout_at'])}"


def _why_not(known: Known, policy: Policy) -> str:
    state, at = known.get("checkout_state"), known.get("checkout_at")
    return f"its checkout is over: {state} {day(at)}" if state not in (None, "none") else "no checkout in progress"


def _obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterator[Obstacle]:
    yield Obstacle("checkout", truth(facts, "converting"))


def _checkout(figures: Figures, policy: Policy) -> str:
    hours = policy.signals
    return (
        "Its self-serve checkout has to end without an upgrade: stay without a step for "
        f"{hours.checkout_abandoned_hours} hours, or be given up and stay so for {hours.abandoned_barrier_hours}."
    )


RULE = Rule[Part](
    name="never interrupt",
    action=HOLD_CONVERTING,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    columns=_columns,
    obstacles=_obstacles,
    sentences={"checkout": _checkout},
    reads=(
        "signals.checkout_stalled_hours",
        "signals.checkout_abandoned_hours",
        "signals.abandoned_barrier_hours",
    ),
    checked_again="whether a checkout has begun, or was completed, since the run read the product's events",
)
