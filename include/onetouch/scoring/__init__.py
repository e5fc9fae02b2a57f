"""Gates, points, tiers and reasons: turns each account's row of signals into a row of scores."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.scoring.artefacts import kept_artefact
    from onetouch.scoring.gates import holds
    from onetouch.scoring.score import REASONS, score, score_frame
    from onetouch.scoring.scorers import check_scorer, scorer_of

__all__ = [
    "REASONS",
    "check_scorer",
    "holds",
    "kept_artefact",
    "score",
    "score_frame",
    "scorer_of",
]
show(__name__)
