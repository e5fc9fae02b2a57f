"""Sends outbox rows: each is marked `sending` before it is sent, and its outcome is recorded after."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onetouch.crm import UNKNOWN, CrmError, Outcome
from onetouch.ledger import ENDED, FORGOTTEN, Ledger, Outbox

Write = Callable[[Mapping[str, Outbox], set[str]], Mapping[str, Outcome]]
"""Writes rows (name → row) into the CRM; the set names those that may have arrived before. Returns name → outcome."""


def send(ledger: Ledger, rows: Mapping[str, Outbox], write: Write) -> dict[str, Outcome]:
    """Sends the rows (name → row), records their outcomes and returns them; a row sent before keeps its outcome.

    A row that arrived becomes `sent`; refused for now, `pending` with the reason; refused for good, a dead letter;
    without an answer it stays `sending`, so that the next attempt first looks whether it arrived. A row that another
    process has settled since the rows were read gets that outcome: arrived, dead, or `deleted` when its handoff ended
    or was forgotten. Raises CrmError when the CRM could not be used at all; the rows then keep their state and get
    the reason.
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
    """The outcome of a row that is already settled; None: it is to be sent."""
    if row.state == "sent":
        return Outcome(ok=True, id=row.external_id)
    if row.state == "failed":
        return Outcome(ok=False, code=row.reason, deleted=row.reason in (ENDED, FORGOTTEN))
    return None


def _arrived(outcome: Outcome) -> bool:
    return outcome.ok and not outcome.deleted


def _why(outcome: Outcome) -> str:
    return outcome.reason or "deleted in the CRM"
