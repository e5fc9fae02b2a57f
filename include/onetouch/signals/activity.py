"""Daily activity from events: one row per account × user × event × detail × day.

A date's activity is rebuilt only if the date has new event files.

`activity/event_date=…/{vocabulary_version}.parquet` holds a day under one vocabulary. `history/month=…/` keeps, for
months older than the lookback, every account and the first time of each of its lasting events. Both carry `built_from`
in their Parquet metadata: a hash of the names of the event files they were built from.
"""

from __future__ import annotations

import calendar
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from onetouch.catalogue import NOT_USE
from onetouch.events import possible
from onetouch.lake import Engine, Lake
from onetouch.policy import Meaning, Policy

if TYPE_CHECKING:
    import ibis.expr.types as ir

LAYOUT = "2"  # part of built_from; increase it when the content of a partition changes, so that all are rebuilt

_EVENT_DATE = re.compile(r"/event_date=(\d{4}-\d{2}-\d{2})/")

LASTING = ("integration_connected",)
"""Events besides the milestones whose first time is kept for ever: a connected integration stays connected."""


@dataclass(frozen=True)
class Day:
    """One built activity partition. `occurred_until`: its latest event; `received_until`: its latest receipt."""

    path: str
    occurred_until: datetime
    received_until: datetime

    def known_at(self, as_of: datetime) -> bool:
        """Whether all its events had occurred, and been received, by `as_of`."""
        return self.occurred_until < as_of and self.received_until <= as_of


def event_files(lake: Lake) -> dict[date, list[str]]:
    """Event files by event date, both sorted."""
    files: dict[date, list[str]] = defaultdict(list)
    for path in lake.list("events"):
        if found := _EVENT_DATE.search(path):
            files[date.fromisoformat(found[1])].append(path)
    return dict(sorted(files.items()))


def built_from(paths: Iterable[str], *meaning: str) -> str:
    """A hash of what a partition depends on: the event files' names and `meaning`.

    The path of the lake is not part of it, because a lake may be moved.
    """
    names = sorted("/".join(p.rsplit("/", 2)[-2:]) for p in paths)
    return hashlib.sha256("\n".join((LAYOUT, *meaning, *names)).encode()).hexdigest()[:16]


def build_days(
    lake: Lake, engine: Engine, policy: Policy, files: Mapping[date, list[str]]
) -> tuple[dict[date, Day], int]:
    """Activity of the dates of `files`, rebuilt where the event files changed, and the number of rebuilt dates."""
    days, rebuilt = {}, 0
    summed: tuple[ir.Table, ir.Table] | None = None  # built once: they refer to the latest table of that name
    for day, paths in files.items():
        parts = ("activity", f"event_date={day}", f"{policy.vocabulary_version}.parquet")
        stamp = built_from(paths, policy.vocabulary_version)
        metadata = _metadata(lake, *parts)
        if metadata.get("built_from") != stamp:
            events = engine.read(paths, "events_of_day")
            if summed is None:
                latest = events.agg(occurred=events.occurred_at.max(), received=events.received_at.max())
                summed = (latest, _daily(engine, policy, events))
            [latest_of_day] = engine.fetch(summed[0]).to_pylist()
            beginning = datetime.combine(day, datetime.min.time(), UTC)  # for files without a row
            metadata = {
                "built_from": stamp,
                "occurred_until": (latest_of_day["occurred"] or beginning).astimezone(UTC).isoformat(),
                "received_until": (latest_of_day["received"] or beginning).astimezone(UTC).isoformat(),
            }
            engine.write(summed[1], metadata, *parts)
            rebuilt += 1
        days[day] = Day(
            lake.path(*parts),
            datetime.fromisoformat(metadata["occurred_until"]),
            datetime.fromisoformat(metadata["received_until"]),
        )
    return days, rebuilt


def read_days(
    engine: Engine,
    policy: Policy,
    days: Mapping[date, Day],
    files: Mapping[date, list[str]],
    as_of: datetime,
    name: str,
) -> ir.Table:
    """The table `name`: the activity of `days` as known at `as_of`, with `event_date`.

    A date with events that occurred or were received after `as_of` (in a backfill or a backtest) is summed up again
    without those events; all other dates are read as built.
    """
    import ibis

    known = [d.path for d in days.values() if d.known_at(as_of)]
    partly = [path for day, d in days.items() if not d.known_at(as_of) for path in files[day]]
    columns = [*_ACTIVITY.names, "event_date"]
    parts = []
    if known:
        parts.append(engine.read(known, f"{name}_known", dated=True).select(columns))
    if partly:
        events = engine.read(partly, f"{name}_events", dated=True)
        events = events.filter(events.occurred_at < ibis.literal(as_of), events.received_at <= ibis.literal(as_of))
        parts.append(engine.keep(_daily(engine, policy, events, "event_date"), f"{name}_partly").select(columns))
    if not parts:
        none = _ACTIVITY.append(pa.field("event_date", pa.date32())).empty_table()
        parts.append(engine.table(none, f"{name}_none"))
    return engine.view(ibis.union(*parts) if len(parts) > 1 else parts[0], name)


