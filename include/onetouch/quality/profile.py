"""The batch's profile: one row per source with counts, rates, age and volume, computed in the engine."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from onetouch.events import (
    EVENTS,
    FORGOTTEN,
    OTHER_PROJECT,
    PRUNED,
    event_date,
    event_dates,
    event_files_of,
    possible,
)
from onetouch.lake import Engine, Lake
from onetouch.ledger import Ledger, Run
from onetouch.policy import Limits, Policy
from onetouch.quality.history import FAR, HISTORY_DAYS, LITTLE
from onetouch.quality.names import IGNORED, event_names
from onetouch.quality.tally import DAY, HOUR, somebodys, tallies

if TYPE_CHECKING:
    import ibis.expr.types as ir

COUNTS = ("rows_in", "kept", "duplicates", "quarantined", "forgotten", "elsewhere", "reread")
HOURS = tuple(f"hours_{name}" for name in ("expected", "seen", "damaged", "empty", "lost"))

_DATES_AT_ONCE = 8


def batch_profile(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> pd.DataFrame:
    """One row for each source staged in this run; unknown is null, rates are shares of 1. Columns:

    - source
    - rows_in, kept, duplicates, quarantined, forgotten and elsewhere (parts of the quarantined: rows of forgotten
      people; rows of projects that do not count, and of months whose events were deleted), unaccounted (rows_in − kept
      − duplicates − quarantined)
    - reread (duplicates that earlier batches hold with the same receipt: read again, not sent again), quarantine_rate
      (without the forgotten and those of elsewhere), duplicate_rate (duplicates that were not reread ÷ rows_in)
    - multiplied (rows too many on the batch's dates, of events that the lake holds more than once)
    - hours_expected, hours_seen, hours_damaged, hours_empty, hours_lost (hours that the names of the batch's files
      tell, as in `sources.Coverage`), lost_hours_rate (hours_lost ÷ hours_expected)
    - of the batch's rows in the lake: new_rows, unknown_event_rate (event names that the policy's vocabulary lacks),
      no_user_rate, no_account_rate (these three without the events that the policy ignores), incomplete_rows,
      impossible_values (numbers that their event cannot carry)
    - set_apart: the rows of one user with whom a rate would be critical and without whom it is not. What one user can
      send may stop nobody else's day: quarantine, unknown events and events without an account are judged without the
      user who has the most of them, as long as there is anybody else.
    - hours_since_last_event (hours from the newest receipt to as_of), usual_gap_hours (the second longest of such gaps
      in the weeks before, so that one earlier outage makes nothing usual), quiet_hours (those of the hours
      since on days of the week that are usually quiet)
    - last_day_rows (received on the last full UTC day), usual_rows (median of the trailing days before it),
      week_before_rows (received on the same weekday a week before), history_days
    - volume_drop, volume_surge: last_day_rows ÷ the lower, the higher of usual_rows and week_before_rows (`volume`
      says what else they are held against); null if there is too little data

    Rates, ages and volumes are of rows that name a person or an account: anonymous ones are told apart (the counts have
    all), so neither do many visitors look like damage, nor do they hide that everybody else has lost the id.

    The cost depends on the batch and on the dates that it adds events to, not on the length of the history.
    """
    return profiled(lake, ledger, policy, run).profile


class Profiled(NamedTuple):
    """What a batch is judged by: its `profile` (`batch_profile`), the names of its events (`names.event_names`), and
    the `tallies` of the weeks up to now (`tally.tallies`)."""

    profile: pd.DataFrame
    names: pd.DataFrame
    tallies: pd.DataFrame


def profiled(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> Profiled:
    """The batch's profile, its names, and the tallies of HISTORY_DAYS before as_of."""
    batches = ledger.batches(run.run_id)
    files = event_files_of(lake, _dates(lake, batches), dry=run.dry_run)
    of_batch = {str(batch["batch_id"]) for batch in batches}
    new = [path for path in files if _batch(path) in of_batch]
    trailing, today = policy.quality.trailing_days, run.as_of.astimezone(UTC).date()
    recent = _recent(lake, run, since=today - timedelta(days=max(2 * trailing + 1, HISTORY_DAYS)))
    named = pd.DataFrame(columns=["source", "event", "n", "kind", "looks_like"])
    with lake.engine() as engine:
        profile = _counted(batches)
        if new:
            profile = profile.merge(_multiplied(engine, new, files), on="source", how="left")
            events = engine.read(new, like=EVENTS)
            named = event_names(engine, events, policy)
            found = batch_rates(engine, somebodys(events), policy, named)
            profile = profile.merge(found, on="source", how="left")
        received = profile["rows_in"] - profile["elsewhere"]
        refused, of_one = (
            profile["quarantined"] - profile["forgotten"] - profile["elsewhere"],
            profile["refused_of_one"],
        )
        limit = policy.quality.max_quarantine_rate
        profile = _without_the_loudest(profile, "quarantine_rate", (refused, received, of_one, of_one), limit)
        counts = tallies(lake, engine, recent, run.as_of)
    if recent:
        profile = profile.merge(volume(counts, policy, run.as_of), on="source", how="left")
    profile = profile.reindex(columns=list(_COLUMNS)).astype(_COLUMNS)
    return Profiled(profile.fillna({"multiplied": 0.0}), named, counts)


