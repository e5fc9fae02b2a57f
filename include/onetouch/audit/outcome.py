"""The outcome of a run and the state of everything to be sent, from the ledger alone."""

from __future__ import annotations

from typing import Any

from onetouch.ledger import ACTIVE, Ledger


def accounting(ledger: Ledger, run_id: str) -> dict[str, Any]:
    """Counts that account for every row, account and decision of a run, as far as it got (guarantee 6).

    `deferred`: how many of `failed` the next run tries again. `held`: why nothing was sent, None if tasks were sent.
    When the run was held, `to_withdraw` is the number of open tasks that should have been closed. `warnings`: what the
    stages have to say to a person, one line each. `events`: the numbers of unknown and of ignored events, by the
    vendors' names.
    """
    summaries = ledger.stage_summaries(run_id)
    staged, routed = summaries.get("stage_events") or {}, summaries.get("route") or {}
    checked = summaries.get("check_events") or {}
    sent = summaries.get("deliver_tasks") or {}
    return {
        "run_id": run_id,
        "rows": staged.get("rows"),
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
        "warnings": [line for _, summary in sorted(summaries.items()) for line in summary.get("warnings") or []],
    }


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
