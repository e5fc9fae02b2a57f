"""Plans of the product: which an account has, which come after it, and what they cost, hold and unlock.

A CRM records an account's plan as a text. A plan is known by its name, or by its product and its name ("Insights Pro"),
in any case; where several products are sold the text may name several, separated by commas, semicolons or bars.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from onetouch.policy.schema import Plan, Product

SEATS = "seats"
"""The limit that counts people: `signals.seats_used` says how many seats are in use."""

_APART = re.compile(r"[;,|\n]")


def plans_of(named: str | None, product: Product) -> list[Plan]:
    """The plans that a CRM's text names, in its order; empty if it names none that the policy lists."""
    return [plan for part in _parts(named, product) if (plan := _plan_of(part, product)) is not None]


def unknown_plans(named: str | None, product: Product) -> list[str]:
    """The parts of a CRM's text that name no plan of the policy."""
    return [part for part in _parts(named, product) if _plan_of(part, product) is None]


def plans_after(plan: Plan, product: Product) -> list[Plan]:
    """The plans above a plan, the next one first."""
    found = {other.name.casefold(): other for other in product.plans if other.product == plan.product}
    chain = []
    while plan.next is not None:
        plan = found[plan.next.casefold()]
        chain.append(plan)
    return chain


def seat_price(plans: Collection[Plan], product: Product) -> float | None:
    """Dollars a seat and year of the plans after an account's, of its own where there is none; None if nobody knows.

    The prices of several products are added up. A plan that costs nothing has no price: nobody can buy it.
    """
    prices = []
    for plan in plans:
        following = plans_after(plan, product)[:1]
        prices += [price for price in (p.seat_price_year for p in [*following, plan]) if price][:1]
    return sum(prices) if prices else None


def cost_nothing(plans: Collection[Plan]) -> bool:
    """Whether the plans are known, and none of them costs anything."""
    return bool(plans) and all(plan.seat_price_year == 0 for plan in plans)


def limits_of_plans(plans: Collection[Plan]) -> dict[str, float]:
    """Limit → cap of an account with these plans; of two products with the same limit the greater cap counts."""
    caps: dict[str, float] = {}
    for plan in plans:
        for limit, cap in plan.limits.items():
            caps[limit] = max(cap, caps.get(limit, 0.0))
    return caps


def plan_with_features(features: Collection[str], plans: Collection[Plan], product: Product) -> Plan | None:
    """The first plan above the account's own that holds all of the features, else of another product; None: no plan."""
    wanted = {feature.casefold() for feature in features}
    above = [other for plan in plans for other in plans_after(plan, product)]
    others = [other for other in product.plans if other not in above and other not in plans]
    own = {plan.product for plan in plans}
    candidates = [*above, *(other for other in others if other.product not in own)]
    return next((p for p in candidates if plans and wanted and wanted <= {f.casefold() for f in p.features}), None)


def plan_with_room(limit: str, cap: float, used: float, plans: Collection[Plan], product: Product) -> Plan | None:
    """The first plan above the account's own whose cap of a limit exceeds both its cap and what it uses; None: no plan.

    Seats that an account can add within its own plan need no other plan.
    """
    if limit == SEATS and plan_with_seats(cap, used, plans) is not None:
        return None
    for plan in plans:
        if limit not in plan.limits:
            continue  # another product's limit
        for other in plans_after(plan, product):
            if other.limits.get(limit, float("inf")) > max(cap, used):
                return other
    return None


def plan_with_seats(cap: float, used: float, plans: Collection[Plan]) -> Plan | None:
    """The account's own plan to which seats can be added beyond those it has; None: no plan of it, or nobody knows."""
    return next((plan for plan in plans if plan.limits.get(SEATS, float("inf")) > max(cap, used)), None)


def plan_title(plan: Plan, product: Product) -> str:
    """The plan's name as a text says it: with its product, where that is not the product."""
    name = plan.name[:1].upper() + plan.name[1:]
    return name if plan.product in (None, product.name) else f"{plan.product} {name}"


def _parts(named: str | None, product: Product) -> list[str]:
    whole = " ".join((named or "").split())
    if _plan_of(whole, product) is not None:  # a name may hold a comma
        return [whole]
    return [part for part in (" ".join(text.split()) for text in _APART.split(named or "")) if part]


def _plan_of(name: str, product: Product) -> Plan | None:
    """The plan of that name; of plans of several products with the same name, the first one listed."""
    wanted = name.casefold()
    for plan in product.plans:
        if wanted in (plan.name.casefold(), f"{plan.product or product.name} {plan.name}".casefold()):
            return plan
    return None
