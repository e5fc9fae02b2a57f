"""What a scorer is: it says what each signal of an account earned, whole columns at a time."""

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
    """What a scorer goes by besides the signals, as bytes: its rules, or a model file. The same bytes, the same id."""

    scorer: str
    content: bytes

    @cached_property
    def id(self) -> str:
        """First 24 hex digits of the SHA-256 of the scorer's name and the content."""
        return hashlib.sha256(self.scorer.encode() + b"\n" + self.content).hexdigest()[:24]


class Earned(NamedTuple):
    """What each signal earned: a row an account in the order given, a column a signal.

    `signals`: names, each once; of two that earned the same, the one named first is the first reason. `values`: of the
    signals, NaN where unknown. `tenths`: of a point, from 0 on; 0 where the value is unknown.
    """

    signals: tuple[str, ...]
    values: Numbers
    tenths: Tenths


class Scorer(Protocol):
    """One way to score. What it earns depends on nothing but its arguments, and an account's not on other accounts."""

    @property
    def name(self) -> str:
        """What `scoring.scorer` of a policy calls it."""
        ...

    def artefact(self, policy: Policy, lake: Lake | None) -> Artefact:
        """What the policy asks for: the same policy, the same artefact.

        Derived from the policy, or read from the lake where the policy names a file of it. Raises ValueError when a
        lake is needed and there is none, FileNotFoundError naming the file that is gone.
        """
        ...

    def columns(self, artefact: Artefact) -> list[str]:
        """The columns of the signals that it looks at."""
        ...

    def earned(self, signals: pd.DataFrame, as_of: datetime, artefact: Artefact) -> Earned:
        """The points of every row of `signals`; `as_of` is the moment from which their age is counted.

        The caller gives some thousand rows at a time, so that the memory of one call is used again for the next.
        """
        ...
