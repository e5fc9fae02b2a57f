"""The outbox: everything to be written to other systems, stored before it is sent, one row for each key."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, func, select, update

from onetouch.ledger.columns import clean
from onetouch.ledger.database import Database
from onetouch.ledger.rows import MANY, rows_of
from onetouch.ledger.states import TERMINAL, IllegalMove, LedgerError, NotInLedger
from onetouch.ledger.tables import handoffs, outbox, runs


@dataclass(frozen=True)
class Outbox:
    """One row to send. `external_id`: its id at the destination, once sent. `attempts`: how often it was sent."""

    key: str
    destination: str
    kind: str
    run_id: str | None
    handoff_id: str | None
    payload: dict[str, Any]
    state: str
    external_id: str | None
    reason: str
    attempts: int


_COLUMNS = [field.name for field in fields(Outbox)]

FORGOTTEN = "forgotten"
"""The reason of a dead letter whose account was forgotten."""

ENDED = "the handoff has ended"
"""The reason of a CRM row that is not sent because its handoff ended first."""

SETTLED = "over: the account was decided on anew"
"""The reason of a dead letter of a refused handoff that nobody has to do anything about any more."""

OVER = (FORGOTTEN, ENDED, SETTLED)
"""The reasons of dead letters that are not sent any more, whatever is done."""

FOLLOW_UP, FOLLOW_UP_END = "follow_up", "follow_up_end"
"""Kinds of the rows that create the task of a follow-up and that close it. Their keys end with the task's key in the
CRM."""

_AFTER_THE_END = ("alert", "alert_update", "alert_reply", FOLLOW_UP_END)
"""Kinds of a handoff's rows that are still sent when it has ended."""


@dataclass(frozen=True)
class _Standing:
    """What has become of a row. Its payload, which is most of a row, is not read for that."""

    state: str
    reason: str
    external_id: str | None


_Row = TypeVar("_Row")

_NEW = {"state": "pending", "external_id": None, "reason": "", "attempts": 0}


