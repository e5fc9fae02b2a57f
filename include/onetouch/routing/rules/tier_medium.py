"""Tier medium: the account is monitored until its next trigger event, which makes it a sales touch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from onetouch.catalogue import MONITOR
from onetouch.columns import Mask, truth
from onetouch.policy import Part, Policy
from onetouch.routing import contact_reasons
from onetouch.routing.inputs import Inputs
from onetouch.routing.rule import Facts, Figures, Known, Obstacle, Rule
from onetouch.routing.wording import triggers


def _columns(facts: Facts, inputs: Inputs, policy: Policy, as_of: datetime) -> Mapping[str, Mask]:
    medium = facts["tier"].eq("medium").to_numpy(bool)
    return {"watchable": contact_reasons.watched(facts, policy) & medium}


def _applies(facts: Facts, policy: Policy) -> Mask:
    return ~contact_reasons.called(facts) & truth(facts, "watchable")


def _why(known: Known, policy: Policy) -> str:
    return "medium tier: watched until its next trigger event"


def _why_not(known: Known, policy: Policy) -> str:
    if known["call"]:
        return contact_reasons.in_words(known)
    if known["tier"] != "medium":
        return f"its tier is {known['tier']}"
    if policy.routing.medium != "monitor":
        return "the policy watches nobody"
    failed = [gate for gate in ("icp", "activated") if not known[f"gate_{gate}"]]
    return f"gate not passed: {', '.join(failed)}"


def _obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterator[Obstacle]:
    yield Obstacle("trigger", decided & bool(policy.routing.triggers))


def _trigger(figures: Figures, policy: Policy) -> str:
    return f"It is watched: the next trigger event is enough, whatever its score: {triggers(policy)}."


RULE = Rule[Part](
    name="tier medium",
    action=MONITOR,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    columns=_columns,
    obstacles=_obstacles,
    sentences={"trigger": _trigger},
    reads=("scoring.tiers", "routing.medium", "routing.triggers"),
)
