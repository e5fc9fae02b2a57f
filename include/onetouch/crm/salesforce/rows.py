"""Writes rows through SObject Collections, 200 a request; every row gets an outcome, also after errors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onetouch.crm.protocol import UNKNOWN, CrmError, LimitReached, Outcome, Refused, SignInRefused, Unreachable
from onetouch.crm.salesforce.transport import Record, Transport, candidates_in, said

ROWS = 200
"""Most records of an SObject Collections request."""

LOCKED = "UNABLE_TO_LOCK_ROW"
DELETED = "ENTITY_IS_DELETED"
DUPLICATE = "DUPLICATE_VALUE"
LOOKS_ALIKE = "DUPLICATES_DETECTED"
"""The code of a new record that a duplicate rule of the org has refused."""
LIMIT = "REQUEST_LIMIT_EXCEEDED"
APEX_LIMIT = "APEX_LIMIT"
"""The code of rows that exceeded a limit of the org's own triggers or flows together with the rows sent beside them."""

NOT_VISIBLE = frozenset({"INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY", "INVALID_CROSS_REFERENCE_KEY"})
"""Error codes for a record that is not there, or that we may not see: sharing is worked out some time after the record
was created or moved."""

_OWNER = frozenset({"INACTIVE_OWNER_OR_USER", "OP_WITH_INVALID_USER_TYPE_EXCEPTION", "TRANSFER_REQUIRES_READ"})
"""Error codes for a user who may not own the record."""

_APEX_LIMITS = ("LimitException", "Apex CPU time limit", "Too many SOQL", "Too many DML", "Too many query rows")
"""How the org's own code says that it needed more than one transaction may use."""

RETRYABLE = frozenset(
    {LOCKED, LIMIT, UNKNOWN, "NOT_SENT", "SERVER_UNAVAILABLE", "UNKNOWN_EXCEPTION", "STORAGE_LIMIT_EXCEEDED",
     "UNPROCESSED", "QUERY_TIMEOUT", "API_CURRENTLY_DISABLED", "CANNOT_UPDATE_CONVERTED_LEAD", APEX_LIMIT,
     "ENTITY_IS_LOCKED", "LIMIT_EXCEEDED", *NOT_VISIBLE}
)  # fmt: skip
"""Error codes that the row itself did not cause: a later run may succeed with it (a converted lead, for example, is
then found as its account; a record that an approval process has locked is unlocked by its end)."""

_SUSPECTS = 24
"""Ours: most requests spent on finding the rows that cause whole requests to be refused."""


@dataclass(frozen=True)
class Look:
    """How created records are looked up: `key` is the field of their unique key; `found` returns the outcomes of those
    keys that exist."""

    key: str
    found: Callable[[Iterable[str]], Mapping[str, Outcome]]


_NOT_SENT = Outcome(ok=False, code="NOT_SENT", message="the CRM did not answer the rows before it", retryable=True)
_UNANSWERED = Outcome(ok=False, code=UNKNOWN, message="sent, and not answered", retryable=True)


class _Locked(Exception):
    """Some rows were locked by another writer."""


class _TooMany(Exception):  # noqa: N818 - an answer, not a failure of ours
    """Together these rows exceeded a limit of the org's own code; `args[0]` are their positions."""


class Unanswered(Exception):  # noqa: N818 - an answer, not a failure of ours
    """A request was sent and its outcome is unknown."""


