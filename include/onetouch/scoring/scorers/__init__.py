"""The scorers that a policy may name, one line each. A scorer's module is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from onetouch.policy import Policy, PolicyError, suggestion

if TYPE_CHECKING:
    from onetouch.scoring.scorers.protocol import Scorer

SCORERS = {
    "points": "onetouch.scoring.scorers.points",
}
"""Name of a scorer → the module that defines it as SCORER."""


def scorer_named(name: str) -> Scorer:
    """The scorer registered under the name. Raises KeyError if there is none."""
    scorer: Scorer = import_module(SCORERS[name]).SCORER
    return scorer


def scorer_of(policy: Policy) -> Scorer:
    """The scorer that the policy names. Raises PolicyError if it is not registered."""
    check_scorer(policy, f"policy {policy.name}")
    return scorer_named(policy.scoring.scorer)


def check_scorer(policy: Policy, where: object = "policy") -> None:
    """Raises PolicyError, beginning with `where`, when a policy names a scorer that is not registered."""
    name = policy.scoring.scorer
    if name not in SCORERS:
        hint, allowed = suggestion(name, SCORERS), ", ".join(sorted(SCORERS))
        raise PolicyError(f"{where}: scoring.scorer: {name!r} is not allowed; {hint}allowed: {allowed}")
