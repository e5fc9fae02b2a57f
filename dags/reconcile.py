"""
# reconcile

Every night at 03:30 UTC: does the CRM hold what the ledger says, and the ledger know what the CRM holds? What is safe
to mend is mended: a task left open though its handoff has ended, one the ledger never heard of, a touch that was
missed. What a person must judge (two tasks of one handoff, a task nobody owns, a key the ledger does not know) is
listed in the task's result, and Slack says how much there is.

    reconcile

Deliveries don't need it: a run that was killed, or an answer that was lost, is finished by the next run. This is the
look from outside that would notice if they ever did not.

## Params

- **dry_run**: compare and say, mend nothing.
- **as_of**: as if at this moment (RFC 3339 with offset). Empty: the night it was scheduled for. A moment older than the
  policy's `delivery.fresh_hours` mends nothing.

## Running it again

As often as you like: what is in order is left alone. By hand: `onetouch reconcile`.

## When a task fails

- **reconcile**: the CRM cannot be reached (as `extract_crm` of `pql_pipeline`), or refused what was to be mended: the
  log and the alert name each handoff and the reason. Mend the cause, clear it, or leave it to the next night.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task
from onetouch_airflow.alerts import tell
from onetouch_airflow.defaults import DEFAULT_ARGS, TAGS, deadline, params
from onetouch_airflow.opening import as_of, dry_run, now, workspace

with DAG(
    dag_id="reconcile",
    description="Ledger and CRM, compared and mended",
    doc_md=__doc__,
    schedule="30 3 * * *",
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params=params(),
    deadline=deadline(timedelta(minutes=30)),
    tags=[*TAGS, "writes to crm"],
) as dag:

    @task
    def reconcile() -> Any:
        """Compares ledger and CRM, mends what can be mended, tells what a person must judge."""
        from onetouch import stages

        found = stages.reconcile(workspace(), as_of(), now(), dry_run=dry_run())
        if found["reported"]:
            what = ", ".join(sorted({row["what"] for row in found["reported"]}))
            tell(f":mag: reconcile: {len(found['reported'])} differences for a person to judge: {what}", "reconcile")
        return found

    reconcile()
