"""How far each source has been read: windows, watermarks and staged batches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from onetouch.ledger.columns import utc
from onetouch.ledger.database import Database
from onetouch.ledger.runs import Run, require_run
from onetouch.ledger.states import LedgerError
from onetouch.ledger.tables import batches, watermarks, windows


@dataclass(frozen=True)
class Window:
    """The time range of a source that a run reads: from `start` up to `end`, UTC."""

    start: datetime
    end: datetime


class Sources(Database):
    """The part of the ledger about sources."""

    def window(self, run: Run, source: str, overlap: timedelta, first: datetime) -> Window:
        """The window of a source in a run: from the watermark less `overlap` (`first` without one) up to `run.as_of`.

        Fixed at the first call: a re-run reads the same window, even if the watermark has moved since. `start` is never
        after `end`; for an as_of before the watermark less the overlap the window is empty.
        """
        with self.writing() as connection:
            require_run(connection, run.run_id)
            watermark = connection.scalar(select(watermarks.c.until).where(watermarks.c.source == source))
            start = utc(first) if watermark is None else watermark - overlap
            row = {"run_id": run.run_id, "source": source, "start_at": min(start, run.as_of), "end_at": run.as_of}
            connection.execute(self.insert(windows).values(row).on_conflict_do_nothing())
            kept = connection.execute(
                select(windows.c.start_at, windows.c.end_at).where(
                    windows.c.run_id == run.run_id, windows.c.source == source
                )
            ).one()
        return Window(kept.start_at, kept.end_at)

    def advance_watermark(self, source: str, until: datetime) -> None:
        """Records that everything received before `until` is on disk. A moment before the watermark changes nothing."""
        statement = self.insert(watermarks).values(source=source, until=utc(until))
        with self.writing() as connection:
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["source"],
                    set_={"until": statement.excluded.until},
                    where=watermarks.c.until < statement.excluded.until,
                )
            )

    def watermark(self, source: str) -> datetime | None:
        """The moment up to which the source is on disk; None when nothing is."""
        with self.reading() as connection:
            return connection.scalar(select(watermarks.c.until).where(watermarks.c.source == source))

    def record_batch(self, batch_id: str, run_id: str, source: str, counts: dict[str, Any]) -> None:
        """Records that a batch is staged, with these counts, replacing earlier ones.

        Raises NotInLedger for the run, LedgerError when the id belongs to another run or source.
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
