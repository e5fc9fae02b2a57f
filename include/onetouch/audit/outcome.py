"""The outcome of a run and the state of everything to be sent, from the ledger alone."""

from __future__ import annotations

from typing import Any

from onetouch.ledger import ACTIVE, Ledger

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


def status(ledger: Ledger, runs: int = 10) -> dict[str, Any]:
    """The state of the installation at a glance; whether the scheduler is switched on is not part of it.

    {"stopped": reason or None, "waiting", "refused": numbers of rows of the outbox, "open_handoffs": their number,
    "runs": as_of, dry_run and the accounting of the runs begun last, newest first}.
    """
    unsent = ledger.unsent()
    refused = sum(row.state == "failed" for row in unsent)
    return {
        "stopped": ledger.stopped(),
        "waiting": len(unsent) - refused,
        "refused": refused,
        "open_handoffs": len(ledger.handoffs(states=ACTIVE)),
        "runs": [
            {"as_of": run.as_of.isoformat(), "dry_run": run.dry_run} | accounting(ledger, run.run_id)
            for run in ledger.last_runs(runs)
        ],
    }
