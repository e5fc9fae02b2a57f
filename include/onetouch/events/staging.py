"""The staging of a run's raw rows: canonical events by date, quarantined rows, and counts that include every row."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from onetouch.events.canonical import FORGOTTEN, OTHER_PROJECT, PRUNED, Canonical
from onetouch.events.files import batch_of, event_files, is_dry
from onetouch.events.losses import losses, total
from onetouch.lake import Engine, Lake, pruned_months
from onetouch.ledger import FileRead, Forgotten, Ledger, Run
from onetouch.policy import Policy
from onetouch.sources import (
    ERASED,
    ExportError,
    Fetched,
    extracted,
    raw_folder,
    read_rows,
    reading_of,
    source_of,
    steps,
)

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
        ("known_at", _TIME),
        ("user_id", pa.string()),
        ("anonymous_id", pa.string()),
        ("groups", pa.string()),
        ("account_id", pa.string()),
        ("account_basis", pa.string()),
        ("email_domain", pa.string()),
        ("never_count", pa.bool_()),
        ("profile", pa.string()),
        ("properties", pa.string()),
        ("sent_key", pa.string()),
        ("batch_id", pa.string()),
    ]
)
"""The canonical event, with the evidence of whose it is; `memberships` resolves it.

`known_at`: since when we have had the event: its receipt, or later if its file came late; null in files of earlier
releases, which means its receipt. `sent_key`: a digest of the sender's own id of the event, by which it is recognised
when it is sent again; null if it has none.

