"""Open opportunity: a colleague is already talking to the account about a deal, or a deal there has just closed.

Once a deal is won or lost, the account is left alone for `routing.deal_closed_days`, unless somebody there asks for a
person later than that: whoever has just talked to one of us is not called by another. What the deal of a handoff of
ours means for its account is in `routing.returns` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from onetouch.catalogue import HOLD_OPEN_OPPORTUNITY
from onetouch.columns import Mask, age_days, moments, number, truth, utc
from onetouch.policy import Part, Policy
from onetouch.routing import intent
from onetouch.routing.inputs import Inputs
from onetouch.routing.rule import Facts, Figures, Known, Obstacle, Rule
from onetouch.routing.wording import ago, day, figure, obstacles_of

_CLOSED = "deal_closed"
"""Name of the obstacle that a deal has closed lately."""


def _columns(facts: Facts, inputs: Inputs, policy: Policy, as_of: datetime) -> Mapping[str, Any]:
    days = policy.routing.deal_closed_days
    if days is None:
        return {"deal_just_closed": False, "days_since_deal": np.nan}
    closed_at = moments(facts, "deal_closed_at")
    lately = closed_at > utc(as_of - timedelta(days=days))
    by_deal = facts["handoff_rest_state"].isin(["won", "lost"]).to_numpy(bool)
    own = by_deal & (closed_at <= moments(facts, "handoff_rest_at"))
    asked_since = intent.asked_at(facts, policy) > closed_at
    return {
        "deal_just_closed": lately & ~own & ~(asked_since & policy.routing.returns.hand_raise),
        "days_since_deal": age_days(facts, "deal_closed_at", as_of),
    }


def _is_open(facts: Facts) -> Mask:
    return number(facts, "open_opportunities") > 0


def _applies(facts: Facts, policy: Policy) -> Mask:
    return _is_open(facts) | truth(facts, "deal_just_closed")


def _why(known: Known, policy: Policy) -> str:
    obstacles = obstacles_of(known)
    if _CLOSED in obstacles and "open_opportunity" not in obstacles:
        return f"a colleague's deal there closed {ago(obstacles[_CLOSED])}"
    return "a colleague has an open opportunity there"


def _why_not(known: Known, policy: Policy) -> str:
    at = known.get("deal_closed_at")
    if policy.routing.deal_closed_days is None or at is None:
        return "no open opportunity"
    return f"no open opportunity; its last deal closed {day(at)}"


def _obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterator[Obstacle]:
    yield Obstacle("open_opportunity", _is_open(facts))
    days = np.floor(number(facts, "days_since_deal"))
    yield Obstacle(_CLOSED, truth(facts, "deal_just_closed"), days, policy.routing.deal_closed_days)


def _open_opportunity(figures: Figures, policy: Policy) -> str:
    return "Its open opportunity has to be closed: a colleague is talking to it already."


def _deal_closed(figures: Figures, policy: Policy) -> str:
    asks = " or ".join(c.signal for c in policy.routing.hand_raised) if policy.routing.returns.hand_raise else ""
    sooner = f" Or it has to ask for a person: {asks}." if asks else ""
    return f"{figure(figures.needs)} days have to pass since a deal there closed; that was {ago(figures.has)}.{sooner}"


RULE = Rule[Part](
    name="open opportunity",
    action=HOLD_OPEN_OPPORTUNITY,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    columns=_columns,
    obstacles=_obstacles,
    sentences={"open_opportunity": _open_opportunity, _CLOSED: _deal_closed},
    reads=("routing.deal_closed_days", "routing.returns", "routing.hand_raised"),
    checked_again="whether an opportunity was opened since the run read the CRM",
)
