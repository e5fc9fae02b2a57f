"""Never without context: no task before the account's record holds every field the policy requires for a rep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

import numpy as np
import pandas as pd

from onetouch.catalogue import HOLD_CONTEXT
from onetouch.columns import Mask, truth
from onetouch.policy import Part, Policy
from onetouch.routing.inputs import Inputs
from onetouch.routing.rule import Facts, Figures, Known, Obstacle, Rule
from onetouch.routing.wording import obstacles_of

_CONTEXT = "context"
"""Name of the obstacle that a field of the account's record is missing; its detail is the field."""


def _columns(facts: Facts, inputs: Inputs, policy: Policy, as_of: datetime) -> Mapping[str, Mask]:
    return {"incomplete": np.logical_or.reduce([_absent(facts, f) for f in policy.handoff.required_context])}


def _absent(facts: Facts, field: str) -> Mask:
    """Whether the field is null or an empty text. Raises ValueError when there is no such column."""
    if field not in facts:
        raise ValueError(f"handoff.required_context: {field}: no such column of signals")
    column = facts[field]
    missing = column.isna().to_numpy(bool)
    if pd.api.types.is_string_dtype(column.dtype):
        missing = missing | column.eq("").to_numpy(dtype=bool, na_value=True)
    return missing


def _applies(facts: Facts, policy: Policy) -> Mask:
    return truth(facts, "incomplete")


def _why(known: Known, policy: Policy) -> str:
    found = [name.partition(":") for name in obstacles_of(known)]
    return f"its record lacks {', '.join(field for kind, _, field in found if kind == _CONTEXT)}"


def _why_not(known: Known, policy: Policy) -> str:
    return "all a rep must know is on its record"


def _obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterator[Obstacle]:
    for field in policy.handoff.required_context:
        yield Obstacle(f"{_CONTEXT}:{field}", _absent(facts, field))


def _context(figures: Figures, policy: Policy) -> str:
    return f"The account record has to be completed; missing: {figures.detail}."


RULE = Rule[Part](
    name="never without context",
    action=HOLD_CONTEXT,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    columns=_columns,
    obstacles=_obstacles,
    sentences={_CONTEXT: _context},
    reads=("handoff.required_context",),
    checked_again="whether the context is complete; and the account's fields are written before its task",
)
