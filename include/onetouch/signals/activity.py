"""Daily activity from events: one row per evidence of whose it is × event × detail × hour, in one file a day (UTC).

The evidence is what the events came with (`events.EVENTS`): user, device, own account and address. `events.Placement`
resolves it when signals are built.

A row tells of its hour (UTC) how many of the events came in its first quarter and in its first half, so that the days
of every time zone can be summed up (`days`). Readings that are no use of the product are kept by the quarter. A row
holds at least one event, so activity has never more rows than events.

A date's activity is rebuilt only if the date has new event files.

`activity/event_date=…/{vocabulary_version}.parquet` holds a day under one vocabulary. `history/month=…/` keeps, for
months older than the lookback, every account and the first time of each of its lasting events. Both carry `built_from`
in their Parquet metadata: a hash of the names of the event files they were built from.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from onetouch.catalogue import EVENTS as NAMED
from onetouch.catalogue import NOT_USE
from onetouch.events import (
    EVENTS,
    Day,
    build_partitions,
    built_from,
    by_month,
    known_since,
    metadata_of,
    month_end,
    named_never,
    possible,
    read_memberships,
    read_profiles,
    view,
)
from onetouch.lake import Engine, Lake, PrunedMonth
from onetouch.policy import Meaning, Policy
from onetouch.signals.days import OF_HOUR
from onetouch.signals.numbers import number_in

if TYPE_CHECKING:
    import ibis.expr.types as ir

LAYOUT = "5"  # part of built_from; increase it when the content of a partition changes, so that all are rebuilt

_READINGS = [event.name for event in NAMED if event.value and not event.use]
_EVER = datetime.max.replace(tzinfo=UTC)

LASTING = ("integration_connected",)
"""Events besides the milestones whose first time is kept for ever: a connected integration stays connected."""


def build_days(
    lake: Lake, engine: Engine, policy: Policy, files: Mapping[date, list[str]]
) -> tuple[dict[date, Day], int]:
    """Activity of the dates of `files`, rebuilt where the event files changed, and the number of rebuilt dates."""
    version = policy.vocabulary_version
    made = partial(_daily, engine, policy, name="events_of_day")
    return build_partitions(lake, engine, files, "activity", f"{version}.parquet", (LAYOUT, version), made)


def read_days(
    engine: Engine,
    policy: Policy,
    days: Mapping[date, Day],
    files: Mapping[date, list[str]],
    as_of: datetime,
    name: str,
) -> ir.Table:
    """The table `name`: the activity of `days` as known at `as_of`, with `event_date`.

    A date with events that occurred or became known after `as_of` (in a backfill or a backtest) is summed up again
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
        events = engine.read(partly, f"{name}_events", dated=True, like=EVENTS)
        events = events.filter(events.occurred_at < ibis.literal(as_of), known_since(events) <= ibis.literal(as_of))
        parts.append(
            engine.keep(_daily(engine, policy, events, f"{name}_events", "event_date"), f"{name}_partly").select(
                columns
            )
        )
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
    *,
    pruned: Iterable[PrunedMonth] = (),
) -> tuple[ir.Table, int]:
    """The table `name` of what is kept of the days before `before`, and how many activity dates were rebuilt for it.

    Evidence, as in activity, × lasting event × detail: `account_id`, `account_basis`, `email_domain`, `user_id`,
    `anonymous_id` (both null where the group places it), `event_date` (the first it stands for), `event`, `detail`
    (both null in the rows that count users), `users`, `first_at`, `last_at`.
    Whole months are read from `history/month=…/`, which is written once. The month that contains `before`, and months
    with events not yet known at `as_of`, are read day by day. Months whose events were deleted (`pruned`) are read as
    they were kept last.
    """
    import ibis

    lasting, meaning, file_name = _history_of(policy)
    months = by_month({day: paths for day, paths in files.items() if day < before})
    rebuilt, loose = 0, {}
    remembered = [path for month in pruned for path in _kept_for_ever(lake, month, file_name)]
    for month, dates in months.items():
        own = view(path for paths in dates.values() for path in paths)
        parts = ("history", f"month={month}", f"{own}{file_name}")
        stamp = built_from((p for paths in dates.values() for p in paths), LAYOUT, *meaning)
        metadata = metadata_of(lake, *parts)
        whole = month_end(month) < before
        if metadata.get("built_from") != stamp:
            days, n = build_days(lake, engine, policy, dates)
            rebuilt += n
            if not whole or not all(d.known_at(as_of) for d in days.values()):
                loose.update(days)
                continue
            known = max(d.known_until for d in days.values())
            metadata = {"built_from": stamp, "known_until": known.isoformat()}
            activity = engine.read((d.path for d in days.values()), "activity_of_month", dated=True)
            theirs = read_memberships(lake, engine, dates, _EVER, "memberships_of_dates")
            engine.write(_remembered(_counted(activity, policy), lasting, theirs), metadata, *parts)
        elif datetime.fromisoformat(metadata["known_until"]) > as_of:
            days, n = build_days(lake, engine, policy, dates)
            rebuilt += n
            loose.update(days)
            continue
        remembered.append(lake.path(*parts))

    sources = []
    if remembered:
        sources.append(engine.read(remembered, f"{name}_months").select(_HISTORY))
    if loose or not sources:
        single = read_days(engine, policy, loose, files, as_of, f"{name}_loose")
        sources.append(_remembered(_counted(single, policy), lasting))
    both = ibis.union(*sources) if len(sources) > 1 else sources[0]
    return engine.keep(both, name), rebuilt


