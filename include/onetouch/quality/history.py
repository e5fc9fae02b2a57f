"""Each event name against its own history: what fell silent, changed its number, its name, its users or its times.

The history is the last eight weeks of tallies (`tally.tallies`). What is usual is the median over the weeks at the same
weekday and hour, on a log scale, times the growth since (the last six days against the same days of the weeks before).
An event's expectation is also scaled down by how quiet all other events are, so that a holiday is no fault of any one
event. Deviations are measured in robust units: the median absolute deviation over the weeks, at least that of a Poisson
count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from onetouch.catalogue import EVENTS_BY_NAME
from onetouch.policy import Policy
from onetouch.quality.names import looks_like, shown
from onetouch.quality.tally import DAY, HOUR

WEEKS = 8
WEEK, DAY_HOURS = 168, 24
HISTORY_DAYS = 7 * WEEKS + 2
"""Days of tallies that `unusual` needs before as_of (ours)."""

EXPECTED = 6.0
"""Events that were to be expected in a silence from which on it is critical, where it guards a guarantee (issue 12)."""

DOUBTFUL = 3.0
"""The same for a warning (ours)."""

YOUNG = 2
"""A history of fewer weeks than are looked at has not shown its longest silence yet: so many times as many events must
be expected before a silence stops a run (ours)."""

LONGER = 1.5
"""A silence counts from this multiple of the longest one in the history on, which bursts make longer (ours)."""

FAR = 5.0
"""Robust standard deviations from which a count is told (ours: once in millions if it were normal)."""

HALF, TWICE = 0.7, 2.0
"""Only counts under or over this multiple of the usual are told (ours)."""

ENOUGH = 50
"""Events of a day from which its shares are judged (ours)."""

LITTLE = 0.2
"""Share of a day's usual events, without its most active user, under which too little remains to decide on (ours)."""

SHIFT_HOURS = 2.0
"""Hours by which an event's usual lag changes from which it is told (ours)."""

CRITICAL, WARNING = "critical", "warning"


@dataclass(frozen=True)
class Unusual:
    """One deviation: its severity, the event's name (None: all events together), and what is told."""

    severity: str
    source: str
    event: str | None
    kind: str
    says: str


def unusual(tallies: pd.DataFrame, policy: Policy, as_of: datetime) -> list[Unusual]:
    """The deviations of every source at `as_of`, critical ones first.

    `tallies`: of HISTORY_DAYS; receipts after as_of are left out. A source with less than half of the policy's
    `quality.trailing_days` of history is not judged.
    """
    now = pd.Timestamp(as_of.astimezone(UTC)).tz_localize(None).floor("h")
    found: list[Unusual] = []
    for source, rows in tallies.groupby("source"):
        found += _Source(str(source), rows.reset_index(drop=True), policy, now).judged()
    return sorted(found, key=lambda one: one.severity)


