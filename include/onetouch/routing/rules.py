"""The rules of engagement in their order: the first that applies decides.

Each rule looks at whole columns of `facts` (one row an account; `route.facts` makes them).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Facts = pd.DataFrame
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rule:
    """`applies` tells which accounts it is for; the first rule that applies gives the account its `action`."""

    name: str
    action: str
    applies: Callable[[Facts], Mask]


def first_match(facts: Facts, rules: tuple[Rule, ...] | None = None) -> npt.NDArray[np.int64]:
    """The place in `rules` (RULES) of the first that applies to each account; `len(rules)` where none does."""
    rules = RULES if rules is None else rules
    decided = np.full(len(facts), len(rules), dtype=np.int64)
    for place, rule in reversed(list(enumerate(rules))):
        decided[rule.applies(facts)] = place
    return decided


def _bool(facts: Facts, column: str) -> Mask:
    return facts[column].to_numpy(bool)


def _called(facts: Facts) -> Mask:
    """Accounts with a reason to be a sales touch."""
    return facts["call"].ne("").to_numpy(bool)


def _holdout(facts: Facts) -> Mask:
    return _bool(facts, "holdout")


def _converting(facts: Facts) -> Mask:
    return _bool(facts, "converting")


def _open_opportunity(facts: Facts) -> Mask:
    return _bool(facts, "open_opportunity")


def _touched(facts: Facts) -> Mask:
    return _bool(facts, "handed_over") | _bool(facts, "touched")


def _cooling(facts: Facts) -> Mask:
    return _bool(facts, "cooling") | _bool(facts, "nothing_new")


def _below_floor(facts: Facts) -> Mask:
    wanted = _bool(facts, "pql") | _bool(facts, "hand_raised") | _bool(facts, "expanding")
    return wanted & ~_bool(facts, "high_value")


def _low_engaged(facts: Facts) -> Mask:
    return ~_bool(facts, "high_value") & _bool(facts, "engaged")


def _low_quiet(facts: Facts) -> Mask:
    return ~_bool(facts, "high_value") & ~_bool(facts, "engaged")


def _high_quiet(facts: Facts) -> Mask:
    return ~_called(facts) & ~_bool(facts, "engaged_enough")


def _medium(facts: Facts) -> Mask:
    return ~_called(facts) & _bool(facts, "watchable")


def _no_pql(facts: Facts) -> Mask:
    return ~_called(facts)


def _queue_expired(facts: Facts) -> Mask:
    return _bool(facts, "stale")


def _no_context(facts: Facts) -> Mask:
    return _bool(facts, "incomplete")


def _no_room(facts: Facts) -> Mask:
    return ~_bool(facts, "has_room")


def _everyone(facts: Facts) -> Mask:
    return np.ones(len(facts), dtype=bool)


RULES: tuple[Rule, ...] = (
    Rule("holdout", "hold_holdout", _holdout),
    Rule("never interrupt", "hold_converting", _converting),
    Rule("open opportunity", "hold_open_opportunity", _open_opportunity),
    Rule("one touch", "hold_touched", _touched),
    Rule("cooldown", "hold_cooldown", _cooling),
    Rule("value floor", "below_floor", _below_floor),
    Rule("matrix: low value, engaged", "self_serve_hero", _low_engaged),
    Rule("matrix: low value, not engaged", "self_serve_onboarding", _low_quiet),
    Rule("matrix: high value, not engaged", "nurture", _high_quiet),
    Rule("tier medium", "monitor", _medium),
    Rule("no PQL", "nurture", _no_pql),
    Rule("queue expired", "nurture", _queue_expired),
    Rule("never without context", "hold_context", _no_context),
    Rule("capacity", "hold_capacity", _no_room),
    Rule("sales now", "sales_now", _everyone),
)

PLACES = {rule.name: place for place, rule in enumerate(RULES)}
"""Where each rule stands."""