class Batch:
    """The rows of one write and their outcomes.

    With `look` the rows are creations: after a request without an answer they are looked up before the rest is sent
    again. Without `look` they are updates, which may simply be repeated.
    """

    def __init__(self, transport: Transport, method: str, records: Sequence[Record], look: Look | None = None) -> None:
        self.transport, self.method, self.records, self.look = transport, method, list(records), look
        self.outcomes = [_NOT_SENT] * len(records)
        self._suspects = _SUSPECTS

    def send(self, *, begun: bool = False) -> list[Outcome]:
        """One outcome for each record, in their order. Raises CrmError only when no row was sent and the write had not
        `begun` before."""
        for rows in self.parts():
            try:
                self.together(rows)
            except Unanswered:
                break
            except CrmError as error:
                if not begun and all(outcome is _NOT_SENT for outcome in self.outcomes):
                    raise
                self._give_up(error)
                break
        return self.outcomes

    def parts(self) -> Iterator[Sequence[int]]:
        """The rows of each request, by their positions in `records`."""
        for start in range(0, len(self.records), ROWS):
            yield range(start, min(start + ROWS, len(self.records)))

    def _give_up(self, error: CrmError) -> None:
        """Leaves the rows not yet sent to the next run, with the reason for which the CRM refused further requests."""
        codes = {LimitReached: LIMIT, SignInRefused: "SIGN_IN_REFUSED", Refused: "REFUSED"}
        code = codes.get(type(error))
        if code:
            held = Outcome(ok=False, code=code, message=said(error), retryable=True)
            self.outcomes = [held if outcome is _NOT_SENT else outcome for outcome in self.outcomes]

    def together(self, rows: Sequence[int]) -> None:
        """Sends these rows in one request. A request refused as a whole is halved, down to the faulty rows."""
        try:
            with contextlib.suppress(_Locked):  # rows that are still locked keep that outcome
                self.transport.retrying(Unanswered, _Locked)(self._attempt, rows)
        except _TooMany as error:
            self._in_halves(error.args[0])
        except Refused as error:
            left = [i for i in rows if self.outcomes[i] is _NOT_SENT]
            self._suspects -= 1
            if error.status != 400 or not left or self._suspects <= 0:
                raise
            if len(left) == 1:
                self.outcomes[left[0]] = Outcome(ok=False, code=error.code, message=said(error))
            else:
                half = len(left) // 2
                self.together(left[:half])
                self.together(left[half:])

    def _in_halves(self, rows: Sequence[int]) -> None:
        """Sends rows again that were too many together. What is still too much alone keeps that outcome."""
        self._suspects -= 1
        if self._suspects <= 0:
            return
        for part in (rows[: (len(rows) + 1) // 2], rows[(len(rows) + 1) // 2 :]):
            for i in part:
                self.outcomes[i] = _NOT_SENT
            if part:
                self.together(part)

    def left(self, rows: Sequence[int]) -> list[int]:
        """The rows among `rows` that are to be sent, for the first time or again."""
        return [i for i in rows if self.outcomes[i] is _NOT_SENT or self.outcomes[i].code in (UNKNOWN, LOCKED)]

    def _attempt(self, rows: Sequence[int]) -> None:
        left = self.left(rows)
        unsure = [i for i in left if self.outcomes[i].code == UNKNOWN]
        if self.look and unsure:
            keys = {i: self.records[i][self.look.key] for i in unsure}
            found = self.look.found(keys.values())
            for i, key in keys.items():
                self.outcomes[i] = found.get(key, _NOT_SENT)
            left = [i for i in left if i not in keys or keys[i] not in found]
        if not left:
            return
        payload = {"allOrNone": False, "records": [self.records[i] for i in left]}
        try:
            answers: Any = self.transport.once(self.method, "composite/sobjects", json=payload)
            if not isinstance(answers, list) or [type(answer) for answer in answers] != [dict] * len(left):
                raise Unreachable(f"Salesforce: answered something else than {len(left)} outcomes")
        except Unreachable as error:
            for i in left:
                self.outcomes[i] = replace(_UNANSWERED, message=said(error))
            raise Unanswered from None
        for i, answer in zip(left, answers, strict=True):
            self.outcomes[i] = outcome_of(answer)
        if len(left) > 1 and (limited := [i for i in left if self.outcomes[i].code == APEX_LIMIT]):
            raise _TooMany(limited)
        if any(self.outcomes[i].code == LOCKED for i in left):
            raise _Locked


def outcome_of(answer: Mapping[str, Any]) -> Outcome:
    """What the CRM answered for one row."""
    if answer.get("success"):
        return Outcome(ok=True, id=answer.get("id"))
    errors = answer.get("errors") or [{}]
    refused = refusal(
        str(errors[0].get("statusCode") or "UNKNOWN_ERROR"), errors[0].get("message", ""), errors[0].get("fields") or []
    )
    return replace(refused, candidates=candidates_in(errors)) if refused.code == LOOKS_ALIKE else refused


def refusal(code: str, message: Any, fields: Sequence[str] = ()) -> Outcome:
    """A row's refusal. A lock or a limit met by a trigger or flow of the org counts as one, whatever code wraps it."""
    told = said(message, code, fields)
    owner = code in _OWNER or (code in NOT_VISIBLE and "OwnerId" in fields)
    if LOCKED in str(message):
        code = LOCKED
    elif any(words in str(message) for words in _APEX_LIMITS):
        code = APEX_LIMIT
    named = f" ({', '.join(fields)})" if fields else ""
    return Outcome(
        ok=False,
        code=code,
        message=f"{told}{named}",
        deleted=code == DELETED,
        owner=owner,
        retryable=code in RETRYABLE and not owner,
    )
