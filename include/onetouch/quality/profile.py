"""The batch's profile: one row per source with counts, rates, age and volume, computed in the engine."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from onetouch.events import EVENTS, event_files
from onetouch.lake import Engine, Lake
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy

if TYPE_CHECKING:
    import ibis.expr.types as ir

COUNTS = ("rows_in", "kept", "duplicates", "quarantined", "forgotten", "reread")

_DATES_AT_ONCE = 8


def batch_profile(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> pd.DataFrame:
    """One row for each source staged in this run; unknown is null, rates are shares of 1. Columns:

    - source
    - rows_in, kept, duplicates, quarantined, forgotten (part of the quarantined), unaccounted (rows_in − kept −
      duplicates − quarantined)
    - reread (duplicates that earlier batches hold with the same receipt: read again, not sent again), quarantine_rate
      (without the forgotten), duplicate_rate (duplicates that were not reread ÷ rows_in)
    - multiplied (rows too many on the batch's dates, of events that the lake holds more than once)
    - of the batch's rows in the lake: new_rows, unknown_event_rate (event names that the policy's vocabulary lacks),
      no_user_rate, no_account_rate, incomplete_rows
    - hours_since_last_event (hours from the newest receipt to as_of)
    - last_day_rows (received on the last full UTC day), usual_rows (median of the trailing days before it),
      week_before_rows (received on the same weekday a week before), history_days
    - volume_drop, volume_surge: last_day_rows ÷ the lower, the higher of usual_rows and week_before_rows; null if there
      is too little data

    Rates, ages and volumes are of rows that name a person or an account: anonymous ones are told apart (the counts have
    all), so neither do many visitors look like damage, nor do they hide that everybody else has lost the id.

    The cost depends on the batch and the trailing days, not on the length of the history.
    """
    batches = ledger.batches(run.run_id)
    files = event_files(lake, dry=run.dry_run)
    of_batch = {str(batch["batch_id"]) for batch in batches}
    new = [path for path in files if _batch(path) in of_batch]
    trailing, today = policy.quality.trailing_days, run.as_of.astimezone(UTC).date()
    recent = _recent(files, run.as_of, since=today - timedelta(days=2 * trailing + 1))
    with lake.engine() as engine:
        profile = _counted(batches)
        if new:
            profile = profile.merge(_multiplied(engine, new, files), on="source", how="left")
            found = engine.fetch(_batch_rates(_somebodys(engine.read(new, like=EVENTS)), policy)).to_pandas()
            profile = profile.merge(found, on="source", how="left")
        if recent:
            events = _somebodys(engine.read(recent, like=EVENTS))
            received = engine.fetch(_received(events, run.as_of, trailing)).to_pandas()
            profile = profile.merge(_volume(received, policy, run.as_of), on="source", how="left")
    profile = profile.reindex(columns=list(_COLUMNS)).astype(_COLUMNS)
    return profile.fillna({"multiplied": 0.0})


_COLUMNS = {"source": "str"} | dict.fromkeys(
    (
        *COUNTS, "unaccounted", "quarantine_rate", "duplicate_rate", "multiplied",
        "new_rows", "unknown_event_rate", "no_user_rate", "no_account_rate", "incomplete_rows",
        "hours_since_last_event", "last_day_rows", "usual_rows", "week_before_rows", "history_days", "volume_drop",
        "volume_surge",
    ),
    "float64",
)  # fmt: skip


def _counted(batches: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The counts of the ledger's batches, summed by source, and the rates computed from them."""
    rows = [{"source": batch["source"]} | _counts(batch["counts"]) for batch in batches]
    table = pd.DataFrame(rows, columns=["source", *COUNTS]).groupby("source", as_index=False).sum()
    table["unaccounted"] = table["rows_in"] - table["kept"] - table["duplicates"] - table["quarantined"]
    received = table["rows_in"].where(table["rows_in"] > 0).astype("float64")
    table["quarantine_rate"] = (table["quarantined"] - table["forgotten"]) / received
    table["duplicate_rate"] = (table["duplicates"] - table["reread"]).clip(lower=0) / received
    return table


def _multiplied(engine: Engine, new: list[str], files: list[str]) -> pd.DataFrame:
    """source, multiplied: the rows too many on the batch's dates, of events that the lake holds more than once.

    Ids are compared by their 64-bit hashes, and by themselves only where these repeat.
    """
    import ibis

    dates = sorted({_event_date(path) for path in new})
    found: dict[str, int] = {}
    for start in range(0, len(dates), _DATES_AT_ONCE):
        some = set(dates[start : start + _DATES_AT_ONCE])
        events = engine.read([path for path in files if _event_date(path) in some], dated=True, merged=True)
        counted = events.group_by("source", "event_date").agg(n=events.count(), ids=events.event_id.hash().nunique())
        doubtful = engine.fetch(counted.filter(counted.n > counted.ids)).to_pylist()
        for source, day in ((row["source"], row["event_date"]) for row in doubtful):
            of_day = events.filter((events.source == source) & (events.event_date == ibis.literal(day)))
            [row] = engine.fetch(of_day.agg(n=of_day.count(), ids=of_day.event_id.nunique())).to_pylist()
            found[source] = found.get(source, 0) + row["n"] - row["ids"]
    return pd.DataFrame({"source": list(found), "multiplied": list(found.values())}).astype({"source": "str"})


