"""
# prune

Every night at 04:30 UTC: deletes what the policy's `retention` no longer keeps: old raw files, months of events, files
of runs, rows of the ledger that no rule reads. With the default policy it deletes nothing.

    prune

Nothing that a later run reads goes: not which files were read, nor first times and memberships, nor handoffs and the
keys of what was sent, nor the newest runs. A policy that keeps less than its own windows is refused before anything is
deleted. A pruned run says so, with the date, wherever it is asked for (`onetouch replay`, `explain`, a clear here).

It waits for the extraction, staging or signals of a run under way, and these wait for it.

## Params

- **dry_run**: delete nothing; the task's result says what would go. By hand: `onetouch prune --dry-run`.
- **as_of**: count back from this moment (RFC 3339 with offset). Empty: the night it was scheduled for.

## Running it again

As often as you like. A run that was killed is finished by the next one; nothing reads what it has left half deleted.

## When a task fails

- **prune**: the policy's `retention` is shorter than what the policy reads: the message names the key, the value and
  the least that is allowed. Or another process was at a source for more than the waiting time: clear it. Or the lake
  refuses to delete: give the workers that right.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task
from onetouch_airflow.defaults import DEFAULT_ARGS, TAGS, deadline, params
from onetouch_airflow.opening import as_of, dry_run, now, workspace

with DAG(
    dag_id="prune",
    description="Deletes what the policy's retention no longer keeps",
    doc_md=__doc__,
    schedule="30 4 * * *",
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params=params(),
    deadline=deadline(timedelta(minutes=60)),
    tags=[*TAGS, "deletes"],
) as dag:

    @task
    def prune() -> Any:
        """Deletes what is older than the policy keeps; the result says how much of what."""
        from onetouch import stages

        return stages.prune(workspace(), as_of(), now(), dry_run=dry_run())

    prune()
