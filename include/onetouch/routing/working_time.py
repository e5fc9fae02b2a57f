"""A rep's working time: the policy's hours in the rep's time zone, without public holidays and leave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pandas as pd

from onetouch.policy import WorkingTime
from onetouch.public_holidays import Place, is_public_holiday

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Calendar:
    """A rep's working time: `weekdays` (Monday 0), `start` and `end` in `zone`; `leave`: pairs (first day, last day).

    Arguments are moments with a time zone; returned moments are UTC. Durations are elapsed time, also where the clocks
    change; a start time that the change to summer time skips is moved to the moment after the gap.
    """

    zone: ZoneInfo
    country: str | None
    leave: tuple[tuple[date, date], ...]
    weekdays: frozenset[int]
    start: time
    end: time

    def day_of(self, moment: datetime) -> date:
        """The date in the rep's time zone."""
        return moment.astimezone(self.zone).date()

    def off(self, day: date) -> bool:
        """Whether the rep is on leave that day, or it is a public holiday of the rep's country."""
        on_leave = any(first <= day <= last for first, last in self.leave)
        return on_leave or is_public_holiday(day, Place(self.country or ""))

    def stretches(self, since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
        """The working time between two moments as pairs (beginning, end), in order; no pair is empty."""
        since, until = since.astimezone(UTC), until.astimezone(UTC)
        day, last = self.day_of(since), self.day_of(until)
        while day <= last:
            if self._works_on(day):
                begins = max(since, self._at(day, self.start))
                ends = min(until, self._at(day, self.end))
                if begins < ends:
                    yield begins, ends
            day += _DAY

    def after(self, since: datetime, work: timedelta, until: datetime) -> datetime:
        """The moment by which `work` of working time has passed since `since`, or `until` if that comes first."""
        for begins, ends in self.stretches(since, until):
            if ends - begins >= work:
                return begins + work
            work -= ends - begins
        return until.astimezone(UTC)

    def day_began(self, moment: datetime, works: datetime, most: timedelta) -> datetime:
        """When the rep's day began to which a task given at `moment` counts; UTC.

        `works`: when the rep next works on or after `moment`. The day began at midnight, or, if that is earlier, at the
        end of the previous working day: a task given in the evening, at a weekend or on a holiday counts to the next
        working day. The result is at most `most` before `moment`.
        """
        day, earliest = self.day_of(works) - _DAY, moment.astimezone(UTC) - most
        while not self._works_on(day) and self._at(day, self.end) > earliest:
            day -= _DAY
        return max(min(self._at(day, self.end), self._at(self.day_of(moment), time())), earliest)

    def _works_on(self, day: date) -> bool:
        return day.weekday() in self.weekdays and not self.off(day)

    def _at(self, day: date, clock: time) -> datetime:
        return datetime.combine(day, clock, self.zone).astimezone(UTC)


def calendars(people: pd.DataFrame, hours: WorkingTime) -> dict[str, Calendar]:
    """The calendar of each of `people` (timezone, country and leave by e-mail), with the policy's working hours."""
    rows = people[["timezone", "country", "leave"]].itertuples(name=None)
    return {
        email: Calendar(
            ZoneInfo(zone),
            country if isinstance(country, str) else None,
            tuple(leave),
            frozenset(hours.weekdays),
            hours.start,
            hours.end,
        )
        for email, zone, country, leave in rows
    }