def summed_for_ever(lake: Lake, policy: Policy, dates: Mapping[date, list[str]], month: str) -> tuple[str, datetime]:
    """Brings what is kept for ever of a month up to date, before its events are deleted: its history under the policy,
    its memberships and its users' profiles. `dates`: all its event files. Returns the name of the history's file, and
    when the last of the month's events became known."""
    end = month_end(month) + timedelta(days=1)
    with lake.engine() as engine:
        build_history(lake, engine, policy, dates, end, _EVER, "history_of_month")
        read_memberships(lake, engine, dates, _EVER, "memberships_of_month_kept")
        read_profiles(lake, engine, dates, _EVER, "profiles_of_month_kept")
    file_name = _history_of(policy)[2]
    known = metadata_of(lake, "history", f"month={month}", file_name)["known_until"]
    return file_name, datetime.fromisoformat(known)


def _history_of(policy: Policy) -> tuple[list[str], tuple[str, ...], str]:
    """The lasting events, all that the history depends on besides the events, and the name of its files."""
    lasting = sorted({*policy.product.milestones, *policy.product.activation, *LASTING})
    who = policy.never_count
    never = [name.strip().lower() for name in (*who.users, *who.emails, *who.domains)]
    meaning = (policy.vocabulary_version, *lasting, *NOT_USE, *sorted(never))
    return lasting, meaning, f"{hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:8]}.parquet"


def _kept_for_ever(lake: Lake, month: PrunedMonth, file_name: str) -> list[str]:
    """The history of a month whose events were deleted: under today's vocabulary if there is one, else as it was."""
    held = {posixpath.basename(path): path for path in lake.list(f"history/month={month.month}")}
    return [held[name] for name in (file_name, month.history) if name in held][:1]


def sum_history(history: ir.Table) -> ir.Table:
    """The placed rows of `build_history` by account_id, account_basis, email_domain, event and detail."""
    import ibis

    return history.group_by("account_id", "account_basis", "email_domain", "event", "detail").agg(
        users=ibis.greatest(history.users.max(), history.user_id.nunique()),
        first_at=history.first_at.min(),
        last_at=history.last_at.max(),
    )


_MOMENT = pa.timestamp("us", tz="UTC")

_ACTIVITY = pa.schema(
    [
        ("account_id", pa.string()),
        ("account_basis", pa.string()),
        ("email_domain", pa.string()),
        ("user_id", pa.string()),
        ("anonymous_id", pa.string()),
        ("event", pa.string()),
        ("detail", pa.string()),
        ("quarter", pa.int32()),
        ("n", pa.int64()),
        ("n_15", pa.int64()),
        ("n_30", pa.int64()),
        ("first_at", _MOMENT),
        ("last_at", _MOMENT),
        ("value_max", pa.float64()),
        ("value_last", pa.float64()),
        ("unread", pa.int64()),
    ]
)

Way = TypeVar("Way")

Key = tuple[str, str]
"""A source with a vocabulary of its own (empty: any other source), and its name of an event."""

_REST = ["event_date", "event", "detail", "users", "first_at", "last_at"]
_HISTORY = ["account_id", "account_basis", "email_domain", "user_id", "anonymous_id", *_REST]