_COLUMNS = {"source": "str"} | dict.fromkeys(
    (
        *COUNTS, *HOURS, "lost_hours_rate", "unaccounted", "quarantine_rate", "duplicate_rate", "multiplied",
        "new_rows", "unknown_event_rate", "no_user_rate", "no_account_rate", "incomplete_rows", "impossible_values",
        "set_apart",
        "hours_since_last_event", "usual_gap_hours", "quiet_hours", "last_day_rows", "usual_rows", "week_before_rows",
        "history_days", "volume_drop", "volume_surge",
    ),
    "float64",
)  # fmt: skip


def _counted(batches: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The counts of the ledger's batches, summed by source, and the rates computed from them."""
    rows = [{"source": batch["source"]} | _counts(batch["counts"]) for batch in batches]
    table = (
        pd.DataFrame(rows, columns=["source", *COUNTS, "refused_of_one", *HOURS])
        .groupby("source", as_index=False)
        .sum()
    )
    table["unaccounted"] = table["rows_in"] - table["kept"] - table["duplicates"] - table["quarantined"]
    table["lost_hours_rate"] = table["hours_lost"] / table["hours_expected"].where(table["hours_expected"] > 0)
    received = table["rows_in"].where(table["rows_in"] > 0).astype("float64")
    table["quarantine_rate"] = (table["quarantined"] - table["forgotten"]) / received
    table["duplicate_rate"] = (table["duplicates"] - table["reread"]).clip(lower=0) / received
    return table


def _multiplied(engine: Engine, new: list[str], files: list[str]) -> pd.DataFrame:
    """source, multiplied: the rows too many on the batch's dates, of events that the lake holds more than once.

    Ids are compared by their 64-bit hashes, and by themselves only where these repeat.
    """
    import ibis

    dates = sorted({event_date(path) for path in new})
    of_date = defaultdict(list)
    for path in files:
        of_date[event_date(path)].append(path)
    found: dict[str, int] = {}
    for start in range(0, len(dates), _DATES_AT_ONCE):
        some = dates[start : start + _DATES_AT_ONCE]
        events = engine.read([path for day in some for path in of_date[day]], dated=True, merged=True)
        counted = events.group_by("source", "event_date").agg(n=events.count(), ids=events.event_id.hash().nunique())
        doubtful = engine.fetch(counted.filter(counted.n > counted.ids)).to_pylist()
        for source, day in ((row["source"], row["event_date"]) for row in doubtful):
            of_day = events.filter((events.source == source) & (events.event_date == ibis.literal(day)))
            [row] = engine.fetch(of_day.agg(n=of_day.count(), ids=of_day.event_id.nunique())).to_pylist()
            found[source] = found.get(source, 0) + row["n"] - row["ids"]
    return pd.DataFrame({"source": list(found), "multiplied": list(found.values())}).astype({"source": "str"})


def _without_the_loudest(
    frame: pd.DataFrame, rate: str, counts: tuple[pd.Series, pd.Series, pd.Series, pd.Series], limits: Limits
) -> pd.DataFrame:
    """The frame with the rate, without the user who has the most of the rows it counts, and with `set_apart`.

    `counts`: the rows that the rate counts, all rows, and the user's share of both. The user is set apart only where
    all rows pass a limit and the others would make less of it; if there are no others, all rows count.
    """
    some, everything, some_of_one, all_of_one = (series.astype("float64").fillna(0) for series in counts)
    rest = everything - all_of_one
    whole, without = some / everything.where(everything > 0), (some - some_of_one) / rest.where(rest > 0)
    milder = (whole > limits.warning) & (without < whole)
    apart = all_of_one.where((whole > limits.critical) & (without <= limits.critical), 0.0)
    before = frame["set_apart"].fillna(0) if "set_apart" in frame else 0.0
    return frame.assign(**{rate: whole.where(~milder, without), "set_apart": np.fmax(before, apart)})


def batch_rates(engine: Engine, events: ir.Table, policy: Policy, names: pd.DataFrame) -> pd.DataFrame:
    """One row for each source of the batch's events, with the columns of `batch_profile` that come from them.

    `names`: the names of the events (`names.event_names`).
    """
    found: pd.DataFrame = engine.fetch(_by_source(engine, events, policy, names)).to_pandas()
    limits = policy.quality
    for name, limit in (("unknown_event", limits.max_unknown_event_rate), ("no_account", limits.max_no_user_rate)):
        columns = (f"{name}_rows", "rows", f"{name}_of_one", f"{name}_all_of_one")
        one, every, one_of_user, every_of_user = (found[column] for column in columns)
        found = _without_the_loudest(found, f"{name}_rate", (one, every, one_of_user, every_of_user), limit)
    return found


def _by_source(engine: Engine, events: ir.Table, policy: Policy, names: pd.DataFrame) -> ir.Table:
    """One row for each source of the batch's events: new_rows, and the rows and shares of rows that lack something."""
    import ibis

    e = events
    own = {source: [*policy.vocabulary_of(source)] for source in policy.sources}
    counted = ~ibis.or_(
        *(
            (e.source == source) & e.event.isin(of["event"].to_list())
            for source, of in names[names["kind"] == IGNORED].groupby("source")
        ),
        ibis.literal(False),
    )
    known = ibis.or_(
        *((e.source == source) & e.event.isin(names) for source, names in own.items()),
        e.source.notin(list(own)) & e.event.isin(list(policy.vocabulary)),
    )

    lacking = ibis.or_(*(e[name].isnull() for name in ("event_id", "event", "occurred_at", "received_at")))
    user = e.user_id.nullif("")
    by_user = e.group_by("source", user=user).agg(
        every=e.count(),
        rows=e.count(where=counted),
        unknown_event=e.count(where=counted & ~known),
        no_account=e.count(where=counted & (e.account_id.fill_null("") == "")),
        incomplete=e.count(where=lacking),
        impossible=e.count(where=_impossible(engine, e, policy)),
    )
    u = engine.keep(by_user, "rows_by_user")
    somebody = u.user.notnull()

    def of_one(bad: str) -> dict[str, ir.Scalar]:
        """All the rows with that fault, and the rows of the user who has the most of them: with the fault, and all."""
        most = ibis.struct({"bad": u[bad], "rows": -u.rows})
        return {
            f"{bad}_rows": u[bad].sum(),
            f"{bad}_of_one": u[bad].max(where=somebody),
            f"{bad}_all_of_one": engine.at_most(u.rows, most, where=somebody),
        }

    return u.group_by("source").agg(
        new_rows=u.every.sum(),
        rows=u.rows.sum(),
        **of_one("unknown_event"),
        **of_one("no_account"),
        no_user_rate=u.rows.sum(where=~somebody).fill_null(0) / u.rows.sum().nullif(0),
        incomplete_rows=u.incomplete.sum(),
        impossible_values=u.impossible.sum(),
    )


def _impossible(engine: Engine, events: ir.Table, policy: Policy) -> ir.BooleanValue:
    """Whether an event carries a number that its event cannot carry (`events.possible`)."""
    import ibis

    found: list[ir.BooleanValue] = [ibis.literal(False)]
    for source in policy.sources:
        for name, meaning in policy.vocabulary_of(source).items():
            if meaning.value is not None:
                value = engine.json_text(events.properties, [meaning.value]).try_cast("float64")
                wrong = value.notnull() & possible(value, ibis.literal(meaning.as_)).isnull()
                found.append((events.source == source) & (events.event == name) & wrong)
    return ibis.or_(*found)


def _received(counts: pd.DataFrame, as_of: datetime, trailing: int) -> pd.DataFrame:
    """source, day (of receipt), newest (receipt), n (events received on that day), rest (without the most active user).

    Volume is counted by the day of receipt, which is complete when the day is over, whereas events of a day keep
    arriving for weeks. Events that are older than the trailing days when received do not count, so that every day is
    measured by the same rule and few partitions must be read.
    """
    at, until = pd.to_datetime(counts["at"]), pd.Timestamp(as_of.astimezone(UTC)).tz_localize(None)
    found = counts.assign(day=at.dt.normalize())[at < until]
    newest = found[found["grain"] == HOUR].groupby(["source", "day"])["newest"].max()
    fresh = found[pd.to_datetime(found["event_date"]) >= found["day"] - pd.Timedelta(days=trailing)]
    n = fresh[fresh["grain"] == HOUR].groupby(["source", "day"])["n"].sum()
    top = fresh[fresh["grain"] == DAY].groupby(["source", "day"])["top_user"].sum()
    days = pd.DataFrame({"newest": newest, "n": n, "top": top}).fillna({"n": 0, "top": 0}).reset_index()
    return days.assign(
        newest=days["newest"].where(days["newest"] < pd.Timestamp(as_of), pd.Timestamp(as_of)),
        rest=(days["n"] - days["top"]).clip(lower=0),
    )


def volume(counts: pd.DataFrame, policy: Policy, as_of: datetime) -> pd.DataFrame:
    """One row per source: the age of its newest event, and the volume of the last full day compared with earlier days.

    The last full day is compared with the median of the trailing days and with the same weekday a week before, because
    a quiet Sunday is no outage. A drop is a volume below both, a surge a volume above both and above the three days
    before. On a holiday a weekday is as quiet as a weekend: a volume is no larger a drop than a fifth of what it is
    against the quietest twentieth of the last days with events; nor is it a critical one within FAR robust deviations
    of the trailing days, which differ a lot where few people send in bursts. Days are measured without their most
    active user, so that one user is no surge and hides no drop, as long as all others usually make up half of a day.
    There is no ratio with less than half the trailing days of history, or where a single event would decide it.
    `counts`: the tallies.
    """
    trailing, finest = policy.quality.trailing_days, policy.quality.min_volume_ratio.critical or 1
    last_day = pd.Timestamp(as_of.astimezone(UTC).date()) - pd.Timedelta(days=1)
    until = pd.Timestamp(as_of).floor("s")
    rows = []
    hours = counts[(counts["grain"] == HOUR) & counts["newest"].notna()]
    receipts = pd.to_datetime(hours["newest"], utc=True).groupby(hours["source"])
    gaps = {source: of[of < until].sort_values().diff().dropna() / pd.Timedelta(hours=1) for source, of in receipts}
    for source, days in _received(counts, as_of, trailing).groupby("source"):
        days = days.set_index("day")
        first_day = max(days.index.min(), last_day - pd.Timedelta(days=trailing))
        dates = pd.date_range(first_day, last_day - pd.Timedelta(days=1))
        rest = days["rest"].reindex(dates, fill_value=0).median() * 2 >= days["n"].reindex(dates, fill_value=0).median()
        volumes: pd.Series[float] = days["rest" if len(dates) and rest else "n"]
        before = volumes.reindex(dates, fill_value=0)
        usual = before.median() if len(before) else None
        week_before = before.get(last_day - pd.Timedelta(days=7))
        last = int(volumes.get(last_day, 0))
        compared = [float(rows) for rows in (usual, week_before) if rows is not None]
        enough = len(before) * 2 >= trailing and compared
        low, high = (min(compared), max(*compared, *before.iloc[-3:])) if enough else (0.0, 0.0)
        earlier = volumes[(volumes.index < last_day) & (volumes > 0)]
        quiet = float(earlier.quantile(0.05)) if len(earlier) else 0.0
        drop = None
        if low * finest >= 1:
            logs = pd.Series(np.log(before + 0.5))
            spread = max(1.4826 * float((logs - logs.median()).abs().median()), 0.1, 1 / np.sqrt(low + 0.5))
            drop = max(last / low, last / quiet / 5 if quiet else 0.0)
            if np.log((last + 0.5) / (low + 0.5)) > -FAR * spread:
                drop = max(drop, finest)
        rows.append(
            {
                "source": source,
                "hours_since_last_event": (until - days["newest"].max().floor("s")).total_seconds() / 3600,
                "quiet_hours": _quiet_hours(days["n"], days["newest"].max(), until),
                "usual_gap_hours": gaps[source].nlargest(2).iloc[-1] if len(gaps[source]) > 1 else 0.0,
                "last_day_rows": last,
                "usual_rows": usual,
                "week_before_rows": week_before,
                "history_days": len(before),
                "volume_drop": drop,
                "volume_surge": last / high if high * finest >= 1 else None,
            }
        )
    return pd.DataFrame(rows)


def _quiet_hours(volumes: pd.Series, since: pd.Timestamp, until: pd.Timestamp) -> int:
    """The hours between the moments on days of the week whose median volume is under LITTLE of the busiest one's."""
    dates = pd.date_range(volumes.index.min(), volumes.index.max())
    usual = volumes.reindex(dates, fill_value=0).groupby(dates.day_of_week).median()
    quiet = usual.index[usual < LITTLE * usual.max()]
    return int(pd.date_range(since, until, freq="h").day_of_week.isin(quiet).sum())


def _counts(counts: Mapping[str, Any]) -> dict[str, float]:
    hours = counts.get("hours") or {}
    return {
        **{name: hours.get(name.removeprefix("hours_")) or 0 for name in HOURS},
        "rows_in": counts["in"],
        "kept": counts["kept"],
        "duplicates": counts["duplicates"],
        "quarantined": sum(counts["quarantined"].values()),
        "forgotten": counts["quarantined"].get(FORGOTTEN, 0),
        "elsewhere": sum(counts["quarantined"].get(reason, 0) for reason in (OTHER_PROJECT, PRUNED)),
        "reread": counts.get("reread", 0),
        "refused_of_one": counts.get("refused_of_one", 0),  # batches of earlier releases have none
    }


def _dates(lake: Lake, batches: Iterable[Mapping[str, Any]]) -> set[date]:
    """The dates of the batches' events, by their counts: a year of hourly runs leaves too many files to list."""
    of_batches = [batch["counts"].get("dates") for batch in batches]
    if None in of_batches:
        return set(event_dates(lake))
    return {date.fromisoformat(day) for dates in of_batches for day in dates}


def _recent(lake: Lake, run: Run, since: date) -> list[str]:
    """Event files dated from `since` to a day after as_of (clocks run ahead); else files of the newest earlier date."""
    until = run.as_of.astimezone(UTC).date() + timedelta(days=1)
    dates = event_dates(lake)
    if near := event_files_of(lake, (day for day in dates if since <= day <= until), dry=run.dry_run):
        return near
    older = (event_files_of(lake, [day], dry=run.dry_run) for day in reversed(dates) if day < since)
    return next(filter(None, older), [])


def _batch(path: str) -> str:
    return posixpath.basename(path).removesuffix(".parquet")
