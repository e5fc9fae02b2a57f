"""What a rule of engagement is, and how the rules of a policy are found.

A rule is one file: it says for which accounts it is, what becomes of them, why, and what would have to change. All that
knows the rules (decisions, obstacles, `explain`, scenarios, docs/rules.md) reads the list of them, `RULES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

import pandas as pd

from onetouch.catalogue import Action
from onetouch.columns import Mask, Numbers
from onetouch.policy import Part, Policy
from onetouch.routing.inputs import Inputs

Facts = pd.DataFrame
"""One row an account, in the order of account_id: all that is known of it (`known.known_facts`)."""

Known = Mapping[str, Any]
"""One account as a run has stored it: its signals, score and decision by column, and `handoff`, its last one or None.

Moments are ISO 8601 texts, unknown is None; a run of an earlier version of this library may lack a column.
"""


class Obstacle(NamedTuple):
    """What stands between accounts and a sales touch: `stands` says where, `has` and `needs` which figures it is about.

    They are a column, one figure for all, or None where none tells. `name` is stored with a decision, with the figures.
    A name may have a detail behind a colon.
    """

    name: str
    stands: Mask
    has: Numbers | float | None = None
    needs: Numbers | float | None = None


class Figures(NamedTuple):
    """The figures of one account's obstacle: what it has and what it needs (None: unknown, or none to tell).

    `detail`: what its name has behind the colon.
    """

    has: float | None = None
    needs: float | None = None
    detail: str = ""


Sentence = Callable[[Figures, Policy], str]
"""An obstacle of one account as a sentence: what has to happen."""


def _no_columns(facts: Facts, inputs: Inputs, policy: Policy, as_of: datetime) -> Mapping[str, Any]:
    return {}


def _no_obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterable[Obstacle]:
    return ()


Own = TypeVar("Own", bound=Part)


@dataclass(frozen=True, kw_only=True)
class Rule(Generic[Own]):
    """One rule: the first that applies to an account decides, and gives the account its `action`.

    - `name`: stored with every decision; it never changes.
    - `applies(facts, policy)`: for which accounts it is. Whole columns at a time: no row is visited.
    - `columns(facts, inputs, policy, as_of)`: columns of `facts` that it alone needs, worked out once a run.
    - `why(known, policy)`, `why_not(known, policy)`: why it applies to one account, and why it does not, for `explain`;
      phrases without a full stop.
    - `obstacles(facts, decided, policy)`: what would have to change for an account to be a sales touch, wherever it
      stands in the way, whichever rule decided; `decided`: where this one did. `sentences`: each obstacle's name
      (without its detail) and what has to happen, in words.
    - `reads`: the keys of the policy it looks at. `parameters`: its own, if it has some that no one else needs. They
      are under `routing.rules` in the policy, in a section that is called like the rule (`section`); **a policy
      without the section does not have the rule**. So a rule that is added later has `parameters`, if only an empty
      model: policies stored before it go on deciding as they did.
    - `checked_again`: what is looked at once more right before a task is written ("": nothing).
    - `assigned`: whether it looks at who would get the account (`rep_email`, `has_room`, `waits_for` …). Reps are given
      the accounts that no rule before the first such one has taken.
    """

    name: str
    action: Action
    applies: Callable[[Facts, Policy], Mask]
    why: Callable[[Known, Policy], str]
    why_not: Callable[[Known, Policy], str]
    columns: Callable[[Facts, Inputs, Policy, datetime], Mapping[str, Any]] = _no_columns
    obstacles: Callable[[Facts, Mask, Policy], Iterable[Obstacle]] = _no_obstacles
    sentences: Mapping[str, Sentence] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    parameters: type[Own] | None = None
    checked_again: str = ""
    assigned: bool = False

    @property
    def section(self) -> str:
        """Its section under `routing.rules`: "open tickets" → `open_tickets`."""
        return re.sub(r"\W+", "_", self.name.lower()).strip("_")

    def own(self, policy: Policy) -> Own:
        """Its own parameters, as the policy has them; only for a rule that has some, of a policy that has the rule."""
        assert self.parameters is not None
        return self.parameters.model_validate(policy.routing.rules[self.section])


Rules = tuple[Rule[Any], ...]
"""Rules in the order in which they are asked."""
