"""The outcome of a run and the state of everything to be sent, from the ledger alone."""

from __future__ import annotations

from typing import Any

from onetouch.crm import remedy
from onetouch.ledger import ACTIVE, Ledger, Outbox

_UNSAID = {"pending": "not sent yet", "sending": "begun, and not known to have arrived"}
"""The reason of a row that was not refused, by its state."""

SHOWN = 10
"""How many rows that were not sent `status` names."""

_WARN = (
    "extract_crm",
    "extract_events",
    "stage_events",
    "check_events",
    "build_signals",
    "check_signals",
    "check_decisions",
)
"""Stages whose summaries have warnings, in the order in which they are told."""


def accounting(ledger: Ledger, run_id: str) -> dict[str, Any]:
    """Counts that account for every row, account and decision of a run, as far as it got (guarantee 6).

    `already_read`: files that an earlier run had read. `waiting`: files that were added to the folder of exports since
    the run read it, and are left to a later run. `late`: rows that earlier runs should have had; they count from this
    run's moment on. `repaired`: of the kept and duplicate rows those of which something was mended, by reason. `hours`:
    what became of the hours of the files, {expected, seen, damaged, empty, lost, rows}; `ignored`: reason → number of
    files that are nobody's data. `warnings`: sentences that need nobody's data to be understood.
    `deferred`: how many of `failed` the next run tries again. `held`: why nothing was sent, None if tasks were sent.
    When the run was held, `to_withdraw` is the number of open tasks that should have been closed.
    `follow_ups`, only where the policy has them: how many were written, wait and were closed, or when held are due.
    `records`: how many records of the CRM, or rows of the file of accounts, were read, joined an account of the product
    (by which way), or did not.
    `events`: the numbers of unknown and of ignored events, by the vendors' names.
    """
    summaries = ledger.stage_summaries(run_id)
    staged, routed = summaries.get("stage_events") or {}, summaries.get("route") or {}
    checked = summaries.get("check_events") or {}
    sent = summaries.get("deliver_tasks") or {}
    return {
        "run_id": run_id,
        "rows": staged.get("rows"),
        "already_read": staged.get("already_read"),
        "waiting": (summaries.get("extract_events") or {}).get("waiting"),
        "late": staged.get("late"),
        "records": (summaries.get("build_signals") or {}).get("records"),
        "repaired": staged.get("repaired"),
        "hours": staged.get("hours"),
        "ignored": staged.get("ignored"),
        "events": checked.get("events"),
        "accounts": routed.get("accounts"),
        "decisions": routed.get("decisions"),
        "to_send": sent.get("to_send"),
        "delivered": sent.get("delivered"),
        "withheld": sent.get("withheld"),
        "failed": sent.get("failed"),
        "deferred": sent.get("deferred"),
        "held": sent.get("held"),
        "to_withdraw": sent.get("to_withdraw"),
        "warnings": [warning for name in _WARN for warning in (summaries.get(name) or {}).get("warnings", [])],
    } | {name: sent[name] for name in ("follow_ups",) if name in sent}


def unsent(ledger: Ledger, state: str | None = None) -> list[dict[str, Any]]:
    """The rows of the outbox in a state (None: what has not been sent), oldest first.

    Columns: key, state, destination, attempts, reason (never empty for what was not sent), since (ISO 8601: the moment
    of the run that laid it out), to_do (what a person can do about it), run_id, handoff_id. The payload is left out,
    because it names people.
    """
    rows: list[Outbox] = ledger.unsent() if state is None else ledger.outbox(states=[state])
    since = {run.run_id: run.as_of.isoformat() for run in ledger.runs()} if rows else {}
    return [
        {
            "key": row.key,
            "state": row.state,
            "destination": row.destination,
            "attempts": row.attempts,
            "reason": row.reason or _UNSAID.get(row.state, ""),
            "since": since.get(row.run_id or ""),
            "to_do": remedy(row.key, row.state, row.reason),
            "run_id": row.run_id,
            "handoff_id": row.handoff_id,
        }
        for row in rows
    ]


def status(ledger: Ledger, runs: int = 10) -> dict[str, Any]:
    """The state of the installation at a glance; whether the scheduler is switched on is not part of it.

    {"stopped": reason or None, "waiting", "refused": numbers of rows of the outbox, "unsent": the first SHOWN of them
    (`unsent`; refused ones first), "records_refused": what the CRM did not let us write on the records of accounts, by
    reason {reason, records, since, to_do}, "open_handoffs": their number, "runs": as_of, dry_run and the
    accounting of the runs begun last, newest first}.
    """
    rows = unsent(ledger)
    refused = sum(row["state"] == "failed" for row in rows)
    return {
        "stopped": ledger.stopped(),
        "waiting": len(rows) - refused,
        "refused": refused,
        "unsent": sorted(rows, key=lambda row: row["state"] != "failed")[:SHOWN],
        "records_refused": _records_refused(ledger),
        "open_handoffs": len(ledger.handoffs(states=ACTIVE)),
        "runs": [
            {"as_of": run.as_of.isoformat(), "dry_run": run.dry_run} | accounting(ledger, run.run_id)
            for run in ledger.last_runs(runs)
        ],
    }


def _records_refused(ledger: Ledger) -> list[dict[str, Any]]:
    return [
        {"reason": reason, "records": n, "since": since.isoformat(), "to_do": remedy("", "pending", reason)}
        for reason, n, since in ledger.refused_standings()
    ]
