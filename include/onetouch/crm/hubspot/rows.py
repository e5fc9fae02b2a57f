"""Writes rows to HubSpot: created under a unique value or updated, in batches, with an outcome for each row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from onetouch.crm.hubspot.records import BATCH, NOT_FOUND, Record, Records, parts
from onetouch.crm.hubspot.transport import Busy, Transport, said
from onetouch.crm.protocol import UNKNOWN, CrmError, LimitReached, Outcome, Refused, Row, Unreachable

_RETRYABLE = {"RATE_LIMITS", "INTERNAL_ERROR", "SERVICE_UNAVAILABLE", "TIMEOUT"}
"""Error categories after which a later run may succeed."""

_OWNER = "hubspot_owner_id"
"""The property that a validation error names when the CRM does not take the owner."""

_EXISTING = re.compile(r"Existing ID: (\d+)")
"""How a conflict names the contact that has the address already."""

_OF_ROWS = {400, 404, 409, 413, 422}
"""HTTP statuses of a whole batch that a single row may cause."""


class Rows:
    """Writes to one account. No method loses the outcome of a row that was sent."""

    def __init__(self, transport: Transport, records: Records) -> None:
        self._transport, self._records = transport, records

    def made(self, thing: str, key: str, values: Iterable[str]) -> dict[str, Outcome]:
        """The outcome of each of the unique values that a record, also a deleted one, already has."""
        found = self._records.of_values(thing, key, values, [key])
        return {v: Outcome(ok=True, id=r["id"], deleted=bool(r.get("archived"))) for v, r in found.items()}

    def create(self, thing: str, key: str, inputs: Mapping[str, Row], *, sent: bool = False) -> dict[str, Outcome]:
        """Creates a record of each input under its unique value of `key`; an existing record is adopted unchanged.

        Each batch is sent until it is answered; before it is sent again, its records are looked up. `sent`: other rows
        were sent before, so no error is raised any more.
        """

        def send(part: list[str], outcomes: dict[str, Outcome]) -> None:
            def attempt() -> None:
                left = [k for k in part if k not in outcomes or outcomes[k].code == UNKNOWN]
                try:
                    self._send("create", thing, {k: inputs[k] for k in left}, outcomes)
                except Busy:
                    raise
                except Unreachable as error:  # their outcomes are unknown from here on, whatever error follows
                    silent = [k for k in left if k not in outcomes or outcomes[k].code == UNKNOWN]
                    outcomes.update(dict.fromkeys(silent, _unknown(str(error))))
                    outcomes.update(self.made(thing, key, silent))
                    if any(outcomes[k].code == UNKNOWN for k in silent):
                        raise

            self._transport.retrying(attempt)
            self.look_again(thing, key, part, outcomes)

        return _by_parts(sorted(inputs), send, sent=sent)

    def update(self, thing: str, changes: Mapping[str, Mapping[str, str]]) -> dict[str, Outcome]:
        """Sets properties of records, id → properties. May be repeated without harm."""

        def send(part: list[str], outcomes: dict[str, Outcome]) -> None:
            self._send("update", thing, {i: {"id": i, "properties": dict(changes[i])} for i in part}, outcomes)
            self._follow(thing, {i: i for i in part if outcomes[i].code == UNKNOWN}, outcomes)

        return _by_parts(sorted(changes), send)

    def change(
        self,
        thing: str,
        key: str,
        values: Iterable[str],
        wanted: Sequence[str],
        changed: Callable[[str, Record], Mapping[str, str]],
    ) -> dict[str, Outcome]:
        """Sets the properties that `changed` returns for the record of each unique value.

        Each batch is read directly before it is written. The outcome is ok for a record that does not exist or needs no
        change.
        """

        def send(part: list[str], outcomes: dict[str, Outcome]) -> None:
            try:
                records = {r["properties"][key]: r for r in self._records.of_ids(thing, part, wanted, key=key)}
            except Unreachable as error:
                raise Busy(str(error)) from None  # nothing was sent
            inputs: dict[str, Row] = {}
            for value in part:
                if value in records and (properties := changed(value, records[value])):
                    inputs[value] = {"id": records[value]["id"], "properties": dict(properties)}
                else:
                    outcomes[value] = Outcome(ok=True, id=records[value]["id"] if value in records else None)
            if inputs:
                self._send("update", thing, inputs, outcomes)
                self._follow(thing, {v: inputs[v]["id"] for v in inputs if outcomes[v].code == UNKNOWN}, outcomes)

        return _by_parts(sorted(set(values)), send)

    def look_again(self, thing: str, key: str, values: Iterable[str], outcomes: dict[str, Outcome]) -> None:
        """Looks up refused rows: somebody else may have created a record with our value, whatever the error says."""
        refused = [value for value in values if not outcomes[value].ok]
        try:
            outcomes.update(self.made(thing, key, refused))
        except CrmError:
            outcomes.update({value: replace(outcomes[value], retryable=True) for value in refused})

    def _send(self, what: str, thing: str, inputs: Mapping[str, Row], outcomes: dict[str, Outcome]) -> None:
        """Sends one batch and adds its outcomes to `outcomes`. A batch refused as a whole is sent again in halves.

        Every input has a trace id: with it HubSpot reports each row by itself instead of refusing all because of one.
        """
        request = getattr(self._transport.batch, what)
        body = {"inputs": [row | {"objectWriteTraceId": key} for key, row in inputs.items()]}
        try:
            answer = self._transport.write(request, thing, body, repeat=what == "update")
        except Refused as refused:
            if refused.status not in _OF_ROWS:
                raise
            keys = list(inputs)
            if len(keys) == 1:
                reason = str(refused).removeprefix(f"HubSpot: {refused.status} {refused.code}: ")
                outcomes[keys[0]] = _refusal(refused.code, reason)
                return
            for half in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
                self._send(what, thing, {key: inputs[key] for key in half}, outcomes)
            return
        ids = {str(row.get("id")): key for key, row in inputs.items()}
        for record in answer.get("results") or []:
            key = record.get("objectWriteTraceId") or ids.get(str(record["id"])) or _value_of(record, inputs)
            if key is not None and key in inputs:
                outcomes[key] = Outcome(ok=True, id=str(record["id"]))
        for error in answer.get("errors") or []:
            context = error.get("context") or {}
            for key in [*context.get("objectWriteTraceId", []), *(ids.get(str(i)) for i in context.get("ids", []))]:
                if key in inputs:
                    outcomes[key] = _refusal(str(error.get("category") or "UNKNOWN_ERROR"), said(error), error)
        told = {key for key in inputs if key in outcomes and outcomes[key].code != UNKNOWN}
        outcomes.update(dict.fromkeys(inputs.keys() - told, _unknown("HubSpot told nothing of it")))

    def _follow(self, thing: str, ids: Mapping[str, str], outcomes: dict[str, Outcome]) -> None:
        """Outcomes of records missing from an update's answer: HubSpot omits records merged into another one, which the
        old id returns."""
        for key, old in ids.items():
            new = [record["id"] for record in self._records.of_ids(thing, [old])]
            if not new:
                outcomes[key] = _refusal(NOT_FOUND, "no longer there")
            elif new != [old]:
                outcomes[key] = Outcome(ok=False, code="MERGED", message=f"is in {new[0]} now", retryable=True)


def _by_parts(
    keys: Sequence[str], send: Callable[[list[str], dict[str, Outcome]], None], *, sent: bool = False
) -> dict[str, Outcome]:
    """Sends rows batch by batch and returns every row's outcome, even when an error ends the sending.

    The error is raised only when nothing was sent at all.
    """
    outcomes: dict[str, Outcome] = {}
    batches = list(parts(keys, BATCH))
    for number, part in enumerate(batches):
        try:
            send(part, outcomes)
        except CrmError as error:
            unanswered = isinstance(error, Unreachable) and not isinstance(error, Busy)
            if not (sent or outcomes or unanswered):
                raise
            code = "REQUEST_LIMIT_EXCEEDED" if isinstance(error, LimitReached) else "NOT_SENT"
            not_sent = Outcome(ok=False, code=code, message=str(error), retryable=True)
            for key in part:
                outcomes.setdefault(key, _unknown(str(error)) if unanswered else not_sent)
            for later in batches[number + 1 :]:
                outcomes |= dict.fromkeys(later, not_sent)
            break
    return outcomes


def _unknown(message: str) -> Outcome:
    return Outcome(ok=False, code=UNKNOWN, message=message, retryable=True)


def _refusal(code: str, message: str, told: object = "") -> Outcome:
    """`told`: the whole error, for what its message leaves out."""
    owner = code == "VALIDATION_ERROR" and _OWNER in f"{message} {told}"
    outcome = Outcome(
        ok=False, code=code, message=message, deleted=code == NOT_FOUND, retryable=code in _RETRYABLE, owner=owner
    )
    return replace(outcome, candidates=tuple(_EXISTING.findall(message))) if code == "CONFLICT" else outcome


def _value_of(record: Record, inputs: Mapping[str, Row]) -> Any:
    """Our unique value in an answered record that has no trace id."""
    values = {str(value) for value in (record.get("properties") or {}).values()}
    return next((key for key in inputs if key in values), None)
