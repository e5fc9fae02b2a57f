"""What happened, said in no source's words: a source's maker writes it, the suite looks for it among the events."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

HOUR = datetime(2025, 3, 1, 9, tzinfo=UTC)


@dataclass(frozen=True)
class Sent:
    """One row; without `id` the source has to do without one."""

    id: str | None = None
    event: str = "report_created"
    user: str | None = "u1"
    company: str | None = None
    at: datetime = HOUR
    received: datetime = HOUR
    properties: dict[str, Any] = field(default_factory=dict)


BAD = Sent("bad")
"""A row that is none, whatever that is in the source's format."""