class Outboxes(Database):
    """The part of the ledger about the outbox.

    `pending` → `sending` → `sent`. A row that could not be sent now is `pending` again, with the reason; a row that
    was refused for good is `failed`, a dead letter, until a person queues it again (`retry`). `sent` is final. A row
    found `sending` was interrupted or not answered and may have arrived, so check the destination first.

    While one process sends, another may find that a row has arrived, or end its handoff. Therefore `begin`,
    `sent_all`, `unanswered_all` and `failed_all` do not change rows that are settled.
    """

    def put(
        self,
        key: str,
        destination: str,
        kind: str,
        run_id: str | None,
        handoff_id: str | None,
        payload: dict[str, Any],
    ) -> Outbox:
        """Queues a row for sending; a row that already exists under the key is not changed.

        Raises LedgerError when the key belongs to another destination or kind.
        """
        row = {"key": key, "destination": destination, "kind": kind, "run_id": run_id, "handoff_id": handoff_id}
        return self.put_all([row | {"payload": payload}])[0]

    def put_all(self, rows: Iterable[Mapping[str, Any]]) -> list[Outbox]:
        """`put` for each row {key, destination, kind, run_id, handoff_id, payload}, in one transaction."""
        with self.writing() as connection:
            return self.lay_out(connection, list(rows))

    def lay_out(self, connection: Connection, rows: list[Mapping[str, Any]]) -> list[Outbox]:
        """`put_all` within the caller's transaction."""
        keys = [row["key"] for row in rows]
        there = _by_key(connection, keys)
        new = {row["key"]: {**_NEW, **row} for row in rows if row["key"] not in there}
        if new:
            connection.execute(self.insert(outbox), list(new.values()))
            there = _by_key(connection, keys)
        for row in rows:
            kept = there[row["key"]]
            if (kept.destination, kept.kind) != (row["destination"], row["kind"]):
                raise LedgerError(
                    f"outbox key {row['key']}: is a {kept.kind} for {kept.destination}, "
                    f"not a {row['kind']} for {row['destination']}; a key names one thing"
                )
        return [there[key] for key in keys]

    def outbox(
        self,
        *,
        run_id: str | None = None,
        destination: str | None = None,
        states: Collection[str] | None = None,
        keys: Collection[str] | None = None,
        handoff_ids: Collection[str] | None = None,
    ) -> list[Outbox]:
        """Outbox rows, ordered by moment of their run, then key; every given filter applies."""
        query = (
            select(outbox)
            .join(runs, runs.c.run_id == outbox.c.run_id, isouter=True)
            .order_by(runs.c.as_of.nulls_last(), outbox.c.key)
        )
        if run_id is not None:
            query = query.where(outbox.c.run_id == run_id)
        if destination is not None:
            query = query.where(outbox.c.destination == destination)
        if states is not None:
            query = query.where(outbox.c.state.in_(list(states)))
        column, ids = (outbox.c.key, keys) if handoff_ids is None else (outbox.c.handoff_id, handoff_ids)
        with self.reading() as connection:
            found = rows_of(connection, query, column, ids)
        return [_outbox(row) for row in found if keys is None or row["key"] in keys]

    def follow_ups(self, destination: str) -> list[Outbox]:
        """The follow-ups that may have a task at this destination which nobody has closed yet, as far as we know."""
        ends = outbox.alias("ends")
        closed = select(ends.c.key).where(
            ends.c.handoff_id == outbox.c.handoff_id,
            ends.c.kind == FOLLOW_UP_END,
            ends.c.key == FOLLOW_UP_END + func.substr(outbox.c.key, len(FOLLOW_UP) + 1),
            ends.c.state.in_(("sent", "failed")),  # failed: its account was forgotten
        )
        query = (
            select(outbox)
            .where(outbox.c.kind == FOLLOW_UP, outbox.c.destination == destination, outbox.c.attempts > 0)
            .where(~closed.exists())
            .order_by(outbox.c.key)
        )
        with self.reading() as connection:
            return [_outbox(row) for row in rows_of(connection, query)]

    def unsent(self) -> list[Outbox]:
        """Waiting and refused rows, without rows whose handoff has ended or whose account was forgotten."""
        rows = self.outbox(states=["pending", "sending", "failed"])
        return [row for row in rows if row.reason not in OVER]

    def sending(self, *keys: str) -> None:
        """Marks rows as `sending`; call it before the first byte is sent. Raises IllegalMove, NotInLedger."""
        with self.writing() as connection:
            for key, there in _standings(connection, keys).items():
                if there.state in ("sent", "failed"):
                    raise IllegalMove(f"outbox key {key}: is {there.state}; it is not sent again")
            _change(connection, {key: {"state": "sending"} for key in keys}, attempt=True)

    def begin(self, keys: Collection[str]) -> dict[str, Outbox]:
        """Marks each row `sending` that is neither `sent` nor a dead letter; returns every row as it was before."""
        with self.writing() as connection:
            there = _all_there(_by_key(connection, keys), keys)
            due = {key: {"state": "sending"} for key, row in there.items() if row.state in ("pending", "sending")}
            _change(connection, due, attempt=True)
        return there

    def claim(self, seen: Outbox) -> Outbox | None:
        """Marks the row `sending` for the caller alone if it has not changed since `seen`, else returns None.

        For destinations where a duplicate would be visible: of all processes that have read the same row, only one
        gets it. The claim's mark stays in `reason` until the row is sent or failed.
        """
        mark = f"claim {uuid.uuid4().hex}"
        with self.writing() as connection:
            there = _all_there(_by_key(connection, [seen.key]), [seen.key])[seen.key]
            if there != seen or there.state not in ("pending", "sending"):
                return None
            _change(connection, {seen.key: {"state": "sending", "reason": mark}}, attempt=True)
        return replace(seen, state="sending", reason=mark, attempts=seen.attempts + 1)

    def sent(self, key: str, external_id: str) -> None:
        """Records that a row has arrived; repeating it changes nothing. Raises IllegalMove, NotInLedger."""
        self.sent_all({key: external_id})

    def sent_all(self, external_ids: Mapping[str, str], *, found: bool = False) -> None:
        """`sent` for each key → external id, in one transaction.

        `found`: the rows were seen at the destination, so they have arrived, whatever state they are in.
        """
        with self.writing() as connection:
            changes: dict[str, dict[str, Any]] = {}
            for key, there in _standings(connection, external_ids).items():
                if there.state == "sent" and there.external_id == external_ids[key]:
                    continue
                if there.reason == FORGOTTEN:
                    continue
                arrived = there.state == "sending" or there.reason == ENDED or (found and there.state != "sent")
                if not arrived:
                    raise IllegalMove(f"outbox key {key}: is {there.state}; only what is sending can have arrived")
                changes[key] = {"state": "sent", "external_id": external_ids[key], "reason": ""}
            _change(connection, changes)

    def failed(self, key: str, reason: str, retryable: bool) -> None:
        """Records that a row has not arrived, and why (no personal data): `pending` if `retryable`, else a dead letter.

        A dead letter takes the new reason; a row of a forgotten account or of an ended handoff does not change.
        Raises IllegalMove for a row that was sent, and for a dead letter when `retryable`; NotInLedger.
        """
        with self.writing() as connection:
            if _standings(connection, [key])[key].state == "sent":
                raise IllegalMove(f"outbox key {key}: is sent; that is final")
            _fail(connection, {key: (reason, retryable)})

    def failed_all(self, reasons: Mapping[str, tuple[str, bool]]) -> None:
        """`failed` for each key → (reason, retryable), in one transaction; rows sent meanwhile stay `sent`."""
        with self.writing() as connection:
            _fail(connection, reasons)

    def unanswered_all(self, reasons: Mapping[str, str]) -> None:
        """Records that it is unknown whether rows (key → reason) have arrived: they stay `sending`, with the reason."""
        with self.writing() as connection:
            changes: dict[str, dict[str, Any]] = {}
            for key, there in _standings(connection, reasons).items():
                if there.state == "sent" or there.reason in OVER:
                    continue
                if there.state != "sending":
                    raise IllegalMove(f"outbox key {key}: is {there.state}; only what is sending can be unanswered")
                changes[key] = {"reason": clean(reasons[key])}
            _change(connection, changes)

    def retry(self, keys: Collection[str] | None = None) -> int:
        """Queues dead letters again (None: all); returns how many. Other rows of `keys` stay as they are.

        The dead letter of a refused handoff is settled instead: the next run decides on its account anew. Raises
        NotInLedger.
        """
        with self.writing() as connection:
            if keys is not None:
                _standings(connection, keys)
            # Rows emptied by an erasure and rows of an ended handoff are not sent any more.
            ended = select(handoffs.c.handoff_id).where(handoffs.c.state.in_(TERMINAL))
            of_use = outbox.c.handoff_id.is_(None) | outbox.c.handoff_id.not_in(ended)
            of_use |= outbox.c.kind == FOLLOW_UP_END
            query = select(outbox.c.key).where(outbox.c.state == "failed", outbox.c.reason != FORGOTTEN, of_use)
            dead = rows_of(connection, query, outbox.c.key, keys)
            _change(connection, {row["key"]: {"state": "pending"} for row in dead})
            refused = [row["key"] for row in rows_of(connection, _refused(), outbox.c.key, keys)]
            _change(connection, {key: {"reason": SETTLED} for key in refused})
        return len(dead) + len(refused)

    def refused(self) -> list[tuple[Outbox, str]]:
        """The dead letters that stand, of handoffs that ended because of them; each with its account."""
        with self.reading() as connection:
            return [(_outbox(row), row["account_id"]) for row in rows_of(connection, _refused())]

    def settle(self, keys: Collection[str]) -> None:
        """Takes dead letters of refused handoffs off the list: their accounts were decided on anew."""
        with self.writing() as connection:
            theirs = {row["key"] for row in rows_of(connection, _refused(), outbox.c.key, keys)}
            _change(connection, {key: {"reason": SETTLED} for key in sorted(theirs & set(keys))})


