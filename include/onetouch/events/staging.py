"""The staging of a run's raw rows: canonical events by date, quarantined rows, and counts that include every row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from onetouch.events.canonical import Canonical
from onetouch.lake import Engine, Lake
from onetouch.ledger import Forgotten, Ledger, Run
from onetouch.policy import Policy
from onetouch.sources import ERASED, ExportError, extracted, raw_folder, read_rows, source_of

if TYPE_CHECKING:
    import ibis.expr.types as ir

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
_PROJECTS = 20  # ours: more are too many to name


def stage(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> dict[str, Any]:
    """Stages every extracted source of the run; returns rows {in, kept, duplicates, quarantined}, files, event_dates.

    rows in = kept + duplicates + quarantined, where a refused file is one row. A batch that is in the ledger is not
    staged again; a batch that a killed process left incomplete is staged again, to the same files and counts. Rows of
    forgotten users and accounts are counted as quarantined (`forgotten`) and kept nowhere, not even in the raw file.
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
    """The id of a run's batch of a source. It is always the same, so a repeated batch replaces the earlier one."""
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
    with lake.engine(memory=_MEMORY, large=True) as engine:
        canonical = Canonical(engine, source_of(source), policy, until, forgotten=forgotten)
        for batch in read_rows(source, lake, policy, run):
            canonical.add(batch)
        canonical.finish()
        chosen = _chosen(engine, lake, canonical.good, batch_id, source)
        good, kept = (_rows(engine, table) for table in (canonical.good, chosen))
        reasons = canonical.bad.group_by("reason").agg(n=canonical.bad.count()).order_by("reason")
        quarantined = {row["reason"]: row["n"] for row in engine.fetch(reasons).to_pylist()}
        if canonical.rows != good + sum(quarantined.values()):
            raise RuntimeError(f"batch {batch_id}: {canonical.rows} rows in, {good} good, {quarantined}: some are lost")
        projects = _projects(engine, canonical.judged)
        dates = _write_events(engine, lake, canonical.good, chosen, source, batch_id)
        _write_quarantine(engine, lake, canonical.bad, source, batch_id)
        if canonical.dropped is not None:
            _erase(engine, lake, canonical.judged.semi_join(canonical.dropped, "row"), source, policy, run)
    return {
        "in": canonical.rows,
        "kept": kept,
        "duplicates": good - kept,
        "quarantined": quarantined,
        "projects": projects,
        "files": len(dates),
        "dates": [day.isoformat() for day in dates],
    }


def _projects(engine: Engine, judged: ir.Table) -> dict[str, int]:
    """Rows by the vendor's project, of the projects with the most rows."""
    import ibis

    named = judged.filter(judged.project.notnull())
    rows = named.group_by("project").agg(n=named.count()).order_by(ibis.desc("n"), "project").limit(_PROJECTS)
    return {row["project"]: row["n"] for row in engine.fetch(rows).to_pylist()}


def _rows(engine: Engine, table: ir.Table) -> int:
    count: int = engine.fetch(table.agg(n=table.count()))["n"][0].as_py()
    return count


def _chosen(engine: Engine, lake: Lake, good: ir.Table, batch_id: str, source: str) -> ir.Table:
    """(row, event_id): for each event the row that was received first, unless the lake already holds the event.

    A row without an id gets one from its text and its ordinal among the equal rows of its file: reading the file again
    gives the same id, and two equal rows of one file stay two events.
    """
    import ibis

    without = good.filter(good.event_id.isnull())
    equal = ibis.window(group_by=[without.file, without.text_hash], order_by=without["row"])
    ordinal = ibis.row_number().over(equal) + 1
    identified = ibis.union(
        good.filter(good.event_id.notnull()).select("row", "received_at", "event_id"),
        without.select("row", "received_at", event_id=without.text_hash.concat("-", ordinal.cast("string"))),
    )
    first = ibis.struct({"received_at": identified.received_at, "row": identified["row"]})
    chosen = identified.group_by("event_id").agg(row=engine.at_least(identified["row"], first))
    held = _held(engine, lake, good, batch_id)
    if held:
        events = engine.read(held)
        chosen = chosen.anti_join(events.filter(events.source == source), "event_id")
    return engine.keep(chosen, "chosen")


def _held(engine: Engine, lake: Lake, good: ir.Table, batch_id: str) -> list[str]:
    """Event files of other batches for the dates of this one; files of this batch are left over from a killed run."""
    dates = engine.fetch(good.select(day=good.occurred_at.date()).distinct().order_by("day"))["day"].to_pylist()
    own = f"/{batch_id}.parquet"
    return [path for day in dates for path in lake.list(f"events/{_partition(day)}") if not path.endswith(own)]


def _write_events(
    engine: Engine, lake: Lake, good: ir.Table, chosen: ir.Table, source: str, batch_id: str
) -> list[date]:
    """Writes the chosen rows in a fixed order, one file per date; returns the dates."""
    import ibis

    events = good.drop("event_id", "file", "text_hash").join(chosen, "row")
    events = events.mutate(
        source=ibis.literal(source), batch_id=ibis.literal(batch_id), event_date=events.occurred_at.date()
    ).order_by("event_date", "occurred_at", "event_id")
    dates: list[date] = []
    for day, pieces in groupby(_by_date(engine.batches(events, _ROWS_AT_ONCE)), key=lambda piece: piece[0]):
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


def _by_date(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[date, pa.Table]]:
    """Splits batches that are ordered by event_date wherever the date changes."""
    for batch in batches:
        days = batch.column("event_date").cast(pa.int32()).to_numpy(zero_copy_only=False)
        starts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), batch.num_rows]
        table = pa.table(batch)
        for start, stop in zip(starts, starts[1:], strict=False):
            if stop > start:
                yield table["event_date"][start].as_py(), _as_events(table.slice(start, stop - start))


def _as_events(table: pa.Table) -> pa.Table:
    """The columns of `EVENTS` in its types; the engine's timestamps are UTC but have no zone."""
    columns = [table[field.name].cast(field.type) for field in EVENTS]
    return pa.Table.from_arrays(columns, schema=EVENTS)


def _write_quarantine(engine: Engine, lake: Lake, bad: ir.Table, source: str, batch_id: str) -> None:
    import ibis

    shown = bad.order_by("row").select(
        source=ibis.literal(source), batch_id=ibis.literal(batch_id), file=bad.file, line=bad.line, reason=bad.reason,
        row=bad.shown,
    )  # fmt: skip
    lake.write(engine.fetch(shown), f"quarantine/{source}", f"{batch_id}.parquet")


def _erase(engine: Engine, lake: Lake, dropped: ir.Table, source: str, policy: Policy, run: Run) -> None:
    """Replaces the rows of forgotten users and accounts in the raw files with placeholders, which count the same."""
    lines: dict[str, set[int]] = defaultdict(set)
    placed = dropped.filter(dropped.line.notnull()).select("file", "line").distinct()
    for row in engine.fetch(placed).to_pylist():
        lines[row["file"]].add(row["line"])
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