def _daily(engine: Engine, policy: Policy, events: ir.Table, name: str, *by: str) -> ir.Table:
    """Canonical events summed up to activity under the policy's vocabulary.

    `by`: further columns to group by. `name`: prefix of the engine's views, which spare it the planning of expressions
    that are used several times.
    """
    import ibis

    meanings = _meanings(policy)
    # Which way leads to the detail and to the value of an event is a number in the vocabulary, because comparing
    # numbers costs less than comparing names.
    details = _ways(map(_detail, meanings.values()))
    values = _ways(meaning.value for meaning in meanings.values())
    # Most events carry no value, and are summed up apart from those that do, because the sums of values are large.
    valued = {meaning.as_ for meaning in meanings.values() if meaning.value is not None}
    vocabulary = pa.table(
        {
            "of_source": pa.array([source for source, _ in meanings], pa.string()),
            "vendor": pa.array([vendor for _, vendor in meanings], pa.string()),
            "name": pa.array([meaning.as_ for meaning in meanings.values()], pa.string()),
            "detail_by": pa.array([_place(details, _detail(meaning)) for meaning in meanings.values()], pa.int32()),
            "value_by": pa.array([_place(values, meaning.value) for meaning in meanings.values()], pa.int32()),
            "valued": pa.array([meaning.as_ in valued for meaning in meanings.values()], pa.bool_()),
            "in_percent": pa.array([meaning.as_ == "demo_viewed" for meaning in meanings.values()]),
            "reading": pa.array([meaning.as_ in _READINGS for meaning in meanings.values()]),
        }
    )
    own = sorted({source for source, _ in meanings} - {""})
    # A source with a vocabulary of its own has its own entries; all other sources share the entries without a source.
    events = events.mutate(of_source=events.source.isin(own).ifelse(events.source, "")) if own else events
    on = ["of_source", ("event", "vendor")] if own else [("event", "vendor")]
    events = events.filter(~events.never_count.fill_null(False))
    known = events.join(engine.table(vocabulary, "vocabulary"), on)
    detail = _by(
        known.detail_by,
        [
            engine.json_text(known.properties, [name]).nullif("") if name else ibis.literal(word)
            for name, word in details
        ],
        "string",
    )
    keys = [*by, "account_id", "account_basis", "email_domain", "user_id", "anonymous_id"]
    at = engine.quarter(known.occurred_at)
    rows = known.select(
        *keys, "valued", "value_by", "in_percent", "properties", "occurred_at",
        event=known.name,
        detail=detail,
        quarter=known.reading.ifelse(at, at - at % OF_HOUR).cast("int32"),
        within=at % OF_HOUR,
    )  # fmt: skip
    keys += ["event", "detail", "quarter"]
    rows = engine.view(rows, f"{name}_rows")
    plain = rows.filter(~rows.valued)
    plain = plain.group_by(keys).agg(**_counts(plain))
    if not values:
        return plain.mutate(value_max=ibis.null("float64"), value_last=ibis.null("float64"), unread=0)
    told = rows.filter(rows.valued)
    said = _by(told.value_by, [engine.json_text(told.properties, [name]) for name in values], "string")
    quoted = _by(
        told.value_by, [engine.json_part(told.properties, [name]).startswith('"') for name in values], "boolean"
    )
    text = told.in_percent.ifelse(said.re_replace(r"\s*%\s*$", ""), said)
    told = told.select(*keys, "within", "occurred_at", said=said, text=text, quoted=quoted)
    told = engine.view(told, f"{name}_texts")
    told = engine.view(told.mutate(number=number_in(told.text, told.quoted)), f"{name}_told")
    told = told.mutate(value=possible(told.number, told.event))
    # Of two readings at one moment the greater one counts, whatever the order of the rows.
    reading = ibis.struct({"at": told.occurred_at, "value": told.value})
    summed = told.group_by(keys).agg(
        **_counts(told),
        value_max=told.value.max(),
        value_last=engine.at_most(told.value, reading, where=told.value.notnull()),
        unread=told.count(where=told.value.isnull() & (told.said != "")),
    )
    nothing = {name: ibis.literal(None, type=summed[name].type()) for name in ("value_max", "value_last")}
    return ibis.union(summed, plain.mutate(**nothing, unread=ibis.literal(0, type="int64")).select(summed.columns))