def _somebodys(events: ir.Table) -> ir.Table:
    """The events that are not of a device alone."""
    import ibis

    return events.filter(ibis.coalesce(events.account_id, events.user_id).notnull())


def _batch_rates(events: ir.Table, policy: Policy) -> ir.Table:
    """One row for each source of the batch's events: new_rows, and the shares of rows that lack something."""
    import ibis

    e = events
    own = {source: [*policy.vocabulary_of(source)] for source in policy.sources}
    known = ibis.or_(
        *((e.source == source) & e.event.isin(names) for source, names in own.items()),
        e.source.notin(list(own)) & e.event.isin(list(policy.vocabulary)),
    )

    def share(condition: ir.BooleanValue) -> ir.FloatingScalar:
        return condition.cast("int64").mean()

    lacking = ibis.or_(*(e[name].isnull() for name in ("event_id", "event", "occurred_at", "received_at")))
    return e.group_by("source").agg(
        new_rows=e.count(),
        unknown_event_rate=share(~known),
        no_user_rate=share(e.user_id.fill_null("") == ""),
        no_account_rate=share(e.account_id.fill_null("") == ""),
        incomplete_rows=e.count(where=lacking),
    )


def _received(events: ir.Table, as_of: datetime, trailing: int) -> ir.Table:
    """source, day (of receipt), newest (receipt), n (events received on that day).

    Volume is counted by the day of receipt, which is complete when the day is over, whereas events of a day keep
    arriving for weeks. Events that are older than the trailing days when received do not count, so that every day is
    measured by the same rule and few partitions must be read.
    """
    import ibis

    known_at = ibis.coalesce(events.known_at, events.received_at)
    e = events.filter(events.received_at < ibis.literal(as_of), known_at <= ibis.literal(as_of))
    fresh = e.occurred_at >= e.received_at - ibis.interval(days=trailing)
    return e.group_by(source=e.source, day=e.received_at.date()).agg(newest=e.received_at.max(), n=e.count(where=fresh))


def _volume(received: pd.DataFrame, policy: Policy, as_of: datetime) -> pd.DataFrame:
    """One row per source: the age of its newest event, and the volume of the last full day compared with earlier days.

    The last full day is compared with the median of the trailing days and with the same weekday a week before, because
    a quiet Sunday is no outage. A drop is a volume below both, a surge a volume above both. There is no ratio with less
    than half the trailing days of history, or where a single event would decide it.
    """
    trailing, finest = policy.quality.trailing_days, policy.quality.min_volume_ratio.critical or 1
    last_day = pd.Timestamp(as_of.astimezone(UTC).date()) - pd.Timedelta(days=1)
    until = pd.Timestamp(as_of).floor("s")
    rows = []
    for source, days in received.assign(day=pd.to_datetime(received["day"])).groupby("source"):
        counts = days.set_index("day")["n"]
        first_day = max(counts.index.min(), last_day - pd.Timedelta(days=trailing))
        before = counts.reindex(pd.date_range(first_day, last_day - pd.Timedelta(days=1)), fill_value=0)
        usual = before.median() if len(before) else None
        week_before = before.get(last_day - pd.Timedelta(days=7))
        last = int(counts.get(last_day, 0))
        compared = [float(rows) for rows in (usual, week_before) if rows is not None]
        enough = len(before) * 2 >= trailing and compared
        low, high = (min(compared), max(compared)) if enough else (0.0, 0.0)
        rows.append(
            {
                "source": source,
                "hours_since_last_event": (until - days["newest"].max().floor("s")).total_seconds() / 3600,
                "last_day_rows": last,
                "usual_rows": usual,
                "week_before_rows": week_before,
                "history_days": len(before),
                "volume_drop": last / low if low * finest >= 1 else None,
                "volume_surge": last / high if high * finest >= 1 else None,
            }
        )
    return pd.DataFrame(rows)


def _counts(counts: Mapping[str, Any]) -> dict[str, int]:
    return {
        "rows_in": counts["in"],
        "kept": counts["kept"],
        "duplicates": counts["duplicates"],
        "quarantined": sum(counts["quarantined"].values()),
        "forgotten": counts["quarantined"].get("forgotten", 0),
        "reread": counts.get("reread", 0),
    }


def _recent(files: list[str], as_of: datetime, since: date) -> list[str]:
    """Event files dated from `since` to a day after as_of (clocks run ahead); else files of the newest earlier date."""
    until = as_of.astimezone(UTC).date() + timedelta(days=1)
    dated = [(_event_date(path), path) for path in files]
    near = [path for day, path in dated if since <= day <= until]
    if near:
        return near
    older = [day for day, _ in dated if day < since]
    return [path for day, path in dated if day == max(older)] if older else []


def _event_date(path: str) -> date:
    partition = posixpath.basename(posixpath.dirname(path))
    return date.fromisoformat(partition.removeprefix("event_date="))


def _batch(path: str) -> str:
    return posixpath.basename(path).removesuffix(".parquet")
