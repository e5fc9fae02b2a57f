"""How far each source has been read: windows, watermarks, files and staged batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, select, true

from onetouch.ledger.columns import utc
from onetouch.ledger.database import Database
from onetouch.ledger.runs import Run, require_run
from onetouch.ledger.states import LedgerError
from onetouch.ledger.tables import batches, files_read, runs, stages, watermarks, windows


@dataclass(frozen=True)
class Window:
    """The time range of a source that a run reads: from `start` up to `end`, UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class FileRead:
    """A file of a source that a run has read, or has refused for `reason` (empty: it was read).

    `identity`: a digest of its name and content. `file`: its name, which the ledger does not keep, because somebody may
    be named in it. `reading`: a digest of the policy's keys by which its rows were
    judged; `ANY_READING` for a file of an earlier release. Of its rows, those received before `covered` have been known
    only since `known_at`; both are None for a file that came in its time.
    """

    identity: str
    reading: str
    reason: str = ""
    covered: datetime | None = None
    known_at: datetime | None = None
    file: str = ""


ANY_READING = "*"

QUEUE_SECONDS = 6 * 3600
"""How long a run waits for others that are at the same source; an orchestrator's own time limit ends it earlier."""


class Sources(Database):
    """The part of the ledger about sources.

    Dry runs have watermarks and files of their own. They go on from what real runs have read; a real run never depends
    on what a dry run has read.
    """

    def alone_at(self, source: str, task: str) -> AbstractContextManager[Callable[[], None]]:
        """`alone` for one task (a word) at one source, whatever the number of runs."""
        return self.alone(f"{task}-{source}", wait=QUEUE_SECONDS)

    def window(self, run: Run, source: str, overlap: timedelta, first: datetime, *, from_first: bool = False) -> Window:
        """The window of a source in a run: from the watermark less `overlap` (`first` without one) up to `run.as_of`.

        `from_first`: the window begins at `first`, whatever the watermark. Fixed at the first call: a re-run reads the
        same window, even if the watermark has moved since. `start` is never after `end`; for an as_of before the
        watermark less the overlap the window is empty.
        """
        with self.writing() as connection:
            require_run(connection, run.run_id)
            watermark = None if from_first else _watermark(connection, source, run.dry_run)
            start = utc(first) if watermark is None else watermark - overlap
            row = {"run_id": run.run_id, "source": source, "start_at": min(start, run.as_of), "end_at": run.as_of}
            connection.execute(self.insert(windows).values(row).on_conflict_do_nothing())
            kept = connection.execute(
                select(windows.c.start_at, windows.c.end_at).where(
                    windows.c.run_id == run.run_id, windows.c.source == source
                )
            ).one()
        return Window(kept.start_at, kept.end_at)

    def advance_watermark(self, source: str, until: datetime, *, dry: bool = False) -> None:
        """Records that everything received before `until` is on disk. A moment before the watermark changes nothing."""
        with self.writing() as connection:
            self._advance(connection, _name(source, dry), until)

    def watermark(self, source: str, *, dry: bool = False) -> datetime | None:
        """The moment up to which the source is on disk; None when nothing is. `dry`: as far as dry runs have come."""
        with self.reading() as connection:
            return _watermark(connection, source, dry)

    def record_batch(
        self,
        batch_id: str,
        run_id: str,
        source: str,
        counts: dict[str, Any],
        *,
        files: Iterable[FileRead] = (),
        until: datetime | None = None,
    ) -> None:
        """Records that a batch is staged, with these counts, replacing earlier ones.

        In the same transaction: `files` are read, and the watermark advances to `until`. Raises NotInLedger for the
        run, LedgerError when the id belongs to another run or source.
        """
        with self.writing() as connection:
            require_run(connection, run_id)
            kept = connection.execute(
                self.insert(batches)
                .values(batch_id=batch_id, run_id=run_id, source=source, counts=counts)
                .on_conflict_do_update(index_elements=["batch_id"], set_={"counts": counts})
                .returning(batches.c.run_id, batches.c.source)
            ).one()
            if tuple(kept) != (run_id, source):
                raise LedgerError(
                    f"batch {batch_id}: is of {kept.source} in run {kept.run_id}, not of {source} in {run_id}; "
                    "an id names one window"
                )
            dry = self._insert_files(connection, run_id, source, files)
            if until is not None:
                self._advance(connection, _name(source, dry), until)

    def record_files(self, run_id: str, source: str, files: Iterable[FileRead]) -> None:
        """Records that a run has read these files. Raises NotInLedger for the run."""
        with self.writing() as connection:
            require_run(connection, run_id)
            self._insert_files(connection, run_id, source, files)

    def batch(self, batch_id: str) -> dict[str, Any] | None:
        """A staged batch {batch_id, run_id, source, counts}; None when it is not staged."""
        with self.reading() as connection:
            row = connection.execute(select(batches).where(batches.c.batch_id == batch_id)).mappings().first()
        return None if row is None else dict(row)

    def batches(self, run_id: str) -> list[dict[str, Any]]:
        """The batches of a run in the form of `batch`, ordered by id."""
        query = select(batches).where(batches.c.run_id == run_id).order_by(batches.c.batch_id)
        with self.reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def runs_of(self, source: str) -> list[Run]:
        """The runs that have staged the source, ordered by as_of."""
        query = select(runs).join(batches).where(batches.c.source == source).order_by(runs.c.as_of, runs.c.run_id)
        with self.reading() as connection:
            found = connection.execute(query).mappings().all()
        return [Run(row["run_id"], row["as_of"], row["policy_version"], row["dry_run"]) for row in found]

    def files_read(self, source: str, *, dry: bool = False) -> list[FileRead]:
        """The files of the source that real runs have read or refused; `dry`: and those of dry runs."""
        columns = (files_read.c[name] for name in ("identity", "reading", "reason", "covered", "known_at"))
        query = select(*columns).where(files_read.c.source == source, _visible(files_read.c.dry_run, dry))
        with self.reading() as connection:
            return [FileRead(*row) for row in connection.execute(query.order_by(files_read.c.dry_run))]

    def decided_until(self, source: str, run: Run) -> datetime | None:
        """The latest `as_of` of the runs, other than `run`, that may have decided by the source's events; else None.

        Runs that a check has stopped decided nothing. For a real run, dry runs don't count.
        """
        query = (
            select(runs.c.as_of, runs.c.run_id)
            .join(batches)
            .where(batches.c.source == source, runs.c.run_id != run.run_id, _visible(runs.c.dry_run, run.dry_run))
            .order_by(runs.c.as_of.desc())
        )
        with self.reading() as connection:
            for as_of, run_id in connection.execute(query):
                checks = select(stages.c.summary).where(
                    stages.c.run_id == run_id, stages.c.stage.in_(["check_events", "check_signals"])
                )
                if all(summary.get("passed", True) for summary in connection.scalars(checks)):
                    moment: datetime = as_of
                    return moment
        return None

    def _insert_files(self, connection: Connection, run_id: str, source: str, files: Iterable[FileRead]) -> bool:
        """Returns whether the run is a dry run."""
        dry = bool(connection.scalar(select(runs.c.dry_run).where(runs.c.run_id == run_id)))
        rows = [asdict(file) | {"source": source, "dry_run": dry, "run_id": run_id} for file in files]
        for row in rows:
            del row["file"]
        if rows:
            connection.execute(self.insert(files_read).on_conflict_do_nothing(), rows)
        return dry

    def _advance(self, connection: Connection, name: str, until: datetime) -> None:
        statement = self.insert(watermarks).values(source=name, until=utc(until))
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["source"],
                set_={"until": statement.excluded.until},
                where=watermarks.c.until < statement.excluded.until,
            )
        )


def _name(source: str, dry: bool) -> str:
    return f"{source} (dry runs)" if dry else source


def _watermark(connection: Connection, source: str, dry: bool) -> datetime | None:
    names = {_name(source, False), _name(source, dry)}
    found: list[datetime] = list(connection.scalars(select(watermarks.c.until).where(watermarks.c.source.in_(names))))
    return max(found, default=None)


def _visible(dry_run: Column[bool], dry: bool) -> ColumnElement[bool]:
    """Real runs see what real runs did; dry runs see everything."""
    return true() if dry else dry_run.is_(False)
