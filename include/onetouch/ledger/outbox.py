"""The outbox: what is to leave the house, kept before it leaves, once per key."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from onetouch.ledger.columns import clean
from onetouch.ledger.database import Database
from onetouch.ledger.rows import rows_of
from onetouch.ledger.states import TERMINAL, IllegalMove, LedgerError, NotInLedger
from onetouch.ledger.tables import handoffs, outbox, runs


@dataclass(frozen=True)
class Outbox:
    """One thing to send. `external_id` is the destination's own id of it, once sent; `attempts` counts its sendings."""

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
"""Why a row is dead whose account was erased."""

ENDED = "the handoff has ended"
"""Why a row for the CRM is not sent any more whose handoff ended before."""

_OVER = (FORGOTTEN, ENDED)

_ANNOUNCEMENTS = ("alert", "alert_update")
"""Kinds of rows of a handoff that go into the chat; all others are written into the CRM."""

_NEW = {"state": "pending", "external_id": None, "reason": "", "attempts": 0}


class Outboxes(Database):
    """The part of the ledger about what is sent.

    `pending` → `sending` → `sent`. What could not be sent now is `pending` again, with the reason; what never can is
    `failed`, a dead letter, until a person lays it out again (`retry`). `sent` is final. What is found `sending` was
    interrupted or not answered: it may have arrived or not, so look at the destination first.

    While one process sends, another may find that a row has arrived, or end its handoff. So `begin`, `sent_all`,
    `unanswered_all` and `failed_all` leave rows that are over as they are.
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
        """Lays something out for sending; what already lies under the key stays as it was first put.

        Raises LedgerError when the key is of another destination or kind.
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
        """What lies in the outbox, by moment of its run, then key; each filter given must hold."""
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

    def unsent(self) -> list[Outbox]:
        """What waits or was refused, less what nobody wants sent any more: its handoff ended, its account forgotten."""
        rows = self.outbox(states=["pending", "sending", "failed"])
        return [row for row in rows if row.reason not in _OVER]

    def sending(self, *keys: str) -> None:
        """To be called, and to have returned, before the first byte leaves. Raises IllegalMove, NotInLedger."""
        with self.writing() as connection:
            for key, there in _required(connection, keys).items():
                if there.state in ("sent", "failed"):
                    raise IllegalMove(f"outbox key {key}: is {there.state}; it is not sent again")
            _change(connection, {key: {"state": "sending"} for key in keys}, attempt=True)

    def begin(self, keys: Collection[str]) -> dict[str, Outbox]:
        """`sending` for each key that is neither `sent` nor dead; gives every row as it was before."""
        with self.writing() as connection:
            there = _required(connection, keys)
            due = {key: {"state": "sending"} for key, row in there.items() if row.state in ("pending", "sending")}
            _change(connection, due, attempt=True)
        return there

    def claim(self, seen: Outbox) -> Outbox | None:
        """Makes the row `sending` for the caller alone, if it still is as `seen`; None when another was faster.

        For destinations where sending twice shows: of any number of processes that have seen the same row, one
        gets it. The claim's mark stands in `reason` until the row is sent or failed.
        """
        mark = f"claim {uuid.uuid4().hex}"
        with self.writing() as connection:
            there = _required(connection, [seen.key])[seen.key]
            if there != seen or there.state not in ("pending", "sending"):
                return None
            _change(connection, {seen.key: {"state": "sending", "reason": mark}}, attempt=True)
        return replace(seen, state="sending", reason=mark, attempts=seen.attempts + 1)

    def sent(self, key: str, external_id: str) -> None:
        """It has arrived; the same again changes nothing. Raises IllegalMove, NotInLedger."""
        self.sent_all({key: external_id})

    def sent_all(self, external_ids: Mapping[str, str], *, found: bool = False) -> None:
        """`sent` for each key → external id, in one transaction.

        `found`: it was seen at the destination, so it has arrived whatever was thought of it.
        """
        with self.writing() as connection:
            changes: dict[str, dict[str, Any]] = {}
            for key, there in _required(connection, external_ids).items():
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
        """It has not arrived, and why (no personal data): pending again, or a dead letter unless `retryable`.

        A dead letter takes the new reason; of a forgotten account, or a handoff that has ended, nothing changes.
        Raises IllegalMove for what was sent, and for what is dead when it is `retryable`; NotInLedger.
        """
        with self.writing() as connection:
            if _required(connection, [key])[key].state == "sent":
                raise IllegalMove(f"outbox key {key}: is sent; that is final")
            _fail(connection, {key: (reason, retryable)})

    def failed_all(self, reasons: Mapping[str, tuple[str, bool]]) -> None:
        """`failed` for each key → (reason, retryable), in one transaction; what was sent meanwhile stays."""
        with self.writing() as connection:
            _fail(connection, reasons)

    def unanswered_all(self, reasons: Mapping[str, str]) -> None:
        """Nobody knows whether these, key → reason, have arrived: they stay `sending`, with the reason."""
        with self.writing() as connection:
            changes: dict[str, dict[str, Any]] = {}
            for key, there in _required(connection, reasons).items():
                if there.state == "sent" or there.reason in _OVER:
                    continue
                if there.state != "sending":
                    raise IllegalMove(f"outbox key {key}: is {there.state}; only what is sending can be unanswered")
                changes[key] = {"reason": clean(reasons[key])}
            _change(connection, changes)

    def retry(self, keys: Collection[str] | None = None) -> int:
        """Lays dead letters out again (None: all); returns how many. Others of `keys` stay as they are.

        Raises NotInLedger.
        """
        with self.writing() as connection:
            if keys is not None:
                _required(connection, keys)
            # What was emptied by an erasure, or is of a handoff that has ended, is of no use to anybody any more.
            ended = select(handoffs.c.handoff_id).where(handoffs.c.state.in_(TERMINAL))
            of_use = outbox.c.handoff_id.is_(None) | outbox.c.handoff_id.not_in(ended)
            query = select(outbox.c.key).where(outbox.c.state == "failed", outbox.c.reason != FORGOTTEN, of_use)
            dead = rows_of(connection, query, outbox.c.key, keys)
            _change(connection, {row["key"]: {"state": "pending"} for row in dead})
        return len(dead)


def abandon(connection: Connection, handoff_id: str) -> None:
    """What is to be written into the CRM for a handoff that ends is not sent any more."""
    # An announcement in the chat is put right after the end, also one that may have arrived.
    waits = outbox.c.kind.not_in(_ANNOUNCEMENTS) & outbox.c.state.in_(("pending", "sending"))
    connection.execute(
        update(outbox).where(outbox.c.handoff_id == handoff_id, waits).values(state="failed", reason=ENDED)
    )


def _fail(connection: Connection, reasons: Mapping[str, tuple[str, bool]]) -> None:
    changes: dict[str, dict[str, Any]] = {}
    for key, there in _required(connection, reasons).items():
        reason, retryable = reasons[key]
        if there.state == "sent" or there.reason in _OVER:
            continue
        if there.state == "failed" and retryable:
            raise IllegalMove(f"outbox key {key}: is failed; that is final")
        changes[key] = {"state": "pending" if retryable else "failed", "reason": clean(reason)}
    _change(connection, changes)


def _change(connection: Connection, changes: Mapping[str, Mapping[str, Any]], *, attempt: bool = False) -> None:
    """Sets columns, key → values; the same columns for every key."""
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


def _required(connection: Connection, keys: Collection[str]) -> dict[str, Outbox]:
    found = _by_key(connection, keys)
    for key in keys:
        if key not in found:
            raise NotInLedger(f"outbox key {key}: not in the ledger; put makes it")
    return found
