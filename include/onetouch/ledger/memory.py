"""What routing remembers of accounts from one real run to the next: watches, triggers not answered yet, queues."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import or_, select, update

from onetouch.ledger.columns import utc
from onetouch.ledger.database import Database
from onetouch.ledger.rows import frame
from onetouch.ledger.runs import Run
from onetouch.ledger.tables import memory, runs, stages

if TYPE_CHECKING:
    import pandas as pd

WATCHED, QUEUED = "watched", "queued"
"""Kinds of memory that begin with a run. Every other kind is a signal's name: a trigger event of that signal."""

_COLUMNS = ["account_id", "what", "at", "noted_at"]


class Remembered(NamedTuple):
    """One thing to remember of an account.

    `what`: WATCHED, QUEUED, or the signal of a trigger event; `at`: since when, or when the event occurred. The three
    together are the key: an event is noted once, whatever is run again. `ended`: why it is over; "": it begins.
    """

    account_id: str
    what: str
    at: datetime
    ended: str = ""


class Memory(Database):
    """The part of the ledger that holds routing's memory. Only real runs write to it (`Run.real`)."""

    def remembered(self, as_of: datetime) -> pd.DataFrame:
        """What a run of `as_of` remembers: noted by earlier runs, and not ended before it.

        Columns: account_id, what, at, noted_at (`as_of` of the run that noted it); ordered by account and noted_at.
        What this run or later ones have noted or ended is left out: a repeated run sees what its first attempt saw.
        """
        query = (
            select(*[memory.c[name] for name in _COLUMNS])
            .where(memory.c.noted_at < utc(as_of), or_(memory.c.ended_at.is_(None), memory.c.ended_at >= utc(as_of)))
            .order_by(memory.c.account_id, memory.c.noted_at, memory.c.at, memory.c.what)
        )
        with self.reading() as connection:
            return frame([row._asdict() for row in connection.execute(query)], _COLUMNS)

    def remember(self, run: Run, changes: Iterable[Remembered]) -> None:
        """Notes what begins and ends with this run; repeating it changes nothing.

        Does nothing for a run that is not real, and for a repeated run when a later real run has already decided.
        """
        rows = [row._asdict() | {"at": utc(row.at)} for row in changes]
        with self.writing() as connection:
            later = select(stages.c.run_id).join(runs, runs.c.run_id == stages.c.run_id)
            later = later.where(stages.c.stage == "route", runs.c.real, runs.c.as_of > run.as_of).limit(1)
            if not run.real or not rows or connection.scalar(later) is not None:
                return
            begun = [row | {"noted_at": run.as_of, "run_id": run.run_id} for row in rows if not row["ended"]]
            if begun:
                connection.execute(self.insert(memory).on_conflict_do_nothing(), begun)
            for row in rows:
                if row["ended"]:
                    its = memory.c.account_id == row["account_id"], memory.c.what == row["what"]
                    still = memory.c.at == row["at"], memory.c.ended_at.is_(None)
                    ends = {"ended_at": run.as_of, "ended": row["ended"]}
                    connection.execute(update(memory).where(*its, *still).values(ends))
