"""Events → daily activity: one row an account × user × event × detail × day, rebuilt only for touched dates.

`activity/event_date=…/{vocabulary_version}.parquet` holds a day under one vocabulary; `history/month=…/` holds what
must not be forgotten of months older than the lookback: every account, and its first time of each lasting event.
Both carry `built_from` in their Parquet metadata: a hash of the names of the event files they were built from.
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

import duckdb
import pandas as pd
import pyarrow.parquet as pq

from onetouch.catalogue import NOT_USE
from onetouch.lake import Lake
from onetouch.policy import Policy

LAYOUT = "1"  # part of built_from: a change of what a partition holds rebuilds all of them

_EVENT_DATE = re.compile(r"/event_date=(\d{4}-\d{2}-\d{2})/")

LASTING = ("integration_connected",)
"""Events that count for ever though they are no milestone: what was connected stays connected."""


@dataclass(frozen=True)
class Day:
    """One built activity partition. `occurred_until`, `received_until`: its latest event, its latest receipt."""

    path: str
    occurred_until: datetime
    received_until: datetime

    def known_at(self, as_of: datetime) -> bool:
        """Whether all it holds had happened, and was received, at `as_of`."""
        return self.occurred_until < as_of and self.received_until <= as_of


def event_files(lake: Lake) -> dict[date, list[str]]:
    """Event files by event date, both sorted."""
    files: dict[date, list[str]] = defaultdict(list)
    for path in lake.list("events"):
        if found := _EVENT_DATE.search(path):
            files[date.fromisoformat(found[1])].append(path)
    return dict(sorted(files.items()))


def built_from(paths: Iterable[str], *meaning: str) -> str:
    """What a partition depends on: the event files' names (not their folder: a lake may move) and `meaning`."""
    names = sorted("/".join(p.rsplit("/", 2)[-2:]) for p in paths)
    return hashlib.sha256("\n".join((LAYOUT, *meaning, *names)).encode()).hexdigest()[:16]


def build_days(
    lake: Lake, con: duckdb.DuckDBPyConnection, policy: Policy, files: Mapping[date, list[str]]
) -> tuple[dict[date, Day], int]:
    """Activity of the dates of `files`, rebuilt where the event files changed; and how many dates that were."""
    days, rebuilt = {}, 0
    for day, paths in files.items():
        parts = ("activity", f"event_date={day}", f"{policy.vocabulary_version}.parquet")
        stamp = built_from(paths, policy.vocabulary_version)
        metadata = _metadata(lake, *parts)
        if metadata.get("built_from") != stamp:
            read = f"read_parquet({_list(lake, paths)}, hive_partitioning = false)"
            [(occurred, received)] = con.execute(f"SELECT max(occurred_at), max(received_at) FROM {read}").fetchall()
            beginning = datetime.combine(day, datetime.min.time(), UTC)  # files without a row hold nothing later
            metadata = {
                "built_from": stamp,
                "occurred_until": (occurred or beginning).astimezone(UTC).isoformat(),
                "received_until": (received or beginning).astimezone(UTC).isoformat(),
            }
            _write(lake, con, _daily(con, policy, read), metadata, *parts)
            rebuilt += 1
        days[day] = Day(
            lake.path(*parts),
            datetime.fromisoformat(metadata["occurred_until"]),
            datetime.fromisoformat(metadata["received_until"]),
        )
    return days, rebuilt


def read_days(
    lake: Lake,
    con: duckdb.DuckDBPyConnection,
    policy: Policy,
    days: Mapping[date, Day],
    files: Mapping[date, list[str]],
    as_of: datetime,
    name: str,
) -> None:
    """Makes the view `name`: the activity of `days` as known at `as_of`, with `event_date`.

    A date that holds events of after `as_of`, or received after it (a backfill, a backtest), is summed up again
    from its events without them; all others are read as built.
    """
    known = [d.path for d in days.values() if d.known_at(as_of)]
    partly = [path for day, d in days.items() if not d.known_at(as_of) for path in files[day]]
    parts = []
    if known:
        parts.append(f"SELECT * FROM read_parquet({_list(lake, known)}, hive_partitioning = true, {_HIVE})")
    if partly:
        moment = f"TIMESTAMPTZ '{as_of.astimezone(UTC).isoformat()}'"
        read = f"""(
            SELECT * FROM read_parquet({_list(lake, partly)}, hive_partitioning = true, {_HIVE})
            WHERE occurred_at < {moment} AND received_at <= {moment}
        )"""
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name}_partly AS {_daily(con, policy, read, by_date=True)}")
        parts.append(f"SELECT * FROM {name}_partly")
    if not parts:
        parts.append(_EMPTY_DAY)
    con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {' UNION ALL BY NAME '.join(parts)}")