def _refused() -> Any:
    """Selects the dead letters that stand, of handoffs that have ended, with their accounts."""
    its_handoff = handoffs.c.handoff_id == outbox.c.handoff_id
    return (
        select(outbox, handoffs.c.account_id)
        .join(handoffs, its_handoff)
        .where(
            outbox.c.state == "failed",
            outbox.c.reason.not_in(OVER),
            outbox.c.kind.not_in(_AFTER_THE_END),
            handoffs.c.state.in_(TERMINAL),
        )
    )


def abandon(connection: Connection, handoff_ids: Collection[str]) -> None:
    """Cancels the waiting CRM rows of handoffs that end."""
    # Announcements in the chat are still updated after the end, even if it is unknown whether they arrived.
    waits = outbox.c.kind.not_in(_AFTER_THE_END) & outbox.c.state.in_(("pending", "sending"))
    ids = list(handoff_ids)
    for at in range(0, len(ids), MANY):
        theirs = outbox.c.handoff_id.in_(ids[at : at + MANY])
        connection.execute(update(outbox).where(theirs, waits).values(state="failed", reason=ENDED))


def _fail(connection: Connection, reasons: Mapping[str, tuple[str, bool]]) -> None:
    changes: dict[str, dict[str, Any]] = {}
    for key, there in _standings(connection, reasons).items():
        reason, retryable = reasons[key]
        if there.state == "sent" or there.reason in OVER:
            continue
        if there.state == "failed" and retryable:
            raise IllegalMove(f"outbox key {key}: is failed; that is final")
        changes[key] = {"state": "pending" if retryable else "failed", "reason": clean(reason)}
    _change(connection, changes)


def _change(connection: Connection, changes: Mapping[str, Mapping[str, Any]], *, attempt: bool = False) -> None:
    """Sets columns of rows (key → column → value); every key must have the same columns."""
    if not changes:
        return
    columns = list(next(iter(changes.values())))
    statement = update(outbox).where(outbox.c.key == bindparam("its_key"))
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in columns}
    if attempt:
        values["attempts"] = outbox.c.attempts + 1
    rows = [
        {"its_key": key} | {f"new_{name}": value for name, value in change.items()} for key, change in changes.items()
    ]
    connection.execute(statement.values(values), rows)


def _outbox(row: Mapping[str, Any]) -> Outbox:
    return Outbox(**{name: row[name] for name in _COLUMNS})


def _by_key(connection: Connection, keys: Collection[str]) -> dict[str, Outbox]:
    return {row["key"]: _outbox(row) for row in rows_of(connection, select(outbox), outbox.c.key, set(keys))}


def _standings(connection: Connection, keys: Collection[str]) -> dict[str, _Standing]:
    """What has become of each row. Raises NotInLedger."""
    query = select(outbox.c.key, outbox.c.state, outbox.c.reason, outbox.c.external_id)
    rows = rows_of(connection, query, outbox.c.key, set(keys))
    return _all_there({row.pop("key"): _Standing(**row) for row in rows}, keys)


def _all_there(found: dict[str, _Row], keys: Collection[str]) -> dict[str, _Row]:
    for key in keys:
        if key not in found:
            raise NotInLedger(f"outbox key {key}: not in the ledger; put makes it")
    return found
