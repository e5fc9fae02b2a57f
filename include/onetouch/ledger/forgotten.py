"""Forgotten users and accounts: digests by which their ids are recognized when they arrive again, and unfinished
erasures."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection, String, Table, delete, select, update

from onetouch.ledger.columns import Document, utc
from onetouch.ledger.handoffs import Handoffs
from onetouch.ledger.outbox import FORGOTTEN
from onetouch.ledger.states import ACTIVE, LedgerError
from onetouch.ledger.tables import (
    audience,
    batches,
    forget_key,
    forgetting,
    forgotten,
    handoff_moves,
    handoffs,
    memory,
    metadata,
    outbox,
    stages,
    standings,
    stops,
    touches,
)

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["user", "account"]

PSEUDONYM = "forgotten:"
"""The prefix of the pseudonym that replaces a forgotten id."""


@dataclass(frozen=True)
class Subject:
    """The user or account to erase and its identifiers: every list holds values that belong to it alone."""

    kind: Kind
    id: str
    accounts: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    emails: list[str] = field(default_factory=list)
    domains: list[str] = field(default_factory=list)
    crm_ids: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)

    def joined(self, other: Subject) -> Subject:
        """This subject with the identifiers of both."""
        lists = {
            name: sorted({*mine, *getattr(other, name)})
            for name, mine in asdict(self).items()
            if isinstance(mine, list)
        }
        return Subject(self.kind, self.id, **lists)


@dataclass(frozen=True)
class Forgotten:
    """The digests of all forgotten users and accounts; false when there are none."""

    key: str
    digests: Mapping[str, frozenset[str]]
    """Kind → digests: for user, of user ids, e-mail addresses and device ids; for account, of account ids, domains and
    CRM ids."""

    def __bool__(self) -> bool:
        return any(self.digests.values())

    def digest(self, kind: Kind, value: str) -> str:
        """A keyed digest, 64 hex digits: without the key nobody can test guesses. E-mail addresses are lower-cased."""
        word = value.lower() if "@" in value else value
        return hashlib.sha256(f"{self.key}:{kind}:{word}".encode("utf-8", "surrogatepass")).hexdigest()

    def has(self, kind: Kind, value: object) -> bool:
        """Whether that id was forgotten; False for anything but text."""
        return isinstance(value, str) and bool(value) and self.digest(kind, value) in self.digests.get(kind, ())

    def without(self, records: pd.DataFrame) -> pd.DataFrame:
        """CRM rows (columns crm_account_id, account_id, domain; any may be absent) without those of forgotten accounts.

        The domain counts only where `account_id` is null: the company may have come back with another account.
        """
        if not self:
            return records
        import pandas as pd

        def has(column: str) -> pd.Series:
            if column not in records:
                return pd.Series(False, index=records.index)
            found = {value for value in records[column].dropna().unique() if self.has("account", value)}
            return records[column].isin(found)

        nameless = records["account_id"].isna() if "account_id" in records else True
        return records[~(has("account_id") | has("crm_account_id") | (has("domain") & nameless))]

    def without_people(self, contacts: pd.DataFrame) -> pd.DataFrame:
        """Contacts of the CRM (columns crm_account_id, email, email_domain) without forgotten users, and without the
        people of forgotten accounts."""
        if not self:
            return contacts
        columns: tuple[tuple[str, Kind], ...] = (
            ("email", "user"), ("crm_account_id", "account"), ("email_domain", "account"),
        )  # fmt: skip
        theirs = contacts["contact_id"].isna()
        for column, kind in columns:
            theirs |= contacts[column].isin({v for v in contacts[column].dropna().unique() if self.has(kind, v)})
        return contacts[~theirs].reset_index(drop=True)

    def pseudonym(self, kind: Kind, value: str) -> str:
        """The pseudonym that replaces the id, the same at each call."""
        return PSEUDONYM + self.digest(kind, value)[:32]


class Forgottens(Handoffs):
    """The part of the ledger about erasures."""

    def forgotten(self) -> Forgotten:
        """The digests of all forgotten users and accounts."""
        with self.reading() as connection:
            return _forgotten(connection)

    def erasures(self) -> list[Subject]:
        """The subjects of unfinished erasures; the ledger keeps them only until the erasure is finished."""
        with self.reading() as connection:
            found = connection.execute(select(forgetting.c.subject).order_by(forgetting.c.digest)).scalars()
            return [Subject(**document) for document in found]

    def begin_erasure(self, subject: Subject, at: datetime) -> None:
        """Begins an erasure: data of the subject that arrives from now on is dropped.

        When the erasure was begun before, its subject becomes the union of both.
        """
        with self.writing() as connection:
            if connection.scalar(select(forget_key.c.key)) is None:
                connection.execute(self.insert(forget_key).values(key=secrets.token_hex(32)))
            known = _forgotten(connection)
            marks: list[tuple[Kind, str]] = [("user", value) for value in (*subject.users, *subject.emails)]
            marks += [("user", value) for value in subject.devices]
            marks += [("account", value) for value in (*subject.accounts, *subject.domains, *subject.crm_ids)]
            marks.append((subject.kind, subject.id))
            rows = {(kind, known.digest(kind, value)): utc(at) for kind, value in marks}
            connection.execute(
                self.insert(forgotten).on_conflict_do_nothing(),
                [{"kind": kind, "digest": digest, "at": moment} for (kind, digest), moment in rows.items()],
            )
            place = {"kind": subject.kind, "digest": known.digest(subject.kind, subject.id)}
            before = connection.scalar(select(forgetting.c.subject).filter_by(**place))
            both = subject if before is None else subject.joined(Subject(**before))
            statement = self.insert(forgetting).values(**place, subject=asdict(both))
            connection.execute(
                statement.on_conflict_do_update(index_elements=["kind", "digest"], set_={"subject": asdict(both)})
            )

    def end_handoffs(self, account_ids: Collection[str], at: datetime) -> int:
        """Withdraws the active handoffs of accounts that are being forgotten; returns how many."""
        active = self.handoffs(states=ACTIVE, account_ids=account_ids)
        at = max([utc(at), *(h.decided_at for h in active)])
        self.move_all(
            {"handoff_id": h.handoff_id, "to_state": "withdrawn", "at": at, "reason": FORGOTTEN} for h in active
        )
        return len(active)

    def pseudonymise(self, subject: Subject, redact: Callable[[Any], Any]) -> int:
        """Replaces the subject's identifiers in every table but the policies; returns how many rows changed.

        `redact` returns a JSON value without the subject's identifiers. Figures, states and moments stay as they are.
        Waiting outbox rows of the subject's handoffs are not sent any more. Repeating it changes nothing.
        """
        changed = 0
        with self.writing() as connection:
            known = _forgotten(connection)
            names = {a: known.pseudonym("account", a) for a in subject.accounts}
            theirs = _handoff_ids(connection, names)
            if theirs:
                waiting = outbox.c.handoff_id.in_(theirs) & (outbox.c.state != "sent")
                connection.execute(update(outbox).where(waiting).values(state="failed", reason=FORGOTTEN))
                emptied = outbox.c.handoff_id.in_(theirs) & (outbox.c.payload != {})
                changed += connection.execute(update(outbox).where(emptied).values(payload={})).rowcount
            for table in (memory, standings, audience):
                theirs_too = table.c.account_id.in_(list(names))
                changed += connection.execute(delete(table).where(theirs_too)).rowcount
            records = standings.c.crm_account_id.in_(subject.crm_ids)
            changed += connection.execute(delete(standings).where(records)).rowcount
            for table in (handoffs, touches):
                for account_id, name in names.items():
                    of = table.c.account_id == account_id
                    changed += connection.execute(update(table).where(of).values(account_id=name)).rowcount
            for table in (handoffs, handoff_moves, touches, outbox, stages, batches, stops):
                changed += _redact(connection, table, redact)
        return changed

    def finish_erasure(self, subject: Subject) -> None:
        """Ends an erasure: afterwards neither the ledger's rows nor its freed database pages name the subject."""
        with self.writing() as connection:
            digest = _forgotten(connection).digest(subject.kind, subject.id)
            connection.execute(delete(forgetting).filter_by(kind=subject.kind, digest=digest))
        self.rewrite()

    def rewrite(self) -> None:
        """Rewrites the database, so that its files hold its rows and nothing that was deleted.

        Raises LedgerError when another process is using it.
        """
        if not self._is_sqlite:
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                for table in metadata.sorted_tables:
                    connection.exec_driver_sql(f"VACUUM FULL {table.name}")
            return
        raw = self.engine.raw_connection()
        try:
            cursor = raw.cursor()
            cursor.execute("VACUUM")
            [(busy, *_)] = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            raw.close()
        if busy:
            raise LedgerError("the ledger is in use: what was erased is still in its log; repeat it afterwards")

    def files(self) -> list[Path]:
        """The files of a SQLite database; none for PostgreSQL, whose server keeps them."""
        name = self.url.database
        if not self._is_sqlite or name in (None, "", ":memory:"):
            return []
        return [path for end in ("", "-wal", "-shm", "-journal") if (path := Path(f"{name}{end}")).exists()]

    def texts(self) -> Iterable[tuple[str, str]]:
        """(table, the row as JSON) for every row, for a search through the whole ledger."""
        for name, rows in self.dump().items():
            for row in rows:
                yield name, json.dumps(row, ensure_ascii=False, default=str)