def build_history(
    lake: Lake,
    con: duckdb.DuckDBPyConnection,
    policy: Policy,
    files: Mapping[date, list[str]],
    before: date,
    as_of: datetime,
    name: str,
) -> int:
    """Makes the table `name` of what is remembered of before `before`; returns how many activity dates it rebuilt.

    One row an account × e-mail domain × lasting event × detail: `account_id`, `account_basis`, `email_domain`,
    `users`, `event`, `detail` (both null in the rows that count users), `first_at`, `last_at`.
    Whole months come from `history/month=…/`, written once; the month `before` falls in, and months that hold
    something not yet known at `as_of`, are read day by day.
    """
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
            days, n = build_days(lake, con, policy, dates)
            rebuilt += n
            if not whole or not all(d.known_at(as_of) for d in days.values()):
                loose.update(days)
                continue
            read = f"read_parquet({_list(lake, (d.path for d in days.values()))}, hive_partitioning = true, {_HIVE})"
            received = max(d.received_until for d in days.values())
            metadata = {"built_from": stamp, "received_until": received.isoformat()}
            _write(lake, con, _remember(read, lasting), metadata, *parts)
        elif datetime.fromisoformat(metadata["received_until"]) > as_of:
            days, n = build_days(lake, con, policy, dates)
            rebuilt += n
            loose.update(days)
            continue
        remembered.append(lake.path(*parts))

    sources = []
    if remembered:
        sources.append(f"SELECT * FROM read_parquet({_list(lake, remembered)}, hive_partitioning = false)")
    if loose:
        read_days(lake, con, policy, loose, files, as_of, f"{name}_loose")
        sources.append(_remember(f"{name}_loose", lasting))
    if not sources:
        sources.append(_remember(f"({_EMPTY_DAY})", lasting))
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE {name} AS
        SELECT account_id, account_basis, email_domain, event, detail,
            max(users) AS users, min(first_at) AS first_at, max(last_at) AS last_at
        FROM ({" UNION ALL BY NAME ".join(sources)})
        GROUP BY account_id, account_basis, email_domain, event, detail
        """
    )
    return rebuilt


_HIVE = "hive_types = {'event_date': DATE}"

_EMPTY_DAY = """
    SELECT NULL::VARCHAR AS account_id, NULL::VARCHAR AS account_basis, NULL::VARCHAR AS email_domain,
        NULL::VARCHAR AS user_id, NULL::VARCHAR AS event, NULL::VARCHAR AS detail, NULL::BIGINT AS n,
        NULL::TIMESTAMPTZ AS first_at, NULL::TIMESTAMPTZ AS last_at, NULL::INTEGER AS hours,
        NULL::DOUBLE AS value_max, NULL::DOUBLE AS value_last, NULL::DATE AS event_date
    WHERE false
