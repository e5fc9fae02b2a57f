"""The rules of engagement said once more, as DuckDB SQL: a check must not take the word of what it checks.

Conditions are over `s`, the account's row of the signals, and `d`, its decision; unknown never holds.
"""

from __future__ import annotations

from collections.abc import Iterable

from onetouch.policy import Policy
from onetouch.policy.schema import Condition


def signals_needed(policy: Policy) -> list[str]:
    """Columns of the signals that these conditions look at."""
    routing = policy.routing
    conditions = [*policy.gates.engagement, *routing.hand_raised, *routing.expansion.when]
    return [
        "account_id", "account_basis", "domain", "employees", "industry", "arr", "activated", "checkout_state",
        "open_opportunities", *policy.handoff.required_context, *(c.signal for c in conditions),
    ]  # fmt: skip


def converting() -> str:
    """An upgrade in progress, or a deal in somebody's hands."""
    return "coalesce(s.checkout_state IN ('started', 'stalled') OR s.open_opportunities > 0, false)"


def missing_context(policy: Policy) -> str:
    """A field that a rep must be given is not known."""
    return " OR ".join(f's."{name}" IS NULL' for name in policy.handoff.required_context)


def gates_open(policy: Policy) -> str:
    """Fits the ICP, activated and engaged: what no call for a person buys off."""
    icp = policy.gates.icp
    wanted = ["s.activated >= 1", *map(_holds, policy.gates.engagement)]
    if icp.organisation:
        wanted.append("(s.account_basis <> 'personal' OR s.domain IS NOT NULL)")
    # Unknown excludes nobody here.
    if icp.min_employees is not None:
        wanted.append(f"coalesce(s.employees >= {icp.min_employees}, true)")
    if icp.max_employees is not None:
        wanted.append(f"coalesce(s.employees <= {icp.max_employees}, true)")
    if icp.industries:
        wanted.append(f"coalesce(lower(s.industry) IN ({_texts(icp.industries)}), true)")
    if icp.excluded_industries:
        wanted.append(f"coalesce(lower(s.industry) NOT IN ({_texts(icp.excluded_industries)}), true)")
    return f"coalesce({' AND '.join(wanted)}, false)"


def called_for(policy: Policy) -> str:
    """The call the decision names is there: the score's, the account's own wish, a plan outgrown, or an event."""
    raised = " OR ".join(map(_holds, policy.routing.hand_raised)) or "false"
    outgrown = " AND ".join(["s.arr > 0", *map(_holds, policy.routing.expansion.when)])
    return f"""coalesce(CASE d.call
        WHEN 'pql' THEN d.pql
        WHEN 'hand_raised' THEN {raised}
        WHEN 'expansion' THEN {outgrown}
        WHEN 'trigger' THEN d.tier <> 'low' AND d.trigger_at <= d.as_of
    END, false)"""


def _holds(condition: Condition) -> str:
    return f"s.\"{condition.signal}\" >= '{condition.at_least!r}'::DOUBLE"


def _texts(values: Iterable[str]) -> str:
    return ", ".join("'" + value.lower().replace("'", "''") + "'" for value in values)
