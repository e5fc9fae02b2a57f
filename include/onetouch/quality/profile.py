"""The batch's profile: one row a source of counts, rates, age and volume, computed in the engine."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pandas as pd

from onetouch.lake import Lake
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy
from onetouch.sources import extracted

_AS_OF = re.compile(r"-(\d{8}T\d{6}Z)-")

COUNTS = ("rows_in", "kept", "duplicates", "quarantined", "forgotten")

_BATCH = """
SELECT
    source,
    count(*) AS new_rows,
    avg((NOT list_contains($known, event))::INT) AS unknown_event_rate,
    avg((coalesce(user_id, '') = '')::INT) AS no_user_rate,
    avg((coalesce(account_id, '') = '')::INT) AS no_account_rate,
    count(*) FILTER (event_id IS NULL OR event IS NULL OR occurred_at IS NULL OR received_at IS NULL) AS incomplete_rows
FROM read_parquet($files)
GROUP BY source
"""

_REREAD = """
SELECT source, count(*) AS reread FROM read_parquet($files)
WHERE source = $source AND received_at >= $start AND received_at < $end
GROUP BY source
"""

# Volume is counted by the day of receipt, which is complete once it is over; events of a day keep arriving for
# weeks. Events older than the trailing days at receipt don't count, so every day is measured by the same rule
# and the partitions to read stay few. The last full day is held against two days: the median of the trailing ones,
# and the same weekday a week before, because a quiet Sunday is no outage. A drop is one below both, a surge one above
# both. No ratio without half the trailing days of history, nor where a single event would decide it.
_VOLUME = """
WITH received AS (
    SELECT
        source,
        received_at::DATE AS day,
        max(received_at) AS newest,
        count(*) FILTER (occurred_at >= received_at - to_days($trailing)) AS n
    FROM read_parquet($files)
    WHERE received_at < $as_of
    GROUP BY ALL
),
began AS (SELECT source, min(day) AS first_day, max(newest) AS newest FROM received GROUP BY source),
calendar AS (
    SELECT source, unnest(range(greatest(first_day, $last_day - $trailing), $last_day, INTERVAL 1 DAY))::DATE AS day
    FROM began
),
usual AS (
    SELECT
        source,
        count(*) AS history_days,
        median(coalesce(n, 0)) AS usual_rows,
        max(coalesce(n, 0)) FILTER (day = $last_day - 7) AS week_before_rows
    FROM calendar LEFT JOIN received USING (source, day)
    GROUP BY source
),
last_day AS (
    SELECT
        source,
        date_diff('second', newest, $as_of) / 3600.0 AS hours_since_last_event,
        coalesce(n, 0) AS last_day_rows,
        usual_rows,
        week_before_rows,
        coalesce(history_days, 0) AS history_days,
        CASE WHEN history_days * 2 >= $trailing THEN least(usual_rows, week_before_rows) END AS low,
        CASE WHEN history_days * 2 >= $trailing THEN greatest(usual_rows, week_before_rows) END AS high
    FROM began
    LEFT JOIN usual USING (source)
    LEFT JOIN (SELECT source, n FROM received WHERE day = $last_day) USING (source)
)
SELECT
    * EXCLUDE (low, high),
    CASE WHEN low * $finest >= 1 THEN last_day_rows / low END AS volume_drop,
    CASE WHEN high * $finest >= 1 THEN last_day_rows / high END AS volume_surge
