"""What the data team hears in Slack when a task fails or a run is late. Never raises: an alert must not add a failure.

A message names DAG, task, run and kind of failure; for failed checks each check with what was observed and what was
expected. An exception's own words are quoted only when the library wrote them: it keeps secrets and personal data out
of them, others' may hold a URL or a row.

One message a DAG run and task: when the task was cleared and fails again, the message is written anew and says how
often. It goes to the policy's ops channel, or the alerts channel where it has none.
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
    from slack_sdk import WebClient

log = logging.getLogger(__name__)

_LONGEST = 2000
"""Ours: characters quoted of a failure."""

_RECENT = 200
"""Ours: messages of the channel looked through for an earlier one of the same task."""


def task_failed(context: Context) -> None:
    """on_failure_callback of every task: called once, after its last try."""
    ti = context["ti"]
    failure = context.get("exception")
    mapped = "" if ti.map_index is None or ti.map_index < 0 else f"[{ti.rendered_map_index or ti.map_index}]"
    where = f"{ti.dag_id}.{ti.task_id}{mapped}"
    tell(f":red_circle: {where} failed in {ti.run_id}: {_words(failure)}\n{ti.log_url}", f"{where} {ti.run_id}")


def run_is_late(minutes: int, context: dict[str, Any] | None = None) -> None:
    """Callback of the deadline alert."""
    run = (context or {}).get("dag_run", {})
    tell(
        f":hourglass: {run.get('dag_id')} {run.get('dag_run_id')} is not through after {minutes} minutes "
        f"(state {run.get('state')}); it goes on. Runbook: the DAG's docs.",
        f"{run.get('dag_id')} {run.get('dag_run_id')} late",
    )


def tell(text: str, key: str | None = None) -> None:
    """Posts to the ops channel when there is a Slack connection, in place of the last of the same `key` (None: as
    another one); the log has it in any case."""
    log.warning("%s", text)
    try:
        slack = opening.connection("slack_default")
        if slack is not None:
            post(slack, text, key)
    except Exception as error:  # whatever goes wrong here, the task's own failure is what matters
        log.warning("the alert could not be posted: %s", type(error).__name__)


def post(connection: Connection, text: str, key: str | None) -> None:
    """One message to the ops channel, or the earlier one of that key written anew; short tries."""
    from onetouch.chat.slack import UPDATE_TEXT, Client
    from onetouch.connections import require_tls

    base_url = connection.extra.get("base_url") or Client.BASE_URL
    require_tls(base_url)
    # Without the default handler, which sends again after a dropped connection: told twice, and a wait.
    client = Client(token=connection.password, base_url=base_url, timeout=10, retry_handlers=[])
    channel = _channel()
    # What an exception quotes may come from outside: no mentions, no links of its own.
    text = html.escape(text[: 2 * _LONGEST], quote=False)
    ts, times = _earlier(client, channel, key) if key else (None, 0)
    metadata = {"event_type": "onetouch_ops", "event_payload": {"key": key or "", "times": times + 1}}
    if ts:
        often = f"\n{times + 1} times by now."
        again = text[: UPDATE_TEXT - len(often)] + often
        client.chat_update(channel=channel, ts=ts, text=again, metadata=metadata)
    else:
        client.chat_postMessage(channel=channel, text=text, metadata=metadata)


def _words(failure: Any) -> str:
    """The kind of failure and, where they are ours, its words; failed checks one a line."""
    kind = type(failure).__name__
    if not type(failure).__module__.startswith("onetouch."):
        return kind
    summary = getattr(failure, "summary", {})
    if "critical" in summary:
        found = "".join(f"\n• {finding}" for finding in summary["critical"])[:_LONGEST]
        return f"{kind}: nothing is sent. Check: observed (expected){found}\nDetails: {summary['docs']}"
    return f"{kind}: {str(failure)[:_LONGEST]}"


def _channel() -> str:
    """Where the data team reads: a policy that is broken elsewhere still says so."""
    from pathlib import Path

    import yaml
    from onetouch.policy import PolicyError, read_policy

    path = os.environ.get("ONETOUCH_POLICY") or None
    try:
        slack = read_policy(path).slack
    except PolicyError:
        given = yaml.safe_load(Path(str(path)).read_text(encoding="utf-8")).get("slack") or {}
        slack = read_policy().slack.model_copy(update=given)
    return slack.ops_channel or slack.alerts_channel


def _earlier(client: WebClient, channel: str, key: str) -> tuple[str | None, int]:
    """The ts of an earlier message of that key, and how often it was told; a look that fails finds nothing."""
    from http.client import HTTPException

    from slack_sdk.errors import SlackClientError

    try:
        found = client.conversations_history(channel=channel, include_all_metadata=True, limit=_RECENT)
    except (SlackClientError, HTTPException, OSError):  # refused, or not answered
        return None, 0
    for message in found.get("messages") or []:
        told = (message.get("metadata") or {}).get("event_payload") or {}
        if told.get("key") == key:
            return str(message["ts"]), int(told.get("times", 1))
    return None, 0
