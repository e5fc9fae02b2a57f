"""Whom the receiver of the audience was told of, and the requests that tell it of changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select

from onetouch.ledger.outbox import Outboxes
from onetouch.ledger.runs import Run
from onetouch.ledger.sources import Sources
from onetouch.ledger.tables import audience, outbox

TOLD, IN_FULL = "audience", "audience_in_full"
"""Watermarks: the `as_of` of the last run that told of changes, and of the last that told of everybody."""

KIND = "audience"
"""The kind of the outbox rows that tell of the audience."""


@dataclass(frozen=True)
class Member:
    """What the receiver was last told of an account, as two digests, and by the run of which moment."""

    situation: str
    facts: str
    told_at: datetime


class Audiences(Sources, Outboxes):
    """The part of the ledger about the audience. One process at a time lays out what is to be told."""

    def audience(self) -> dict[str, Member]:
        """Account id → what the receiver was told of it, or will be by a row that waits in the outbox."""
        with self.reading() as connection:
            rows = connection.execute(select(audience)).all()
        return {row.account_id: Member(row.situation, row.facts, row.told_at) for row in rows}

    def audience_told(self) -> datetime | None:
        """The `as_of` of the last run that told of changes; None before the first."""
        return self.watermark(TOLD)

    def in_full_due(self, run: Run, days: int | None) -> bool:
        """Whether everybody is to be told anew: `days` after the last time. The first time of all is not `due`."""
        last = self.watermark(IN_FULL)
        return days is not None and last is not None and run.as_of - last >= timedelta(days=days)

    def tell_audience(
        self,
        run: Run,
        destination: str,
        payloads: Sequence[dict[str, Any]],
        members: Mapping[str, Member],
        left: Sequence[str],
        *,
        in_full: bool,
    ) -> None:
        """Lays out requests, and what the receiver knows with them, in one transaction.

        `members`: the accounts the requests tell of, as they are now; `left`: those that are no longer in the audience.
        """
        with self.writing() as connection:
            prefix = f"{KIND}:{run.run_id}:"
            first = connection.scalar(
                select(func.count()).select_from(outbox).where(outbox.c.run_id == run.run_id, outbox.c.kind == KIND)
            )
            rows: list[Mapping[str, Any]] = [
                {
                    "key": f"{prefix}{(first or 0) + number:06d}",
                    "destination": destination,
                    "kind": KIND,
                    "run_id": run.run_id,
                    "handoff_id": None,
                    "payload": payload,
                }
                for number, payload in enumerate(payloads, 1)
            ]
            self.lay_out(connection, rows)
            if left:
                for start in range(0, len(left), 500):
                    connection.execute(delete(audience).where(audience.c.account_id.in_(left[start : start + 500])))
            if members:
                statement = self.insert(audience)
                names = ("situation", "facts", "told_at")
                connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=["account_id"], set_={name: statement.excluded[name] for name in names}
                    ),
                    [
                        {"account_id": account_id, "situation": m.situation, "facts": m.facts, "told_at": m.told_at}
                        for account_id, m in members.items()
                    ],
                )
            self._advance(connection, TOLD, run.as_of)
            if in_full:
                self._advance(connection, IN_FULL, run.as_of)
