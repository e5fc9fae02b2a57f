"""The report's message: what to decide first, then the figures behind it; details as text for the thread."""

from __future__ import annotations

from typing import Any

from onetouch.metrics import DEFINITIONS, Rate, WeeklyMetrics
from onetouch.policy import Policy
from onetouch.report import words
from onetouch.report.words import escape

_ACTIONS = 20
"""Actions listed at most: a decision has one of thirteen."""


def blocks(metrics: WeeklyMetrics, policy: Policy) -> list[dict[str, Any]]:
    """Slack blocks without pictures; those are put after them. Figures carry denominator, benchmark and source."""
    year, week = metrics.week.split("-W")
    lines = [
        _volume(metrics),
        *(_line(metrics.step(name)) for name in ("pql_to_close", "pql_to_opportunity")),
        _line(metrics.sla),
        _revenue(metrics, policy),
    ]
    return [
        {
            "type": "header",
            "text": {"type": "plain_text", "text": f"Product-led sales, week {int(week)} of {year}", "emoji": False},
        },
        _section(f"*Decide:* {_safe(metrics.diagnosis.decide, 500)}\n{_safe(metrics.diagnosis.finding, 500)}"),
        {"type": "divider"},
        _section("\n".join(lines)),
        _context(
            f"{words.days(metrics.since, metrics.until)} {metrics.until:%Y}, UTC. Rates count only PQLs that had the "
            "whole time; in brackets the 95 % interval. Details in the thread."
        ),
    ]


def text(metrics: WeeklyMetrics, policy: Policy) -> str:
    """First a line for notifications, then every figure with its formula, cohort and source, for the thread."""
    lines = [
        f"Product-led sales {metrics.week}: {metrics.pqls[-1].n} PQLs. {_safe(metrics.diagnosis.finding, 500)} "
        f"Decide: {_safe(metrics.diagnosis.decide, 500)}",
        "",
        f"*How the figures of {metrics.week} are counted*",
        *(_explained(rate) for rate in (*metrics.steps, metrics.meeting, metrics.sla)),
        _explained_revenue(metrics),
    ]
    if metrics.actions:
        decided = ", ".join(f"{_safe(a, 40)} {n:,}" for a, n in list(metrics.actions.items())[:_ACTIONS])
        lines.append(
            f"• *Decisions* of the last run before the week's end ({metrics.actions_as_of:%d %b %H:%M} UTC): {decided}."
        )
    lines.append(
        f"Policy {_safe(metrics.policy_version, 40)}. S0–S4 are the source documents, “ours” is this team's number."
    )
    return "\n".join(lines)


def _volume(metrics: WeeklyMetrics) -> str:
    counts = [week.n for week in metrics.pqls]
    return ", ".join(filter(None, (f"*PQLs to sales* {counts[-1]:,} this week", words.usual(counts))))


def _line(rate: Rate) -> str:
    name = f"*{words.title(rate)}*"
    if rate.rate is None:
        return f"{name} –, nothing to judge yet (n=0){_benchmark(rate)}"
    found = f"{name} {words.percent(rate.rate)}, {words.counted(rate)} [{words.interval(rate)}]"
    told = words.verdict(rate)
    return f"{found}{_benchmark(rate)}" + (f": {told}" if told else "")


def _benchmark(rate: Rate) -> str:
    return f"; benchmark {escape(words.range_of(rate.benchmark))}" if rate.benchmark else ""


def _revenue(metrics: WeeklyMetrics, policy: Policy) -> str:
    revenue = metrics.revenue
    name = f"*{DEFINITIONS['sales_assisted_share'].title}*"
    target = policy.report.benchmarks.get("sales_assisted_share")
    benchmark = f"; benchmark {escape(words.range_of(target))}" if target else ""
    if revenue.share is None:
        return f"{name} –, no new revenue in {len(metrics.pqls)} weeks (n=0){benchmark}"
    whole = revenue.assisted + revenue.self_serve
    n = revenue.sales
    return (
        f"{name} {words.percent(revenue.share)}, {words.money(revenue.assisted)} of {words.money(whole)} "
        f"(n={n}){benchmark}"
    )


def _explained(rate: Rate) -> str:
    definition = DEFINITIONS[rate.name]
    cohort = f"{definition.denominator} ({words.days(rate.since, rate.until)})"
    figure = (
        "nothing yet"
        if rate.rate is None
        else f"{words.counted(rate)} = {words.percent(rate.rate)} [{words.interval(rate)}]"
    )
    return f"• *{words.title(rate)}*: {figure}: {definition.numerator}, of {cohort}. {definition.source}."


def _explained_revenue(metrics: WeeklyMetrics) -> str:
    revenue, definition = metrics.revenue, DEFINITIONS["sales_assisted_share"]
    line = (
        f"• *{definition.title}*: {words.money(revenue.assisted)} from {revenue.assisted_deals} deals, "
        f"{words.money(revenue.self_serve)} from {revenue.self_serve_upgrades} upgrades customers made themselves "
        f"({words.days(revenue.since, revenue.until)}): {definition.numerator}, of {definition.denominator}. "
        f"{definition.source}."
    )
    if revenue.credited_upgrades:
        line += (
            f" In the first: {words.money(revenue.credited)} that customers once handed to sales added by upgrading "
            f"themselves (n={revenue.credited_upgrades})."
        )
    if revenue.other_sales:
        line += f" Not in it: {words.money(revenue.other_sales)} of deals without a handoff."
    if revenue.without_amount:
        line += f" {revenue.without_amount} of them carry no amount and add nothing."
    if revenue.share_without_largest is not None and revenue.share is not None:
        line += f" Without the largest deal: {words.percent(revenue.share_without_largest)}."
    return line


def _safe(text: str, limit: int) -> str:
    return escape(words.plain(text, limit))


def _section(content: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": content}}


def _context(content: str) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": content}]}
