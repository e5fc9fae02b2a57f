"""Derives one recommendation from the figures, by the diagnosis table of S0, S1 and S4.

The first finding that the data support is taken. The order is that of the funnel, because a fault upstream distorts
what comes after it: response, message, timing, then the definition of a PQL, then the split of revenue. A difference
within the confidence interval is no finding.
"""

from __future__ import annotations

from collections.abc import Iterator

from onetouch.metrics.figures import Diagnosis, Rate, WeeklyMetrics
from onetouch.policy import Policy


def diagnose(metrics: WeeklyMetrics, policy: Policy) -> Diagnosis:
    """The first finding that holds; otherwise that nothing needs changing, or that there is too little data."""
    if not any(week.n for week in metrics.pqls):
        return Diagnosis(
            finding=f"No PQL was handed to sales in {len(metrics.pqls)} weeks.",
            decide="Nothing to judge yet: leave the definition as it is and check that the pipeline runs.",
        )
    for check in (_response, _message, _timing, _definition, _revenue):
        for finding in check(metrics, policy):
            return finding
    return _nothing(metrics)


def _response(metrics: WeeklyMetrics, policy: Policy) -> Iterator[Diagnosis]:
    if metrics.sla.verdict == "below":
        yield Diagnosis(
            finding=f"Slow response: {of(metrics.sla)} were touched in time.",
            decide="Fix routing and capacity before judging PQLs: fewer tasks a rep, or more reps.",
        )


def _message(metrics: WeeklyMetrics, policy: Policy) -> Iterator[Diagnosis]:
    replied = metrics.step("replied")
    if _fewer_than_opportunities_wanted(replied, policy):
        yield Diagnosis(
            finding=f"Few replies: {of(replied)} answered, fewer than should become opportunities.",
            decide="Rework the first message: name the usage and the blocker it solves.",
        )


def _timing(metrics: WeeklyMetrics, policy: Policy) -> Iterator[Diagnosis]:
    replied, meeting = metrics.step("replied"), metrics.meeting
    answered = replied.low is not None and meeting.high is not None and replied.low > meeting.high
    if answered and metrics.step("pql_to_opportunity").verdict == "below" and meeting.numerator:
        yield Diagnosis(
            finding=f"Replies but few meetings: {of(replied)} answered, {of(meeting)} met.",
            decide="Change timing or channel: contact at the account's active hours, offer help by its usual channel.",
        )


def _definition(metrics: WeeklyMetrics, policy: Policy) -> Iterator[Diagnosis]:
    close, opportunity = metrics.step("pql_to_close"), metrics.step("pql_to_opportunity")
    alarm = policy.report.benchmarks.get("pql_to_close_alarm")
    tighten = "Tighten the PQL definition: raise the high tier, or ask for a stronger intent signal."
    if close.verdict == "below" and alarm and close.rate is not None and close.rate < alarm.low:
        yield Diagnosis(finding=f"PQLs are too loose: {of(close)} closed, under {percent(alarm.low)}.", decide=tighten)
    elif opportunity.verdict == "below":
        yield Diagnosis(finding=f"PQLs are too loose: {of(opportunity)} became opportunities.", decide=tighten)
    elif close.verdict == "above" and alarm and close.rate is not None and close.rate > alarm.high:
        volume = policy.report.benchmarks.get("pqls_per_rep_month")
        load = metrics.pqls_per_rep_month
        finding = f"PQLs are too tight: {of(close)} closed, over {percent(alarm.high)}."
        if volume is None or load is None or load < volume.high:
            yield Diagnosis(
                finding=finding,
                decide="Widen the PQL definition: lower the high tier a step; good accounts are missed.",
            )
        else:
            yield Diagnosis(
                finding=f"{finding} Reps already carry {load:.0f} PQLs a month each.",
                decide="Add a rep before widening the PQL definition.",
            )


def _revenue(metrics: WeeklyMetrics, policy: Policy) -> Iterator[Diagnosis]:
    limit = policy.report.benchmarks.get("sales_assisted_share_cannibalized")
    share, without = metrics.revenue.share, metrics.revenue.share_without_largest
    if limit and share is not None and without is not None and min(share, without) > limit.low:
        yield Diagnosis(
            finding=f"{percent(share)} of new revenue is sales-assisted, over {percent(limit.low)}.",
            decide="Protect self-serve: raise the value floor and check which deals would have closed by themselves.",
        )


def _nothing(metrics: WeeklyMetrics) -> Diagnosis:
    judged: list[Rate] = [
        rate
        for rate in (metrics.step("pql_to_close"), metrics.step("pql_to_opportunity"), metrics.sla)
        if rate.verdict not in ("none", "too_few")
    ]
    close = metrics.step("pql_to_close")
    if not judged or close.verdict in ("none", "too_few"):
        return Diagnosis(
            finding=f"Too few to judge the close rate (n={close.denominator}).",
            decide="Change nothing yet: keep the definition until more PQLs have had their time.",
        )
    return Diagnosis(
        finding=f"{of(close)} closed; nothing is out of its range.",
        decide="Change nothing: keep the definition and the routing as they are.",
    )


def _fewer_than_opportunities_wanted(rate: Rate, policy: Policy) -> bool:
    """Whether fewer PQLs replied than the benchmark for opportunities requires.

    No source gives a range for replies. Every opportunity needs a reply, so its range is a lower bound for replies.
    """
    wanted = policy.report.benchmarks.get("pql_to_opportunity")
    return wanted is not None and rate.high is not None and rate.high < wanted.low


def of(rate: Rate) -> str:
    """A rate with its denominator: `12 of 48 (25 %)`."""
    if rate.rate is None:
        return "0 of 0"
    return f"{rate.numerator} of {rate.denominator} ({percent(rate.rate)})"


def percent(share: float) -> str:
    """A share of 1 as a whole percentage."""
    return f"{share:.0%}".replace("%", " %")