def build_history(
    lake: Lake,
    engine: Engine,
    policy: Policy,
    files: Mapping[date, list[str]],
    before: date,
    as_of: datetime,
    name: str,
) -> tuple[ir.Table, int]:
    """The table `name` of what is kept of the days before `before`, and how many activity dates were rebuilt for it.

    One row per account × e-mail domain × lasting event × detail: `account_id`, `account_basis`, `email_domain`,
    `users`, `event`, `detail` (both null in the rows that count users), `first_at`, `last_at`.
    Whole months are read from `history/month=…/`, which is written once. The month that contains `before`, and months
    with events not yet known at `as_of`, are read day by day.
    """
    import ibis

    lasting = sorted({*policy.product.milestones, *policy.product.activation, *LASTING})
    meaning = (policy.vocabulary_version, *lasting, *NOT_USE)
    file_name = f"{hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:8]}.parquet"
    months: dict[str, dict[date, list[str]]] = defaultdict(dict)
    for day, paths in files.items():
        if day < before:
            months[f"{day:%Y-%m}"][day] = paths

    rebuilt, remembered, loose = 0, [], {}
    for month, dates in months.items():
        parts = ("history", f"month={month}", file_name)
        stamp = built_from((p for paths in dates.values() for p in paths), *meaning)
        metadata = _metadata(lake, *parts)
        whole = _month_end(month) < before
        if metadata.get("built_from") != stamp:
            days, n = build_days(lake, engine, policy, dates)
            rebuilt += n
            if not whole or not all(d.known_at(as_of) for d in days.values()):
                loose.update(days)
                continue
            received = max(d.received_until for d in days.values())
            metadata = {"built_from": stamp, "received_until": received.isoformat()}
            activity = engine.read((d.path for d in days.values()), "activity_of_month")
            engine.write(_remembered(activity, lasting), metadata, *parts)
        elif datetime.fromisoformat(metadata["received_until"]) > as_of:
            days, n = build_days(lake, engine, policy, dates)
            rebuilt += n
            loose.update(days)
            continue
        remembered.append(lake.path(*parts))

    sources = []
    if remembered:
        sources.append(engine.read(remembered, f"{name}_months").select(_HISTORY))
    if loose or not sources:
        sources.append(_remembered(read_days(engine, policy, loose, files, as_of, f"{name}_loose"), lasting))
    both = ibis.union(*sources) if len(sources) > 1 else sources[0]
    summed = both.group_by("account_id", "account_basis", "email_domain", "event", "detail").agg(
        users=both.users.max(), first_at=both.first_at.min(), last_at=both.last_at.max()
    )
    return engine.keep(summed, name), rebuilt


_MOMENT = pa.timestamp("us", tz="UTC")

_ACTIVITY = pa.schema(
    [
        ("account_id", pa.string()),
        ("account_basis", pa.string()),
        ("email_domain", pa.string()),
        ("user_id", pa.string()),
        ("event", pa.string()),
        ("detail", pa.string()),
        ("n", pa.int64()),
        ("first_at", _MOMENT),
        ("last_at", _MOMENT),
        ("hours", pa.int32()),
        ("value_max", pa.float64()),
        ("value_last", pa.float64()),
    ]
)

Key = tuple[str, str]
"""A source with a vocabulary of its own (empty: any other source), and its name of an event."""

_HISTORY = ["account_id", "account_basis", "email_domain", "event", "detail", "users", "first_at", "last_at"]


