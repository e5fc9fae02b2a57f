"""What the policy's `retention` has deleted: which runs have lost their files, and old rows that nothing reads."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Table, and_, bindparam, delete, func, select, update

from onetouch.lake import Pruned
from onetouch.ledger.columns import utc
from onetouch.ledger.database import Database
from onetouch.ledger.states import ACTIVE, TERMINAL
from onetouch.ledger.tables import handoffs, memory, outbox, runs, stages, touches, windows

SETTLED = ("sent", "failed")
"""States of the outbox in which nothing is going to be sent, unless a person queues it again."""

_CONTENT = ("content", "fields", "record", "alert")
"""Keys of `outbox.payload` that say something of people and companies; the others say where it went."""

_RUN = (runs.c.run_id, runs.c.as_of, runs.c.pruned_at, runs.c.pruned_days)


@dataclass(frozen=True)
class PrunedRun:
    """A run whose files were deleted. `at`: when; `days`: the policy's `retention.runs_days` then."""

    run_id: str
    as_of: datetime
    at: datetime
    days: int

    @property
    def says(self) -> str:
        """When its files were deleted, and why, as the end of a sentence."""
        return f"pruned on {self.at:%Y-%m-%d} under the policy's retention.runs_days: {self.days}"


class Retention(Database):
    """The part of the ledger about retention.

    Handoffs, their moves and the keys of the outbox are never deleted: they keep an account from being called twice and
    a task from being written twice. `onetouch forget` takes people out of them.
    """

    def pruned_runs(self) -> dict[str, PrunedRun]:
        """The runs whose decisions were deleted, by id, ordered by `as_of`."""
        query = select(*_RUN).where(runs.c.pruned_at.is_not(None)).order_by(runs.c.as_of, runs.c.run_id)
        with self.reading() as connection:
            return {row.run_id: PrunedRun(*row) for row in connection.execute(query)}

    def last_pruned(self) -> PrunedRun | None:
        """The run with the latest `as_of` whose decisions were deleted."""
        query = select(*_RUN).where(runs.c.pruned_at.is_not(None)).order_by(runs.c.as_of.desc()).limit(1)
        with self.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else PrunedRun(*row)

    def require_run_files(self, run_id: str) -> None:
        """Raises Pruned if the run's files were deleted."""
        query = select(*_RUN).where(runs.c.run_id == run_id, runs.c.pruned_at.is_not(None))
        with self.reading() as connection:
            row = connection.execute(query).first()
        if row is not None:
            says = PrunedRun(*row).says
            raise Pruned(f"run {run_id} was {says}; it can be neither shown, explained, replayed nor run again")

    def run_of_decision(self, decision_id: str) -> str | None:
        """The run whose decision led to a handoff; None for a decision that led to none."""
        with self.reading() as connection:
            found: str | None = connection.scalar(
                select(handoffs.c.run_id).where(handoffs.c.decision_id == decision_id).limit(1)
            )
        return found

    def record_pruned(self, run_ids: Iterable[str], at: datetime, days: int) -> None:
        """Records that the decisions of these runs are deleted; what an earlier call has recorded stays."""
        statement = update(runs).where(runs.c.run_id == bindparam("of_run"), runs.c.pruned_at.is_(None))
        rows = [{"of_run": run_id} for run_id in run_ids]
        if rows:
            with self.writing() as connection:
                connection.execute(statement.values(pruned_at=utc(at), pruned_days=days), rows)

    def runs_in_use(self) -> set[str]:
        """The runs whose files delivery may still read: those of active handoffs, and of what waits to be sent."""
        active = select(handoffs.c.run_id).where(handoffs.c.state.in_(ACTIVE))
        waiting = select(outbox.c.run_id).where(outbox.c.state.not_in(SETTLED), outbox.c.run_id.is_not(None))
        with self.reading() as connection:
            return {*connection.scalars(active), *connection.scalars(waiting)}

    def prune_rows(self, before: datetime, *, dry_run: bool = False) -> dict[str, int]:
        """Deletes what no rule reads any more of before that moment, in one transaction; returns the number of rows.

        - memory: what routing remembered of accounts and has ended
        - touches: of accounts without an active handoff
        - stages: summaries and windows of runs whose files are deleted
        - contents: what was written to CRM and chat for handoffs that have ended; the rows stay, with their keys

        `dry_run`: nothing is deleted.
        """
        before = utc(before)
        busy = select(handoffs.c.account_id).where(handoffs.c.state.in_(ACTIVE))
        gone = select(runs.c.run_id).where(runs.c.pruned_at.is_not(None), runs.c.as_of < before)
        ended = select(handoffs.c.handoff_id).where(handoffs.c.state.in_(TERMINAL), handoffs.c.closed_at < before)
        old: dict[str, list[tuple[Table, ColumnElement[bool]]]] = {
            "memory": [(memory, memory.c.ended_at < before)],
            "touches": [(touches, and_(touches.c.at < before, touches.c.account_id.not_in(busy)))],
            "stages": [(stages, stages.c.run_id.in_(gone)), (windows, windows.c.run_id.in_(gone))],
        }
        counts = {}
        with self.writing() as connection:
            for name, tables in old.items():
                counts[name] = 0
                for table, which in tables:
                    counts[name] += connection.scalar(select(func.count()).select_from(table).where(which)) or 0
                    if not dry_run:
                        connection.execute(delete(table).where(which))
            settled = outbox.c.handoff_id.in_(ended) & outbox.c.state.in_(SETTLED)
            rows = connection.execute(select(outbox.c.key, outbox.c.payload).where(settled)).all()
            emptied = {key: _without_content(payload) for key, payload in rows if _holds_content(payload)}
            for key, payload in emptied.items() if not dry_run else ():
                connection.execute(update(outbox).where(outbox.c.key == key).values(payload=payload))
        return counts | {"contents": len(emptied)}


def _holds_content(payload: Collection[str]) -> bool:
    return any(name in payload for name in _CONTENT)


def _without_content(payload: dict[str, object]) -> dict[str, object]:
    """The payload without what it says of anybody; never empty, because an empty one means a forgotten account."""
    return {name: value for name, value in payload.items() if name not in _CONTENT} | {"pruned": True}
