"""What a record gets that accounts were merged into: our external id and the context, before anything else.

A merge keeps the values of the surviving record. Without this the rep of an open task would find a record without its
dossier, and the next handoff would not find the record by our id.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from onetouch.crm import Crm, Outcome, context_of, stored_payload
from onetouch.delivery.refresh import KIND as REFRESH
from onetouch.handoff import AccountContext
from onetouch.lake import Lake, read_table
from onetouch.ledger import Handoff, Ledger, Outbox, Run

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def moved(ledger: Ledger, handoffs: Iterable[Handoff]) -> dict[str, list[Outbox]]:
    """Handoff id → the sent outbox rows of its context, for handoffs whose context was only written to another record
    than the one they are on now: their account was merged, or their lead converted."""
    on = {h.handoff_id: h.crm_account_id for h in handoffs if h.crm_account_id}
    written: dict[str, list[Outbox]] = {}
    for row in ledger.outbox(states=["sent"], handoff_ids=list(on)) if on else ():
        if row.kind in ("account_fields", REFRESH) and row.external_id:
            written.setdefault(str(row.handoff_id), []).append(row)
    return {i: rows for i, rows in written.items() if on[i] not in {row.external_id for row in rows}}


def follow_records(
    lake: Lake | None, ledger: Ledger, run: Run, crm: Crm, handoffs: Collection[Handoff]
) -> dict[str, Outcome]:
    """Writes the latest context of handoffs that have `moved` to the record they are on now; returns their outcomes.

    A record that carries the id of another account, as the run has read it from `lake`, keeps that. What was written
    is a row of the outbox, so that it is done once.
    """
    records = {h.handoff_id: str(h.crm_account_id) for h in handoffs}
    contexts: dict[str, AccountContext] = {}
    for i, rows in moved(ledger, handoffs).items():
        theirs = [context_of(row.payload) for row in rows if row.destination == crm.name and _whole(row)]
        if dossier := next((context.dossier for context in theirs if context.dossier), None):
            latest = max(theirs, key=lambda context: context.as_of or _LONG_AGO)
            contexts[i] = replace(latest, dossier=dossier)
    if not contexts:
        return {}
    names = _names(lake, run, {records[i] for i in contexts})
    contexts = {i: _of_record(context, names.get(records[i])) for i, context in contexts.items()}
    outcomes = crm.update_accounts({records[i]: context for i, context in contexts.items()})
    done = [_row(run, crm, i, records[i], context) for i, context in contexts.items() if outcomes[records[i]].ok]
    if done:
        ledger.put_all(done)
        ledger.sent_all({row["key"]: records[row["handoff_id"]] for row in done}, found=True)
    return {i: outcomes[records[i]] for i in contexts}


def _row(run: Run, crm: Crm, handoff_id: str, record: str, context: AccountContext) -> dict[str, Any]:
    return {
        "key": f"{REFRESH}:{handoff_id}:{record}",
        "destination": crm.name,
        "kind": REFRESH,
        "run_id": run.run_id,
        "handoff_id": handoff_id,
        "payload": stored_payload(replace(context, dossier=None)),
    }


def _whole(row: Outbox) -> bool:
    """Whether the row still holds what was written: a forgotten or pruned one does not."""
    return bool(row.payload.get("content") or row.payload.get("fields"))


def _names(lake: Lake | None, run: Run, records: Collection[str]) -> Mapping[str, str]:
    """CRM record → the external id of ours that it carries, of those that the run has read."""
    if lake is None or not lake.exists("crm", run.run_id, "accounts.parquet"):
        return {}
    chosen = [("crm_account_id", "in", sorted(records))]
    found = read_table(
        lake, "crm", run.run_id, "accounts.parquet", columns=["crm_account_id", "account_id"], filters=chosen
    )
    return {row["crm_account_id"]: row["account_id"] for row in found.to_pylist() if row["account_id"]}


def _of_record(context: AccountContext, carries: str | None) -> AccountContext:
    return context if carries in (None, context.account_id) else replace(context, account_id=None)
