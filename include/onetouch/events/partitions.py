"""Partitions of the lake that are made from event files, by date or by month, and made again when the files change."""

from __future__ import annotations

import calendar
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from onetouch.events.files import DRY, event_files, is_dry
from onetouch.events.staging import EVENTS
from onetouch.lake import Engine, Lake, pruned_months

if TYPE_CHECKING:
    import ibis.expr.types as ir

_EVENT_DATE = re.compile(r"/event_date=(\d{4}-\d{2}-\d{2})/")


@dataclass(frozen=True)
class Day:
    """One built partition of a date. `occurred_until`: its latest event; `known_until`: when the last became known."""

    path: str
    occurred_until: datetime
    known_until: datetime

    def known_at(self, as_of: datetime) -> bool:
        """Whether all its events had occurred, and were known, by `as_of`."""
        return self.occurred_until < as_of and self.known_until <= as_of


def build_partitions(
    lake: Lake,
    engine: Engine,
    files: Mapping[date, list[str]],
    folder: str,
    file_name: str,
    meaning: Sequence[str],
    made: Callable[[ir.Table], ir.Table],
) -> tuple[dict[date, Day], int]:
    """The partitions `{folder}/event_date=…/{file_name}` of the dates of `files`, and how many were made again because
    their event files or their `meaning` changed.

    `made` gives what is kept of the events of a date; it is called once, and what it gives must refer to the table
    `events_for_{folder}`, which holds one date after the other.
    """
    days, rebuilt = {}, 0
    summed: tuple[ir.Table, ir.Table] | None = None
    for day, paths in files.items():
        parts = (folder, f"event_date={day}", f"{view(paths)}{file_name}")
        stamp = built_from(paths, *meaning)
        metadata = metadata_of(lake, *parts)
        if metadata.get("built_from") != stamp:
            events = engine.read(paths, f"events_for_{folder}", like=EVENTS)
            if summed is None:
                latest = events.agg(occurred=events.occurred_at.max(), known=known_since(events).max())
                summed = (latest, made(events))
            [latest_of_day] = engine.fetch(summed[0]).to_pylist()
            beginning = datetime.combine(day, datetime.min.time(), UTC)  # for files without a row
            metadata = {
                "built_from": stamp,
                "occurred_until": (latest_of_day["occurred"] or beginning).astimezone(UTC).isoformat(),
                "known_until": (latest_of_day["known"] or beginning).astimezone(UTC).isoformat(),
            }
            engine.write(summed[1], metadata, *parts)
            rebuilt += 1
        days[day] = Day(
            lake.path(*parts),
            datetime.fromisoformat(metadata["occurred_until"]),
            datetime.fromisoformat(metadata["known_until"]),
        )
    return days, rebuilt


def files_by_date(lake: Lake, *, dry: bool) -> dict[date, list[str]]:
    """The event files that a dry or a real run may read, by event date, both sorted.

    Without the months whose events were deleted (`lake.pruned_months`), whatever is left of their files.
    """
    files: dict[date, list[str]] = defaultdict(list)
    pruned = pruned_months(lake)
    for path in event_files(lake, dry=dry):
        if (found := _EVENT_DATE.search(path)) and found[1][:7] not in pruned:
            files[date.fromisoformat(found[1])].append(path)
    return dict(sorted(files.items()))


def event_date(path: str) -> date:
    """The date of the events in a file of `events/event_date=…/`. Raises ValueError for another path."""
    found = _EVENT_DATE.search(path)
    if found is None:
        raise ValueError(f"{path}: is not in a folder event_date=yyyy-mm-dd; event files are")
    return date.fromisoformat(found[1])


def built_from(paths: Iterable[str], *meaning: str) -> str:
    """A hash of what a partition depends on: the event files' names and `meaning`, its layout among it.

    The path of the lake is not part of it, because a lake may be moved.
    """
    names = sorted("/".join(p.rsplit("/", 2)[-2:]) for p in paths)
    return hashlib.sha256("\n".join((*meaning, *names)).encode()).hexdigest()[:16]


def known_since(events: ir.Table) -> ir.TimestampValue:
    """When we have known each event; in files of earlier releases, since its receipt."""
    import ibis

    return ibis.coalesce(events.known_at, events.received_at)


def view(paths: Iterable[str]) -> str:
    """The beginning of the name of a partition: what is built with events of dry runs is kept apart."""
    return DRY if any(map(is_dry, paths)) else ""


def metadata_of(lake: Lake, *parts: str) -> dict[str, str]:
    """Key-value metadata of a Parquet file of the lake; empty if the file does not exist."""
    if not lake.exists(*parts):
        return {}
    with lake.fs.open(lake.path(*parts), "rb") as file:
        pairs = pq.read_metadata(file).metadata or {}
    return {k.decode(): v.decode() for k, v in pairs.items() if not k.startswith(b"ARROW")}


def by_month(files: dict[date, list[str]]) -> dict[str, dict[date, list[str]]]:
    """The files of each month (yyyy-mm), by date."""
    months: dict[str, dict[date, list[str]]] = defaultdict(dict)
    for day, paths in files.items():
        months[f"{day:%Y-%m}"][day] = paths
    return months


def month_end(month: str) -> date:
    """The last date of a month (yyyy-mm)."""
    year, number = map(int, month.split("-"))
    return date(year, number, calendar.monthrange(year, number)[1])


def last_day(as_of: datetime) -> date:
    """The latest date with a moment before `as_of` (at midnight: the day before)."""
    return (as_of.astimezone(UTC) - timedelta(microseconds=1)).date()
