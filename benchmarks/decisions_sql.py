"""The peer of `benchmarks.decisions`: score, tier, gates and action as one SQL statement, as one would write it."""

from __future__ import annotations

from onetouch.catalogue import FIRMOGRAPHIC_SIGNALS
from onetouch.policy import Condition, Policy
from onetouch.policy.schema import Points


def statement(policy: Policy) -> str:
    """One statement for DuckDB; `$as_of` is its parameter. It knows the default policy's keys and no others."""
    gates, routing, value = policy.gates, policy.routing, policy.value
    points = {p.signal: _points(p) for p in policy.scoring.points}
    usage = [name for name in points if name not in FIRMOGRAPHIC_SIGNALS]
    news = " OR ".join(f"{name}_at > p.since" for name in routing.triggers)
    asked = " OR ".join(f"{c.signal} >= {c.at_least} AND {c.signal}_at > bought_at" for c in routing.hand_raised)
    earned = ", ".join(f"CASE WHEN {name}_points > 0 THEN '{name}' END" for name in usage)
    missing = " OR ".join(f"s.{name} IS NULL" for name in policy.handoff.required_context)
    return f"""
WITH pointed AS (
    SELECT *, {", ".join(f"{sql} AS {name}_points" for name, sql in points.items())}
    FROM signals
), scored AS (
    SELECT
        *,
        ({" + ".join(f"{name}_points" for name in points)}) / 10 AS score,
        ({" + ".join(f"{name}_points" for name in usage)}) / 10 AS usage_score,
        CASE
            WHEN usage_score >= {policy.scoring.tiers.high} THEN 'high'
            WHEN usage_score >= {policy.scoring.tiers.medium} THEN 'medium'
            ELSE 'low'
        END AS tier,
        (account_basis <> 'personal' OR domain IS NOT NULL)
            AND coalesce(employees >= {gates.icp.min_employees}, true) AS gate_icp,
        activated >= 1 AS gate_activated,
        {_all(gates.engagement)} AS gate_engagement,
        {_any(gates.intent)} AS gate_intent,
        gate_icp AND gate_activated AND gate_engagement AND gate_intent AND tier = 'high' AS pql,
        greatest(
            coalesce(arr, 0),
            {value.seat_price_year} * greatest({value.seats_within_reach} * coalesce(employees, 0), active_users)
        ) >= {value.floor} AS high_value,
        {_all(routing.engaged)} AS engaged,
        {_any(routing.hand_raised)} AS hand_raised,
        coalesce(arr > 0, false) AND {_all(routing.expansion.when)} AS expanding,
        gate_icp AND gate_activated AND tier = 'medium' AS watchable
    FROM pointed
), touched AS (
    SELECT account_id, max("at") AS touched_at FROM touches GROUP BY account_id
), known AS (
    SELECT
        s.*,
        coalesce(h.state IN ('decided', 'context_written', 'task_open', 'touched', 'replied'), false)
            OR coalesce(touched_at > $as_of::TIMESTAMPTZ - INTERVAL {policy.handoff.silence_days} DAY, false) AS held,
        coalesce(
            h.state IN ('won', 'released', 'expired', 'lost', 'withdrawn')
                AND h.closed_at > $as_of::TIMESTAMPTZ - INTERVAL {routing.cooldown_days} DAY,
            false
        ) OR (
            coalesce(h.state IN ('won', 'released', 'expired', 'lost', 'withdrawn'), false)
            AND NOT coalesce(
                len(list_filter([{earned}], lambda x: x IS NOT NULL AND NOT list_contains(h.signals, x))) > 0, false
            )
        ) AS cooling,
        coalesce(bought_at > $as_of::TIMESTAMPTZ - INTERVAL {routing.bought_days} DAY, false)
            AND NOT coalesce({asked}, false) AS just_bought,
        coalesce({news}, false) AS news,
        tier <> 'low' AND coalesce(p.action IN ('monitor', 'hold_converting'), false) AND news AS triggered,
        coalesce(
            p.action = 'hold_capacity'
                AND p.since <= $as_of::TIMESTAMPTZ - INTERVAL {policy.assignment.queue_hours} HOUR,
            false
        ) OR (coalesce(p.rule = 'queue expired', false) AND NOT news) AS stale,
        {missing} AS incomplete,
        gate_icp AND gate_activated AND gate_engagement AND high_value AS able,
        (pql AND engaged AND high_value)
            OR (able AND (hand_raised OR (engaged AND (expanding OR triggered)))) AS called
    FROM scored AS s
    LEFT JOIN handoffs AS h USING (account_id)
    LEFT JOIN touched USING (account_id)
    LEFT JOIN previous AS p USING (account_id)
)
SELECT
    account_id, score, tier, gate_icp, gate_activated, gate_engagement, gate_intent, pql,
    CASE
        WHEN checkout_state IN ('started', 'stalled') OR just_bought THEN 'hold_converting'
        WHEN open_opportunities > 0 THEN 'hold_open_opportunity'
        WHEN held THEN 'hold_touched'
        WHEN cooling THEN 'hold_cooldown'
        WHEN (pql OR hand_raised OR expanding) AND NOT high_value THEN 'below_floor'
        WHEN NOT high_value AND engaged THEN 'self_serve_hero'
        WHEN NOT high_value THEN 'self_serve_onboarding'
        WHEN NOT called AND NOT engaged THEN 'nurture'
        WHEN NOT called AND watchable THEN 'monitor'
        WHEN NOT called THEN 'nurture'
        WHEN stale THEN 'nurture'
        WHEN incomplete THEN 'hold_context'
        ELSE 'sales'
    END AS action
FROM known
"""


def _points(rule: Points) -> str:
    """Tenths of points."""
    share = "1e0" if rule.full_at is None else f"least({rule.signal} / {rule.full_at}, 1e0)"
    if rule.half_life_days is not None:
        days = f"floor(epoch($as_of::TIMESTAMPTZ - {rule.signal}_at) / 86400)"
        share += f" * pow(0.5, {days} / {rule.half_life_days})"
    points = f"round_even({share} * {rule.points} * 10, 0)"
    return f"CASE WHEN {rule.signal} >= {rule.at_least} THEN {points} ELSE 0 END"


def _one(condition: Condition) -> str:
    return f"coalesce({condition.signal} >= {condition.at_least}, false)"


def _all(conditions: list[Condition]) -> str:
    return "(" + " AND ".join(_one(c) for c in conditions) + ")"


def _any(conditions: list[Condition]) -> str:
    return "(" + " OR ".join(_one(c) for c in conditions) + ")"
