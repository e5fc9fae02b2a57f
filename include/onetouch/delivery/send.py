"""Sending what lies in the outbox: said before it leaves, and what became of each row kept after."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onetouch.crm import UNKNOWN, CrmError, Outcome
from onetouch.ledger import ENDED, FORGOTTEN, Ledger, Outbox

Write = Callable[[Mapping[str, Outbox], set[str]], Mapping[str, Outcome]]
"""Writes rows into the CRM, name → row; the set holds those that may have arrived before. Name → its outcome."""


def send(ledger: Ledger, rows: Mapping[str, Outbox], write: Write) -> dict[str, Outcome]:
    """Sends the rows, name → row, and keeps each one's outcome; what was sent before is told again.

    Arrived: `sent`. Refused for now: `pending` with the reason. Refused for good: a dead letter. Not answered:
    `sending`, so that the next attempt looks first. What another process has settled since the rows were read is told
    as it is: arrived, dead, or `deleted` where nothing is left that it could be sent for. Raises CrmError when the
    CRM could not be used at all; the rows are then as they were, with the reason.
    """
    if all(row.state == "sent" for row in rows.values()):
        return {name: Outcome(ok=True, id=row.external_id) for name, row in rows.items()}
    now = ledger.begin([row.key for row in rows.values()])
    outcomes = {name: outcome for name, row in rows.items() if (outcome := _settled(now[row.key]))}
    due = {name: now[row.key] for name, row in rows.items() if name not in outcomes}
    if not due:
        return outcomes
    unsure = {name for name, row in due.items() if row.state == "sending"}
    try:
        answers = write(due, unsure)
    except CrmError as error:
        ledger.unanswered_all({due[name].key: str(error) for name in unsure})
        ledger.failed_all({row.key: (str(error), True) for name, row in due.items() if name not in unsure})
        raise
    arrived = {row.key: str(answers[name].id) for name, row in due.items() if _arrived(answers[name])}
    unanswered = {row.key: answers[name].reason for name, row in due.items() if answers[name].code == UNKNOWN}
    refused = {row.key: answers[name] for name, row in due.items() if row.key not in arrived | unanswered}
    ledger.sent_all(arrived)
    ledger.unanswered_all(unanswered)
    ledger.failed_all({key: (_why(outcome), outcome.retryable) for key, outcome in refused.items()})
    return outcomes | dict(answers)


def _settled(row: Outbox) -> Outcome | None:
    """What is known of a row that is not to be sent; None: it is."""
    if row.state == "sent":
        return Outcome(ok=True, id=row.external_id)
    if row.state == "failed":
        return Outcome(ok=False, code=row.reason, deleted=row.reason in (ENDED, FORGOTTEN))
    return None


def _arrived(outcome: Outcome) -> bool:
    return outcome.ok and not outcome.deleted


def _why(outcome: Outcome) -> str:
    return outcome.reason or "deleted in the CRM"