"""


def _daily(con: duckdb.DuckDBPyConnection, policy: Policy, read: str, *, by_date: bool = False) -> str:
    """The query that sums `read` (canonical events) up to activity under the policy's vocabulary."""
    meanings = policy.vocabulary
    con.register(
        "vocabulary", pd.DataFrame({"vendor": list(meanings), "name": [m.as_ for m in meanings.values()]}, dtype=str)
    )
    details: dict[str, list[str]] = defaultdict(list)
    values: dict[str, list[str]] = defaultdict(list)
    for vendor, meaning in meanings.items():
        if meaning.detail is not None:
            details[f"nullif({_property(meaning.detail)}, '')"].append(vendor)
        elif meaning.detail_is is not None:
            details[_text(meaning.detail_is)].append(vendor)
        if meaning.value is not None:
            values[f"try_cast({_property(meaning.value)} AS DOUBLE)"].append(vendor)
    day = "event_date, " if by_date else ""
    return f"""
        SELECT {day}account_id, account_basis, email_domain, user_id, event, detail,
            count(*) AS n, min(occurred_at) AS first_at, max(occurred_at) AS last_at,
            bit_or(1 << ((epoch_us(occurred_at) // 3600000000) % 24)::INTEGER) AS hours,
            max(value) AS value_max,
            -- Two readings of one moment: the greater one counts, whatever the order of the rows.
            arg_max(value, {{'at': occurred_at, 'value': value}}) FILTER (value IS NOT NULL) AS value_last
        FROM (
            SELECT {day}account_id, account_basis, email_domain, user_id, vocabulary.name AS event,
                {_by_event(details, "VARCHAR")} AS detail, occurred_at,
                {_finite(_by_event(values, "DOUBLE"))} AS value
            FROM {read} AS events JOIN vocabulary ON events.event = vocabulary.vendor
        )
        GROUP BY {day}account_id, account_basis, email_domain, user_id, event, detail
    """


def _remember(read: str, lasting: list[str]) -> str:
    """The query that keeps of `read` (activity) each account, its users by e-mail domain and its lasting events."""
    return f"""
        SELECT account_id, account_basis, email_domain, NULL AS event, NULL AS detail,
            count(DISTINCT user_id) AS users,
            min(first_at) FILTER (event NOT IN ({_texts(NOT_USE)})) AS first_at,
            max(last_at) FILTER (event NOT IN ({_texts(NOT_USE)})) AS last_at
        FROM {read} GROUP BY account_id, account_basis, email_domain
        UNION ALL BY NAME
        SELECT account_id, NULL AS account_basis, NULL AS email_domain, event, detail,
            NULL::BIGINT AS users, min(first_at) AS first_at, max(last_at) AS last_at
        FROM {read} WHERE event IN ({_texts(lasting)}) GROUP BY account_id, event, detail
    """


def _by_event(expressions: Mapping[str, list[str]], kind: str) -> str:
    """CASE: for the vendors' events of each expression, that expression; else null."""
    branches = " ".join(f"WHEN events.event IN ({_texts(names)}) THEN {e}" for e, names in expressions.items())
    return f"CASE {branches} END" if branches else f"NULL::{kind}"


def _finite(expression: str) -> str:
    return f"CASE WHEN isfinite({expression}) THEN {expression} END" if expression.startswith("CASE") else expression


def _property(name: str) -> str:
    """A property of the event as text: its top-level JSON key, whatever characters it has."""
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")
    return f"json_extract_string(properties, {_text(pointer)})"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _texts(values: Iterable[str]) -> str:
    return ", ".join(_text(v) for v in values)


def _list(lake: Lake, paths: Iterable[str]) -> str:
    """Lake paths as the SQL list DuckDB reads them by."""
    return "[" + _texts(_url(lake, p) for p in paths) + "]"


def _url(lake: Lake, path: str) -> str:
    return path if lake.local else lake.fs.unstrip_protocol(path)


def _metadata(lake: Lake, *parts: str) -> dict[str, str]:
    """Key-value metadata of a Parquet file of the lake; empty when it is not there."""
    if not lake.exists(*parts):
        return {}
    with lake.fs.open(lake.path(*parts), "rb") as file:
        pairs = pq.read_metadata(file).metadata or {}
    return {k.decode(): v.decode() for k, v in pairs.items() if not k.startswith(b"ARROW")}


def _write(lake: Lake, con: duckdb.DuckDBPyConnection, query: str, metadata: Mapping[str, str], *parts: str) -> None:
    pairs = ", ".join(f"{k}: {_text(v)}" for k, v in metadata.items())
    # Written every hour and made again at any time: quick beats small.
    with lake.writing(*parts) as path:
        con.execute(
            f"COPY ({query}) TO {_text(_url(lake, path))} (FORMAT parquet, COMPRESSION snappy, KV_METADATA {{{pairs}}})"
        )


def _month_end(month: str) -> date:
    year, number = map(int, month.split("-"))
    return date(year, number, calendar.monthrange(year, number)[1])


def last_day(as_of: datetime) -> date:
    """The latest date with a moment before `as_of` (at midnight: the day before)."""
    return (as_of.astimezone(UTC) - timedelta(microseconds=1)).date()
