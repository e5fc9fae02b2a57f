"""The stage: a run's raw rows → canonical events by date, quarantine, and an account of every row."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date, datetime
from itertools import groupby
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from onetouch.events.canonical import Canonical
from onetouch.lake import Lake
from onetouch.ledger import Forgotten, Ledger, Run
from onetouch.policy import Policy
from onetouch.sources import ERASED, ExportError, extracted, raw_folder, read_rows, source_of

_TIME = pa.timestamp("us", tz="UTC")

EVENTS = pa.schema(
    [
        ("event_id", pa.string()),
        ("source", pa.string()),
        ("event", pa.string()),
        ("occurred_at", _TIME),
        ("received_at", _TIME),
        ("user_id", pa.string()),
        ("account_id", pa.string()),
        ("account_basis", pa.string()),
        ("email_domain", pa.string()),
        ("properties", pa.string()),
        ("batch_id", pa.string()),
    ]
)
"""The canonical event. `email_domain` is the registrable business domain of the user's e-mail, else null."""

_MEMORY = "2GB"
_ROWS_AT_ONCE = 100_000


def stage(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> dict[str, Any]:
    """Stages every extracted source of the run; returns rows {in, kept, duplicates, quarantined}, files, event_dates.

    rows in = kept + duplicates + quarantined, where a refused file is one row. A batch that is in the ledger is not
    staged again; one that a killed process left half written is, to the same files and counts. Rows of users and
    accounts that were forgotten are counted as quarantined (`forgotten`) and kept nowhere, the raw file included.
    Raises ExportError when nothing was extracted.
    """
    rows: Counter[str] = Counter()
    quarantined: Counter[str] = Counter()
    files = 0
    dates: set[str] = set()
    sources = [source for source in policy.sources if extracted(source, lake, run) is not None]
    if not sources:
        raise ExportError(f"run {run.run_id}: no source is extracted; extract_events comes first")
    for source in sources:
        counts = _stage_source(source, lake, ledger, policy, run)
        rows.update({name: counts[name] for name in ("in", "kept", "duplicates")})
        quarantined.update(counts["quarantined"])
        files += counts["files"]
        dates.update(counts["dates"])
    return {
        "rows": {
            "in": rows["in"],
            "kept": rows["kept"],
            "duplicates": rows["duplicates"],
            "quarantined": dict(sorted(quarantined.items())),
        },
        "files": files,
        "event_dates": len(dates),
    }


def batch_of(source: str, run: Run) -> str:
    """The id of a run's batch of a source: always the same, so that a repeated batch replaces itself."""
    return f"{source}-{run.run_id}"


def _stage_source(source: str, lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> dict[str, Any]:
    batch_id = batch_of(source, run)
    manifest = extracted(source, lake, run)
    assert manifest is not None
    until = datetime.fromisoformat(manifest["window"][1])
    recorded = ledger.batch(batch_id)
    if recorded is None:
        counts = _write_batch(source, batch_id, lake, policy, run, until, ledger.forgotten())
        ledger.record_batch(batch_id, run.run_id, source, counts)
    else:
        counts = recorded["counts"]
    ledger.advance_watermark(source, until)
    return counts


def _write_batch(
    source: str, batch_id: str, lake: Lake, policy: Policy, run: Run, until: datetime, forgotten: Forgotten
) -> dict[str, Any]:
    """Writes the batch's files and returns its counts {in, kept, duplicates, quarantined, files, dates}."""
    with tempfile.TemporaryDirectory(prefix="stage-") as place, lake.engine(memory=_MEMORY) as con:
        # on disk, so that memory is bounded however large the window is; one transaction, so that it is written once
        con.execute(f"SET temp_directory = '{place}/spill'")
        con.execute(f"ATTACH '{place}/stage.duckdb' AS stage")
        con.execute("BEGIN")
        canonical = Canonical(con, source_of(source).shape, policy, until, forgotten=forgotten)
        for batch in read_rows(source, lake, policy, run):
            canonical.add(batch)
        canonical.finish()
        _choose(con, lake, batch_id, source)
        good, kept = con.execute(
            "SELECT (SELECT count(*) FROM stage.good), (SELECT count(*) FROM stage.chosen)"
        ).fetchall()[0]
        quarantined = dict(
            con.execute("SELECT reason, count(*) FROM stage.bad GROUP BY reason ORDER BY reason").fetchall()
        )
        if canonical.rows != good + sum(quarantined.values()):
            raise RuntimeError(f"batch {batch_id}: {canonical.rows} rows in, {good} good, {quarantined}: some are lost")
        dates = _write_events(con, lake, source, batch_id)
        _write_quarantine(con, lake, source, batch_id)
        if forgotten:
            _erase_dropped(con, lake, source, policy, run)
    return {
        "in": canonical.rows,
        "kept": kept,
        "duplicates": good - kept,
        "quarantined": quarantined,
        "files": len(dates),
        "dates": [day.isoformat() for day in dates],
    }


def _choose(con: duckdb.DuckDBPyConnection, lake: Lake, batch_id: str, source: str) -> None:
    """Fills `stage.chosen` (row, event_id): one row an event, the first received, unless the lake holds it already.

    A row without an id gets one from its text and its ordinal among the equal rows of its file: a re-read gives the
    same, and two equal rows of one file stay two.
    """
    con.execute(
        """
        CREATE TABLE stage.chosen AS
        WITH identified AS (
            SELECT row, received_at, event_id FROM stage.good WHERE event_id IS NOT NULL
            UNION ALL
            SELECT row, received_at,
                text_hash || '-' || row_number() OVER (PARTITION BY file, text_hash ORDER BY row) AS event_id
            FROM stage.good WHERE event_id IS NULL
        )
        SELECT arg_min(row, (received_at, row)) AS row, event_id FROM identified GROUP BY event_id
        """
    )
    held = _held(con, lake, batch_id)
    if held:
        con.execute(
            """
            DELETE FROM stage.chosen WHERE event_id IN (
                SELECT event_id FROM read_parquet($paths, hive_partitioning = false) WHERE source = $source)
            """,
            {"paths": held, "source": source},
        )


def _held(con: duckdb.DuckDBPyConnection, lake: Lake, batch_id: str) -> list[str]:
    """Event files of other batches for the dates of this one; its own are what a killed try left."""
    dates = con.execute("SELECT DISTINCT occurred_at::DATE FROM stage.good ORDER BY 1").fetchall()
    own = f"/{batch_id}.parquet"
    return [path for (day,) in dates for path in lake.list(f"events/{_partition(day)}") if not path.endswith(own)]


def _write_events(con: duckdb.DuckDBPyConnection, lake: Lake, source: str, batch_id: str) -> list[date]:
    """Writes the chosen rows, one file a date, in a fixed order; returns the dates."""
    # con.sql: Arrow from con.execute does not keep the order (DuckDB 2.0 with preserve_insertion_order off)
    reader = con.sql(
        f"""
        SELECT c.event_id, '{source}' AS source, g.event, g.occurred_at, g.received_at, g.user_id, g.account_id,
            g.account_basis, g.email_domain, g.properties, '{batch_id}' AS batch_id, g.occurred_at::DATE AS event_date
        FROM stage.good g JOIN stage.chosen c USING (row)
        ORDER BY event_date, g.occurred_at, c.event_id
        """
    ).to_arrow_reader(_ROWS_AT_ONCE)
    dates: list[date] = []
    for day, pieces in groupby(_by_date(reader), key=lambda piece: piece[0]):
        if dates and day <= dates[-1]:
            raise RuntimeError(f"batch {batch_id}: {day} came after {dates[-1]}: its file would be overwritten")
        name = (f"events/{_partition(day)}", f"{batch_id}.parquet")
        with (
            lake.writing(*name) as draft,
            lake.fs.open(draft, "wb") as file,
            pq.ParquetWriter(file, EVENTS, compression="zstd") as writer,
        ):
            for _, piece in pieces:
                writer.write_table(piece)
        dates.append(day)
    return dates


def _by_date(reader: pa.RecordBatchReader) -> Iterator[tuple[date, pa.Table]]:
    """Batches ordered by event_date, cut where the date changes."""
    for batch in reader:
        days = batch.column("event_date").cast(pa.int32()).to_numpy(zero_copy_only=False)
        starts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), batch.num_rows]
        table = pa.table(batch)
        for start, stop in zip(starts, starts[1:], strict=False):
            if stop > start:
                yield table["event_date"][start].as_py(), _as_events(table.slice(start, stop - start))


