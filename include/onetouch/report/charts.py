"""The report's charts. Each has one message, which is its title, and is legible on a phone (390 px wide).

The colours are distinguishable for colour-blind people (Okabe and Ito) and on white; their meaning is also written out.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from onetouch.metrics import Rate, WeeklyMetrics
from onetouch.policy import Policy
from onetouch.report import words

BLUE, ORANGE, BAND, GREY, INK, QUIET = "#0072B2", "#B85C00", "#CFE8D8", "#B9C3CC", "#1A1A1A", "#44505A"

_INCHES, _DPI = (8.0, 6.0), 150  # 1200 × 900 px
_BIG, _MIDDLE, _SMALL = 23, 17, 14.5
_SIDE_BY_SIDE = 9  # number of weeks whose labels fit side by side at full size
_WRAP, _WRAP_SMALL = 38, 66

_STYLE: Any = {
    "text.parse_math": False,  # a dollar sign is plain text
    "font.family": "DejaVu Sans",
    "font.size": _MIDDLE,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True)
class Chart:
    """One chart: `name` of its file, `title` (its message), `alt` (a full description in words), `png` (its bytes)."""

    name: str
    title: str
    alt: str
    png: bytes


def draw(metrics: WeeklyMetrics, policy: Policy) -> list[Chart]:
    """All charts of the week, in reading order. A chart without data says so."""
    with matplotlib.rc_context(_STYLE):
        return [_volume(metrics, policy), _conversion(metrics), _revenue(metrics, policy)]


def _volume(metrics: WeeklyMetrics, policy: Policy) -> Chart:
    counts = [week.n for week in metrics.pqls]
    labels = [week.week[-3:] for week in metrics.pqls]
    this, before = counts[-1], counts[:-1]
    title = f"{this:,} {'PQL' if this == 1 else 'PQLs'} went to sales this week"
    if usual := words.usual(counts):
        title += f"; {usual}"
    note = "PQLs handed to sales a week (ISO weeks, UTC)"
    fills = policy.report.benchmarks.get("pqls_per_rep_month")
    if fills and metrics.pqls_per_rep_month is not None:
        note = (
            f"{metrics.pqls_per_rep_month:.0f} PQLs a month for each of {metrics.reps} reps; "
            f"{fills.low:g}–{fills.high:g} fill one ({words.plain(fills.source, 30)})"
        )
    with _picture(title, note) as (axes, png):
        bars = axes.bar(range(len(counts)), counts, color=[GREY] * len(before) + [BLUE], width=0.72)
        axes.bar_label(bars, [f"{n:,}" for n in counts], padding=4, fontsize=_fit(_MIDDLE, counts), fontweight="bold")
        axes.set_xticks(range(len(labels)), labels, fontsize=_fit(_MIDDLE, counts))
        axes.set_ylim(0, max([*counts, 1]) * 1.18)
        axes.set_yticks([])
        axes.spines[["left", "top", "right"]].set_visible(False)
        axes.tick_params(length=0)
        if not any(counts):
            _nothing(axes, "No PQL in these weeks")
    shown = ", ".join(f"{label} {n}" for label, n in zip(labels, counts, strict=True))
    return Chart("pqls_by_week", title, f"Bars, PQLs handed to sales by week: {shown}. {note}.", png())


def _conversion(metrics: WeeklyMetrics) -> Chart:
    close = metrics.step("pql_to_close")
    if close.rate is None:
        title = f"No PQL has had its {words.within(close)} to close yet"
    elif close.verdict == "too_few":
        title = f"{words.counted(close)} PQLs closed: too few to judge"
    else:
        title = f"{words.percent(close.rate)} of PQLs closed, {words.verdict(close)}"
    note = "Only PQLs that had the whole time count. Line: 95 % interval. Green: benchmark."
    with _picture(title, note, left=0.04) as (axes, png):
        tops = [rate.high or 0 for rate in metrics.steps]
        bands = [rate.benchmark.high for rate in metrics.steps if rate.benchmark]
        most = min(1.0, max([*tops, *bands, 0.2]))
        for place, rate in enumerate(reversed(metrics.steps)):
            if rate.benchmark:
                low, high = rate.benchmark.low, min(rate.benchmark.high, most)
                axes.barh(place, high - low, left=low, height=0.62, color=BAND, zorder=1)
            if rate.rate is not None and rate.low is not None and rate.high is not None:
                axes.barh(place, rate.rate, height=0.3, color=BLUE, zorder=2)
                axes.plot([rate.low, rate.high], [place, place], color=INK, linewidth=2.5, zorder=3)
            label = words.title(rate)
            if rate.benchmark:
                label += f"  ·  {words.range_of(rate.benchmark)}"
            axes.text(0, place + 0.36, label, fontsize=_SMALL, va="bottom")
            figure = "–" if rate.rate is None else words.percent(rate.rate)
            count = words.counted(rate) if rate.denominator else "none yet"
            axes.text(most * 1.03, place + 0.02, figure, fontsize=_MIDDLE + 2, fontweight="bold", va="bottom")
            axes.text(most * 1.03, place - 0.04, count, fontsize=_SMALL, va="top")
        axes.set_xlim(0, most * 1.28)
        axes.set_ylim(-0.38, len(metrics.steps) - 0.35)
        axes.axis("off")
    return Chart("conversion", title, " ".join(_told(rate) for rate in metrics.steps), png())


def _revenue(metrics: WeeklyMetrics, policy: Policy) -> Chart:
    revenue = metrics.revenue
    target = policy.report.benchmarks.get("sales_assisted_share")
    limit = policy.report.benchmarks.get("sales_assisted_share_cannibalized")
    sold = revenue.sales
    if revenue.share is None:
        title = "No new revenue to split yet"
    else:
        title = f"{words.percent(revenue.share)} of new revenue was sales-assisted (n={sold})"
    note = f"New ARR, {words.days(revenue.since, revenue.until)}."
    if target:
        note += f" Green: benchmark {words.range_of(target)}."
    if limit:
        note += f" Over {words.percent(limit.low)} sales eats self-serve ({words.plain(limit.source, 30)})."
    with _picture(title, note, left=0.04) as (axes, png):
        if target:
            axes.barh(0, target.high - target.low, left=target.low, height=1.3, color=BAND, zorder=1)
            middle = (target.low + target.high) / 2
            axes.text(middle, 0.72, _span(target.low, target.high), ha="center", va="bottom", fontsize=_SMALL)
        if limit:
            axes.plot([limit.low] * 2, [-0.65, 0.65], color=ORANGE, linewidth=3.5, zorder=4)
            axes.text(
                limit.low, 0.72, words.percent(limit.low), ha="center", va="bottom", fontsize=_SMALL, color=ORANGE
            )
        if revenue.share is None:
            axes.barh(0, 1, height=0.8, color="none", edgecolor=GREY, linewidth=2, zorder=2)
            axes.text(0.5, -1.2, "No deal or upgrade in these weeks", ha="center", va="center", color=QUIET)
        else:
            axes.barh(0, revenue.share, height=0.8, color=BLUE, zorder=2)
            axes.barh(0, 1 - revenue.share, left=revenue.share, height=0.8, color=GREY, zorder=2)
            for at, side, name, dollars, of in (
                (0.0, "left", "Sales-assisted", revenue.assisted, f"{revenue.assisted_deals} deals"),
                (1.0, "right", "Self-serve", revenue.self_serve, f"{revenue.self_serve_upgrades} upgrades"),
            ):
                axes.text(at, -0.78, name, ha=side, va="top", fontsize=_MIDDLE)
                axes.text(at, -1.02, words.money(dollars), ha=side, va="top", fontsize=_BIG, fontweight="bold")
                axes.text(at, -1.40, of, ha=side, va="top", fontsize=_SMALL)
        axes.set_xlim(0, 1)
        axes.set_ylim(-1.6, 0.95)
        axes.axis("off")
    told = (
        f"One bar of new ARR: sales-assisted {words.money(revenue.assisted)} ({revenue.assisted_deals} deals), "
        f"self-serve {words.money(revenue.self_serve)} ({revenue.self_serve_upgrades} upgrades). {note}"
    )
    return Chart("revenue_split", title, told, png())


class _Png:
    """The chart's PNG bytes, available once it is drawn."""

    data = b""

    def __call__(self) -> bytes:
        return self.data


