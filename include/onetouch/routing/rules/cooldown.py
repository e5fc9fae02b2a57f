"""Cooldown: after a handoff has ended, sales stays away for a while, and then until something new happens.

Something is new when a usage signal earns points now that earned none at the handoff.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from onetouch.catalogue import FIRMOGRAPHIC_SIGNALS, HOLD_COOLDOWN, SIGNAL_NAMES
from onetouch.columns import Mask, age_days, moments, number, places, truth, utc
from onetouch.ledger import ACTIVE, TERMINAL
from onetouch.policy import Part, Policy
from onetouch.routing.inputs import Inputs
from onetouch.routing.rule import Facts, Figures, Known, Obstacle, Rule
from onetouch.routing.wording import ago, day, figure, obstacles_of
from onetouch.scoring import REASONS


def _columns(facts: Facts, inputs: Inputs, policy: Policy, as_of: datetime) -> Mapping[str, Any]:
    closed = facts["handoff_state"].isin(TERMINAL).to_numpy(bool)
    going_on = facts["handoff_state"].isin(ACTIVE).to_numpy(bool)
    since = utc(as_of - timedelta(days=policy.routing.cooldown_days))
    nothing_new = ~_something_new(facts, inputs.handoffs, closed | going_on)
    return {
        "cooling": closed & (moments(facts, "handoff_closed_at") > since),
        "nothing_new": closed & nothing_new,
        "nothing_new_yet": going_on & nothing_new,
        "days_since_handoff": age_days(facts, "handoff_closed_at", as_of),
    }


def _something_new(facts: Facts, handoffs: pd.DataFrame, given: Mask) -> Mask:
    """Whether a usage signal earns points now that earned none at the handoff; false where there is none `given`."""
    rows = np.flatnonzero(given)
    now = pa.array(facts["reasons"], REASONS).take(pa.array(rows))
    at = places(facts["account_id"].iloc[rows], handoffs["account_id"])
    then = pa.array(handoffs["signals"], pa.list_(pa.string())).take(pa.array(at))
    new = _named(now, "signal") & ~_named(then)
    new[:, [SIGNAL_NAMES.index(name) for name in FIRMOGRAPHIC_SIGNALS]] = False
    something = np.zeros(len(facts), dtype=bool)
    something[rows] = new.any(axis=1)
    return something


def _named(lists: pa.ListArray | pa.ChunkedArray, field: str | None = None) -> Mask:
    """Whether each list (row) contains each name of SIGNAL_NAMES (column)."""
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.combine_chunks()
    each = pc.list_flatten(lists)
    names = each if field is None else each.field(field)
    column = pc.index_in(names, value_set=pa.array(SIGNAL_NAMES)).fill_null(-1).to_numpy(zero_copy_only=False)
    row = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    named = np.zeros((len(lists), len(SIGNAL_NAMES)), dtype=bool)
    known = column >= 0
    named[row[known], column[known]] = True
    return named


def _applies(facts: Facts, policy: Policy) -> Mask:
    return truth(facts, "cooling") | truth(facts, "nothing_new")


def _why(known: Known, policy: Policy) -> str:
    since = f"its last handoff ended {day(known['handoff']['closed_at'])} ({known['handoff']['state']})"
    return since if "cooldown" in obstacles_of(known) else f"{since}, and nothing is new since"


def _why_not(known: Known, policy: Policy) -> str:
    past = known["handoff"]
    if past is None:
        return "never handed over"
    new = [r["signal"] for r in known["reasons"] if r["signal"] not in (past["signals"] or [])]
    since = f"its last handoff ended {day(past['closed_at'])}"
    return f"{since}; new since: {', '.join(new[:2])}" if new else since


def _obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterator[Obstacle]:
    # A handoff that still goes on is followed by the cooldown: it has passed none of its days.
    days = np.floor(number(facts, "days_since_handoff"))
    yield Obstacle(
        "cooldown", truth(facts, "cooling") | truth(facts, "handed_over"), days, policy.routing.cooldown_days
    )
    yield Obstacle("new_signal", truth(facts, "nothing_new") | truth(facts, "nothing_new_yet"))


def _cooldown(figures: Figures, policy: Policy) -> str:
    if figures.has is None:
        return f"After that, {figure(figures.needs)} days have to pass."
    return f"{figure(figures.needs)} days have to pass since its last handoff ended; that was {ago(figures.has)}."


def _new_signal(figures: Figures, policy: Policy) -> str:
    return "A signal has to appear that was not there at its last handoff."


RULE = Rule[Part](
    name="cooldown",
    action=HOLD_COOLDOWN,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    columns=_columns,
    obstacles=_obstacles,
    sentences={"cooldown": _cooldown, "new_signal": _new_signal},
    reads=("routing.cooldown_days",),
    checked_again="whether a handoff of another account that is the same record of the CRM has ended lately",
)