def _counts(rows: ir.Table) -> dict[str, ir.Scalar]:
    """How many events there are in the hour and in its first quarter and half, and when the first and last came."""
    return {
        "n": rows.count(),
        "n_15": rows.count(where=rows.within < 1),
        "n_30": rows.count(where=rows.within < 2),
        "first_at": rows.occurred_at.min(),
        "last_at": rows.occurred_at.max(),
    }


def _meanings(policy: Policy) -> dict[Key, Meaning]:
    """(source, its name of an event) → its meaning; the source is empty in the vocabulary that other sources share."""
    own = [source for source in policy.sources if policy.source_settings(source).vocabulary]
    vocabularies = {"": policy.vocabulary} | {source: policy.vocabulary_of(source) for source in own}
    return {(source, name): meaning for source, words in vocabularies.items() for name, meaning in words.items()}


def _counted(activity: ir.Table, policy: Policy) -> ir.Table:
    """Activity without the people whom the policy's `never_count` names: the history does not keep who they were."""
    return activity.filter(~named_never(policy, activity.user_id, activity.email_domain))


def _remembered(activity: ir.Table, lasting: list[str], memberships: ir.Table | None = None) -> ir.Table:
    """What the history keeps of activity: the use of each account and person, and their lasting events.

    Where the group places an event, the persons are only counted; all other rows keep their person. With the
    `memberships` of the same days, the days of a person whose account cannot change within them become one row, dated
    with the first; otherwise each day is a row.
    """
    import ibis

    grouped = (activity.account_basis == "group").fill_null(False)
    a = activity.mutate(
        person=grouped.ifelse(ibis.null(), activity.user_id),
        device=(grouped | activity.user_id.notnull()).ifelse(ibis.null(), activity.anonymous_id),
    )
    may_change = a.person.notnull() | a.device.notnull()
    if memberships is not None:
        m = memberships
        users = m.filter(m.user_id.notnull() & (m.account_id.notnull() | m.email_domain.notnull()))
        moving = users.group_by(moving=users.user_id).agg(
            has_group=users.account_id.notnull().any(), has_domain=users.email_domain.notnull().any()
        )
        a = a.left_join(moving, a.person == moving.moving)
        # a group or an address that a device brought may be any user's
        devices = m.agg(n=m.count(where=m.user_id.isnull())).as_scalar() > 0
        changes = a.has_group | (a.has_domain & a.email_domain.isnull())
        may_change = a.device.notnull() | (a.person.notnull() & (changes.fill_null(False) | devices))
    a = a.mutate(day=may_change.ifelse(a.event_date, ibis.null()))
    by = ["account_id", "account_basis", "email_domain", "person", "device", "day"]
    used, kept = a.event.notin(NOT_USE), a.filter(a.event.isin(lasting))
    accounts = a.group_by(by).agg(
        users=a.user_id.nunique(), event_date=a.event_date.min(), first_at=a.first_at.min(where=used),
        last_at=a.last_at.max(where=used),
    )  # fmt: skip
    events = kept.group_by(*by, "event", "detail").agg(
        event_date=kept.event_date.min(), first_at=kept.first_at.min(), last_at=kept.last_at.max()
    )
    nothing = ibis.null("string")
    both = ibis.union(
        accounts.mutate(event=nothing, detail=nothing).select(*by, *_REST),
        events.mutate(users=ibis.null("int64")).select(*by, *_REST),
    )
    return both.rename(user_id="person", anonymous_id="device").select(_HISTORY)


def _detail(meaning: Meaning) -> tuple[str | None, str | None] | None:
    """The property that holds the detail of an event, or else the word that is it; None without a detail."""
    if meaning.detail is not None:
        return meaning.detail, None
    return None if meaning.detail_is is None else (None, meaning.detail_is)


def _ways(found: Iterable[Way | None]) -> list[Way]:
    """The different ones, without None."""
    return list(dict.fromkeys(way for way in found if way is not None))


def _place(ways: list[Way], way: Way | None) -> int | None:
    """Its place among the ways; None without one."""
    return None if way is None else ways.index(way)


def _by(place: ir.IntegerValue, values: list[ir.Value], kind: str) -> ir.Value:
    """The value at each place; null where there is none."""
    import ibis

    cases = [(place == at, value) for at, value in enumerate(values)]
    return ibis.cases(*cases) if cases else ibis.null(kind)
