"""One weekly report: message, charts, and the details for the thread; it is posted once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from onetouch.chat import Chat, Message, Picture, Place, post_once, upload_once
from onetouch.lake import Lake
from onetouch.ledger import Ledger
from onetouch.metrics import WeeklyMetrics
from onetouch.policy import Policy
from onetouch.report import message as words
from onetouch.report.charts import Chart, draw

__all__ = ["Chart", "Report", "build", "keep_charts", "post_report"]


@dataclass(frozen=True)
class Report:
    """A report: `message` (without the charts), and `details` for its thread."""

    message: Message
    details: Message
    charts: list[Chart]


def build(metrics: WeeklyMetrics, policy: Policy, promises: str = "") -> Report:
    """The report of a week's figures, and what an audit found, in words. The same gives the same report, charts
    included."""
    return Report(words.message(metrics, policy), words.details(metrics, policy, promises), draw(metrics, policy))


def keep_charts(report: Report, lake: Lake, week: str) -> int:
    """Writes the charts to `reports/{week}/{name}.png`; returns their number."""
    for chart in report.charts:
        with lake.writing("reports", week, f"{chart.name}.png") as draft, lake.fs.open(draft, "wb") as file:
            file.write(chart.png)
    return len(report.charts)


def post_report(ledger: Ledger, chat: Chat, policy: Policy, report: Report, key: str) -> dict[str, Any]:
    """Posts a report once for each `key` to the leadership channel: message and charts, with details in the thread.

    Returns {"posted", "channel", "ts": the message's id, "pictures"}; raises ChatError.
    """
    there = next((row for row in ledger.outbox(keys=[key]) if row.state == "sent"), None)
    if there is None:
        ids = [upload_once(chat, ledger, chart, f"{key}:{chart.name}") for chart in report.charts]
        pictures = [Picture(i, chart.title, chart.alt) for i, chart in zip(ids, report.charts, strict=True)]
        place = post_once(
            chat,
            ledger,
            replace(report.message, parts=[*report.message.parts, *pictures]),
            key=key,
            kind="report",
            channel=policy.slack.leadership_channel,
        )
    else:
        place = Place.of(there)
    post_once(
        chat,
        ledger,
        report.details,
        key=f"{key}:details",
        kind="report_details",
        channel=place.channel,
        reply_to=place,
    )
    return {"posted": True, "channel": place.channel, "ts": place.message, "pictures": len(report.charts)}
