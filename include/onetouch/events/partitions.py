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

import pyarrow as pa
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


@dataclass(frozen=True)
class Kept:
    """What is kept of events for ever: `{folder}/event_date=…/` of each date, and `{folder}/month=…/` of a month that
    is over, from which nothing can be told that the dates don't tell.

    `schema`: its columns, `event_date` among them. `layout`: change it when the content of a partition changes, so that
    all are made again. `made`: the rows of events (of EVENTS and `event_date`). `changes`: the rows that are kept of
    those of a month.
    """

    folder: str
    layout: str
    schema: pa.Schema
    made: Callable[[Engine, ir.Table], ir.Table]
    changes: Callable[[ir.Table], ir.Table]

    @property
    def file(self) -> str:
        """The name of a partition's file."""
        return f"{self.folder}.parquet"

    def days(self, lake: Lake, engine: Engine, files: Mapping[date, list[str]]) -> dict[date, Day]:
        """The partition of each date, made again where its event files changed."""
        import ibis

        def made(events: ir.Table) -> ir.Table:  # the folder's name says the date
            return self.made(engine, events.mutate(event_date=ibis.null("date"))).drop("event_date")

        days, _ = build_partitions(lake, engine, files, self.folder, self.file, (self.layout,), made)
        return days


def read_kept(
    kept: Kept,
    lake: Lake,
    engine: Engine,
    files: Mapping[date, list[str]],
    as_of: datetime,
    name: str,
    *,
    pruned: Iterable[str] = (),
) -> ir.Table:
    """The table `name` of what is kept of the events of `files`, as known at `as_of`.

    `pruned`: months (yyyy-mm) of which only what is kept for ever is left; it is read as well.
    """
    import ibis

    folder, loose = kept.folder, {}
    months = [path for month in pruned for path in lake.list(f"{folder}/month={month}", f"/{kept.file}")]
    for month, dates in by_month(dict(files)).items():
        own = view(path for paths in dates.values() for path in paths)
        parts = (folder, f"month={month}", f"{own}{kept.file}")
        if month_end(month) >= last_day(as_of):
            loose.update(dates)
            continue
        stamp = built_from((p for paths in dates.values() for p in paths), kept.layout)
        metadata = metadata_of(lake, *parts)
        if metadata.get("built_from") != stamp:
            days = kept.days(lake, engine, dates)
            metadata = {
                "built_from": stamp,
                "known_until": max(day.known_until for day in days.values()).isoformat(),
            }
            rows = engine.read((day.path for day in days.values()), f"{folder}_of_month", dated=True)
            engine.write(kept.changes(rows), metadata, *parts)
        if datetime.fromisoformat(metadata["known_until"]) <= as_of:
            months.append(lake.path(*parts))
        else:
            loose.update(dates)
    days = kept.days(lake, engine, loose)
    known = [day.path for day in days.values() if day.known_at(as_of)]
    partly = [path for at, day in days.items() if not day.known_at(as_of) for path in loose[at]]
    names = kept.schema.names
    tables = [engine.table(kept.schema.empty_table(), f"{name}_none")]
    if months:
        tables.append(engine.read(months, f"{name}_months").select(names))
    if known:
        tables.append(engine.read(known, f"{name}_days", dated=True).select(names))
    if partly:
        like = EVENTS.append(pa.field("event_date", pa.date32()))
        events = engine.read(partly, f"{name}_events", dated=True, like=like)
        events = events.filter(events.occurred_at < ibis.literal(as_of), known_since(events) <= ibis.literal(as_of))
        tables.append(kept.made(engine, events).select(names))
    return engine.view(ibis.union(*tables), name)


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
