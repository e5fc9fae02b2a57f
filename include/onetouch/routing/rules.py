"""The rules of engagement in their order: the first that applies decides.

Each rule looks at whole columns of `facts` (one row an account; `route.facts` makes them) and says, for the accounts
it decided on, what would have made them a sales touch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from onetouch.policy import Policy
from onetouch.routing import sentences

Facts = pd.DataFrame
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rule:
    """`applies` tells which accounts it is for; `would_change` what would make them a sales touch."""

    name: str
    action: str
    applies: Callable[[Facts, Policy], Mask]
    would_change: Callable[[Facts, Policy], pd.Series | str]


def _is(column: str) -> Callable[[Facts, Policy], Mask]:
    return lambda facts, policy: facts[column].to_numpy(bool)


RULES: tuple[Rule, ...] = (
    Rule("holdout", "hold_holdout", _is("holdout"), sentences.holdout),
    Rule("never interrupt", "hold_converting", _is("converting"), sentences.converting),
    Rule("open opportunity", "hold_open_opportunity", _is("open_opportunity"), sentences.open_opportunity),
    Rule("one touch", "hold_touched", lambda f, p: (f.handed_over | f.touched).to_numpy(bool), sentences.touched),
    Rule("cooldown", "hold_cooldown", lambda f, p: (f.cooling | f.nothing_new).to_numpy(bool), sentences.cooldown),
    Rule(
        "value floor",
        "below_floor",
        lambda f, p: ((f.pql | f.hand_raised) & ~f.high_value).to_numpy(bool),
        sentences.obstacles,
    ),
    Rule(
        "matrix: low value, engaged",
        "self_serve_hero",
        lambda f, p: (~f.high_value & f.engaged).to_numpy(bool),
        sentences.obstacles,
    ),
    Rule(
        "matrix: low value, not engaged",
        "self_serve_onboarding",
        lambda f, p: (~f.high_value).to_numpy(bool),
        sentences.obstacles,
    ),
    Rule("matrix: high value, not engaged", "nurture", lambda f, p: (~f.engaged).to_numpy(bool), sentences.obstacles),
    Rule(
        "tier medium",
        "monitor",
        lambda f, p: ((f.tier == "medium") & f.gate_icp & f.gate_activated).to_numpy(bool),
        sentences.obstacles,
    ),
    Rule("no PQL", "nurture", lambda f, p: (~f.pql).to_numpy(bool), sentences.obstacles),
    Rule(
        "never without context",
        "hold_context",
        lambda f, p: (f.missing_context != "").to_numpy(bool),
        sentences.context,
    ),
    Rule("capacity", "hold_capacity", lambda f, p: f.rep_email.isna().to_numpy(bool), sentences.capacity),
    Rule("sales now", "sales_now", lambda f, p: np.ones(len(f), dtype=bool), lambda f, p: ""),
)


def first_match(facts: Facts, policy: Policy, rules: tuple[Rule, ...] = RULES) -> npt.NDArray[np.int64]:
    """The place in `rules` of the first that applies to each account; `len(rules)` where none does."""
    decided = np.full(len(facts), len(rules), dtype=np.int64)
    for place, rule in reversed(list(enumerate(rules))):
        decided[rule.applies(facts, policy)] = place
    return decided
