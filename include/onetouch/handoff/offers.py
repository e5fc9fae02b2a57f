"""What the product's plans can do for an account: facts for texts, and a line for the rep."""

from __future__ import annotations

from onetouch.handoff.facts import Facts
from onetouch.handoff.words import listed, money, number, said
from onetouch.policy import (
    SEATS,
    Plan,
    Policy,
    plan_title,
    plan_with_features,
    plan_with_room,
    plan_with_seats,
    plans_after,
    plans_of,
)

_ADDED = 3
"""Ours: features of the next plan named in a sentence; the others are only counted."""


def not_in_the_plan(facts: Facts, policy: Policy) -> list[str]:
    """The features that were tried and that the account's plan, as far as it is known, does not hold."""
    own = {feature.casefold() for plan in plans_of(facts.get("plan"), policy.product) for feature in plan.features}
    return [str(feature) for feature in facts.get("premium_attempted", []) if str(feature).casefold() not in own]


def plan_words(facts: Facts, policy: Policy) -> dict[str, str]:
    """The facts of `policy.schema.PLAN_FACTS` that are known of the account, in words.

    None is known of an account whose plan the policy does not list.
    """
    product, plans = policy.product, plans_of(facts.get("plan"), policy.product)
    words: dict[str, str] = {}
    following = [(plan, after[0]) for plan in plans if (after := plans_after(plan, product))]
    if following:
        plan, after_it = following[0]
        words["next_plan"] = plan_title(after_it, product)
        if after_it.seat_price_year:
            words["next_plan_price"] = f"{money(after_it.seat_price_year)} a seat a year"
        used = facts.get("features_used_list", [])  # whatever the list of plans says, they have it
        if added := [name for name in after_it.features if name not in plan.features and name not in used]:
            words["next_plan_adds"] = listed(added, most=_ADDED)
    if (unlocking := plan_with_features(not_in_the_plan(facts, policy), plans, product)) is not None:
        words["feature_plan"] = plan_title(unlocking, product)
    if {"limit_name", "limit_cap"} <= facts.keys():
        words |= _room(facts, plans, policy)
    return words


def _room(facts: Facts, plans: list[Plan], policy: Policy) -> dict[str, str]:
    """Which plan has room beyond the fullest limit."""
    product, limit, cap = policy.product, str(facts["limit_name"]), float(facts["limit_cap"])
    used = float(facts.get("limit_used", 0))
    if limit == SEATS and (own := plan_with_seats(cap, used, plans)) is not None:
        return {"seats_plan": plan_title(own, product)}
    if (roomy := plan_with_room(limit, cap, used, plans, product)) is None:
        return {}
    more = roomy.limits.get(limit)
    room = f"{number(more)} {said(limit)}" if more is not None else f"{said(limit)} without a limit"
    return {"room_plan": plan_title(roomy, product), "room": room}


def plan_lines(words: dict[str, str]) -> list[str]:
    """For the rep: which plan unlocks what is in the way."""
    lines = []
    if "room_plan" in words:
        lines.append(f"More room: {words['room_plan']} holds {words['room']}")
    if "seats_plan" in words:
        lines.append(f"More seats: {words['seats_plan']}, their own plan, takes them")
    if "feature_plan" in words:
        lines.append(f"What they tried comes with: {words['feature_plan']}")
    if "next_plan" in words:
        adds = f", adds {words['next_plan_adds']}" if "next_plan_adds" in words else ""
        price = f", {words['next_plan_price']}" if "next_plan_price" in words else ""
        lines.append(f"The plan above theirs: {words['next_plan']}{adds}{price}")
    return lines
