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
    "matrix: low value, not engaged", "matrix: high value, not engaged", "stale intent", "tier medium", "no PQL",
    "friction",
    "queue expired", "never without context",
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


def deal_closed(row: Row, past: Row | None, policy: Policy, as_of: datetime) -> bool:
    """A deal closed lately that ended no handoff of ours, and nobody has asked for a person since."""
    at, days = row["deal_closed_at"], policy.routing.deal_closed_days
    if at is None or days is None or as_of - at >= timedelta(days=days):
        return False
    if past and past.get("rest_state") in ("won", "lost") and at <= past["rest_at"]:
        return False
    asked = moments_of(row, policy.routing.hand_raised)
    return not (policy.routing.returns.hand_raise and any(moment > at for moment in asked))


def moments_of(row: Row, conditions: list[Any]) -> list[datetime]:
    """When what the conditions name last happened, of those that hold and happen at a moment."""
    found = [row.get(f"{c.signal}_at") for c in conditions if holds(row, c) and c.signal not in FIRMOGRAPHIC]
    return [at for at in found if at is not None]


def near_a_limit(row: Row, policy: Policy) -> bool:
    return any(holds(row, c) for c in policy.gates.intent if c.signal.startswith("limit_"))


def is_fresh(row: Row, conditions: list[Any], policy: Policy, as_of: datetime) -> bool:
    """Whether one of the conditions holds for something that happened lately."""
    hours = policy.routing.fresh_intent_hours
    for condition in conditions:
        patience = policy.signals.checkout_abandoned_hours if condition.signal == "checkouts_abandoned" else 0
        if any(as_of - at < timedelta(hours=hours + patience) for at in moments_of(row, [condition])):
            return True
    return False


def until(past: Row, policy: Policy) -> datetime:
    """Until when an account rests from its handoffs."""
    returns, cooldown = policy.routing.returns, policy.routing.cooldown_days

    def days(state: str, otherwise: int | None) -> timedelta:
        said = {"won": returns.won_days, "lost": returns.lost_days}.get(state, otherwise)
        return timedelta(days=cooldown if said is None else said)

    rests = [past["closed_at"] + days(past["state"], returns.untouched_days)]
    if past.get("rest_at"):
        rests.append(past["rest_at"] + days(past["rest_state"], None))
    return max(rests)


def asked_since(row: Row, past: Row | None, touch: datetime | None, policy: Policy) -> bool:
    """Whether somebody has asked for a person since the last handoff ended and since the last touch."""
    since = [at for at in (touch, *([past["closed_at"], past.get("rest_at")] if past else [])) if at is not None]
    asked = moments_of(row, policy.routing.hand_raised)
    return policy.routing.returns.hand_raise and any(at > max(since) for at in asked) if since else False


