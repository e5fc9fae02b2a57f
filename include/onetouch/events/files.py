"""The event files of the lake, and which of them a run may read."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from datetime import date

from onetouch.lake import Lake
from onetouch.ledger import Run

DRY = "dry-"
"""How the id of a dry run's batch begins. (Earlier releases named them like those of real runs; they count as such.)"""


def batch_of(source: str, run: Run) -> str:
    """The id of a run's batch of a source. It is always the same, so a repeated batch replaces the earlier one."""
    return f"{DRY if run.dry_run else ''}{source}-{run.run_id}"


def is_dry(path: str) -> bool:
    """Whether an event file is of a dry run's batch."""
    return posixpath.basename(path).startswith(DRY)


def event_files(lake: Lake, *, dry: bool, folder: str = "events") -> list[str]:
    """The event files below a folder that a dry or a real run may read: what a dry run has staged is hidden from real
    runs, which therefore never depend on it."""
    return [path for path in lake.list(folder) if dry or not is_dry(path)]


def event_dates(lake: Lake) -> list[date]:
    """The dates that have a folder of event files, in order. It costs one listing, whatever the number of files."""
    names = (name.removeprefix("event_date=") for name in lake.folders("events") if name.startswith("event_date="))
    return [date.fromisoformat(name) for name in names]


def event_files_of(lake: Lake, dates: Iterable[date], *, dry: bool) -> list[str]:
    """`event_files` of these dates alone, in order."""
    return [
        path for day in sorted(set(dates)) for path in event_files(lake, dry=dry, folder=f"events/event_date={day}")
    ]
