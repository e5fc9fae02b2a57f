"""Counts of a date's events, kept in the lake, so that a check of weeks does not read weeks of events.

`tallies/event_date=…/counts.parquet` is built from the event files of that date, and built again only when they change
(`dry-counts.parquet`: with those of dry runs). It holds counts alone: no person and no account is named in it.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from onetouch.events import EVENTS, built_from, known_since, metadata_of, view
from onetouch.lake import Engine, Lake

if TYPE_CHECKING:
    import ibis.expr.types as ir

LAYOUT = "2"  # part of built_from; increase it when the content of a tally changes, so that all are built again

NAME = "counts.parquet"

_DATES_AT_ONCE = 8

HOUR, DAY = "hour", "day"
"""The grains of a tally's rows: the time of receipt is cut to the hour, or to the day (UTC)."""

COLUMNS = [
    "grain", "source", "event", "at", "known_at", "n", "anonymous", "newest", "users", "top_user", "top_account",
    "twins", "bare", "lag",
]  # fmt: skip


def tallies(lake: Lake, engine: Engine, files: Iterable[str], as_of: datetime) -> pd.DataFrame:
    """The tallies of the dates that these event files belong to, with `event_date`; `at` is UTC without a zone.

    Only events that name a user or an account count, except in `anonymous`. Each row is of events received at one time;
    late ones (`events.EVENTS`) have rows of their own with the time since when they are known, `known_at`, and are left
    out if that is after as_of.

    grain HOUR, one row for each source, event and hour of receipt: n (events), anonymous (others, of devices alone),
    newest (receipt).
    grain DAY, one row for each source, event (null: all events together) and day of receipt: n, newest, users
    (different ones), twins (events that say what another one of the same moment says), bare (events without any
    property), lag (median of the hours from the event to its receipt); and, of all events together, top_user and
    top_account (events of the user and of the account with the most).
    """
    of_date: dict[str, list[str]] = defaultdict(list)
    for path in files:
        of_date[posixpath.basename(posixpath.dirname(path))].append(path)
    stamps = {day: built_from(paths, LAYOUT) for day, paths in of_date.items()}
    places = {day: ("tallies", day, f"{view(paths)}{NAME}") for day, paths in of_date.items()}
    stale = [day for day, stamp in sorted(stamps.items()) if metadata_of(lake, *places[day]).get("built_from") != stamp]
    for start in range(0, len(stale), _DATES_AT_ONCE):
        some = stale[start : start + _DATES_AT_ONCE]
        like = EVENTS.append(pa.field("event_date", pa.date32()))
        events = engine.read([path for day in some for path in of_date[day]], dated=True, like=like)
        counted = engine.fetch(tallied(events, "event_date"))
        for day in some:
            this = pc.equal(counted["event_date"].cast(pa.string()), day.removeprefix("event_date="))
            table = counted.filter(this).drop_columns(["event_date"])
            lake.write(table.replace_schema_metadata({"built_from": stamps[day]}), *places[day])
    if not of_date:
        return pd.DataFrame(columns=[*COLUMNS, "event_date"])
    kept = [lake.path(*places[day]) for day in sorted(of_date)]
    found: pd.DataFrame = engine.fetch(engine.read(kept, dated=True)).to_pandas()
    found["at"], found["known_at"] = (pd.to_datetime(found[name], utc=True) for name in ("at", "known_at"))
    known = found["known_at"].isna() | (found["known_at"] <= as_of.astimezone(UTC))
    return found[known].assign(at=found["at"].dt.tz_localize(None)).reset_index(drop=True)


def somebodys(events: ir.Table) -> ir.Table:
    """The events that name a user or an account, not a device alone."""
    import ibis

    return events.filter(ibis.coalesce(events.account_id, events.user_id).notnull())


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
    known_at = known_since(events)
    every = events.select(
        *by, "source", "event", "user_id", "account_id", "received_at",
        known_at=(known_at > events.received_at).ifelse(known_at, ibis.null()),
        hour=events.received_at.truncate("h"),
        day=events.received_at.truncate("D"),
        content=content.hash(),
        is_bare=events.properties.fill_null("{}") == "{}",
        late=(events.received_at.epoch_seconds() - events.occurred_at.epoch_seconds()) / 3600,
    )  # fmt: skip
    e, nothing, keys = somebodys(every), ibis.null("int64"), [*by, "source", "at", "known_at"]

    def of_day(*names: str) -> ir.Table:
        found = e.group_by(*by, "source", "known_at", *names, at=e.day).agg(
            n=e.count(),
            newest=e.received_at.max(),
            users=e.user_id.nunique(),
            twins=e.count() - e.content.nunique(),
            bare=e.count(where=e.is_bare),
            lag=e.late.median(),
        )
        return found.mutate(grain=ibis.literal(DAY), anonymous=nothing)

    def most(who: str, name: str) -> ir.Table:
        """The events of the one with the most, of each day."""
        named = e.filter(e[who].nullif("").notnull())
        one = named.group_by(*by, "source", "known_at", who, at=named.day).agg(n=named.count())
        return one.group_by(*keys).agg(**{name: one.n.max()})

    is_somebodys = ibis.coalesce(every.account_id, every.user_id).notnull()
    hours = every.group_by(*by, "source", "known_at", "event", at=every.hour).agg(
        n=every.count(where=is_somebodys),
        anonymous=every.count(where=~is_somebodys),
        newest=every.received_at.max(where=is_somebodys),
    )
    hours = hours.mutate(grain=ibis.literal(HOUR), users=nothing, twins=nothing, bare=nothing, lag=ibis.null("float64"))
    whole = of_day().mutate(event=ibis.null("string"))
    for who, name in (("user_id", "top_user"), ("account_id", "top_account")):
        theirs = most(who, name)
        same = [whole[key].identical_to(theirs[key]) for key in keys]  # known_at is null in most rows
        whole = whole.left_join(theirs, same, rname="{name}_of_one")
        whole = whole.drop(*(key for key in whole.columns if key.endswith("_of_one")))
    apart = [table.mutate(top_user=nothing, top_account=nothing) for table in (hours, of_day("event"))]
    return ibis.union(*(table.select(*by, *COLUMNS) for table in (*apart, whole)))
