"""What the data team hears in Slack when a task fails or a run is late. Never raises: an alert must not add a failure.

A message names DAG, task, run and kind of failure. An exception's own words are quoted only when the library wrote
them: it keeps secrets and personal data out of them, others' may hold a URL or a row.
"""

from __future__ import annotations

import html
import logging
import os
from typing import TYPE_CHECKING, Any

from onetouch_airflow import opening

if TYPE_CHECKING:
    from airflow.sdk import Context
    from onetouch.connections import Connection

log = logging.getLogger(__name__)


def task_failed(context: Context) -> None:
    """on_failure_callback of every task: called once, after its last try."""
    ti = context["ti"]
    failure = context.get("exception")
    kind = type(failure)
    words = f": {failure}" if kind.__module__.startswith("onetouch.") else ""
    mapped = "" if ti.map_index is None or ti.map_index < 0 else f"[{ti.rendered_map_index or ti.map_index}]"
    tell(f":red_circle: {ti.dag_id}.{ti.task_id}{mapped} failed in {ti.run_id}: {kind.__name__}{words}\n{ti.log_url}")


def run_is_late(minutes: int, context: dict[str, Any] | None = None) -> None:
    """Callback of the deadline alert."""
    run = (context or {}).get("dag_run", {})
    tell(
        f":hourglass: {run.get('dag_id')} {run.get('dag_run_id')} is not through after {minutes} minutes "
        f"(state {run.get('state')}); it goes on. Runbook: the DAG's docs."
    )


def tell(text: str) -> None:
    """Posts to the policy's alerts channel when there is a Slack connection; the log has it in any case."""
    log.warning("%s", text)
    try:
        slack = opening.connection("slack_default")
        if slack is not None:
            post(slack, text)
    except Exception as error:  # whatever goes wrong here, the task's own failure is what matters
        log.warning("the alert could not be posted: %s", type(error).__name__)


def post(connection: Connection, text: str) -> None:
    """One message to the policy's alerts channel; one short try."""
    from onetouch.connections import require_tls
    from onetouch.policy import read_policy
    from slack_sdk import WebClient

    base_url = connection.extra.get("base_url") or WebClient.BASE_URL
    require_tls(base_url)
    channel = read_policy(os.environ.get("ONETOUCH_POLICY") or None).slack.alerts_channel
    # What an exception quotes may come from outside: no links, no mentions, no book.
    text = html.escape(text[:2000], quote=False)
    WebClient(token=connection.password, base_url=base_url, timeout=10).chat_postMessage(channel=channel, text=text)
