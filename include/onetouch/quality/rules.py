"""The rules of engagement said once more, in the engine: a check must not take the word of what it checks.

Conditions are over `s`, the columns of the account's signals, and `d`, those of its decision; unknown never holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from onetouch.policy import Condition, Policy

if TYPE_CHECKING:
    import ibis.expr.types as ir

Columns = Mapping[str, Any]
"""Columns of a table by their names, as Ibis values."""


def signals_needed(policy: Policy) -> list[str]:
    """Columns of the signals that these conditions look at."""
    routing = policy.routing
    conditions = [*policy.gates.engagement, *routing.hand_raised, *routing.expansion.when]
    return [
        "account_id", "account_basis", "domain", "employees", "industry", "arr", "activated", "checkout_state",
        "open_opportunities", *policy.handoff.required_context, *(c.signal for c in conditions),
    ]  # fmt: skip


def converting(s: Columns) -> ir.BooleanValue:
    """An upgrade in progress, or a deal in somebody's hands."""
    return _known(s["checkout_state"].isin(["started", "stalled"]) | (s["open_opportunities"] > 0))


def missing_context(s: Columns, policy: Policy) -> ir.BooleanValue:
    """A field that a rep must be given is not known."""
    import ibis

    return ibis.or_(*(s[name].isnull() for name in policy.handoff.required_context))


def gates_open(s: Columns, policy: Policy) -> ir.BooleanValue:
    """Fits the ICP, activated and engaged: what no call for a person buys off."""
    import ibis

    icp = policy.gates.icp
    wanted = [s["activated"] >= 1, *(_holds(s, condition) for condition in policy.gates.engagement)]
    if icp.organisation:
        wanted.append((s["account_basis"] != "personal") | s["domain"].notnull())
    # Unknown excludes nobody here.
    if icp.min_employees is not None:
        wanted.append((s["employees"] >= icp.min_employees).fill_null(True))
    if icp.max_employees is not None:
        wanted.append((s["employees"] <= icp.max_employees).fill_null(True))
    if icp.industries:
        wanted.append(s["industry"].lower().isin([name.lower() for name in icp.industries]).fill_null(True))
    if icp.excluded_industries:
        wanted.append(s["industry"].lower().notin([name.lower() for name in icp.excluded_industries]).fill_null(True))
    return _known(ibis.and_(*wanted))


def called_for(d: Columns, s: Columns, policy: Policy) -> ir.BooleanValue:
    """The call the decision names is there: the score's, the account's own wish, a plan outgrown, or an event."""
    import ibis

    raised = ibis.or_(*(_holds(s, condition) for condition in policy.routing.hand_raised))
    outgrown = ibis.and_(s["arr"] > 0, *(_holds(s, condition) for condition in policy.routing.expansion.when))
    happened = (d["tier"] != "low") & (d["trigger_at"] <= d["as_of"])
    call = d["call"]
    return _known(
        ibis.cases(
            (call == "pql", d["pql"]),
            (call == "hand_raised", raised),
            (call == "expansion", outgrown),
            (call == "trigger", happened),
        )
    )


def _holds(s: Columns, condition: Condition) -> ir.BooleanValue:
    import ibis

    return s[condition.signal] >= ibis.literal(float(condition.at_least))


def _known(condition: ir.BooleanValue) -> ir.BooleanValue:
    """Unknown does not hold."""
    return condition.fill_null(False)
