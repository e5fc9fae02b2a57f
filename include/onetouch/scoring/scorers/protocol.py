"""The interface of a scorer, which computes the points each signal of an account earned, on whole columns."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from onetouch.columns import Numbers
from onetouch.lake import Lake
from onetouch.policy import Policy

Tenths = npt.NDArray[np.int64]

TENTHS = 10
"""Points are counted in tenths, as integers: a score is exactly the sum of its reasons."""


@dataclass(frozen=True)
class Artefact:
    """What a scorer needs besides the signals, as bytes: its rules, or a model file. Equal bytes have equal ids."""

    scorer: str
    content: bytes

    @cached_property
    def id(self) -> str:
        """First 24 hex digits of the SHA-256 of the scorer's name and the content."""
        return hashlib.sha256(self.scorer.encode() + b"\n" + self.content).hexdigest()[:24]


class Earned(NamedTuple):
    """The points each signal earned: one row per account, in the order of the input, and one column per signal.

    `signals`: names, each once; of two signals with equal points, the one named first is the first reason. `values`:
    the signals' values, NaN where unknown. `tenths`: tenths of a point, at least 0; 0 where the value is unknown.
    """

    signals: tuple[str, ...]
    values: Numbers
    tenths: Tenths


class Scorer(Protocol):
    """A scorer. Its results depend only on its arguments, and an account's points do not depend on other accounts."""

    @property
    def name(self) -> str:
        """The scorer's name in the policy's `scoring.scorer`."""
        ...

    def artefact(self, policy: Policy, lake: Lake | None) -> Artefact:
        """The artefact that the policy defines; the same policy always gives the same artefact.

        It is derived from the policy, or read from the lake if the policy names a file there. Raises ValueError when a
        lake is needed and there is none, FileNotFoundError naming a missing file.
        """
        ...

    def columns(self, artefact: Artefact) -> list[str]:
        """The columns of the signals that the scorer reads."""
        ...

    def earned(self, signals: pd.DataFrame, as_of: datetime, artefact: Artefact) -> Earned:
        """The points of every row of `signals`; `as_of` is the moment from which their age is counted.

        The caller passes batches of rows, so that the memory of one call is reused for the next.
        """
        ...
