"""The stop: while it is on, nothing is written outside."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Select, select, update

from onetouch.ledger.columns import clean, utc
from onetouch.ledger.database import Database
from onetouch.ledger.tables import stops


class Stops(Database):
    """The part of the ledger about the stop; every stop and its end are kept."""

    def stop(self, reason: str, at: datetime) -> bool:
        """Sets the stop: nothing is written outside any more. False when it was set already; the first reason stays.

        Raises ValueError without a reason.
        """
        if not (reason := clean(reason).strip()):
            raise ValueError("a stop needs a reason; say why, for those who find it")
        with self.writing() as connection:
            if connection.scalar(_standing()) is not None:
                return False
            connection.execute(self.insert(stops).values(at=utc(at), reason=reason))
            return True

    def resume(self, at: datetime) -> bool:
        """Lifts the stop; False when there was none."""
        with self.writing() as connection:
            lifted = connection.execute(update(stops).where(stops.c.lifted_at.is_(None)).values(lifted_at=utc(at)))
        return lifted.rowcount > 0

    def stopped(self) -> str | None:
        """The reason why nothing may be written outside; None when there is no stop."""
        with self.reading() as connection:
            reason: str | None = connection.scalar(_standing())
        return reason


def _standing() -> Select[Any]:
    return select(stops.c.reason).where(stops.c.lifted_at.is_(None)).order_by(stops.c.stop_id).limit(1)
