"""A second implementation of the rules of engagement, in the engine, so that the check is independent of `routing`.

Conditions use `s`, the columns of the account's signals, and `d`, the columns of its decision. A condition on an
unknown value does not hold.
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
    """Columns of the signals that these conditions read."""
    routing = policy.routing
    conditions = [*policy.gates.engagement, *routing.hand_raised, *routing.expansion.when]
    return [
        "account_id", "account_basis", "domain", "employees", "industry", "arr", "activated", "checkout_state",
        "open_opportunities", *policy.handoff.required_context, *(c.signal for c in conditions),
    ]  # fmt: skip


def converting(s: Columns) -> ir.BooleanValue:
    """Whether a self-serve upgrade is in progress or an opportunity is open."""
    return _known(s["checkout_state"].isin(["started", "stalled"]) | (s["open_opportunities"] > 0))


def missing_context(s: Columns, policy: Policy) -> ir.BooleanValue:
    """Whether a field that the policy requires for a rep is unknown."""
    import ibis

    return ibis.or_(*(s[name].isnull() for name in policy.handoff.required_context))


def gates_open(s: Columns, policy: Policy) -> ir.BooleanValue:
    """Whether the account fits the ICP, is activated and engaged: every contact reason requires these gates."""
    import ibis

    icp = policy.gates.icp
    wanted = [s["activated"] >= 1, *(_holds(s, condition) for condition in policy.gates.engagement)]
    if icp.organisation:
        wanted.append((s["account_basis"] != "personal") | s["domain"].notnull())
    # An unknown value excludes no account here.
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
    """Whether the contact reason in the decision's `call` exists: PQL, hand raised, expansion or trigger."""
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
    """The condition, false where it is unknown."""
    return condition.fill_null(False)
