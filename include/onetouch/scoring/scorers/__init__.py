"""The ways to score that a policy may name. A new one is a file here and a line in SCORERS."""

from __future__ import annotations

from onetouch.policy import Policy, PolicyError
from onetouch.scoring.scorers.points import POINTS
from onetouch.scoring.scorers.protocol import TENTHS, Artefact, Earned, Scorer, Tenths

__all__ = ["SCORERS", "TENTHS", "Artefact", "Earned", "Scorer", "Tenths", "scorer_of"]

SCORERS: dict[str, Scorer] = {
    "points": POINTS,
}


def scorer_of(policy: Policy, where: str | None = None) -> Scorer:
    """The scorer that the policy names.

    Raises PolicyError for one that is not registered; the message begins with `where` (the policy's file; None: its
    name).
    """
    name = policy.scoring.scorer
    if name not in SCORERS:
        raise PolicyError(
            f"{where or f'policy {policy.name}'}: scoring.scorer: {name!r} is not a scorer; allowed: "
            f"{', '.join(SCORERS)}"
        )
    return SCORERS[name]
