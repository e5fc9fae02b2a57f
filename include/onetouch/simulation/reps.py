"""The simulated company's reps at work in the CRM."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any


def work(url: str, folder: str | Path, *, seed: int, since: datetime, until: datetime) -> dict[str, Any]:
    """Lets the reps work their task lists between two moments."""
    raise NotImplementedError(f"{url} {folder} {seed} {since} {until}")
