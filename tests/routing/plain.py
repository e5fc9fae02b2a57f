"""The rules of engagement read one account at a time, in plain Python: what `decide` is held against.

It shares no code with the product, only the names of the rules. A row is a dict of an account's signals, gates and
score; unknown is None.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

from onetouch.policy import Policy
from onetouch.routing import RULES

Row = dict[str, Any]
FIRMOGRAPHIC = {"enterprise_domain", "fundings", "hirings"}
OPEN = {"decided", "context_written", "task_open", "touched", "replied"}
READ_HERE = {
    "never interrupt", "open opportunity", "one touch", "cooldown", "value floor", "matrix: low value, engaged",
    "matrix: low value, not engaged", "matrix: high value, not engaged", "tier medium", "no PQL", "queue expired",
    "never without context",
}  # fmt: skip
"""Rules that are read here. `holdout` has a test of its own; of `capacity` and `sales now` this says: sales."""

READ = tuple(rule for rule in RULES if rule.name in {*READ_HERE, "holdout", "capacity", "sales now"})
"""What this module knows of the product's rules, in their order; one that is not among them never applies here."""


def score_of(row: Row, policy: Policy, as_of: datetime) -> tuple[dict[str, int], int, int]:
    """Tenths of points by signal, in all, and by use alone."""
    earned = {}
    for rule in policy.scoring.points:
        value = row[rule.signal]
        if value is None or value < rule.at_least:
            continue
        share = 1.0 if rule.full_at is None else min(value / rule.full_at, 1.0)
        if rule.half_life_days is not None:
            share *= 0.5 ** ((as_of - row[f"{rule.signal}_at"]).days / rule.half_life_days)
        if tenths := round(share * rule.points * 10):
            earned[rule.signal] = tenths
    return earned, sum(earned.values()), sum(n for name, n in earned.items() if name not in FIRMOGRAPHIC)


def gates_of(row: Row, policy: Policy) -> dict[str, bool]:
    icp, size, industry = policy.gates.icp, row["employees"], (row["industry"] or "").lower()
    fits = [
        not icp.organisation or row["account_basis"] != "personal" or row["domain"] is not None,
        size is None or icp.min_employees is None or size >= icp.min_employees,
        size is None or icp.max_employees is None or size <= icp.max_employees,
        not industry or not icp.industries or industry in [i.lower() for i in icp.industries],
        industry not in [i.lower() for i in icp.excluded_industries],
    ]
    return {
        "icp": all(fits),
        "activated": row["activated"] >= 1,
        "engagement": all(holds(row, c) for c in policy.gates.engagement),
        "intent": any(holds(row, c) for c in policy.gates.intent),
    }


def holds(row: Row, condition: Any) -> bool:
    value = row[condition.signal]
    return value is not None and value >= condition.at_least


def just_bought(row: Row, policy: Policy, as_of: datetime) -> bool:
    """Bought lately, and has not asked for a person since."""
    at = row["bought_at"]
    if at is None or as_of - at >= timedelta(days=policy.routing.bought_days):
        return False
    asked = [row.get(f"{c.signal}_at") for c in policy.routing.hand_raised if holds(row, c)]
    return not any(moment is not None and moment > at for moment in asked)


def decision_of(row: Row, past: Row | None, touch: datetime | None, before: Row | None, policy: Policy,
                as_of: datetime) -> tuple[str, str]:  # fmt: skip
    """Rule and call; `sales` for an account that only reps' room can stop."""
    routing, day = policy.routing, timedelta(days=1)
    earned, score, usage = score_of(row, policy, as_of)
    counted = (usage if policy.scoring.firmographics == "rank" else score) / 10
    tiers = policy.scoring.tiers
    tier = "high" if counted >= tiers.high else "medium" if counted >= tiers.medium else "low"
    gates = gates_of(row, policy)
    pql = all(gates.values()) and tier == "high"
    worth = max(
        row["arr"] or 0,
        policy.value.seat_price_year
        * max(policy.value.seats_within_reach * (row["employees"] or 0), row["active_users"]),
    )
    valuable = round(worth, 2) >= policy.value.floor
    engaged = all(holds(row, c) for c in routing.engaged)
    large = (row["employees"] or 0) >= routing.motion.sales_led_employees
    busy = engaged or (large and routing.large_not_engaged == "sales")
    raised = any(holds(row, c) for c in routing.hand_raised)
    expands = (row["arr"] or 0) > 0 and all(holds(row, c) for c in routing.expansion.when)
    moments = [row[f"{name}_at"] for name in routing.triggers]
    fresh = bool(before) and any(at is not None and at > before["since"] for at in moments)
    waiting = bool(before) and before["action"] in ("hold_capacity", "hold_context") and before["call"] == "trigger"
    came = fresh and before["action"] in ("monitor", "hold_converting")
    able = gates["icp"] and gates["activated"] and gates["engagement"] and valuable
    call = ""
    if pql and busy and valuable:
        call = "pql"
    elif able and raised:
        call = "hand_raised"
    elif able and expands and busy:
        call = "expansion"
    elif able and busy and tier != "low" and routing.medium == "monitor" and (came or waiting):
        call = "trigger"

    if row["checkout_state"] in ("started", "stalled") or just_bought(row, policy, as_of):
        return "never interrupt", call
    if row["open_opportunities"] > 0:
        return "open opportunity", call
    if touch is not None and as_of - touch < policy.handoff.silence_days * day:
        return "one touch", call
    if past and past["state"] in OPEN:
        return "one touch", call
    if past:
        away = as_of - past["closed_at"] < routing.cooldown_days * day
        if away or not (set(earned) - FIRMOGRAPHIC - set(past["signals"])):
            return "cooldown", call
    if not valuable:
        if pql or raised or expands:
            return "value floor", call
        return f"matrix: low value, {'engaged' if engaged else 'not engaged'}", call
    if not call:
        if not busy:
            return "matrix: high value, not engaged", call
        watched = tier == "medium" and routing.medium == "monitor" and gates["icp"] and gates["activated"]
        return "tier medium" if watched else "no PQL", call
    if before:
        hours = policy.assignment.queue_hours
        if before["action"] == "hold_capacity" and as_of - before["since"] >= timedelta(hours=hours):
            return "queue expired", call
        if before["rule"] == "queue expired" and not fresh:
            return "queue expired", call
    if any(row[field] in (None, "") for field in policy.handoff.required_context):
        return "never without context", call
    return "sales", call


def known(value: Any) -> Any:
    """A value of a frame as plain Python has it; unknown is None."""
    if value is None or value != value or str(value) in ("NaT", "<NA>"):
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    return value.to_pydatetime() if hasattr(value, "to_pydatetime") else value
