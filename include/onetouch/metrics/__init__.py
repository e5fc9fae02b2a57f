"""Metrics: the meaning of each figure (`definitions`), a week's figures (`weekly`), their diagnosis (`diagnosis`)."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.metrics.definitions import DEFINITIONS, Definition
    from onetouch.metrics.figures import (
        Diagnosis,
        Rate,
        Revenue,
        Verdict,
        WeekCount,
        WeeklyMetrics,
        iso_week,
        keep,
        rate,
        read,
    )
    from onetouch.metrics.weekly import weekly

__all__ = [
    "DEFINITIONS",
    "Definition",
    "Diagnosis",
    "Rate",
    "Revenue",
    "Verdict",
    "WeekCount",
    "WeeklyMetrics",
    "iso_week",
    "keep",
    "rate",
    "read",
    "weekly",
]
show(__name__)
