"""Intent: when an account last showed it, and whether that is still fresh (S2: after 72 hours a signal is worthless).

Intent is what the policy names as such: the conditions of the intent gate, those for asking for a person, and the
trigger events. It either happens at a moment, or it is a state that lasts: a plan limit that is nearly used up.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import numpy as np

from onetouch.catalogue import FIRMOGRAPHIC_SIGNALS, SIGNALS_BY_NAME
from onetouch.catalogue import MOMENTS as HAPPENING
from onetouch.columns import Mask, Moments, moments, number, utc
from onetouch.policy import Condition, Policy
from onetouch.routing.rule import Facts
from onetouch.scoring import holds

NEVER = np.datetime64("NaT", "us")


def asked_at(facts: Facts, policy: Policy) -> Moments:
    """When somebody there last asked for a person (`routing.hand_raised`); NaT: nobody did, or nobody knows when."""
    return _last(facts, policy.routing.hand_raised)


def occurred_at(facts: Facts, policy: Policy) -> Moments:
    """When the account last showed intent at a moment: by the intent gate, by asking for a person or by a trigger."""
    last = np.fmax(_last(facts, policy.gates.intent), asked_at(facts, policy))
    triggers = [Condition(signal=name, at_least=1) for name in policy.routing.triggers]
    return np.fmax(last, _last(facts, triggers))


def fresh(facts: Facts, policy: Policy, as_of: datetime) -> tuple[Mask, Mask]:
    """Whether the intent of the gate, and whether a request for a person, is fresh (`routing.fresh_intent_hours`).

    A lasting state is always fresh. What was fresh when the account came into the line for a rep stays so for as long
    as it may wait there (`assignment.queue_hours`).
    """
    hours = policy.routing.fresh_intent_hours
    if hours is None:
        return np.ones(len(facts), dtype=bool), np.ones(len(facts), dtype=bool)
    # An unfinished checkout is a sign of intent only once it was silent for its hours: they do not count as its age.
    silent = timedelta(hours=policy.signals.checkout_abandoned_hours)
    waits = _in_line(facts, policy, as_of)

    def happened(conditions: Iterable[Condition]) -> Mask:
        found = np.zeros(len(facts), dtype=bool)
        for condition in conditions:
            if condition.signal in HAPPENING:
                since = as_of - timedelta(hours=hours)
                since -= silent if condition.signal == "checkouts_abandoned" else timedelta(0)
                found |= holds(facts, condition) & (moments(facts, f"{condition.signal}_at") > utc(since))
        return found

    asked = happened(policy.routing.hand_raised)
    return happened(policy.gates.intent) | asked | lasts(facts, policy) | waits, asked | waits


def in_time(facts: Facts, at: Moments, policy: Policy, as_of: datetime) -> Mask:
    """Whether a trigger event at these moments is fresh, or was when the account came into the line for a rep."""
    hours = policy.routing.fresh_intent_hours
    if hours is None:
        return np.ones(len(facts), dtype=bool)
    return (at > utc(as_of - timedelta(hours=hours))) | _in_line(facts, policy, as_of)


def _in_line(facts: Facts, policy: Policy, as_of: datetime) -> Mask:
    """Whether the account is in the line for a rep, for no longer than it may be."""
    begun: Mask = moments(facts, "previous_queued_since") > utc(as_of - timedelta(hours=policy.assignment.queue_hours))
    return begun


def lasts(facts: Facts, policy: Policy) -> Mask:
    """Whether the account is in a state that is intent by the gate: near a limit of its plan (S0 S1)."""
    found = np.zeros(len(facts), dtype=bool)
    for condition in policy.gates.intent:
        if SIGNALS_BY_NAME[condition.signal].table == "limits":
            found |= holds(facts, condition)
    return found


def began_after(facts: Facts, policy: Policy, since: Moments) -> Mask:
    """Whether such a state has begun after a moment: the limit was crossed then."""
    return lasts(facts, policy) & (moments(facts, "limit_near_at") > since)


def outgrown_after(facts: Facts, policy: Policy, since: Moments) -> Mask:
    """Whether the account outgrows its plan (`routing.expansion`) by readings after a moment alone, whose first and
    last day both count."""
    read, day = moments(facts, "limit_read_at"), np.timedelta64(1, "D")
    found = read > since
    for condition in policy.routing.expansion.when:
        if condition.signal == "limit_held_days":
            held = np.floor((read - since) / day) + 1
            found &= np.fmin(held, number(facts, "limit_held_days")) >= condition.at_least
        else:
            found &= holds(facts, condition)
    return found


def _last(facts: Facts, conditions: Iterable[Condition]) -> Moments:
    """When a usage signal of the conditions last happened, where the condition holds; NaT: never."""
    last = np.full(len(facts), NEVER)
    for condition in conditions:
        if condition.signal in HAPPENING and condition.signal not in FIRMOGRAPHIC_SIGNALS:
            last = np.fmax(last, np.where(holds(facts, condition), moments(facts, f"{condition.signal}_at"), NEVER))
    return last
