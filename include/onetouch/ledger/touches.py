"""Touches: the contacts of reps with accounts, as logged in the CRM."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from onetouch.ledger.columns import clean, missing, utc
from onetouch.ledger.database import Database
from onetouch.ledger.rows import frame, rows_of
from onetouch.ledger.tables import handoffs, touches

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ["touch_id", "account_id", "owner_email", "at", "kind", "outcome", "disposition", "handoff_id"]


class Touches(Database):
    """The part of the ledger about touches."""

    def record_touches(self, rows: Iterable[Mapping[str, Any]], *, as_of: datetime | None = None) -> None:
        """Stores touches: touch_id (the CRM's), account_id, at; owner_email, kind, outcome, disposition, handoff_id.

        A touch stored before takes the CRM's present values (an outcome is often logged later), but keeps its handoff
        when the new one is null. A handoff_id unknown to the ledger (users can edit the field in the CRM) is dropped;
        the touch is kept. `as_of` is the moment of the run that has read the touches (each touch's own time when not
        given): a re-run of an earlier run must not see them.
        Raises ValueError for a row without touch_id, account_id or a time.
        """
        kept = {row["touch_id"]: row for row in map(_touch, rows)}
        if not kept:
            return
        with self.writing() as connection:
            named = {row["handoff_id"] for row in kept.values() if row["handoff_id"]}
            known = {
                row["handoff_id"]
                for row in rows_of(connection, select(handoffs.c.handoff_id), handoffs.c.handoff_id, named)
            }
            for row in kept.values():
                row["handoff_id"] = row["handoff_id"] if row["handoff_id"] in known else None
                row["known_at"] = row["at"] if as_of is None else max(row["at"], utc(as_of))
            statement = self.insert(touches)
            now = {name: statement.excluded[name] for name in _COLUMNS[1:-1]}
            now["handoff_id"] = func.coalesce(statement.excluded.handoff_id, touches.c.handoff_id)
            connection.execute(
                statement.on_conflict_do_update(index_elements=["touch_id"], set_=now), list(kept.values())
            )

    def touches(
        self,
        account_ids: Collection[str] | None = None,
        since: datetime | None = None,
        *,
        as_of: datetime | None = None,
    ) -> pd.DataFrame:
        """Touches at or after `since`, with `as_of` only those known by then; ordered by time and id.

        Columns: touch_id, account_id, owner_email, at (UTC), kind, outcome, disposition, handoff_id.
        """
        query = select(*[touches.c[name] for name in _COLUMNS]).order_by(touches.c.at, touches.c.touch_id)
        if since is not None:
            query = query.where(touches.c.at >= utc(since))
        if as_of is not None:
            query = query.where(touches.c.known_at <= utc(as_of))
        with self.reading() as connection:
            rows = rows_of(connection, query, touches.c.account_id, account_ids)
        return frame(rows, _COLUMNS)


def _touch(row: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := sorted(set(row) - set(_COLUMNS)):
        raise ValueError(f"touch with {', '.join(unknown)}; a touch has {', '.join(_COLUMNS)}")
    touch: dict[str, Any] = {name: None if missing(row.get(name)) else row[name] for name in _COLUMNS}
    for name in ("touch_id", "account_id", "at"):
        if not touch[name]:
            raise ValueError(f"touch {touch['touch_id']}: {name} is missing")
    return {k: utc(v) if k == "at" else clean(v) if isinstance(v, str) else v for k, v in touch.items()}
