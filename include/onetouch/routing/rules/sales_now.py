"""Sales now: a rep gets a task. The rule applies to every account that no earlier rule applies to."""

from __future__ import annotations

import numpy as np

from onetouch.catalogue import SALES_NOW
from onetouch.columns import Mask
from onetouch.policy import Part, Policy
from onetouch.routing import contact_reasons
from onetouch.routing.rule import Facts, Known, Rule


def _applies(facts: Facts, policy: Policy) -> Mask:
    return np.ones(len(facts), dtype=bool)


def _why(known: Known, policy: Policy) -> str:
    return contact_reasons.in_words(known)


def _why_not(known: Known, policy: Policy) -> str:
    return "an earlier rule applied"


RULE = Rule[Part](
    name="sales now",
    action=SALES_NOW,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    assigned=True,
)