def something_new(row: Row, past: Row, earned: dict[str, int], asked: bool, policy: Policy) -> bool:
    """Whether something has happened that brings the account back after its handoff."""
    if policy.routing.returns.new == "signal":
        return bool(set(earned) - FIRMOGRAPHIC - set(past["signals"]))
    over = max(at for at in (past["closed_at"], past.get("rest_at")) if at is not None)
    intent = moments_of(row, [*policy.gates.intent, *policy.routing.hand_raised])
    intent += [row[f"{name}_at"] for name in policy.routing.triggers if (row[name] or 0) >= 1]
    crossed = near_a_limit(row, policy) and row["limit_near_at"] is not None and row["limit_near_at"] > over
    grown = past.get("rest_state") == "won" and row["limit_read_at"] is not None and row["limit_read_at"] > over
    for condition in policy.routing.expansion.when if grown else []:
        if condition.signal == "limit_held_days":
            held = min((row["limit_read_at"] - over).days + 1, row["limit_held_days"] or 0)
            grown &= held >= condition.at_least
        else:
            grown &= holds(row, condition)
    untouched = past.get("rest_at") is None or past["rest_at"] < past["closed_at"]
    deleted = (past.get("reason") or "").startswith("task deleted")
    free = past["state"] == "withdrawn" and untouched and not deleted
    return asked or crossed or grown or free or any(at is not None and at > over for at in intent)


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
    waiting = (
        bool(before)
        and before["action"] in ("hold_capacity", "hold_context", "hold_refused")
        and before["call"] == "trigger"
    )
    came = fresh and before["action"] in ("monitor", "hold_converting")
    able = gates["icp"] and gates["activated"] and gates["engagement"] and valuable
    shown = asked = in_time = True
    if routing.fresh_intent_hours is not None:
        asked = is_fresh(row, routing.hand_raised, policy, as_of)
        shown = asked or is_fresh(row, policy.gates.intent, policy, as_of) or near_a_limit(row, policy)
        events = [at for at in moments if before and at is not None and at > before["since"]]
        events += [before["trigger_at"]] if waiting else []
        in_time = any(as_of - at < timedelta(hours=routing.fresh_intent_hours) for at in events)
    call = ""
    if pql and busy and valuable and shown:
        call = "pql"
    elif able and raised and asked:
        call = "hand_raised"
    elif able and expands and busy:
        call = "expansion"
    elif able and busy and tier != "low" and routing.medium == "monitor" and (came or waiting) and in_time:
        call = "trigger"
    stale = (pql and busy and not shown) or (able and raised and not asked)
    stale |= able and busy and tier != "low" and routing.medium == "monitor" and (came or waiting) and not in_time

    if row["checkout_state"] in ("started", "stalled") or just_bought(row, policy, as_of):
        return "never interrupt", call
    if row["open_opportunities"] > 0 or deal_closed(row, past, policy, as_of):
        return "open opportunity", call
    answered = not asked_since(row, None, touch, policy)
    if touch is not None and as_of - touch < policy.handoff.silence_days * day and answered:
        return "one touch", call
    if past and past["state"] in OPEN:
        return "one touch", call
    if past:
        again = asked_since(row, past, touch, policy)
        if (until(past, policy) > as_of and not again) or not something_new(row, past, earned, again, policy):
            return "cooldown", call
    if not valuable:
        if pql or raised or expands:
            return "value floor", call
        return f"matrix: low value, {'engaged' if engaged else 'not engaged'}", call
    if not call:
        if not busy:
            return "matrix: high value, not engaged", call
        if stale:
            return "stale intent", call
        watched = tier == "medium" and routing.medium == "monitor" and gates["icp"] and gates["activated"]
        return "tier medium" if watched else "no PQL", call
    friction = routing.rules.get("friction")
    if friction and (row["arr"] or 0) > 0 and not (raised and asked):
        piles_up = any((row[c["signal"]] or 0) >= c["at_least"] for c in friction["when"])
        if piles_up or (friction["falling"] and row.get("trend") == "declining"):
            return "friction", call
    if before:
        hours = policy.assignment.queue_hours
        if before["action"] == "hold_capacity" and as_of - before["since"] >= timedelta(hours=hours):
            return "queue expired", call
        if before["rule"] == "queue expired" and not fresh:
            return "queue expired", call
    if any(row[field] in (None, "") for field in policy.handoff.required_context):
        return "never without context", call
    if past and is_refused(past, policy, as_of):
        return "refused", call
    return "sales", call


def is_refused(past: dict[str, Any], policy: Policy, as_of: datetime) -> bool:
    """Whether the CRM has refused the account's task lately, and not because of its owner."""
    hours, at = policy.delivery.offer_again_hours, known(past.get("refused_at"))
    return (
        hours is not None
        and at is not None
        and as_of - at < timedelta(hours=hours)
        and past["reason"].startswith("refused:")
    )


def known(value: Any) -> Any:
    """A value of a frame as plain Python has it; unknown is None."""
    if value is None or value != value or str(value) in ("NaT", "<NA>"):
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    return value.to_pydatetime() if hasattr(value, "to_pydatetime") else value
