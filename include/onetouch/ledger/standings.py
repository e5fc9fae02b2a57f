"""What was last written on the CRM record of each account: its standing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select, update

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


_COLUMNS = ["crm_account_id", "tier", "action", "situation", "score", "as_of", "state"]


class Standings(Database):
    """The part of the ledger about standings.

    A row is `sending` from before its first byte is sent until its outcome is known, then `written` or `refused`. Only
    of a `written` row it is known that the record tells what the row says, so all others are written again: a process
    that dies in between loses no change.
    """

    def standings(self, destination: str, *, later_than: datetime | None = None) -> pd.DataFrame:
        """The standings on the records of one CRM: crm_account_id, tier, action, situation, score, as_of, state.

        `later_than`: only those written by runs of a later `as_of`.
        """
        query = select(*[standings.c[name] for name in _COLUMNS]).where(standings.c.destination == destination)
        if later_than is not None:
            query = query.where(standings.c.as_of > later_than)
        with self.reading() as connection:
            return frame([row._asdict() for row in connection.execute(query)], _COLUMNS)

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

    def settle_standings(self, destination: str, refused: Mapping[str, str | None]) -> None:
        """Records outcomes: CRM account id → why it was refused (no personal data); None: it is written."""
        if not refused:
            return
        its = standings.c.destination == destination, standings.c.crm_account_id == bindparam("its_id")
        statement = update(standings).where(*its).values(state=bindparam("now"), reason=bindparam("why"))
        with self.writing() as connection:
            connection.execute(
                statement,
                [
                    {"its_id": crm_id, "now": "written" if why is None else "refused", "why": clean(why or "")}
                    for crm_id, why in refused.items()
                ],
            )