`anonymous_id`: the source's own id of a person or device. `groups`: all its groups as the source gave them (a JSON
object), where they are more than its properties. `account_id`: the account that the event by itself names, and
`account_basis` by what: its group, the domain of its person's address, or its person alone (personal); null if it is
anonymous. `email_domain`: the registrable business domain of the person's e-mail, else null. `never_count`: whether the
policy's `never_count` names the person, else null. `profile`: what the event says of its user (a JSON object of
PROFILE, as the policy's `events.person_properties` map them), which `profiles` gathers; null if it says nothing, and
where a later event of the batch and the day says the same.
"""

_MEMORY = "2GB"
_ROWS_AT_ONCE = 100_000
_MOMENT = timedelta(microseconds=1)
_FIRST_BAD = 20  # rejected rows that are looked at when no row is an event
_PROJECTS = 20  # ours: more are too many to name


def stage(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> dict[str, Any]:
    """Stages every extracted source of the run; returns rows {in, kept, anonymous, duplicates, quarantined}, repaired,
    files, event_dates, already_read (files that an earlier run had read), late (kept rows that earlier runs should have
    had), unnamed_groups, and what was lost: hours, ignored and warnings as in `losses`.

    rows in = kept + duplicates + quarantined, where a refused file is one row. `anonymous`: how many of the kept are of
    a device only. `repaired`: of the kept and duplicate rows those of which something was mended or left out, by
    reason. `unnamed_groups`: group type → rows that only have groups of types that the policy does not name.

    A batch that is in the ledger is not staged again; a batch that a killed process left incomplete is staged again, to
    the same files and counts. Rows of forgotten users and accounts are counted as quarantined (`forgotten`) and kept
    nowhere, not even in the raw file.
    Runs at the same source wait for one another, so each event is kept once. Raises ExportError when nothing was
    extracted.
    """
    rows: Counter[str] = Counter()
    quarantined: Counter[str] = Counter()
    repaired: Counter[str] = Counter()
    found: Counter[str] = Counter()
    unnamed: Counter[str] = Counter()
    dates: set[str] = set()
    every: list[dict[str, Any]] = []
    sources = [source for source in policy.sources if extracted(source, lake, run) is not None]
    if not sources:
        raise ExportError(f"run {run.run_id}: no source is extracted; extract_events comes first")
    for source in sources:
        counts = _stage_source(source, lake, ledger, policy, run)
        every.append(counts)
        rows.update({name: counts.get(name, 0) for name in ("in", "kept", "anonymous", "duplicates")})
        unnamed.update(counts.get("unnamed_groups", {}))
        quarantined.update(counts["quarantined"])
        repaired.update(counts.get("repaired", {}))  # batches of earlier releases have none
        found.update({name: counts.get(name, 0) for name in ("files", "already_read", "late")})
        dates.update(counts["dates"])
    return {
        "rows": {
            "in": rows["in"],
            "kept": rows["kept"],
            "anonymous": rows["anonymous"],
            "duplicates": rows["duplicates"],
            "quarantined": dict(sorted(quarantined.items())),
        },
        "repaired": dict(sorted(repaired.items())),
        "files": found["files"],
        "event_dates": len(dates),
        "already_read": found["already_read"],
        "late": found["late"],
        "unnamed_groups": dict(sorted(unnamed.items())),
        **total(every),
    }


def _stage_source(source: str, lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> dict[str, Any]:
    def recorded() -> dict[str, Any] | None:
        return next((batch["counts"] for batch in ledger.batches(run.run_id) if batch["source"] == source), None)

    if (counts := recorded()) is not None:
        return counts
    with ledger.alone_at(source, "stage") as still_alone:
        if (counts := recorded()) is not None:
            return counts
        manifest = extracted(source, lake, run)
        assert manifest is not None
        files = _files(source, manifest, ledger, policy, run)
        counts, until = _write_batch(source, lake, policy, run, manifest, files, ledger.forgotten())
        still_alone()
        if _is_taken(counts, policy):
            ledger.record_batch(batch_of(source, run), run.run_id, source, counts, files=files, until=until)
        else:
            ledger.record_batch(batch_of(source, run), run.run_id, source, counts)
        return counts


def _is_taken(counts: Mapping[str, Any], policy: Policy) -> bool:
    """Whether the batch's files count as read. A batch with so many bad rows that its check is critical is read again
    by the next run, which is then stopped as well until policy or data are mended. The check sets one user's bad rows
    apart, and so does this: nobody alone can keep a source from being read on."""
    quarantined, of_one = counts["quarantined"], int(counts["refused_of_one"])
    apart = sum(quarantined.get(reason, 0) for reason in (OTHER_PROJECT, PRUNED))
    bad: int = sum(n for reason, n in quarantined.items() if reason not in (FORGOTTEN, OTHER_PROJECT, PRUNED))
    received = int(counts["in"]) - int(apart)
    limit = policy.quality.max_quarantine_rate.critical
    others = received - of_one
    return bad <= limit * received or (others > 0 and bad - of_one <= limit * others)


def _files(source: str, manifest: Mapping[str, Any], ledger: Ledger, policy: Policy, run: Run) -> list[FileRead]:
    """The batch's files as the ledger records them.

    A file that nobody had when an earlier run decided, though its rows had been received by then, is late: its rows are
    known from this run's `as_of` on, but not to a run whose moment has passed. A file that is read again keeps what was
    recorded of it.
    """
    reading, fetched = reading_of(source, policy), Fetched.of(dict(manifest))
    before = {file.identity: file for file in ledger.files_read(source, dry=run.dry_run) if not file.reason}
    covered = ledger.decided_until(source, run)
    known_at = None if covered is None else max(run.as_of, covered + _MOMENT)
    files = []
    for file in fetched.files:
        earlier = before.get(file.identity)
        late = (covered, known_at) if earlier is None else (earlier.covered, earlier.known_at)
        files.append(FileRead(file.identity, reading, "", *late, file=file.file))
    return [*files, *(FileRead(refusal.identity, reading, refusal.reason) for refusal in fetched.refused)]


def _write_batch(
    source: str,
    lake: Lake,
    policy: Policy,
    run: Run,
    manifest: Mapping[str, Any],
    files: Sequence[FileRead],
    forgotten: Forgotten,
) -> tuple[dict[str, Any], datetime | None]:
    """Writes the batch's files.

    Returns its counts {in, kept, anonymous, duplicates, quarantined, refused_of_one (the most of one user), projects,
    repaired, unnamed_groups, files, dates, already_read, late, reread} with `losses`, where `reread` are the duplicates
    of earlier batches that were received when the event was, and the newest receipt of the good rows.
    """
    batch_id, until = batch_of(source, run), datetime.fromisoformat(manifest["window"][1])
    lateness = {(file.covered, file.known_at) for file in files if not file.reason}
    with lake.engine(memory=_MEMORY, large=True) as engine:
        canonical = Canonical(
            engine,
            source_of(source),
            policy,
            until,
            forgotten=forgotten,
            placed=len(lateness) > 1,
            pruned=pruned_months(lake),
        )
        for batch in read_rows(source, lake, policy, run):
            canonical.add(batch)
        canonical.finish()
        chosen, reread = _chosen(engine, lake, canonical.good, batch_id, source, run)
        good, kept = (_rows(engine, table) for table in (canonical.good, chosen))
        nobodys = canonical.good.filter(canonical.good.account_id.isnull())
        anonymous = _rows(engine, nobodys.semi_join(chosen, "row"))
        unnamed = _unnamed_groups(engine, canonical.good, policy)
        quarantined = _counted(engine, canonical.bad, "reason")
        refused_of_one = _of_one(engine, canonical.bad, source)
        repaired = _counted(engine, canonical.good.filter(canonical.good.repaired.notnull()), "repaired")
        if canonical.rows != good + sum(quarantined.values()):
            raise RuntimeError(f"batch {batch_id}: {canonical.rows} rows in, {good} good, {quarantined}: some are lost")
        projects = _projects(engine, canonical.judged)
        rows = _known(engine, canonical.good, files, lateness)
        dates, late = _write_events(engine, lake, rows, chosen, source, batch_id)
        if not run.dry_run:
            _take_over(engine, lake, chosen, source, dates)
        _write_quarantine(engine, lake, canonical.bad, source, batch_id)
        first = engine.fetch(canonical.bad.order_by("row").limit(_FIRST_BAD)).to_pylist()
        if canonical.dropped is not None:
            _erase(engine, lake, canonical.judged.semi_join(canonical.dropped, "row"), source, policy, run)
        newest = engine.fetch(canonical.good.agg(at=canonical.good.received_at.max()))["at"][0].as_py()
    counts = {
        "in": canonical.rows,
        "kept": kept,
        "anonymous": anonymous,
        "unnamed_groups": unnamed,
        "duplicates": good - kept,
        "quarantined": quarantined,
        "refused_of_one": refused_of_one,
        "repaired": repaired,
        "projects": projects,
        "files": len(dates),
        "dates": [day.isoformat() for day in dates],
        "already_read": manifest.get("known", 0),
        "late": late,
        "reread": reread,
    }
    counts |= losses(source, Fetched.of(dict(manifest)), counts, first)
    return counts, None if newest is None else min(newest.replace(tzinfo=UTC), until)


def _of_one(engine: Engine, bad: ir.Table, source: str) -> int:
    """The most rejected rows that name the same user; by their text, because they need not be valid JSON."""
    keys = "|".join(re.escape(steps(place)[-1]) for place in source_of(source).shape.user_id)
    user = bad.shown.re_extract(rf"""["'](?:{keys})["']\s*:\s*["']?([^"',}}]+)""", 1).nullif("")
    named = bad.mutate(user=user).filter(lambda row: row.user.notnull())
    most = named.group_by("user").agg(n=named.count())
    return engine.fetch(most.agg(n=most.n.max()))["n"][0].as_py() or 0


def _projects(engine: Engine, judged: ir.Table) -> dict[str, int]:
    """Rows by the vendor's project, of the projects with the most rows."""
    import ibis

    named = judged.filter(judged.project.notnull())
    rows = named.group_by("project").agg(n=named.count()).order_by(ibis.desc("n"), "project").limit(_PROJECTS)
    return {row["project"]: row["n"] for row in engine.fetch(rows).to_pylist()}


def _rows(engine: Engine, table: ir.Table) -> int:
    count: int = engine.fetch(table.agg(n=table.count()))["n"][0].as_py()
    return count


def _counted(engine: Engine, table: ir.Table, column: str) -> dict[str, int]:
    """Value → number of rows, sorted by the value."""
    counts = engine.fetch(table.group_by(column).agg(n=table.count()).order_by(column))
    return dict(zip(counts[column].to_pylist(), counts["n"].to_pylist(), strict=True))


def _unnamed_groups(engine: Engine, good: ir.Table, policy: Policy) -> dict[str, int]:
    """Group type → rows, of rows whose groups are all of types that the policy does not name; the most frequent 20."""
    lost = good.filter(good.groups.notnull(), (good.account_basis != "group").fill_null(True))
    types = lost.select(kind=engine.json_keys(lost.groups).unnest())
    types = types.filter(types.kind.notin(policy.events.group_types))
    counted = types.group_by("kind").agg(n=types.count())
    rows = engine.fetch(counted.order_by([counted.n.desc(), "kind"]).limit(20)).to_pylist()
    return {row["kind"][:80]: row["n"] for row in rows}


# ── which rows are kept ──


def _chosen(engine: Engine, lake: Lake, good: ir.Table, batch_id: str, source: str, run: Run) -> tuple[ir.Table, int]:
    """(row, event_id): for each event the row that was received first, unless the lake already holds the event.

    A row without an id gets one from its content and its ordinal among the equal rows of its file: reading the file
    again gives the same id, two equal rows of one file stay two events, and so many are kept as the file with the most
    of them has. Also returns how many rows the lake already holds as they are.
    """
    import ibis

    without = good.filter(good.event_id.isnull())

    def numbered(digest: ir.StringColumn) -> ir.StringValue:
        equal = ibis.window(group_by=[without.file, digest], order_by=without["row"])
        return digest.concat("-", (ibis.row_number().over(equal) + 1).cast("string"))

    made = without.select(
        "row", "received_at", event_id=numbered(without.row_hash), former_id=numbered(without.text_hash)
    )
    identified = ibis.union(
        good.filter(good.event_id.notnull()).select("row", "received_at", "event_id"),
        made.select("row", "received_at", "event_id"),
    )
    first = ibis.struct({"received_at": identified.received_at, "row": identified["row"]})
    chosen = identified.group_by("event_id").agg(
        row=engine.at_least(identified["row"], first), received_at=identified.received_at.min()
    )
    paths, near = _held(engine, lake, good, batch_id, run)
    reread = 0
    if paths:
        events = engine.read(paths, like=EVENTS)
        held = events.filter(events.source == source)
        both = chosen.left_join(held.select(held_id="event_id", held_at="received_at"), [("event_id", "held_id")])
        matched = engine.keep(both, "matched")
        reread = _rows(engine, matched.filter(matched.held_at == matched.received_at))
        chosen = matched.filter(matched.held_id.isnull()).drop("held_id", "held_at")
        # Earlier releases made the id of a row from its whole text.
        former = made.semi_join(held, [("former_id", "event_id")]).filter(lambda t: t.former_id != t.event_id)
        chosen = chosen.anti_join(former, "event_id")
    chosen = engine.keep(chosen.select("row", "event_id"), "chosen")
    again = _sent_again(engine, good, chosen, source_of(source).shape.sent_days, near, source)
    return (engine.keep(chosen.anti_join(again, "row"), "kept") if again is not None else chosen), reread


def _sent_again(
    engine: Engine, good: ir.Table, chosen: ir.Table, days: int, near: list[str], source: str
) -> ir.Table | None:
    """(row): the chosen rows that are events sent again under another id; None if there are none.

    Of rows with one `sent_key`, in the batch and in the event files `near`, whose events follow each other within
    `days` days, the first received is the event. A row without an id is sent again only if it was received later: equal
    rows of one file may be two events.
    """
    import ibis

    keyed = good.filter(good.sent_key.notnull())
    counted = keyed.group_by("sent_key").agg(n=keyed.count())
    several = engine.keep(counted.filter(counted.n > 1).select("sent_key"), "sent_keys")
    again = []
    window = ibis.literal(days * 86_400)
    if _rows(engine, several):
        few = (
            keyed.semi_join(several, "sent_key")
            .semi_join(chosen, "row")
            .select(
                "row",
                "sent_key",
                "received_at",
                has_id=ibis._.event_id.notnull(),
                at=ibis._.occurred_at.epoch_seconds(),
            )
        )
        in_order = ibis.window(group_by="sent_key", order_by=["at", "row"])
        few = few.mutate(begins=(few["at"] - few["at"].lag().over(in_order) > window).fill_null(True).cast("int64"))
        few = few.mutate(
            event=few.begins.sum().over(ibis.cumulative_window(group_by="sent_key", order_by=["at", "row"]))
        )
        by_receipt = ibis.window(group_by=["sent_key", "event"], order_by=["received_at", "row"])
        few = few.mutate(
            place=ibis.row_number().over(by_receipt),
            first_at=few.received_at.min().over(ibis.window(group_by=["sent_key", "event"])),
        )
        again.append(few.filter((few.place > 0) & (few.has_id | (few.received_at > few.first_at))).select("row"))
    if near:
        events = engine.read(near, like=EVENTS)
        held = events.filter((events.source == source) & events.sent_key.notnull()).select(
            "sent_key", held_at="received_at", then=ibis._.occurred_at.epoch_seconds()
        )
        ours = keyed.semi_join(chosen, "row")
        both = ours.inner_join(held, "sent_key")
        apart = (both.occurred_at.epoch_seconds() - both.then).abs()
        later = both.event_id.notnull() | (both.received_at > both.held_at.cast("timestamp"))
        again.append(both.filter((apart <= window) & later).select("row"))
    if not again:
        return None
    return engine.keep(ibis.union(*again, distinct=True) if len(again) > 1 else again[0].distinct(), "sent_again")


def _held(engine: Engine, lake: Lake, good: ir.Table, batch_id: str, run: Run) -> tuple[list[str], list[str]]:
    """Event files of other batches for the dates of this one, and for these dates with the days beside them; files of
    this batch are left over from a killed run."""
    found = engine.fetch(good.select(day=good.occurred_at.date()).distinct().order_by("day"))["day"].to_pylist()
    beside = sorted({day + timedelta(days=n) for day in found for n in (-1, 0, 1)})
    own = f"/{batch_id}.parquet"
    files = {
        day: [
            path
            for path in event_files(lake, dry=run.dry_run, folder=f"events/{_partition(day)}")
            if not path.endswith(own)
        ]
        for day in beside
    }
    return [path for day in found for path in files[day]], [path for day in beside for path in files[day]]


# ── what is written ──


def _known(
    engine: Engine, good: ir.Table, files: Sequence[FileRead], lateness: set[tuple[datetime | None, datetime | None]]
) -> ir.Table:
    """The rows with `known_at`: their receipt, or later where their file was late."""

    def known(rows: ir.Table, covered: ir.Value, known_at: ir.Value) -> ir.Value:
        return (rows.received_at < covered).fill_null(False).ifelse(known_at, rows.received_at)

    if len(lateness) <= 1:
        covered, known_at = next(iter(lateness), (None, None))
        if covered is None or known_at is None:
            return good.mutate(known_at=good.received_at)
        return good.mutate(known_at=known(good, _naive(covered), _naive(known_at)))
    told = [file for file in files if file.covered is not None]
    late = pa.table(
        {
            "of_file": pa.array([file.file for file in told], pa.string()),
            "covered": pa.array([_plain(file.covered) for file in told], pa.timestamp("us")),
            "late_at": pa.array([_plain(file.known_at) for file in told], pa.timestamp("us")),
        }
    )
    both = good.left_join(engine.keep(engine.table(late, "late"), "late_files"), [("file", "of_file")])
    return both.mutate(known_at=known(both, both.covered, both.late_at)).drop("of_file", "covered", "late_at")


def _plain(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None)


def _naive(moment: datetime) -> ir.TimestampScalar:
    import ibis

    return ibis.literal(_plain(moment), type="timestamp")


def _write_events(
    engine: Engine, lake: Lake, good: ir.Table, chosen: ir.Table, source: str, batch_id: str
) -> tuple[list[date], int]:
    """Writes the chosen rows in a fixed order, one file per date; returns the dates, and how many rows were late."""
    import ibis

    events = good.drop("event_id", "file", "row_hash", "text_hash", "repaired").join(chosen, "row")
    told = events.filter(events.user_id.notnull() & events.profile.notnull())
    last = ibis.struct({"at": told.occurred_at, "row": told["row"]})
    once = told.group_by("user_id", "profile", day=told.occurred_at.date()).agg(row=engine.at_most(told["row"], last))
    once = engine.keep(once.select("row", says=True), "says_who")
    events = events.left_join(once, "row").drop("row_right")
    events = events.mutate(profile=events.says.fill_null(False).ifelse(events.profile, ibis.null())).drop("says")
    events = events.mutate(
        source=ibis.literal(source), batch_id=ibis.literal(batch_id), event_date=events.occurred_at.date()
    ).order_by("event_date", "occurred_at", "event_id")
    dates: list[date] = []
    late = 0
    for day, pieces in groupby(_by_date(engine.batches(events, _ROWS_AT_ONCE)), key=lambda piece: piece[0]):
        if dates and day <= dates[-1]:
            raise RuntimeError(f"batch {batch_id}: {day} came after {dates[-1]}: its file would be overwritten")
        with lake.writing(f"events/{_partition(day)}", f"{batch_id}.parquet") as draft, _writer(lake, draft) as writer:
            for _, piece in pieces:
                writer.write_table(piece)
                late += pc.sum(pc.greater(piece["known_at"], piece["received_at"])).as_py() or 0
        dates.append(day)
    written = {f"/{_partition(day)}/{batch_id}.parquet" for day in dates}
    for path in lake.list("events", f"/{batch_id}.parquet"):  # left over from a killed run that chose other rows
        if not any(path.endswith(name) for name in written):
            lake.fs.rm(path)
    return dates, late


@contextmanager
def _writer(lake: Lake, draft: str) -> Iterator[pq.ParquetWriter]:
    with lake.fs.open(draft, "wb") as file, pq.ParquetWriter(file, EVENTS, compression="zstd") as writer:
        yield writer


def _take_over(engine: Engine, lake: Lake, chosen: ir.Table, source: str, dates: Sequence[date]) -> None:
    """Takes the batch's events out of the files of dry runs, so that the lake holds each event once."""
    for day in dates:
        for path in filter(is_dry, lake.list(f"events/{_partition(day)}")):
            events = engine.read([path], like=EVENTS)
            taken = events.filter(events.source == source).semi_join(chosen, "event_id")
            if not _rows(engine, taken):
                continue
            left = events.anti_join(taken, ["source", "event_id"]).order_by("occurred_at", "event_id")
            with lake.replacing(path) as draft, _writer(lake, draft) as writer:
                for batch in engine.batches(left, _ROWS_AT_ONCE):
                    writer.write_table(_as_events(pa.table(batch)))


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
