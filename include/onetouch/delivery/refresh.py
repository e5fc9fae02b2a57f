"""Keeps the record of an account fresh while a rep works on its handoff (`crm.context`).

The context that was written with the handoff is written again when it has changed: what the rep reads of the account is
then not weeks old. Only our own fields of the account are written, never anything of the task.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from onetouch.crm import Crm, CrmError, Outcome, context_of, stored_payload
from onetouch.delivery.send import send
from onetouch.handoff import AccountContext, account_context, leading_to
from onetouch.lake import Lake, rows_where
from onetouch.ledger import ALERT_LINK, Handoff, Ledger, Outbox, Run
from onetouch.policy import Policy

KIND = "account_refresh"

_STATES = ("task_open", "touched")

_BEGUN = ("pending", "sending")

_LIMIT_POINTS, _USAGE_SHARE = 5.0, 0.1
"""Ours: a limit's share that has moved by that many percentage points, and usage by that share, are news."""

_FIGURE = re.compile(r"\d[\d,.]*")

Complete = Callable[[list[dict[str, Any]]], Mapping[str, dict[str, Any]]]
"""The signals of accounts → account id → the same with the people who may be named."""


@dataclass
class Refreshed:
    """How many records were `written` now, and handoff id → why it was refused."""

    written: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def refresh(lake: Lake, ledger: Ledger, policy: Policy, run: Run, crm: Crm, complete: Complete) -> Refreshed:
    """Writes the context anew of the open and touched handoffs whose context has changed since it was written last.

    The outbox keeps what was written, without the dossier, so that the next run can compare. Once it is known where the
    alert can be opened, the dossier leads there: on our own field of the record, since a task is the rep's to edit.
    What an earlier run could not write is written as it is now. When the CRM cannot be used, all that are due are
    refused with that reason.
    """
    result = Refreshed()
    if policy.crm.context != "fresh":
        return result
    theirs = [h for h in ledger.handoffs(states=_STATES) if h.crm_account_id and h.decided_at < run.as_of]
    told: dict[str, list[Outbox]] = {}
    alerts: dict[str, str] = {}
    for row in ledger.outbox(handoff_ids=[h.handoff_id for h in theirs]):
        if row.destination == crm.name and row.kind in ("account_fields", KIND):
            told.setdefault(str(row.handoff_id), []).append(row)
        elif row.kind == ALERT_LINK and row.state == "sent" and policy.crm.alert_link:
            alerts[str(row.handoff_id)] = str(row.external_id)
    ids = [h.account_id for h in theirs if h.handoff_id in told]
    decisions = {row["account_id"]: row for row in rows_where(lake, "decisions", run.run_id, "account_id", ids)}
    signals = {row["account_id"]: row for row in rows_where(lake, "signals", run.run_id, "account_id", ids)}
    due: dict[str, Handoff] = {}
    rows: dict[str, Outbox] = {}
    new: list[dict[str, Any]] = []
    for handoff in theirs:
        decision, known = decisions.get(handoff.account_id), signals.get(handoff.account_id)
        if decision is None or known is None:
            continue
        # What the CRM has refused is tried again once it has changed again, not every hour.
        over = [row for row in told[handoff.handoff_id] if row.state not in _BEGUN and "content" in row.payload]
        contents = [(context_of(row.payload), row.payload.get("alert")) for row in over]
        last, shown = max(contents, key=lambda c: c[0].as_of or handoff.decided_at, default=(None, None))
        if last is not None and last.as_of is not None and last.as_of >= run.as_of:  # a later run's, or this one's
            failed = [row for row in over if row.run_id == run.run_id and row.state == "failed"]
            result.refused |= {str(row.handoff_id): row.reason for row in failed}
            continue
        begun = [row for row in told[handoff.handoff_id] if row.kind == KIND and row.state in _BEGUN]
        now = account_context(decision, known, policy)
        alert = alerts.get(handoff.handoff_id)
        if begun or last is None or alert != shown or _has_changed(last, now, known, policy):
            due[handoff.handoff_id] = handoff
            rows |= {row.key: row for row in begun}
            new.append(_row(run, crm, handoff, now, alert))
    if not due:
        return result
    try:
        people = complete([signals[h.account_id] for h in due.values()])
        contexts = {i: account_context(decisions[h.account_id], people[h.account_id], policy) for i, h in due.items()}
        contexts |= {i: leading_to(contexts[i], alerts[i]) for i in contexts.keys() & alerts.keys()}
        rows |= {row.key: row for row in ledger.put_all(new)}

        def write(rows: Mapping[str, Outbox], _unsure: set[str]) -> dict[str, Outcome]:
            of_record = {str(due[str(row.handoff_id)].crm_account_id): str(row.handoff_id) for row in rows.values()}
            outcomes = crm.update_accounts({record: contexts[i] for record, i in of_record.items()})
            return {key: outcomes[str(due[str(row.handoff_id)].crm_account_id)] for key, row in rows.items()}

        outcomes = send(ledger, rows, write)
    except CrmError as error:
        result.refused = dict.fromkeys(due, str(error))
        return result
    for its in new:
        outcome = outcomes[its["key"]]
        result.written += outcome.ok
        if not (outcome.ok or outcome.deleted):
            result.refused[its["handoff_id"]] = outcome.reason
    return result


def _row(run: Run, crm: Crm, handoff: Handoff, context: AccountContext, alert: str | None) -> dict[str, Any]:
    return {
        "key": f"{KIND}:{handoff.handoff_id}:{run.as_of:%Y%m%dT%H%M%S.%f}",
        "destination": crm.name,
        "kind": KIND,
        "run_id": run.run_id,
        "handoff_id": handoff.handoff_id,
        "payload": stored_payload(replace(context, dossier=None)) | ({"alert": alert} if alert else {}),
    }


def _has_changed(last: AccountContext, now: AccountContext, known: Mapping[str, Any], policy: Policy) -> bool:
    """Whether the rep should know: tier or motion have changed; or, if somebody of the account has used the product
    since, anything else. What changes with the clock alone is not written."""
    if (last.tier, last.motion) != (now.tier, now.motion):
        return True
    seen = known.get("last_seen_at")
    if last.as_of is not None and (seen is None or seen <= last.as_of):
        return False
    return (
        (last.activated, last.milestones, last.team_size) != (now.activated, now.milestones, now.team_size)
        or _FIGURE.sub("", last.trigger or "") != _FIGURE.sub("", now.trigger or "")
        or _names(last.features_used) != _names(now.features_used)
        or _moved(last.score, now.score, policy.crm.standing_points)
        or _moved(last.limit_share, now.limit_share, _LIMIT_POINTS)
        or _moved(last.usage, now.usage, _USAGE_SHARE * (last.usage or 0.0))
    )


def _moved(before: float | None, now: float | None, by: float) -> bool:
    if before is None or now is None:
        return before is not now
    return before != now and abs(now - before) >= by


def _names(features: str | None) -> set[str]:
    """The features named in a text, whose order changes with their use."""
    return set((features or "").replace(" and ", ", ").split(", "))