def _forgotten(connection: Connection) -> Forgotten:
    digests: dict[str, set[str]] = {}
    for kind, digest in connection.execute(select(forgotten.c.kind, forgotten.c.digest)):
        digests.setdefault(kind, set()).add(digest)
    key = connection.scalar(select(forget_key.c.key))
    return Forgotten(key or "", {kind: frozenset(found) for kind, found in digests.items()})


def _handoff_ids(connection: Connection, names: Mapping[str, str]) -> list[str]:
    wanted = [*names, *names.values()]
    return list(connection.execute(select(handoffs.c.handoff_id).where(handoffs.c.account_id.in_(wanted))).scalars())


def _redact(connection: Connection, table: Table, redact: Callable[[Any], Any]) -> int:
    """Redacts every text and document of a table; a key of the table changes like any other text."""
    keys = [column for column in table.primary_key.columns]
    words = [c for c in table.columns if isinstance(c.type, String | Document) and not c.foreign_keys]
    words = [c for c in words if c.name not in ("handoff_id", "run_id", "decision_id", "state", "kind")]
    changed = 0
    for row in connection.execute(select(*keys, *words)).mappings().all():
        new = {c.name: value for c in words if (value := redact(row[c.name])) != row[c.name]}
        if new:
            statement = update(table).where(*(key == row[key.name] for key in keys)).values(new)
            changed += connection.execute(statement).rowcount
    return changed
