"""Gates, points, tiers and reasons: one row an account in, one row an account out."""

from onetouch.scoring.artefacts import kept_artefact
from onetouch.scoring.score import REASONS, score, score_frame
from onetouch.scoring.scorers import scorer_of

__all__ = ["REASONS", "kept_artefact", "score", "score_frame", "scorer_of"]
