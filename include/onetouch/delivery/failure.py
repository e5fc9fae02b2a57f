"""What a stage of delivery raises when rows failed, after everything else was done."""

from __future__ import annotations

from typing import Any


class DeliveryFailed(Exception):
    """Some rows could not be delivered; all others were. `summary` is the stage's accounting, with each reason."""

    def __init__(self, what: str, summary: dict[str, Any], failed: list[tuple[str, str]]) -> None:
        shown = "; ".join(f"{name}: {reason}" for name, reason in failed[:10])
        more = f"; and {len(failed) - 10} more" if len(failed) > 10 else ""
        super().__init__(f"{len(failed)} {what}: {shown}{more}")
        self.summary = summary
