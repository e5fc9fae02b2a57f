"""Holdout: a share of the accounts is a control group that sales leaves alone, to measure what a sales touch is worth.

Membership depends only on the account's id and the share, so a greater share only adds to the group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

import numpy as np
import pandas as pd

from onetouch.catalogue import HOLD_HOLDOUT
from onetouch.columns import Mask, truth
from onetouch.policy import Part, Policy
from onetouch.routing.inputs import Inputs
from onetouch.routing.rule import Facts, Figures, Known, Obstacle, Rule

HOLDOUT_KEY = "onetouch-holdout"  # 16 characters, as the hash requires; another key would draw another control group


def _columns(facts: Facts, inputs: Inputs, policy: Policy, as_of: datetime) -> Mapping[str, Mask]:
    return {"holdout": _drawn(facts["account_id"], policy.routing.holdout_share)}


def _drawn(account_ids: pd.Series, share: float) -> Mask:
    """Whether each account is in the control group: the hash of its id, scaled to [0, 1), is below the share."""
    if share == 0:
        return np.zeros(len(account_ids), dtype=bool)
    hashes = pd.util.hash_array(account_ids.to_numpy(dtype=object), hash_key=HOLDOUT_KEY, categorize=False)
    return hashes / 2.0**64 < share


def _applies(facts: Facts, policy: Policy) -> Mask:
    return truth(facts, "holdout")


def _why(known: Known, policy: Policy) -> str:
    return f"in the control group of {policy.routing.holdout_share:.0%}"


def _why_not(known: Known, policy: Policy) -> str:
    share = policy.routing.holdout_share
    return f"not in the control group of {share:.0%}" if share else "there is no control group"


def _obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterator[Obstacle]:
    yield Obstacle("holdout", truth(facts, "holdout"))


def _holdout(figures: Figures, policy: Policy) -> str:
    return "It is in the control group, which sales leaves alone to measure what a touch is worth."


RULE = Rule[Part](
    name="holdout",
    action=HOLD_HOLDOUT,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    columns=_columns,
    obstacles=_obstacles,
    sentences={"holdout": _holdout},
    reads=("routing.holdout_share",),
)
