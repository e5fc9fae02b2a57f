"""Refused: the CRM did not take the account's task, so it is offered again a day later, decided and written anew.

Once the cause is mended nobody has to wait: `onetouch outbox retry` makes the next run decide. What the CRM refused for
the rep who was to own it does not wait either: for a day that rep gets no new task, and the account goes to another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from onetouch.catalogue import HOLD_REFUSED
from onetouch.columns import Mask, age_days, moments, number, truth, utc
from onetouch.ledger import OWNER_REFUSED
from onetouch.policy import Part, Policy
from onetouch.routing.inputs import Inputs
from onetouch.routing.rule import Facts, Figures, Known, Obstacle, Rule
from onetouch.routing.wording import figure

_HOURS = 24.0


def _columns(facts: Facts, inputs: Inputs, policy: Policy, as_of: datetime) -> Mapping[str, Any]:
    refused = _lately(facts, "handoff_refused_at", policy, as_of) & ~_for_its_owner(facts["handoff_reason"])
    return {"refused": refused, "refused_hours": np.floor(age_days(facts, "handoff_refused_at", as_of) * _HOURS)}


def refused_owners(inputs: Inputs, policy: Policy, as_of: datetime) -> set[str]:
    """The reps (e-mail in lower case) as whose tasks the CRM has lately refused one: they get no new ones for now."""
    handoffs = inputs.handoffs
    if policy.delivery.offer_again_hours is None or "refused_at" not in handoffs:
        return set()
    theirs = _lately(handoffs, "refused_at", policy, as_of) & _for_its_owner(handoffs["reason"])
    return set(handoffs.loc[theirs, "owner_email"].dropna().str.lower())


def _lately(frame: pd.DataFrame, column: str, policy: Policy, as_of: datetime) -> Mask:
    hours = policy.delivery.offer_again_hours
    if hours is None:
        return np.zeros(len(frame), dtype=bool)
    lately: Mask = moments(frame, column) > utc(as_of - timedelta(hours=hours))
    return lately


def _for_its_owner(reasons: pd.Series) -> Mask:
    found: Mask = reasons.astype("str").str.startswith(f"{OWNER_REFUSED}:").eq(True).to_numpy(bool)
    return found


def _applies(facts: Facts, policy: Policy) -> Mask:
    return truth(facts, "refused")


def _why(known: Known, policy: Policy) -> str:
    return f"the CRM did not take its task ({known['handoff']['reason']})"


def _why_not(known: Known, policy: Policy) -> str:
    return f"the CRM has refused no task of it in the last {policy.delivery.offer_again_hours} hours"


def _obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterator[Obstacle]:
    hours = policy.delivery.offer_again_hours
    yield Obstacle("refused", truth(facts, "refused"), number(facts, "refused_hours"), hours and float(hours))


def _refused(figures: Figures, policy: Policy) -> str:
    return (
        f"The CRM refused its task {figure(figures.has)} hours ago; it is offered again after {figure(figures.needs)} "
        "hours, or at once when somebody has mended the cause (onetouch outbox, onetouch outbox retry)."
    )


RULE = Rule[Part](
    name="refused",
    action=HOLD_REFUSED,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    columns=_columns,
    obstacles=_obstacles,
    sentences={"refused": _refused},
    under=lambda policy: policy.delivery.offer_again_hours is not None,
    reads=("delivery.offer_again_hours",),
)
