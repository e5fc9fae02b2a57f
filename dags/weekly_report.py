"""
# weekly_report

Mondays at 07:00 UTC: last week's figures, their charts, and one message in the leadership channel.

    compute_metrics → draw_charts ─┐
    audit_delivery ────────────────┴→ post_report

## Params

- **dry_run**: compute and draw, post nothing.
- **as_of**: report on the last whole week before this moment (RFC 3339 with offset). Empty: the Monday the run was
  scheduled for. A moment older than the policy's `delivery.fresh_hours` is computed and drawn, not posted.

## Running it again

Clear any task: figures and charts of a week are written to the same place, and a week's message is posted once.
To see another week, trigger with `as_of` and look under `reports/` in the lake.

## When a task fails

- **compute_metrics**: the ledger or the lake cannot be read, or the CRM tables of the last pipeline run are missing:
  see that `pql_pipeline` is green, then clear.
- **draw_charts**: a bug in a chart, or a full disk. The figures are kept already.
- **audit_delivery**: a bug, or the ledger cannot be read. Where the CRM cannot be read it does not fail: the report
  says that nothing was audited. What is wrong with a task is in the log, and Slack says how much there is;
  `onetouch audit --crm` names each again. A duplicate, lost or interrupting task is a bug of ours:
  report it, with the line.
- **post_report**: Slack refused (`slack_default`; the bot needs the scopes of docs/slack.md, and must be in the
  channel). Clear it; what was posted is not posted again.

A run that is not through in 30 minutes says so in Slack and goes on.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task
from onetouch_airflow.alerts import tell
from onetouch_airflow.defaults import DEFAULT_ARGS, TAGS, deadline, params
from onetouch_airflow.opening import as_of, dry_run, now, workspace

log = logging.getLogger(__name__)

with DAG(
    dag_id="weekly_report",
    description="Last week's figures → leadership's Slack channel",
    doc_md=__doc__,
    schedule="0 7 * * MON",
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params=params(),
    deadline=deadline(timedelta(minutes=30)),
    tags=[*TAGS, "posts to slack"],
) as dag:

    @task
    def compute_metrics() -> str:
        """Figures of the last whole week, into the lake; returns the week."""
        from onetouch import stages

        return stages.compute_metrics(workspace(), as_of())

    @task
    def draw_charts(week: str) -> int:
        """The week's charts, into the lake; returns how many."""
        from onetouch import stages

        return stages.draw_charts(workspace(), week)

    @task
    def audit_delivery() -> str:
        """Judges the tasks in the CRM by what was promised: gauges `onetouch.audit.*`, and the line for the report."""
        from airflow.sdk.observability.stats import gauge
        from onetouch import stages

        found = stages.audit_delivery(workspace(), as_of())
        for name in found.keys() - {"since", "line", "wrong"}:
            gauge(f"onetouch.audit.{name}", found[name])
        for wrong in found["wrong"]:
            log.error("%(promise)s: %(key)s: %(why)s", wrong)
        if found["wrong"]:
            tell(f":rotating_light: audit of the tasks in the CRM: {found['line']}", "audit")
        return str(found["line"])

    @task
    def post_report(week: str, promises: str) -> Any:
        """The week's message, once."""
        from onetouch import stages

        return stages.post_report(workspace(), week, as_of(), now(), promises, dry_run=dry_run())

    week = compute_metrics()
    draw_charts(week) >> post_report(week, audit_delivery())
