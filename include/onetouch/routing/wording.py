"""The format of figures, days and conditions in `explain` and in the sentences of obstacles."""

from __future__ import annotations

import math
from collections.abc import Iterable

from onetouch.policy import Condition, Policy
from onetouch.routing.rule import Known


def figure(value: float | None) -> str:
    """ "1,200.5", or "unknown"."""
    return "unknown" if value is None or math.isnan(value) else f"{value:,.10g}"


def dollars(value: float | None) -> str:
    """ "$9,600", or "unknown"."""
    return "unknown" if value is None or math.isnan(value) else f"${value:,.0f}"


def ago(days: float | None) -> str:
    """ "3 days ago", or "an unknown time ago"."""
    return "an unknown time ago" if days is None or math.isnan(days) else f"{days:g} days ago"


def day(moment: str | None) -> str:
    """The date of a moment in ISO 8601."""
    return "at an unknown time" if moment is None else moment[:10]


def figures(known: Known, conditions: Iterable[Condition]) -> str:
    """ "active_days 14, users 3": the account's values of the signals in the conditions."""
    return ", ".join(f"{c.signal} {figure(known.get(c.signal))}" for c in conditions)


def short_of(known: Known, conditions: Iterable[Condition]) -> str:
    """ "active_days 3 of 10": the conditions that the account does not meet."""
    short = [c for c in conditions if known.get(c.signal) is None or known[c.signal] < c.at_least]
    return ", ".join(f"{c.signal} {figure(known.get(c.signal))} of {c.at_least:g}" for c in short)


def worth(known: Known) -> str:
    """ "worth $9,600"."""
    return f"worth {dollars(known['potential_arr'])}"


def under_the_floor(known: Known, policy: Policy) -> str:
    """ "worth $1,200, under the floor of $5,000"."""
    return f"{worth(known)}, under the floor of {dollars(policy.value.floor)}"


def obstacles_of(known: Known) -> dict[str, float | None]:
    """The account's obstacles, each with the figure the account has."""
    return {o["obstacle"]: o["has"] for o in known["would_change"]}


def triggers(policy: Policy) -> str:
    """The policy's trigger events as a phrase."""
    return " or ".join(policy.routing.triggers) or "the policy names none"