def _daily(engine: Engine, policy: Policy, events: ir.Table, *by: str) -> ir.Table:
    """Canonical events summed up to activity under the policy's vocabulary; `by`: further columns to group by."""
    import ibis

    meanings = _meanings(policy)
    vocabulary = pa.table(
        {
            "of_source": pa.array([source for source, _ in meanings], pa.string()),
            "vendor": pa.array([vendor for _, vendor in meanings], pa.string()),
            "name": pa.array([meaning.as_ for meaning in meanings.values()], pa.string()),
        }
    )
    own = sorted({source for source, _ in meanings} - {""})
    # A source with a vocabulary of its own has its own entries; all other sources share the entries without a source.
    events = events.mutate(of_source=events.source.isin(own).ifelse(events.source, "")) if own else events
    on = ["of_source", ("event", "vendor")] if own else [("event", "vendor")]
    known = events.join(engine.table(vocabulary, "vocabulary"), on)
    properties: dict[str, list[Key]] = defaultdict(list)
    words: dict[str, list[Key]] = defaultdict(list)
    numbers: dict[str, list[Key]] = defaultdict(list)
    for key, meaning in meanings.items():
        if meaning.detail is not None:
            properties[meaning.detail].append(key)
        elif meaning.detail_is is not None:
            words[meaning.detail_is].append(key)
        if meaning.value is not None:
            numbers[meaning.value].append(key)
    detail = [
        *((are, engine.json_text(known.properties, [name]).nullif("")) for name, are in properties.items()),
        *((are, ibis.literal(word)) for word, are in words.items()),
    ]
    value = _by_event(
        known,
        [(are, engine.json_text(known.properties, [name]).try_cast("float64")) for name, are in numbers.items()],
        "float64",
    )
    keys = [*by, "account_id", "account_basis", "email_domain", "user_id"]
    told = known.select(
        *keys,
        event=known.name,
        detail=_by_event(known, detail, "string"),
        occurred_at=known.occurred_at,
        value=possible(value, known.name) if numbers else value,
    )
    # Of two readings at one moment the greater one counts, whatever the order of the rows.
    reading = ibis.struct({"at": told.occurred_at, "value": told.value})
    hour = ibis.literal(1, type="int32") << engine.hour(told.occurred_at)
    return told.group_by(*keys, "event", "detail").agg(
        n=told.count(),
        first_at=told.occurred_at.min(),
        last_at=told.occurred_at.max(),
        hours=hour.bit_or().cast("int32"),
        value_max=told.value.max(),
        value_last=engine.at_most(told.value, reading, where=told.value.notnull()),
    )


def _meanings(policy: Policy) -> dict[Key, Meaning]:
    """(source, its name of an event) → its meaning; the source is empty in the vocabulary that other sources share."""
    own = [source for source in policy.sources if policy.source_settings(source).vocabulary]
    vocabularies = {"": policy.vocabulary} | {source: policy.vocabulary_of(source) for source in own}
    return {(source, name): meaning for source, words in vocabularies.items() for name, meaning in words.items()}


def _remembered(activity: ir.Table, lasting: list[str]) -> ir.Table:
    """What the history keeps of activity: each account's number of users by e-mail domain, and its lasting events."""
    import ibis

    a, used = activity, activity.event.notin(NOT_USE)
    accounts = a.group_by("account_id", "account_basis", "email_domain").agg(
        users=a.user_id.nunique(), first_at=a.first_at.min(where=used), last_at=a.last_at.max(where=used)
    )
    kept = a.filter(a.event.isin(lasting))
    events = kept.group_by("account_id", "event", "detail").agg(
        first_at=kept.first_at.min(), last_at=kept.last_at.max()
    )
    nothing = ibis.null("string")
    return ibis.union(
        accounts.mutate(event=nothing, detail=nothing).select(_HISTORY),
        events.mutate(account_basis=nothing, email_domain=nothing, users=ibis.null("int64")).select(_HISTORY),
    )


def _by_event(events: ir.Table, values: Iterable[tuple[list[Key], ir.Value]], kind: str) -> ir.Value:
    """For events with one of the keys, the value paired with these keys; null for all other events."""
    import ibis

    def are(keys: list[Key]) -> ir.BooleanValue:
        names: dict[str, list[str]] = defaultdict(list)
        for source, name in keys:
            names[source].append(name)
        if "of_source" not in events.columns:
            return events.event.isin(names[""])
        return ibis.or_(*((events.of_source == source) & events.event.isin(of) for source, of in names.items()))

    cases = [(are(keys), value) for keys, value in values]
    return ibis.cases(*cases) if cases else ibis.null(kind)


def _metadata(lake: Lake, *parts: str) -> dict[str, str]:
    """Key-value metadata of a Parquet file of the lake; empty if the file does not exist."""
    if not lake.exists(*parts):
        return {}
    with lake.fs.open(lake.path(*parts), "rb") as file:
        pairs = pq.read_metadata(file).metadata or {}
    return {k.decode(): v.decode() for k, v in pairs.items() if not k.startswith(b"ARROW")}


def _month_end(month: str) -> date:
    year, number = map(int, month.split("-"))
    return date(year, number, calendar.monthrange(year, number)[1])


def last_day(as_of: datetime) -> date:
    """The latest date with a moment before `as_of` (at midnight: the day before)."""
    return (as_of.astimezone(UTC) - timedelta(microseconds=1)).date()
