"""
# reconcile

Every night at 03:30 UTC: does the CRM hold what the ledger says, and the ledger know what the CRM holds? What can be
mended is mended, what cannot is listed in the task's log and in Slack.

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

- **reconcile**: the CRM cannot be reached (as `extract_crm` of `pql_pipeline`), or something is not as it should be
  and could not be mended: the log and the alert name each handoff and what is wrong with it. Look at the task in the
  CRM and at `onetouch outbox`; a dead letter is laid out again with `onetouch outbox retry KEY` once its cause is gone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task
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
        """Compares ledger and CRM, mends what can be mended, fails when something could not."""
        from onetouch import stages

        return stages.reconcile(workspace(), as_of(), now(), dry_run=dry_run())

    reconcile()
