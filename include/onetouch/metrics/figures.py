"""The models of the weekly figures, and how a rate is compared with its benchmark."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict
from scipy.stats import binomtest

from onetouch.lake import Lake
from onetouch.policy import Benchmark

Verdict = Literal["none", "too_few", "below", "in_range", "above"]


class Figure(BaseModel):
    """Base of the figures that are stored as JSON; immutable."""

    model_config = ConfigDict(frozen=True)


class WeekCount(Figure):
    """A count for one ISO week."""

    week: str
    n: int


class Rate(Figure):
    """`numerator` of `denominator` with its 95 % Wilson interval, as shares of 1; None if no handoff has matured.

    The denominator counts the handoffs decided (for SLA: due) from `since` up to `until`; `within_hours` is the time
    each of them had. `verdict`: the comparison with the benchmark; `too_few` if the interval is too wide for one.
    """

    name: str
    numerator: int
    denominator: int
    rate: float | None
    low: float | None
    high: float | None
    since: AwareDatetime
    until: AwareDatetime
    within_hours: float | None = None
    benchmark: Benchmark | None = None
    verdict: Verdict = "none"


class Revenue(Figure):
    """New ARR of the weeks shown, by motion, in dollars a year. `share` is None when there was none.

    `share_without_largest` leaves out the largest assisted deal, because a single deal is no trend. Deals and upgrades
    without an amount are counted but add no ARR. `credited`: the part of `assisted` that customers bought self-serve in
    accounts that were handed over at any time (`report.sales_credit: all`).
    """

    assisted: float
    assisted_deals: int
    credited: float = 0.0
    credited_upgrades: int = 0
    self_serve: float
    self_serve_upgrades: int
    other_sales: float
    without_amount: int
    share: float | None
    share_without_largest: float | None
    since: AwareDatetime
    until: AwareDatetime

    @property
    def sales(self) -> int:
        """The number of deals and upgrades on which the share is based."""
        return self.assisted_deals + self.credited_upgrades + self.self_serve_upgrades


class Diagnosis(Figure):
    """The finding from all figures together, and the one decision to take."""

    finding: str
    decide: str


class WeeklyMetrics(Figure):
    """All figures of one week. `until` is its end; nothing that happened later counts."""

    week: str
    since: AwareDatetime
    until: AwareDatetime
    as_of: AwareDatetime
    policy_version: str
    pqls: list[WeekCount]
    pqls_per_rep_month: float | None
    reps: int
    steps: list[Rate]
    meeting: Rate
    sla: Rate
    revenue: Revenue
    actions: dict[str, int]
    actions_as_of: AwareDatetime | None
    diagnosis: Diagnosis

    def step(self, name: str) -> Rate:
        """The rate of that name. Raises StopIteration if there is none."""
        return next(rate for rate in self.steps if rate.name == name)


def keep(metrics: WeeklyMetrics, lake: Lake) -> str:
    """Writes the figures to `reports/{week}/metrics.json`; returns the week, for example 2026-W47."""
    with lake.writing("reports", metrics.week, "metrics.json") as draft, lake.fs.open(draft, "wb") as file:
        file.write(metrics.model_dump_json(indent=2).encode())
    return metrics.week


def read(lake: Lake, week: str) -> WeeklyMetrics:
    """The stored figures of a week. Raises FileNotFoundError if there are none."""
    return WeeklyMetrics.model_validate_json(lake.fs.cat_file(lake.path("reports", week, "metrics.json")))


def iso_week(moment: datetime) -> str:
    """The ISO week of a moment in UTC, for example 2026-W07."""
    year, week, _ = moment.astimezone(UTC).isocalendar()
    return f"{year}-W{week:02}"


def rate(
    name: str,
    numerator: int,
    denominator: int,
    since: datetime,
    until: datetime,
    benchmark: Benchmark | None = None,
    alarm: Benchmark | None = None,
) -> Rate:
    """A rate with its interval and its verdict; `alarm`: the range outside of which one should act."""
    share = low = high = None
    if denominator:
        share = numerator / denominator
        # Wilson's interval contains the share; with floating-point rounding its ends may miss 0 or 1 slightly.
        interval = binomtest(numerator, denominator).proportion_ci(method="wilson")
        low, high = min(float(interval.low), share), max(float(interval.high), share)
    return Rate(
        name=name,
        numerator=numerator,
        denominator=denominator,
        rate=share,
        low=low,
        high=high,
        since=since,
        until=until,
        benchmark=benchmark,
        verdict=_verdict(share, low, high, benchmark, alarm),
    )


def _verdict(
    share: float | None, low: float | None, high: float | None, benchmark: Benchmark | None, alarm: Benchmark | None
) -> Verdict:
    """Below or above the benchmark only if the whole interval is; in range if the share is and the interval is narrow.

    Narrow means that it excludes what one would act on: everything beyond the limits of `alarm`, if it is given, else
    one end of the benchmark.
    """
    if share is None or low is None or high is None or benchmark is None:
        return "none"
    if high < benchmark.low:
        return "below"
    if low > benchmark.high:
        return "above"
    safe = alarm is not None and alarm.low <= low and high <= alarm.high
    tells = safe or low > benchmark.low or high < benchmark.high
    return "in_range" if tells and benchmark.low <= share <= benchmark.high else "too_few"