def _as_events(table: pa.Table) -> pa.Table:
    """The columns of `EVENTS`, in its types: the engine's timestamps are UTC without saying so."""
    columns = [table[field.name].cast(field.type) for field in EVENTS]
    return pa.Table.from_arrays(columns, schema=EVENTS)


def _write_quarantine(con: duckdb.DuckDBPyConnection, lake: Lake, source: str, batch_id: str) -> None:
    table = con.sql(
        f"""
        SELECT '{source}' AS source, '{batch_id}' AS batch_id, file, line, reason, shown AS "row"
        FROM stage.bad ORDER BY bad.row
        """
    ).to_arrow_table()
    lake.write(table, f"quarantine/{source}", f"{batch_id}.parquet")


def _erase_dropped(con: duckdb.DuckDBPyConnection, lake: Lake, source: str, policy: Policy, run: Run) -> None:
    """Takes the rows of those who were forgotten out of the raw files; what stands there then counts the same."""
    lines: dict[str, set[int]] = defaultdict(set)
    query = "SELECT DISTINCT file, line FROM stage.rows SEMI JOIN stage.dropped USING (row) WHERE line IS NOT NULL"
    for file, line in con.execute(query).fetchall():
        lines[file].add(line)
    manifest = extracted(source, lake, run)
    assert manifest is not None
    for raw in manifest["files"]:
        if gone := lines.get(raw["file"]):
            source_of(source).format.rewrite(
                lake,
                raw_folder(source, run),
                raw["path"],
                policy.events,
                lambda number, _, gone=gone: ERASED.encode() if number in gone else None,  # type: ignore[misc]
            )


def _partition(day: date) -> str:
    return f"event_date={day.isoformat()}"
