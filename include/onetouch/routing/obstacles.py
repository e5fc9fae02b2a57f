"""What stands between an account and a sales touch: obstacles, with the figures the account has and needs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from onetouch.policy import Policy
from onetouch.routing.rule import Facts, Figures, Rules
from onetouch.routing.rules import RULES
from onetouch.routing.wording import figure

WOULD_CHANGE = pa.list_(pa.struct([("obstacle", pa.string()), ("has", pa.float64()), ("needs", pa.float64())]))
"""Type of `would_change`: every obstacle of the account, none for a sales touch. `sentence` makes one a sentence."""

ROWS = 65_536
"""Accounts processed in one batch; the memory of a batch is reused for the next."""


def would_change(facts: Facts, place: npt.NDArray[np.int64], policy: Policy, rules: Rules) -> pa.ChunkedArray:
    """The obstacles of each account, of type WOULD_CHANGE, in the order of the rules that report them.

    `place`: the index in `rules` of the rule that decided each account. Computed on whole columns, not row by row.
    """
    starts = range(0, len(facts), ROWS)
    return pa.chunked_array(
        [_lists(facts.iloc[at : at + ROWS], place[at : at + ROWS], policy, rules) for at in starts], WOULD_CHANGE
    )


def _lists(facts: pd.DataFrame, place: npt.NDArray[np.int64], policy: Policy, rules: Rules) -> pa.ListArray:
    held = [at for at, rule in enumerate(rules) if rule.action.hold and not rule.action.waiting]
    facts = facts.assign(held=np.isin(place, held))
    found = [obstacle for at, rule in enumerate(rules) for obstacle in rule.obstacles(facts, place == at, policy)]
    counts = np.zeros(len(facts) + 1, dtype=np.int64)
    for obstacle in found:
        counts[1:] += obstacle.stands
    offsets = np.cumsum(counts)
    names = np.empty(offsets[-1], dtype=np.int32)
    has, needs = np.full(offsets[-1], np.nan), np.full(offsets[-1], np.nan)
    following = offsets[:-1].copy()
    vocabulary: list[str] = []
    for obstacle in found:
        rows = np.flatnonzero(obstacle.stands)
        at = following[rows]
        if obstacle.details is None:
            names[at] = len(vocabulary)
            vocabulary.append(obstacle.name)
        else:
            places, details = pd.factorize(obstacle.details[rows])
            names[at] = places + len(vocabulary)
            vocabulary += [f"{obstacle.name}:{detail}" for detail in details]
        for figures, given in ((has, obstacle.has), (needs, obstacle.needs)):
            if given is not None:
                figures[at] = given[rows] if isinstance(given, np.ndarray) else given
        following[rows] += 1
    words = pa.DictionaryArray.from_arrays(pa.array(names), pa.array(vocabulary, pa.string()))
    each = pa.StructArray.from_arrays(
        [words.dictionary_decode(), pa.array(has, from_pandas=True), pa.array(needs, from_pandas=True)],
        fields=list(WOULD_CHANGE.value_type),
    )
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), each)


_SENTENCES = {name: said for rule in RULES for name, said in rule.sentences.items()}


def sentence(obstacle: str, has: float | None, needs: float | None, policy: Policy) -> str:
    """What has to happen, with the figures the account has and needs (None: unknown, or the obstacle has no figure)."""
    name, _, detail = obstacle.partition(":")
    if name in _SENTENCES:
        return _SENTENCES[name](Figures(has, needs, detail), policy)
    return f"{obstacle} ({figure(has)}) has to reach {figure(needs)}."  # a signal
