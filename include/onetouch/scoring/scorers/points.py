"""Scores each signal with the points of the policy (`scoring.points`); the artefact is these rules as JSON."""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from onetouch.columns import age_days, number
from onetouch.lake import Lake
from onetouch.policy import Points, Policy, renamed
from onetouch.scoring.scorers.protocol import TENTHS, Artefact, Earned, Tenths


class Rules(BaseModel):
    """The content of an artefact."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    points: list[Points]


class PointsScorer:
    """Each rule earns its points independently of the others; nothing is learned from data."""

    name = "points"

    def artefact(self, policy: Policy, lake: Lake | None) -> Artefact:
        """The rules of the policy as canonical JSON."""
        document = Rules(points=policy.scoring.points).model_dump(mode="json")
        return Artefact(self.name, json.dumps(document, sort_keys=True, separators=(",", ":")).encode())

    def columns(self, artefact: Artefact) -> list[str]:
        """Every signal that earns points, and the last moment of each signal whose points decay with age."""
        rules = _rules(artefact.content)
        return [*(rule.signal for rule in rules), *(f"{r.signal}_at" for r in rules if r.half_life_days is not None)]

    def earned(self, signals: pd.DataFrame, as_of: datetime, artefact: Artefact) -> Earned:
        """The points each rule earned, in the policy's order."""
        rules = _rules(artefact.content)
        return Earned(
            tuple(rule.signal for rule in rules),
            np.column_stack([number(signals, rule.signal) for rule in rules]),
            np.column_stack([_earned(signals, rule, as_of) for rule in rules]),
        )


SCORER = PointsScorer()


@lru_cache(maxsize=16)
def _rules(content: bytes) -> list[Points]:
    """The rules of an artefact, with the current names of their signals."""
    return Rules.model_validate(renamed(json.loads(content), Rules)[0]).points


def _earned(signals: pd.DataFrame, rule: Points, as_of: datetime) -> Tenths:
    """Tenths of points: all points from `at_least` on, or points that grow linearly with the signal up to `full_at`.

    Points that decay are halved with every half-life of their age. An unknown value (NaN, a null moment) earns nothing.
    """
    value = number(signals, rule.signal)
    share = np.ones_like(value) if rule.full_at is None else np.clip(value / rule.full_at, 0, 1)
    known = value >= rule.at_least
    if rule.half_life_days is not None:
        days = age_days(signals, f"{rule.signal}_at", as_of)
        known &= ~np.isnan(days)
        share = share * 0.5 ** (np.floor(days) / rule.half_life_days)
    return np.rint(np.where(known, share, 0.0) * rule.points * TENTHS).astype(np.int64)
