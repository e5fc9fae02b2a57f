"""Tells the owner of each new task in Slack, once."""

from __future__ import annotations

from typing import Any

from onetouch.delivery.failure import DeliveryFailed
from onetouch.delivery.rows import rows_where, timezones
from onetouch.delivery.slack import Slack, SlackError, escape
from onetouch.handoff import alert_text
from onetouch.lake import Lake
from onetouch.ledger import Handoff, Ledger, Run
from onetouch.policy import Policy


def alert_reps(
    lake: Lake, ledger: Ledger, policy: Policy, run: Run, slack: Slack | None, *, held: str | None
) -> dict[str, Any]:
    """One post in the alerts channel for every open task that was not announced yet, mentioning its owner.

    The same handoff is never announced twice; one that an earlier run could not announce is, now. With `held`
    (why nothing may be sent) nothing leaves and `slack` may be None. Returns {"alerts": tasks of this
    run, "posted": those announced by now, "earlier": tasks of earlier runs announced only now, "failed": [{handoff_id,
    reason}]}: repeated, the run says the same. Raises DeliveryFailed after the rest when a post failed.
    """
    waiting = ledger.handoffs(states=["task_open"])
    mine = [h for h in ledger.handoffs(run_id=run.run_id) if h.task_id]
    keys = [_key(h) for h in (*waiting, *mine)]
    announced = {r.key for r in ledger.outbox(destination="slack", states=["sent"], keys=keys)}
    new = [h for h in waiting if _key(h) not in announced and h.decided_at <= run.as_of]
    posted = sum(_key(h) in announced for h in mine)
    summary: dict[str, Any] = {"alerts": len(mine), "posted": posted, "earlier": 0, "failed": []}
    if held or slack is None:
        return summary
    for handoff, text in _texts(lake, policy, new):
        who = slack.mention(handoff.owner_email)
        line = f"{who}: {escape(text)}" if who else escape(text)
        try:
            slack.post(
                ledger,
                key=_key(handoff),
                kind="alert",
                channel=policy.slack.alerts_channel,
                text=line,
                blocks=[{"type": "section", "text": {"type": "mrkdwn", "text": line[:3000]}}],
                run_id=handoff.run_id,
                handoff_id=handoff.handoff_id,
            )
        except SlackError as error:
            summary["failed"].append({"handoff_id": handoff.handoff_id, "reason": str(error)})
        else:
            summary["posted" if handoff.run_id == run.run_id else "earlier"] += 1
    if summary["failed"]:
        named = [(f"handoff {row['handoff_id']}", row["reason"]) for row in summary["failed"]]
        raise DeliveryFailed("alerts could not be posted", summary, named)
    return summary


def _key(handoff: Handoff) -> str:
    return f"alert:{handoff.handoff_id}"


def _texts(lake: Lake, policy: Policy, handoffs: list[Handoff]) -> list[tuple[Handoff, str]]:
    """Each handoff with what to say about it, from the decision of its run; without one, only that a task waits."""
    by_run: dict[str, list[Handoff]] = {}
    for handoff in handoffs:
        by_run.setdefault(handoff.run_id, []).append(handoff)
    texts: dict[str, str] = {}
    for run_id, theirs in by_run.items():
        ids = [h.account_id for h in theirs]
        kept = all(lake.exists(room, f"{run_id}.parquet") for room in ("decisions", "signals"))
        decisions = {
            r["account_id"]: r for r in (rows_where(lake, "decisions", run_id, "account_id", ids) if kept else [])
        }
        signals = {r["account_id"]: r for r in (rows_where(lake, "signals", run_id, "account_id", ids) if kept else [])}
        zones = timezones(lake, run_id)
        for handoff in theirs:
            decision = decisions.get(handoff.account_id)
            if decision is None:
                texts[handoff.handoff_id] = "A new task is on your list in the CRM."
            else:
                texts[handoff.handoff_id] = alert_text(
                    decision, signals.get(handoff.account_id, {}), policy, zones.get(handoff.owner_id or "")
                )
    return [(handoff, texts[handoff.handoff_id]) for handoff in handoffs]