class _Source:
    def __init__(self, source: str, rows: pd.DataFrame, policy: Policy, now: pd.Timestamp) -> None:
        self.source, self.policy, self.now = source, policy, now
        self.first = now - timedelta(days=7 * WEEKS + 1)
        self.length = (7 * WEEKS + 1) * DAY_HOURS
        at = pd.to_datetime(rows["at"])
        every = rows.assign(at=at, n=rows["n"] + rows["anonymous"].fillna(0))  # a checkout may be a visitor's
        hours = every[(rows["grain"] == HOUR) & (at < now) & (at >= self.first)]
        names = [name for name in hours["event"].dropna().unique() if not policy.events.ignored.fullmatch(name)]
        hours = hours[hours["event"].isin(names)]
        self.days = rows.assign(at=at)[(rows["grain"] == DAY) & (at < now)]
        meanings = policy.vocabulary_of(source)
        place = ((hours["at"] - self.first) / timedelta(hours=1)).astype(int)
        self.vendor = {str(name): self._series(place[of.index], of["n"]) for name, of in hours.groupby("event")}
        self.ours: dict[str, np.ndarray] = {}
        for name, counts in self.vendor.items():
            if name in meanings:
                ours = meanings[name].as_
                self.ours[ours] = self.ours.get(ours, np.zeros(self.length)) + counts
        self.total = sum(self.ours.values(), np.zeros(self.length))
        seen = np.flatnonzero(self.total)
        self.begun = int(seen[0]) if len(seen) else self.length

    def _series(self, place: pd.Series, n: pd.Series) -> np.ndarray:
        return np.bincount(place, weights=n, minlength=self.length)[: self.length].astype(float)

    def judged(self) -> Iterator[Unusual]:
        if (self.length - self.begun) * 2 < self.policy.quality.trailing_days * DAY_HOURS:
            return
        renamed = {}
        for one in self._renamed():
            renamed[one.event] = one
            yield one
        yield from self._volume()
        for name, counts in sorted(self.ours.items()):
            if name not in renamed and (told := self._silent(name, counts) or self._other_count(name, counts)):
                yield told
        yield from self._shares()
        yield from self._bare()
        yield from self._lags()

    # ── counts ──

    def _weeks(self, counts: np.ndarray, hours: int, ago: int = 0) -> np.ndarray:
        """The sums over the same `hours` (that ended `ago` hours ago) in each of the weeks before that are known."""
        end = self.length - ago
        ends = [end - WEEK * week for week in range(1, WEEKS + 1) if end - WEEK * week - hours >= self.begun]
        return np.array([counts[stop - hours : stop].sum() for stop in ends])

    def _growth(self) -> float:
        """The last six full days (without the last 24 hours) of all events ÷ the same days of the weeks before."""
        hours = 6 * DAY_HOURS
        lately = self.total[self.length - DAY_HOURS - hours : self.length - DAY_HOURS].sum()
        before = self._weeks(self.total, hours, DAY_HOURS)
        if not len(before) or not lately or not np.median(before):
            return 1.0
        return float(np.clip(lately / np.median(before), 0.25, 4.0))

    def _usual(self, counts: np.ndarray, hours: int) -> tuple[float, float] | None:
        """What is usual in the last `hours`, and the robust deviation of its logarithm; None if unknown."""
        weeks = self._weeks(counts, hours)
        if len(weeks) < 2:
            return None
        logs = np.log(weeks + 0.5)
        middle = float(np.median(logs))
        usual = max(np.exp(middle) - 0.5, 0.0) * self._growth()
        spread = 1.4826 * float(np.median(np.abs(logs - middle)))
        return usual, spread

    def _volume(self) -> Iterator[Unusual]:
        usual = self._usual(self.total, DAY_HOURS)
        if usual is None:
            return
        told = self._far(self.total[-DAY_HOURS:].sum(), *usual)
        if told is not None:
            yield self._found(WARNING, None, "volume", f"{told} in the last 24 hours")

    def _far(self, seen: float, usual: float, spread: float) -> str | None:
        spread = max(spread, 0.1, 1 / np.sqrt(usual + 0.5))  # at least that of a Poisson count
        far = (np.log(seen + 0.5) - np.log(usual + 0.5)) / spread
        if (far < -FAR and seen < HALF * usual) or (far > FAR and seen > TWICE * usual and seen >= ENOUGH):
            return f"{seen:,.0f} events, {usual:,.1f} are usual"
        return None

    def _other_count(self, name: str, counts: np.ndarray) -> Unusual | None:
        usual = self._usual(counts, DAY_HOURS)
        if usual is None:
            return None
        expected, spread = usual[0] * self._quiet(counts, DAY_HOURS), usual[1]
        told = self._far(counts[-DAY_HOURS:].sum(), expected, spread)
        return told and self._found(WARNING, name, "count", f"{told} in the last 24 hours")  # type: ignore[return-value]

    def _quiet(self, counts: np.ndarray, hours: int) -> float:
        """How quiet all other events are in the last hours: seen ÷ usual, at most 1."""
        others = self.total - counts
        usual = self._usual(others, hours)
        seen = others[self.length - hours :].sum()
        return float(min(1.0, (seen + 0.5) / (usual[0] + 0.5))) if usual else 1.0

    def _silent(self, name: str, counts: np.ndarray) -> Unusual | None:
        """An event that was seen before and is not seen any more."""
        seen = np.flatnonzero(counts)
        if len(seen) < 2 or seen[-1] == self.length - 1:
            return None
        start = int(seen[-1]) + 1  # the first hour of the silence
        before = counts[:start]
        begun = max(self.begun, start - WEEK * WEEKS)
        of_week = np.arange(begun, start) % WEEK
        weeks = np.bincount(of_week, minlength=WEEK)
        profile = np.bincount(of_week, weights=before[begun:], minlength=WEEK) / np.maximum(weeks, 1)
        hours = np.arange(start, self.length)
        expected = profile[hours % WEEK].sum() * min(self._growth(), 1.0)
        if expected < DOUBTFUL:
            return None
        expected *= self._quiet(counts, min(len(hours), WEEK))
        # Expected events between one sighting and the next, of the longest gap in the history.
        running = np.concatenate([[0.0], np.cumsum(profile[np.arange(begun, start) % WEEK])])
        sightings = seen[seen >= begun] - begun
        longest = float(np.diff(running[sightings]).max()) if len(sightings) > 1 else 0.0
        if expected < max(DOUBTFUL, longest):
            return None
        guards = EVENTS_BY_NAME[name].guards
        young = start - begun < WEEK * WEEKS
        critical = guards and expected >= max(EXPECTED * (YOUNG if young else 1), LONGER * longest)
        since = self.first + timedelta(hours=start)
        says = f"silent for {len(hours)} hours (since {since:%Y-%m-%d %H}:00 UTC), {expected:.1f} events were expected"
        return self._found(CRITICAL if critical else WARNING, name, "silent", says)

    # ── names ──

    def _renamed(self) -> Iterator[Unusual]:
        """A known name that vanished when a name appeared that looks like it."""
        meanings = self.policy.vocabulary_of(self.source)
        users = self.days[self.days["event"].notna()].groupby("event")["users"].max()
        for name, counts in sorted(self.vendor.items()):
            if name in meanings:
                continue
            known = looks_like(name, meanings)
            if known is None or known not in self.vendor:
                continue
            appeared = int(np.flatnonzero(counts)[0])
            theirs = self.vendor[known]
            if theirs[appeared:].sum() or theirs[:appeared].sum() < 2 or appeared - self.begun < DAY_HOURS:
                continue
            ours = meanings[known].as_
            # One user can send any name; two are needed for a vendor's change.
            critical = EVENTS_BY_NAME[ours].guards and users.get(name, 0) >= 2
            since = self.first + timedelta(hours=appeared)
            says = (
                f"no `{known}` since {since:%Y-%m-%d %H}:00 UTC, when `{shown(name)}` appeared "
                f"({counts.sum():,.0f} events): it looks like a new name; map it in vocabulary"
            )
            yield self._found(CRITICAL if critical else WARNING, ours, "renamed", says)

    # ── shares and lags, by the day of receipt ──

    def _by_day(self, names: bool) -> pd.DataFrame:
        """The days' figures, over the dates that their events happened on: sums, and lags weighted by events."""
        rows = self.days[self.days["event"].notna() == names]
        rows = rows.assign(hours=rows["lag"] * rows["n"])
        by = ["event", "at"] if names else ["at"]
        days = rows.groupby(by)[["n", "users", "top_user", "top_account", "twins", "bare", "hours"]].sum()
        return days.assign(lag=days["hours"] / days["n"])

    def _last(self, days: pd.DataFrame) -> tuple[Any, pd.DataFrame] | None:
        """The newest day with enough events, of today and yesterday, and the days before that have as many."""
        for ago in (0, 1):
            day = (self.now - timedelta(microseconds=1)).floor("D") - timedelta(days=ago)
            enough_of = days[days["n"] >= ENOUGH]
            if day in enough_of.index:
                before = enough_of[enough_of.index < day]
                enough = len(before) * 2 >= self.policy.quality.trailing_days
                return (enough_of.loc[day], before) if enough else None
        return None

    def _shares(self) -> Iterator[Unusual]:
        last = self._last(self._by_day(names=False))
        if last is None:
            return
        day, before = last
        # What remains without the most active user: one user's flood is told, and only what is left may stop a run.
        rest, usual_rest = day["n"] - day["top_user"], (before["n"] - before["top_user"]).median()
        alone = rest < LITTLE * usual_rest
        others_twins = (day["twins"] - day["top_user"]) / max(rest, 1)
        for column, what, told_from, stops in (
            ("top_user", "come from one user", 0.5, alone),
            ("top_account", "belong to one account", 0.5, alone or day["top_account"] - day["top_user"] >= 0.9 * rest),
            ("twins", "say the same as another one of the same moment", 0.2, others_twins >= 0.4),
        ):
            share, usual = day[column] / day["n"], before[column] / before["n"]
            most = float(usual.quantile(0.95))
            if share > max(told_from, 1.5 * most) and share > float(usual.max()):
                critical = stops and most < told_from
                says = f"{share:.0%} of {day['n']:,.0f} on {day.name:%Y-%m-%d} {what}, {usual.median():.0%} are usual"
                yield self._found(CRITICAL if critical else WARNING, None, column, says)

    def _bare(self) -> Iterator[Unusual]:
        """Events that had properties and have none any more: which feature was used, how much, is then unknown."""
        names = self._by_day(names=True)
        lost = []
        for name in names.index.unique("event"):
            if (last := self._last(names.loc[name])) is not None:
                day, before = last
                share, usual = day["bare"] / day["n"], before["bare"] / before["n"]
                if share > max(0.5, 1.5 * float(usual.max())):
                    lost.append(
                        f"`{shown(str(name))}` {day['bare']:,.0f} of {day['n']:,.0f} ({usual.median():.0%} are usual)"
                    )
        if lost:
            more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
            yield self._found(WARNING, None, "bare", f"without any property: {', '.join(lost[:5])}{more}")

    def _lags(self) -> Iterator[Unusual]:
        names = self._by_day(names=True)
        shifted: list[tuple[str, float, float]] = []
        days = self._by_day(names=False)
        judged = [(None, days), *((str(name), names.loc[name]) for name in names.index.unique("event"))]
        for name, of in judged:
            last = self._last(of)
            if last is None:
                continue
            day, before = last
            usual = float(before["lag"].median())
            spread = 1.4826 * float((before["lag"] - usual).abs().median())
            if abs(day["lag"] - usual) > max(SHIFT_HOURS, FAR * spread):
                shifted.append((name or "", float(day["lag"]), usual))
        if not shifted:
            return
        name, lag, usual = shifted[0]
        others = f" (and so {', '.join(f'`{shown(other)}`' for other, *_ in shifted[1:6])})" if len(shifted) > 1 else ""
        whole = self._last(days)
        of_many = whole is not None and whole[0]["top_user"] * 2 < whole[0]["n"]
        ahead = lag < -SHIFT_HOURS / 2 < usual and of_many
        says = f"received {lag:+.1f} hours after they happened, {usual:+.1f} are usual{others}: are their times right?"
        yield self._found(CRITICAL if ahead and not name else WARNING, name or None, "lag", says)

    def _found(self, severity: str, event: str | None, kind: str, says: str) -> Unusual:
        about = f"event `{event}`" if event else "all events"
        return Unusual(severity, self.source, event, kind, f"batch-{self.source}: {about}: {says}")
