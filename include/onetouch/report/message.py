"""The report's message: first the decision to take, then the figures behind it, with details as text for the thread."""

from __future__ import annotations

from onetouch.chat import Line, Message, Paragraph, Rule, Text, Title
from onetouch.metrics import DEFINITIONS, Rate, WeeklyMetrics
from onetouch.policy import Policy
from onetouch.report import words

_ACTIONS = 20
"""Maximum number of actions listed; there are thirteen."""


def message(metrics: WeeklyMetrics, policy: Policy) -> Message:
    """The message, without the charts that follow it. Figures are given with denominator, benchmark and source."""
    year, week = metrics.week.split("-W")
    lines = [
        _volume(metrics),
        *(_line(metrics.step(name)) for name in ("pql_to_close", "pql_to_opportunity")),
        _line(metrics.sla),
        _revenue(metrics, policy),
    ]
    decide = (Text("Decide:", bold=True), Text(f" {words.plain(metrics.diagnosis.decide, 500)}"))
    small = (
        f"{words.days(metrics.since, metrics.until)} {metrics.until:%Y}, UTC. Rates count only PQLs that had the "
        "whole time; in brackets the 95 % interval. Details in the thread."
    )
    return Message(
        [headline(metrics)],
        [
            Title(f"Product-led sales, week {int(week)} of {year}"),
            Paragraph([decide, (Text(words.plain(metrics.diagnosis.finding, 500)),)]),
            Rule(),
            Paragraph(lines),
            Paragraph([(Text(small),)], small=True),
        ],
    )


def details(metrics: WeeklyMetrics, policy: Policy, promises: str = "") -> Message:
    """The text for the thread: the headline, then every figure with its formula, cohort and source, and what an audit
    of the tasks in the CRM found."""
    lines: list[Line] = [
        headline(metrics),
        (),
        (Text(f"How the figures of {metrics.week} are counted", bold=True),),
        *(_explained(rate) for rate in (*metrics.steps, metrics.meeting, metrics.sla)),
        _explained_revenue(metrics),
    ]
    if metrics.actions:
        decided = ", ".join(f"{words.plain(a, 40)} {n:,}" for a, n in list(metrics.actions.items())[:_ACTIONS])
        when = f" of the last run before the week's end ({metrics.actions_as_of:%d %b %H:%M} UTC): {decided}."
        lines.append((Text("• "), Text("Decisions", bold=True), Text(when)))
    if promises:
        lines.append((Text("• "), Text("Tasks in the CRM", bold=True), Text(f": {words.plain(promises, 300)}.")))
    version = words.plain(metrics.policy_version, 40)
    lines.append((Text(f"Policy {version}. S0–S4 are the source documents, “ours” is this team's number."),))
    return Message(lines)


def headline(metrics: WeeklyMetrics) -> Line:
    """The week in one line, for notifications."""
    finding, decide = (words.plain(text, 500) for text in (metrics.diagnosis.finding, metrics.diagnosis.decide))
    return (Text(f"Product-led sales {metrics.week}: {metrics.pqls[-1].n} PQLs. {finding} Decide: {decide}"),)


def _volume(metrics: WeeklyMetrics) -> Line:
    counts = [week.n for week in metrics.pqls]
    usual = words.usual(counts)
    return Text("PQLs to sales", bold=True), Text(f" {counts[-1]:,} this week" + (f", {usual}" if usual else ""))


def _line(rate: Rate) -> Line:
    name = Text(words.title(rate), bold=True)
    if rate.rate is None:
        return name, Text(f" –, nothing to judge yet (n=0){_benchmark(rate)}")
    found = f" {words.percent(rate.rate)}, {words.counted(rate)} [{words.interval(rate)}]"
    told = words.verdict(rate)
    return name, Text(f"{found}{_benchmark(rate)}" + (f": {told}" if told else ""))


def _benchmark(rate: Rate) -> str:
    return f"; benchmark {words.range_of(rate.benchmark)}" if rate.benchmark else ""


def _revenue(metrics: WeeklyMetrics, policy: Policy) -> Line:
    revenue = metrics.revenue
    name = Text(DEFINITIONS["sales_assisted_share"].title, bold=True)
    target = policy.report.benchmarks.get("sales_assisted_share")
    benchmark = f"; benchmark {words.range_of(target)}" if target else ""
    if revenue.share is None:
        return name, Text(f" –, no new revenue in {len(metrics.pqls)} weeks (n=0){benchmark}")
    whole = revenue.assisted + revenue.self_serve
    share = f"{words.percent(revenue.share)}, {words.money(revenue.assisted)} of {words.money(whole)}"
    return name, Text(f" {share} (n={revenue.sales}){benchmark}")


def _explained(rate: Rate) -> Line:
    definition = DEFINITIONS[rate.name]
    cohort = f"{definition.denominator} ({words.days(rate.since, rate.until)})"
    figure = (
        "nothing yet"
        if rate.rate is None
        else f"{words.counted(rate)} = {words.percent(rate.rate)} [{words.interval(rate)}]"
    )
    told = f": {figure}: {definition.numerator}, of {cohort}. {definition.source}."
    return Text("• "), Text(words.title(rate), bold=True), Text(told)


def _explained_revenue(metrics: WeeklyMetrics) -> Line:
    revenue, definition = metrics.revenue, DEFINITIONS["sales_assisted_share"]
    line = (
        f": {words.money(revenue.assisted)} from {revenue.assisted_deals} deals, "
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
    return Text("• "), Text(definition.title, bold=True), Text(line)
