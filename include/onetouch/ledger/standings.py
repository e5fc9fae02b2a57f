"""What was last written on the CRM record of each account: its standing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, func, select, update

from onetouch.ledger.columns import clean
from onetouch.ledger.database import Database
from onetouch.ledger.rows import frame
from onetouch.ledger.runs import Run
from onetouch.ledger.tables import standings

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Standing:
    """What the record of an account tells. `situation`: the name of the policy's situation, which is the trigger."""

    crm_account_id: str
    account_id: str
    tier: str | None
    action: str
    situation: str
    score: float


_AT_ONCE = 50_000
"""Ours: rows read at once as Python objects; a frame holds them in a tenth of the memory."""

_COLUMNS = ["crm_account_id", "tier", "action", "situation", "score", "as_of", "state", "reason"]


class Standings(Database):
    """The part of the ledger about standings.

    A row is `sending` from before its first byte is sent until its outcome is known, then `written`, `refused` (with
    the reason) or `gone` (the CRM no longer has the record); what was refused only for now stays `sending`, with the
    reason. Only of a `written` row it is known that the record tells
    what the row says, so all others are written again: a process that dies in between loses no change.
    """

    def standings(self, destination: str, *, as_of: datetime | None = None) -> pd.DataFrame:
        """The standings on the records of one CRM; with `as_of`, only those that runs of that moment have written.

        Columns: crm_account_id, tier, action, situation, score, as_of, state, reason.
        """
        import pandas as pd

        query = select(*[standings.c[name] for name in _COLUMNS]).where(standings.c.destination == destination)
        if as_of is not None:
            query = query.where(standings.c.as_of == as_of)
        parts = [frame([], _COLUMNS)]
        with self.reading() as connection:
            rows = connection.execute(query, execution_options={"yield_per": _AT_ONCE})
            parts += [frame([row._asdict() for row in part], _COLUMNS) for part in rows.partitions()]
        return pd.concat(parts[1:] or parts, ignore_index=True)

    def refused_standings(self) -> list[tuple[str, int, datetime]]:
        """Reason, number and first `as_of` of the standings that a CRM has refused, the most frequent reason first."""
        columns = standings.c.reason, func.count(), func.min(standings.c.as_of)
        query = select(*columns).where(standings.c.state == "refused").group_by(standings.c.reason)
        with self.reading() as connection:
            found = [(reason, n, since) for reason, n, since in connection.execute(query)]
        return sorted(found, key=lambda row: (-row[1], row[0]))

    def begin_standings(self, destination: str, run: Run, rows: Iterable[Standing]) -> None:
        """Records what is about to be written; call it before the first byte is sent."""
        values = [
            asdict(row) | {"destination": destination, "as_of": run.as_of, "state": "sending", "reason": ""}
            for row in rows
        ]
        if not values:
            return
        statement, key = self.insert(standings), ["destination", "crm_account_id"]
        changed = {name: statement.excluded[name] for name in values[0] if name not in key}
        statement = statement.on_conflict_do_update(index_elements=key, set_=changed)
        with self.writing() as connection:
            connection.execute(statement, values)

    def settle_standings(self, destination: str, outcomes: Mapping[str, tuple[str, str]]) -> None:
        """Records outcomes: CRM account id → state and reason (no personal data)."""
        if not outcomes:
            return
        its = standings.c.destination == destination, standings.c.crm_account_id == bindparam("its_id")
        statement = update(standings).where(*its).values(state=bindparam("now"), reason=bindparam("why"))
        rows = [{"its_id": crm_id, "now": state, "why": clean(why)} for crm_id, (state, why) in outcomes.items()]
        with self.writing() as connection:
            connection.execute(statement, rows)
