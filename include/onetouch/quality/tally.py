"""Counts of a date's events, kept in the lake, so that a check of weeks does not read weeks of events.

`tallies/event_date=…/counts.parquet` is built from the event files of that date, and built again only when they change.
It holds counts alone: no person and no account is named in it.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from onetouch.lake import Engine, Lake

if TYPE_CHECKING:
    import ibis.expr.types as ir

LAYOUT = "1"  # part of built_from; increase it when the content of a tally changes, so that all are built again

NAME = "counts.parquet"

_DATES_AT_ONCE = 8

HOUR, DAY = "hour", "day"
"""The grains of a tally's rows: the time of receipt is cut to the hour, or to the day (UTC)."""

COLUMNS = ["grain", "source", "event", "at", "n", "newest", "users", "top_user", "top_account", "twins", "lag"]


def tallies(lake: Lake, engine: Engine, files: Iterable[str]) -> pd.DataFrame:
    """The tallies of the dates that these event files belong to, with `event_date`; `at` is UTC without a zone.

    grain HOUR, one row for each source, event and hour of receipt: n (events), newest (receipt).
    grain DAY, one row for each source, event (null: all events together) and day of receipt: n, newest, users
    (different ones), twins (events that say what another one of the same moment says), lag (median of the hours from
    the event to its receipt); and, of all events together, top_user and top_account (events of the user and of the
    account with the most).
    """
    of_date: dict[str, list[str]] = defaultdict(list)
    for path in files:
        of_date[posixpath.basename(posixpath.dirname(path))].append(path)
    stamps = {day: _stamp(paths) for day, paths in of_date.items()}
    stale = [day for day, stamp in sorted(stamps.items()) if _built_from(lake, "tallies", day, NAME) != stamp]
    for start in range(0, len(stale), _DATES_AT_ONCE):
        some = stale[start : start + _DATES_AT_ONCE]
        events = engine.read([path for day in some for path in of_date[day]], dated=True, merged=True)
        counted = engine.fetch(tallied(events, "event_date"))
        for day in some:
            this = pc.equal(counted["event_date"].cast(pa.string()), day.removeprefix("event_date="))
            table = counted.filter(this).drop_columns(["event_date"])
            lake.write(table.replace_schema_metadata({"built_from": stamps[day]}), "tallies", day, NAME)
    if not of_date:
        return pd.DataFrame(columns=[*COLUMNS, "event_date"])
    kept = [lake.path("tallies", day, NAME) for day in sorted(of_date)]
    found: pd.DataFrame = engine.fetch(engine.read(kept, dated=True)).to_pandas()
    return found.assign(at=pd.to_datetime(found["at"], utc=True).dt.tz_localize(None))


def tallied(events: ir.Table, *by: str) -> ir.Table:
    """Canonical events as rows of a tally; `by`: further columns to group by."""
    import ibis

    content = ibis.literal("\x1f").join(
        [
            events.event.fill_null(""),
            events.user_id.fill_null(""),
            events.account_id.fill_null(""),
            events.occurred_at.cast("string"),
            events.properties.fill_null(""),
        ]
    )
    e = events.select(
        *by, "source", "event", "user_id", "account_id", "received_at",
        hour=events.received_at.truncate("h"),
        day=events.received_at.truncate("D"),
        content=content.hash(),
        late=(events.received_at.epoch_seconds() - events.occurred_at.epoch_seconds()) / 3600,
    )  # fmt: skip
    nothing, keys = ibis.null("int64"), [*by, "source", "at"]

    def of_day(*names: str) -> ir.Table:
        found = e.group_by(*by, "source", *names, at=e.day).agg(
            n=e.count(),
            newest=e.received_at.max(),
            users=e.user_id.nunique(),
            twins=e.count() - e.content.nunique(),
            lag=e.late.median(),
        )
        return found.mutate(grain=ibis.literal(DAY))

    def most(who: str, name: str) -> ir.Table:
        """The events of the one with the most, of each day."""
        known = e.filter(e[who].nullif("").notnull())
        one = known.group_by(*by, "source", who, at=known.day).agg(n=known.count())
        return one.group_by(*keys).agg(**{name: one.n.max()})

    hours = e.group_by(*by, "source", "event", at=e.hour).agg(n=e.count(), newest=e.received_at.max())
    hours = hours.mutate(grain=ibis.literal(HOUR), users=nothing, twins=nothing, lag=ibis.null("float64"))
    whole = of_day().mutate(event=ibis.null("string"))
    for who, name in (("user_id", "top_user"), ("account_id", "top_account")):
        whole = whole.left_join(most(who, name), keys, rname="{name}_of_one")
    apart = [table.mutate(top_user=nothing, top_account=nothing) for table in (hours, of_day("event"))]
    return ibis.union(*(table.select(*by, *COLUMNS) for table in (*apart, whole)))


def _stamp(paths: Iterable[str]) -> str:
    """A hash of what a tally depends on: the names of its event files."""
    names = sorted(posixpath.basename(path) for path in paths)
    return hashlib.sha256("\n".join((LAYOUT, *names)).encode()).hexdigest()[:16]


def _built_from(lake: Lake, *parts: str) -> str | None:
    if not lake.exists(*parts):
        return None
    with lake.fs.open(lake.path(*parts), "rb") as file:
        found = (pq.read_metadata(file).metadata or {}).get(b"built_from")
    return found.decode() if found else None
