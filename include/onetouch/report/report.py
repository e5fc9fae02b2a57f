"""One report: message, pictures, and the text behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onetouch.lake import Lake
from onetouch.metrics import WeeklyMetrics
from onetouch.policy import Policy
from onetouch.report import blocks as message
from onetouch.report.charts import Chart, draw

__all__ = ["Chart", "Report", "build", "keep_charts"]


@dataclass(frozen=True)
class Report:
    """`text`: a first line for notifications, then the details. `blocks`: the message, without its pictures."""

    text: str
    blocks: list[dict[str, Any]]
    charts: list[Chart]


def build(metrics: WeeklyMetrics, policy: Policy) -> Report:
    """The report of a week's figures. The same figures give the same report, pictures included."""
    return Report(message.text(metrics, policy), message.blocks(metrics, policy), draw(metrics, policy))


def keep_charts(report: Report, lake: Lake, week: str) -> int:
    """Keeps the pictures as `reports/{week}/{name}.png`; returns how many."""
    for chart in report.charts:
        with lake.writing("reports", week, f"{chart.name}.png") as draft, lake.fs.open(draft, "wb") as file:
            file.write(chart.png)
    return len(report.charts)
