"""What stands between an account and a sales touch, each obstacle with the figure it has and the one it needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from onetouch.lake.columns import Numbers, number
from onetouch.policy import Condition, Policy
from onetouch.routing.rules import PLACES
from onetouch.routing.sentences import CONTEXT
from onetouch.scoring.gates import holds

Mask = npt.NDArray[np.bool_]

WOULD_CHANGE = pa.list_(pa.struct([("obstacle", pa.string()), ("has", pa.float64()), ("needs", pa.float64())]))
"""Type of `would_change`: every obstacle of the account, none for a sales touch (`sentences` puts them into words)."""


ROWS = 65_536
"""Accounts looked at at a time: their memory is used again for the next ones."""


class Obstacle(NamedTuple):
    """Where it stands in the way; `has` and `needs` a column, one figure for all, or None where none tells."""

    name: str
    stands: Mask
    has: Numbers | float | None = None
    needs: Numbers | float | None = None


def would_change(facts: pd.DataFrame, place: npt.NDArray[np.int64], policy: Policy) -> pa.ChunkedArray:
    """The obstacles of each account whose rule of RULES is at `place`, as WOULD_CHANGE, without visiting rows."""
    starts = range(0, len(facts), ROWS)
    return pa.chunked_array(
        [_lists(facts.iloc[at : at + ROWS], place[at : at + ROWS], policy) for at in starts], WOULD_CHANGE
    )


def _lists(facts: pd.DataFrame, place: npt.NDArray[np.int64], policy: Policy) -> pa.ListArray:
    found = list(obstacles(facts, place, policy))
    counts = np.zeros(len(facts) + 1, dtype=np.int64)
    for obstacle in found:
        counts[1:] += obstacle.stands
    offsets = np.cumsum(counts)
    names = np.empty(offsets[-1], dtype=np.int32)
    has, needs = np.full(offsets[-1], np.nan), np.full(offsets[-1], np.nan)
    following = offsets[:-1].copy()
    for kind, obstacle in enumerate(found):
        rows = np.flatnonzero(obstacle.stands)
        at = following[rows]
        names[at] = kind
        for figures, given in ((has, obstacle.has), (needs, obstacle.needs)):
            if given is not None:
                figures[at] = given[rows] if isinstance(given, np.ndarray) else given
        following[rows] += 1
    words = pa.DictionaryArray.from_arrays(pa.array(names), pa.array([o.name for o in found], pa.string()))
    each = pa.StructArray.from_arrays(
        [words.dictionary_decode(), pa.array(has, from_pandas=True), pa.array(needs, from_pandas=True)],
        fields=list(WOULD_CHANGE.value_type),
    )
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), each)


def obstacles(facts: pd.DataFrame, place: npt.NDArray[np.int64], policy: Policy) -> Iterator[Obstacle]:
    """Every obstacle there is, in the order they are told."""
    yield from _held(facts, policy)
    yield Obstacle("potential_arr", ~_bool(facts, "high_value"), number(facts, "potential_arr"), policy.value.floor)
    yield from _uncalled(facts, policy)
    yield Obstacle("trigger", (place == PLACES["tier medium"]) & bool(policy.routing.triggers))
    yield Obstacle("queue", _bool(facts, "stale"))
    for field in policy.handoff.required_context:
        yield Obstacle(CONTEXT + field, absent(facts, field))
    full = place == PLACES["capacity"]
    for what in ("room", "return", "rep"):
        yield Obstacle(what, full & facts["waits_for"].eq(what).to_numpy(bool))


def absent(frame: pd.DataFrame, field: str) -> Mask:
    """Whether the field is null, or a text that is empty. Raises ValueError when there is no such column."""
    if field not in frame:
        raise ValueError(f"handoff.required_context: {field}: no such column of signals")
    column = frame[field]
    missing = column.isna().to_numpy(bool)
    if pd.api.types.is_string_dtype(column.dtype):
        missing = missing | column.eq("").to_numpy(dtype=bool, na_value=True)
    return missing


def _bool(facts: pd.DataFrame, column: str) -> Mask:
    return facts[column].to_numpy(bool)


def _held(facts: pd.DataFrame, policy: Policy) -> Iterator[Obstacle]:
    """Who may not be interrupted now, whatever the account is worth."""
    yield Obstacle("holdout", _bool(facts, "holdout"))
    yield Obstacle("checkout", _bool(facts, "converting"))
    yield Obstacle("open_opportunity", _bool(facts, "open_opportunity"))
    yield Obstacle("handoff", _bool(facts, "handed_over"))
    yield Obstacle(
        "recent_touch",
        _bool(facts, "touched"),
        np.floor(number(facts, "days_since_touch")),
        policy.handoff.silence_days,
    )
    yield Obstacle(
        "cooldown",
        _bool(facts, "cooling"),
        np.floor(number(facts, "days_since_handoff")),
        policy.routing.cooldown_days,
    )
    yield Obstacle("new_signal", _bool(facts, "nothing_new"))


def _uncalled(facts: pd.DataFrame, policy: Policy) -> Iterator[Obstacle]:
    """What an account lacks to be called for; who has asked for a person or expands is asked for less than a PQL."""
    gates = policy.gates
    no_case = facts["case"].eq("").to_numpy(bool)
    matrix = no_case & ~_bool(facts, "hand_raised") & ~_bool(facts, "engaged_enough")
    pql = no_case & ~(_bool(facts, "hand_raised") | _bool(facts, "expanding") | _bool(facts, "triggered"))
    yield Obstacle("icp", ~_bool(facts, "gate_icp"))
    yield Obstacle("activation", ~_bool(facts, "gate_activated"))
    asked = _asked([(c, np.True_) for c in gates.engagement] + [(c, matrix) for c in policy.routing.engaged])
    for signal, conditions in asked.items():
        needs = np.full(len(facts), np.nan)
        for condition, who in conditions:
            unmet = ~holds(facts, condition) & who
            needs[unmet] = np.fmax(needs[unmet], condition.at_least)
        yield Obstacle(signal, ~np.isnan(needs), number(facts, signal), needs)
    yield Obstacle("intent", pql & ~_bool(facts, "gate_intent"))
    counted = "score" if policy.scoring.firmographics == "combine" else "usage_score"
    high = facts["tier"].eq("high").to_numpy(bool)
    yield Obstacle("score", pql & ~high, number(facts, counted), policy.scoring.tiers.high)


def _asked(
    conditions: Iterable[tuple[Condition, Mask | np.bool_]],
) -> dict[str, list[tuple[Condition, Mask | np.bool_]]]:
    """By signal, in the order first named: the conditions on it and who is asked."""
    by_signal: dict[str, list[tuple[Condition, Mask | np.bool_]]] = {}
    for condition, who in conditions:
        by_signal.setdefault(condition.signal, []).append((condition, who))
    return by_signal