@contextmanager
def _picture(title: str, note: str, *, left: float = 0.05) -> Iterator[tuple[Axes, _Png]]:
    """A page with the title on top, a note at the bottom, and axes in between."""
    figure = Figure(figsize=_INCHES, dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)  # drawn without a screen
    head, foot = textwrap.wrap(title, _WRAP), textwrap.wrap(note, _WRAP_SMALL)
    figure.text(0.04, 0.955, "\n".join(head), fontsize=_BIG, fontweight="bold", va="top", linespacing=1.15)
    figure.text(0.04, 0.035, "\n".join(foot), fontsize=_SMALL, va="bottom", color=QUIET, linespacing=1.25)
    bottom = 0.075 + 0.048 * len(foot)
    top = 0.93 - 0.07 * len(head)
    axes = figure.add_axes((left, bottom + 0.06, 0.96 - left, top - bottom - 0.08))
    png = _Png()
    yield axes, png
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    png.data = file.getvalue()


def _nothing(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=_MIDDLE, color=QUIET)


def _fit(size: float, weeks: Sequence[Any]) -> float:
    """The font size at which the labels of that many weeks fit side by side."""
    return min(size, size * _SIDE_BY_SIDE / len(weeks))


def _span(low: float, high: float) -> str:
    return f"{low * 100:.0f}–{high * 100:.0f} %"


def _told(rate: Rate) -> str:
    """One rate in words, for people who cannot see the chart."""
    if rate.rate is None:
        return f"{words.title(rate)}: none has had its time yet."
    told = f"{words.title(rate)}: {words.percent(rate.rate)} ({words.counted(rate)}, interval {words.interval(rate)})"
    return f"{told}, benchmark {words.range_of(rate.benchmark)}." if rate.benchmark else f"{told}."
