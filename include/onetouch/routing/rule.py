"""The definition of a rule of engagement.

A rule is one file that defines which accounts it applies to, the action they get, the reason, and what would have to
change. Everything that depends on the rules (decisions, obstacles, `explain`, scenarios, docs/rules.md) reads the list
`RULES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from onetouch.catalogue import Action
from onetouch.columns import Mask, Numbers
from onetouch.policy import Part, Policy
from onetouch.routing.inputs import Inputs

Facts = pd.DataFrame
"""One row an account, in the order of account_id: everything known about it (`known.known_facts`)."""

Known = Mapping[str, Any]
"""One account as a run stored it: its signals, score and decision by column, and `handoff`: its last handoff or None.

Moments are ISO 8601 texts, unknown is None; a run of an earlier release of this library may lack a column.
"""


class Obstacle(NamedTuple):
    """One kind of obstacle between accounts and a sales touch.

    `stands`: which accounts have it. `has`, `needs`: the figures the accounts have and need: a column, one figure for
    all accounts, or None if the obstacle has no figure. `name` is stored with a decision, together with the figures; a
    name may have a detail after a colon. `details`: a detail of each account's own (a text where the obstacle stands).
    """

    name: str
    stands: Mask
    has: Numbers | float | None = None
    needs: Numbers | float | None = None
    details: npt.NDArray[np.object_] | None = None


class Figures(NamedTuple):
    """The figures of one account's obstacle: what it has and what it needs (None: unknown, or it has no figure).

    `detail`: the part of the obstacle's name after the colon.
    """

    has: float | None = None
    needs: float | None = None
    detail: str = ""


Sentence = Callable[[Figures, Policy], str]
"""Makes an obstacle of one account a sentence that says what has to happen."""


def _no_columns(facts: Facts, inputs: Inputs, policy: Policy, as_of: datetime) -> Mapping[str, Any]:
    return {}


def _no_obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterable[Obstacle]:
    return ()


Own = TypeVar("Own", bound=Part)


@dataclass(frozen=True, kw_only=True)
class Rule(Generic[Own]):
    """One rule: the first that applies to an account decides, and gives the account its `action`.

    - `name`: stored with every decision; it never changes.
    - `applies(facts, policy)`: which accounts it applies to, computed on whole columns, not row by row.
    - `columns(facts, inputs, policy, as_of)`: columns that only this rule needs; they are added to `facts` once a run.
    - `why(known, policy)`, `why_not(known, policy)`: why it applies to one account, or why it does not, for `explain`;
      phrases without a full stop.
    - `obstacles(facts, decided, policy)`: what would have to change for an account to get a sales touch. Obstacles are
      reported for every account that has them, whichever rule decided; `decided` marks the accounts this rule decided.
      `sentences`: for each obstacle's name (without its detail), the sentence that says what has to happen.
    - `under(policy)`: whether a policy has the rule; a rule of today that reads a key which older policies lack.
    - `reads`: the keys of the policy it reads. `parameters`: the model of the keys that only this rule reads, if there
      are any. They are under `routing.rules` in the policy, in the section named after the rule (`section`); **a policy
      without the section does not have the rule**. A rule that is added later must therefore have `parameters`, if only
      an empty model, or `under`, so that policies stored before it decide as they did.
    - `checked_again`: what the pre-send recheck looks at for this rule ("": nothing).
    - `assigned`: whether it reads the assignment (`rep_email`, `has_room`, `waits_for`, …). Reps are assigned to the
      accounts that no rule before the first such rule has decided.
    """

    name: str
    action: Action
    applies: Callable[[Facts, Policy], Mask]
    why: Callable[[Known, Policy], str]
    why_not: Callable[[Known, Policy], str]
    columns: Callable[[Facts, Inputs, Policy, datetime], Mapping[str, Any]] = _no_columns
    obstacles: Callable[[Facts, Mask, Policy], Iterable[Obstacle]] = _no_obstacles
    sentences: Mapping[str, Sentence] = field(default_factory=dict)
    under: Callable[[Policy], bool] | None = None
    reads: tuple[str, ...] = ()
    parameters: type[Own] | None = None
    checked_again: str = ""
    assigned: bool = False

    @property
    def section(self) -> str:
        """Name of the rule's section under `routing.rules`: "open tickets" → `open_tickets`."""
        return re.sub(r"\W+", "_", self.name.lower()).strip("_")

    def own(self, policy: Policy) -> Own:
        """The rule's parameters in the policy. The rule must have parameters, and the policy must have the rule."""
        assert self.parameters is not None
        return self.parameters.model_validate(policy.routing.rules[self.section])


Rules = tuple[Rule[Any], ...]
"""Rules in the order in which they are applied."""
