"""One obstacle between an account and a sales touch, as a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable

from onetouch.policy import Policy

CONTEXT = "context:"
"""Begins the name of an obstacle that is a missing field of the account record."""


def sentence(obstacle: str, has: float | None, needs: float | None, policy: Policy) -> str:
    """What has to happen, with the figures the account has and needs (null: unknown, or none to tell)."""
    if obstacle.startswith(CONTEXT):
        return f"The account record has to be completed; missing: {obstacle.removeprefix(CONTEXT)}."
    if obstacle in _SENTENCES:
        return _SENTENCES[obstacle](has, needs, policy)
    return f"{obstacle} ({_figure(has)}) has to reach {_figure(needs)}."


def _holdout(has: float | None, needs: float | None, policy: Policy) -> str:
    return "It is in the control group, which sales leaves alone to measure what a touch is worth."


def _checkout(has: float | None, needs: float | None, policy: Policy) -> str:
    hours = policy.signals
    return (
        "Its self-serve checkout has to end without an upgrade: stay without a step for "
        f"{hours.checkout_abandoned_hours} hours, or be given up and stay so for {hours.abandoned_barrier_hours}."
    )


def _open_opportunity(has: float | None, needs: float | None, policy: Policy) -> str:
    return "Its open opportunity has to be closed: a colleague is talking to it already."


def _handoff(has: float | None, needs: float | None, policy: Policy) -> str:
    silence = policy.handoff.silence_days
    return f"Its present handoff has to end: {silence} days after a touch without response it is self-serve again."


def _recent_touch(has: float | None, needs: float | None, policy: Policy) -> str:
    return f"{_figure(needs)} days have to pass since the last touch of a rep; it was {_ago(has)}."


def _cooldown(has: float | None, needs: float | None, policy: Policy) -> str:
    return f"{_figure(needs)} days have to pass since its last handoff ended; that was {_ago(has)}."


def _new_signal(has: float | None, needs: float | None, policy: Policy) -> str:
    return "A signal has to appear that was not there at its last handoff."


def _potential_arr(has: float | None, needs: float | None, policy: Policy) -> str:
    return f"Its potential ARR of {_dollars(has)} has to reach {_dollars(needs)}."


def _icp(has: float | None, needs: float | None, policy: Policy) -> str:
    return "It has to fit the customer profile: an organisation of a size and industry we sell to."


def _activation(has: float | None, needs: float | None, policy: Policy) -> str:
    return f"It has to activate: {' and '.join(policy.product.activation)}."


def _intent(has: float | None, needs: float | None, policy: Policy) -> str:
    return f"It has to show intent: {' or '.join(f'{c.signal} {c.at_least:g}' for c in policy.gates.intent)}."


def _score(has: float | None, needs: float | None, policy: Policy) -> str:
    return f"Its score of {_figure(has)} has to reach {_figure(needs)}."


def _trigger(has: float | None, needs: float | None, policy: Policy) -> str:
    return f"It is watched: the next trigger event is enough, whatever its score: {_triggers(policy)}."


def _room(has: float | None, needs: float | None, policy: Policy) -> str:
    return f"A rep has to have room: each takes {policy.assignment.tasks_per_rep_per_day} tasks a day."


def _return(has: float | None, needs: float | None, policy: Policy) -> str:
    return "The rep in whose queue it waits has to come back: everybody who may take it is away."


def _rep(has: float | None, needs: float | None, policy: Policy) -> str:
    return "There has to be an active rep for it."


def _queue(has: float | None, needs: float | None, policy: Policy) -> str:
    return (
        f"It has waited {policy.assignment.queue_hours} hours for a rep with room, so its signals are stale: "
        f"a trigger event has to happen anew: {_triggers(policy)}."
    )


_SENTENCES: dict[str, Callable[[float | None, float | None, Policy], str]] = {
    "holdout": _holdout,
    "checkout": _checkout,
    "open_opportunity": _open_opportunity,
    "handoff": _handoff,
    "recent_touch": _recent_touch,
    "cooldown": _cooldown,
    "new_signal": _new_signal,
    "potential_arr": _potential_arr,
    "icp": _icp,
    "activation": _activation,
    "intent": _intent,
    "score": _score,
    "trigger": _trigger,
    "room": _room,
    "return": _return,
    "rep": _rep,
    "queue": _queue,
}


def _triggers(policy: Policy) -> str:
    return " or ".join(policy.routing.triggers) or "the policy names none"


def _figure(value: float | None) -> str:
    return "unknown" if value is None or math.isnan(value) else f"{value:,.10g}"


def _dollars(value: float | None) -> str:
    return "unknown" if value is None or math.isnan(value) else f"${value:,.0f}"


def _ago(days: float | None) -> str:
    return "an unknown time ago" if days is None or math.isnan(days) else f"{days:g} days ago"
