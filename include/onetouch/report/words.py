"""The format of figures in texts, shared by charts, message and details."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from datetime import datetime, timedelta

from onetouch.metrics import DEFINITIONS, Rate
from onetouch.policy import Benchmark

_A_HABIT = 3
"""Minimum number of weeks for a usual value."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


def percent(share: float) -> str:
    """A share of 1 as a whole percentage."""
    return f"{share * 100:.0f} %"


def money(dollars: float) -> str:
    """Dollars, short: $800, $26K, $1.2M."""
    for unit, size in (("M", 1e6), ("K", 1e3)):
        if dollars >= size:
            return f"${dollars / size:.1f}".removesuffix(".0") + unit
    return f"${dollars:.0f}"


def days(date: datetime, until: datetime) -> str:
    """The dates from `date` to the day before `until`: 24 Feb – 2 Mar."""
    last = until - timedelta(microseconds=1)
    return f"{date.day} {date:%b} – {last.day} {last:%b}"


def within(rate: Rate) -> str:
    """The time each PQL of a rate had: 72 hours, 14 days."""
    hours = rate.within_hours or 0
    return f"{hours / 24:.0f} days" if hours > 72 else f"{hours:.0f} hours"


def title(rate: Rate) -> str:
    """The rate's name and the time it takes: Closed won, 30 days."""
    name = DEFINITIONS[rate.name].title
    return f"{name}, {within(rate)}" if rate.within_hours else name


def counted(rate: Rate) -> str:
    """12 of 48."""
    return f"{rate.numerator} of {rate.denominator}"


def interval(rate: Rate) -> str:
    """The 95 % interval: 15–39 %."""
    return "" if rate.low is None or rate.high is None else f"{rate.low * 100:.0f}–{rate.high * 100:.0f} %"


def range_of(benchmark: Benchmark) -> str:
    """The benchmark and its source: 15–30 % (S0)."""
    source = plain(benchmark.source, 30)
    if benchmark.high >= 1:
        return f"{percent(benchmark.low)} or more ({source})"
    return f"{benchmark.low * 100:.0f}–{benchmark.high * 100:.0f} % ({source})"


def verdict(rate: Rate) -> str:
    """How the rate compares with its benchmark, or that there is too little data to compare."""
    if rate.benchmark is None:
        return ""
    if rate.rate is None:
        return "none has had its time yet"
    return {
        "below": "below the benchmark",
        "above": "above the benchmark",
        "in_range": "in the benchmark's range",
        "too_few": f"too few to tell (n={rate.denominator})",
        "none": "",
    }[rate.verdict]


def usual(counts: Sequence[int]) -> str:
    """The median of the weeks before the last one, beginning with the first that is not zero; empty if they are few."""
    lived = list(counts[next((i for i, n in enumerate(counts) if n), len(counts)) : -1])
    return f"{statistics.median(lived):g} in a usual one" if len(lived) >= _A_HABIT else ""


def plain(text: str, limit: int) -> str:
    """Text from outside as one line of at most `limit` characters, without control or direction characters."""
    line = " ".join(_CONTROL.sub(" ", text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
