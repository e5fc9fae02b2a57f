"""Retries, time-outs, alerts, params and tags, set once for all DAGs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DeadlineAlert, DeadlineReference, Param, SyncCallback

from onetouch_airflow.alerts import run_is_late, task_failed
from onetouch_airflow.retries import NotInVain

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "data team",
    # 30 s, 1, 2, 4 min: an API's short outage passes unseen, a long one is seen within the hour.
    "retries": 4,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": 2,
    "max_retry_delay": timedelta(minutes=10),
    "retry_policy": NotInVain(),
    "execution_timeout": timedelta(minutes=30),
    "on_failure_callback": task_failed,
}

TAGS = ["onetouch"]


def params() -> dict[str, Param]:
    """The params every DAG takes."""
    return {
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Compute everything, write nothing to the CRM, post nothing to Slack.",
            section="What leaves the house",
        ),
        "as_of": Param(
            None,
            type=["null", "string"],
            format="date-time",  # the form shows a picker; the pattern is what checks
            pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)$",
            title="As of",
            description=(
                "Run as if at this moment (with its UTC offset). Empty: the moment the run was scheduled for. "
                "A moment further back than the policy's delivery.fresh_hours sends nothing."
            ),
            section="Which moment",
        ),
    }


def deadline(within: timedelta) -> DeadlineAlert:
    """Says so in Slack when a run is not through `within` that time of being queued; the run itself goes on."""
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=within,
        callback=SyncCallback(run_is_late, kwargs={"minutes": int(within.total_seconds() // 60)}),
    )
