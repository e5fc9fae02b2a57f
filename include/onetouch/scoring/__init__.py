"""Gates, points, tiers and reasons: one row an account in, one row an account out."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.scoring.score import REASONS, score, score_frame

__all__ = ["REASONS", "score", "score_frame"]
show(__name__)