FROM last_day
"""


def batch_profile(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> pd.DataFrame:
    """One row a source staged in this run; unknown is null, rates are shares of 1.

    Columns: source · rows_in, kept, duplicates, quarantined, forgotten (of the quarantined), unaccounted (rows in
    less kept, duplicates and quarantined) · reread (rows that earlier batches hold and this window reads again, as
    its overlap means to), quarantine_rate (without the forgotten), duplicate_rate (of rows in; duplicates that were
    not reread) · new_rows, unknown_event_rate (vendor's names the policy's vocabulary lacks), no_user_rate,
    no_account_rate, incomplete_rows (of the batch's rows in the lake) · hours_since_last_event (newest receipt up to
    as_of) · last_day_rows (received on the last full UTC day), usual_rows (median of the trailing days before it),
    week_before_rows (the same weekday), history_days, volume_drop, volume_surge (the last full day ÷ the lower, the
    higher of the two; null when there is too little to tell). Costs what the batch and the trailing days hold,
    whatever the history.
    """
    batches = ledger.batches(run.run_id)
    files = lake.list("events")
    of_batch = {str(batch["batch_id"]) for batch in batches}
    new = [path for path in files if _batch(path) in of_batch]
    trailing, today = policy.quality.trailing_days, run.as_of.astimezone(UTC).date()
    recent = _recent(files, run.as_of, since=today - timedelta(days=2 * trailing + 1))
    with lake.engine() as engine:
        profile = _counted(batches, _reread(engine, lake, run, [b["source"] for b in batches], files, of_batch))
        if new:
            found = engine.execute(_BATCH, {"files": new, "known": sorted(policy.vocabulary)}).df()
            profile = profile.merge(found, on="source", how="left")
        if recent:
            asked = {
                "files": recent,
                "as_of": run.as_of,
                "trailing": trailing,
                "last_day": today - timedelta(days=1),
                "finest": policy.quality.min_volume_ratio.critical or 1,
            }
            profile = profile.merge(engine.execute(_VOLUME, asked).df(), on="source", how="left")
    return profile.reindex(columns=list(_COLUMNS)).astype(_COLUMNS)


_COLUMNS = {"source": "str"} | dict.fromkeys(
    (
        *COUNTS, "unaccounted", "reread", "quarantine_rate", "duplicate_rate",
        "new_rows", "unknown_event_rate", "no_user_rate", "no_account_rate", "incomplete_rows",
        "hours_since_last_event", "last_day_rows", "usual_rows", "week_before_rows", "history_days", "volume_drop",
        "volume_surge",
    ),
    "float64",
)  # fmt: skip


def _counted(batches: Iterable[Mapping[str, Any]], reread: Mapping[str, int]) -> pd.DataFrame:
    """Counts of the ledger's batches, summed a source, and the rates that follow from them."""
    rows = [{"source": batch["source"]} | _counts(batch["counts"]) for batch in batches]
    table = pd.DataFrame(rows, columns=["source", *COUNTS]).groupby("source", as_index=False).sum()
    table["unaccounted"] = table["rows_in"] - table["kept"] - table["duplicates"] - table["quarantined"]
    table["reread"] = table["source"].map(reread).fillna(0)
    received = table["rows_in"].where(table["rows_in"] > 0).astype("float64")
    table["quarantine_rate"] = (table["quarantined"] - table["forgotten"]) / received
    table["duplicate_rate"] = (table["duplicates"] - table["reread"]).clip(lower=0) / received
    return table


def _reread(
    engine: duckdb.DuckDBPyConnection, lake: Lake, run: Run, sources: list[str], files: list[str], of_batch: set[str]
) -> dict[str, int]:
    """Source → rows in the lake that its window reads again. Only batches begun since the window's start hold any."""
    found: dict[str, int] = {}
    for source in sources:
        manifest = extracted(source, lake, run)
        if manifest is None:
            continue
        start, end = (datetime.fromisoformat(moment) for moment in manifest["window"])
        others = [path for path in files if _begun(path) > start and _batch(path) not in of_batch]
        if others:
            asked = {"files": others, "source": source, "start": start, "end": end}
            found.update(engine.execute(_REREAD, asked).fetchall())
    return found


def _counts(counts: Mapping[str, Any]) -> dict[str, int]:
    return {
        "rows_in": counts["in"],
        "kept": counts["kept"],
        "duplicates": counts["duplicates"],
        "quarantined": sum(counts["quarantined"].values()),
        "forgotten": counts["quarantined"].get("forgotten", 0),
    }


def _recent(files: list[str], as_of: datetime, since: date) -> list[str]:
    """Event files dated `since` or later (a day past as_of: clocks run ahead); else those of the newest date before."""
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


def _begun(path: str) -> datetime:
    """The as_of of the run that wrote an event file, from the batch's name; the oldest moment when it has none."""
    found = _AS_OF.search(_batch(path))
    return (
        datetime.strptime(found[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) if found else datetime.min.replace(tzinfo=UTC)
    )
