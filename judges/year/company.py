"""A company of many accounts whose truth is known: what its customers did at every moment of the year and before it.

The signals of all accounts are computed for any run directly from arrays, whole columns at a time, as
`signals/account.py` defines them; a year of events would not fit in memory. `plain` computes the same figures of one
account from its events, one by one; the oracle uses these. Times are microseconds since 1970, UTC; a *slot* is six
hours, and runs happen at the boundaries of slots; a *day* is a UTC date; both are counted from `Company.begin`. A
*date* is one of the account's own zone, as a number of days since the date (UTC) of `Company.begin`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import holidays
import numpy as np
import pandas as pd
import pyarrow as pa
from onetouch.catalogue import MOMENTS, SIGNAL_NAMES, SIGNALS, Window
from onetouch.lake import table_kind
from onetouch.policy import Policy
from onetouch.signals import CRM, SNAPSHOT

HOUR = 3_600_000_000
SLOT, DAY = 6 * HOUR, 24 * HOUR
NEVER = np.iinfo(np.int64).max

BEFORE = 100
"""Days simulated before the first run: the signals look back 90."""

_DAYS = {Window.WEEK: 7, Window.RECENT: 28, Window.ENGAGEMENT: 14, Window.LOOKBACK: 90}

COUNTED: dict[str, tuple[tuple[str, ...], int]] = {
    signal.name: (signal.events, _DAYS[signal.window]) for signal in SIGNALS if signal.counted
}
"""Signal → the events it counts and over how many days, defined here independently of the product."""

NOT_USE = ("limit_reached", "support_ticket_opened", "company_funded", "company_hiring", "demo_viewed")

_DEMOS = (0.0003, 0.006)
"""Demos watched to the end, a day of a calm account and of one in a phase of buying interest."""

# Events a day of a calm account, and of an account in a phase of buying interest.
_RATES = {
    "export_created": (0.02, 0.25), "content_shared": (0.02, 0.25), "pricing_viewed": (0.004, 0.06),
    "plan_question_asked": (0.0005, 0.01), "demo_requested": (0.0002, 0.004), "sso_configured": (0.0002, 0.004),
    "premium_feature_attempted": (0.001, 0.04), "permissions_changed": (0.0005, 0.01), "action_failed": (0.02, 0.08),
    "support_ticket_opened": (0.003, 0.01), "company_funded": (0.0005, 0.0005), "company_hiring": (0.001, 0.001),
}  # fmt: skip

MILESTONES = ("workspace_created", "data_imported", "report_created", "integration_connected", "teammate_invited")
FEATURES = ("dashboards", "alerts", "exports", "automations", "api", "audit_log")
PREMIUM = ("sso", "audit_log", "custom_roles")
INTEGRATIONS = 5
CAP = 1000
LIMIT = "reports"

_ZONES = ("Europe/Berlin", "Europe/London", "America/New_York", "America/Los_Angeles", "Asia/Kolkata", "Asia/Tokyo")
_COUNTRIES = ("DE", "GB", "US", "US", "IN", "JP")
_WORKING_SLOTS = {
    "Europe/Berlin": (1, 2), "Europe/London": (1, 2), "America/New_York": (2, 3), "America/Los_Angeles": (2, 3),
    "Asia/Kolkata": (0, 1), "Asia/Tokyo": (0, 3),
}  # fmt: skip
_REGIONS = ("EMEA", "EMEA", "AMER", "AMER", "APAC", "APAC")
_INDUSTRIES = ("software", "finance", "health", "retail", "education")
_LAUNCHES = (45, 160, 290)  # days of launches: many accounts view prices and try premium features


@dataclass(frozen=True)
class Size:
    """The size of the simulation: accounts, days of runs, reps."""

    accounts: int
    days: int
    reps: int
    seed: int = 20250101


class Checkout(NamedTuple):
    """A self-serve upgrade: `end` is when it was completed or reported as abandoned (NEVER: no further event).

    Its events become known `lag` later, since the vendor's export has a delay.
    """

    account: int
    start: int
    end: int
    completed: bool
    lag: int


class Company:
    """The truth about the customers."""

    def __init__(self, size: Size, start: datetime) -> None:
        self.size, self.start = size, start
        self.begin = microseconds(start) - BEFORE * DAY
        self.days = BEFORE + size.days + 1
        self.rng = np.random.default_rng(size.seed)
        n = size.accounts
        self.ids = np.array([f"org-{i:06d}" for i in range(n)])
        self.midnights = np.array([_midnights(start, self.days, ZoneInfo(zone)) for zone in _ZONES])
        self.first_date = _first_date(start)
        self.holidays = np.array([_holidays(country, self.first_date, self.days + 3) for country in _COUNTRIES])
        self._firms()
        self._phases()
        self._users()
        self._steps()
        self._events()
        self._limits()
        self._sum_up()
        self._checkouts()

    # ── the customers ────────────────────────────────────────────────────────────────────────────

    def _firms(self) -> None:
        n, rng = self.size.accounts, self.rng
        personal = rng.random(n) < 0.08
        self.personal = personal
        self.basis = np.where(personal, "personal", "group")
        employees = np.rint(np.exp(rng.normal(4.2, 1.3, n)))
        self.employees = np.where(personal | (rng.random(n) < 0.1), np.nan, np.maximum(employees, 1))
        in_crm = ~personal & (rng.random(n) < 0.98)
        self.crm_id = np.where(in_crm, [f"001{i:015d}" for i in range(n)], None)
        # A record may lack name or website; some are completed during the year.
        gap = rng.random((2, n)) < 0.04
        mended = self.begin + rng.integers(BEFORE * DAY, 2 * self.days * DAY, (2, n))
        self.named_from = np.where(in_crm, np.where(gap[0], mended[0], 0), NEVER)
        self.domain_from = np.where(in_crm, np.where(gap[1], mended[1], 0), NEVER)
        self.name = np.array([f"Simulated {i}" for i in range(n)], dtype=object)
        self.domain = np.array([f"org{i}.example" for i in range(n)], dtype=object)
        self.somebody = np.array([f"somebody@org{i}.example" for i in range(n)], dtype=object)
        self.place = rng.integers(0, len(_ZONES), n)
        self.timezone = np.array(_ZONES, dtype=object)[self.place]
        self.region = np.where(rng.random(n) < 0.9, np.array(_REGIONS, dtype=object)[self.place], None)
        self.industry = np.where(rng.random(n) < 0.85, rng.choice(_INDUSTRIES, n), None).astype(object)
        self.base_arr = np.where(rng.random(n) < 0.15, np.rint(rng.gamma(2, 2500, n)), 0.0)
        self.base_arr[rng.random(n) < 0.05] = np.nan
        self.metered = rng.random(n) < 0.6
        self.owner = np.where(in_crm & (rng.random(n) < 0.6), rng.integers(0, self.size.reps, n), -1)
        self.usual_hour = np.where(rng.random(n) < 0.8, rng.integers(8, 18, n), -1)
        self.usual_weekday = np.where(rng.random(n) < 0.5, rng.integers(0, 5, n), -1)
        self.revenue: list[tuple[int, int, float]] = []  # (when, account, dollars a year more)

    def _phases(self) -> None:
        """Draws sign-ups and phases of interest, in days since `begin`."""
        n, rng = self.size.accounts, self.rng
        self.signup = rng.integers(-900, self.days - 5, n)
        self.signup_at = self.begin + self.signup * DAY + rng.integers(0, DAY, n)
        self.calm = rng.beta(1.2, 4, n)
        first = np.maximum(self.signup, 0) + rng.integers(0, 200, n)
        self.ripe = [
            (np.where(rng.random(n) < chance, begins, self.days + 1), rng.integers(20, 60, n))
            for chance, begins in ((0.45, first), (0.3, first + rng.integers(90, 220, n)))
        ]

        days = np.arange(self.days)[:, None]
        self.is_ripe = np.zeros((self.days, n), dtype=bool)
        for begins, length in self.ripe:
            self.is_ripe |= (days >= begins) & (days < begins + length)

    def _users(self) -> None:
        n, rng = self.size.accounts, self.rng
        count = np.where(self.personal, 1, 1 + rng.geometric(0.22, n))
        self.first_user = np.concatenate([[0], np.cumsum(count)])
        self.user_account = np.repeat(np.arange(n), count)
        users = len(self.user_account)
        is_first = np.zeros(users, dtype=bool)
        is_first[self.first_user[:-1]] = True
        joined = self.signup[self.user_account] + np.where(is_first, 0, np.rint(rng.exponential(40, users)))
        self.joined = joined.astype(np.int64)
        slots = np.array([_WORKING_SLOTS[zone] for zone in _ZONES])
        self.user_slot = slots[self.place[self.user_account], rng.integers(0, 2, users)]
        self.pace = rng.integers(1, 12, users)
        keen = rng.beta(3, 2, users)
        self.developer = rng.random(n) < 0.25

        self.active = np.zeros((self.days, users), dtype=bool)
        self.last_before = np.zeros(
            (self.days + 1, users), dtype=np.int16
        )  # day + 1 of the last activity before; 0 for none
        self.by_date = np.zeros((self.days + 2, n), dtype=np.int32)  # events of use by date, from the date -1 on
        self.visitors = np.zeros((self.days + 2, n), dtype=np.int16)  # active users by date; a service is none
        sessions = np.zeros((self.days + 2, n), dtype=np.int32)  # a busy user begins one a day
        weekday = (self.begin // DAY + 3) % 7
        for day in range(self.days):
            ripe = self.is_ripe[day]
            level = np.where(ripe, 1.25, self.calm)
            weekend = (weekday + day) % 7 >= 5
            chance = keen * level[self.user_account] * (0.15 if weekend else 1.0)
            self.active[day] = (rng.random(users) < chance) & (self.joined < day)
            self.last_before[day + 1] = np.where(self.active[day], day + 1, self.last_before[day])
            for slot in range(4):
                here = self.active[day] & (self.user_slot == slot)
                date = self.date_of(np.full(n, self.begin + day * DAY + slot * SLOT), np.arange(n))
                self.by_date[date + 1, np.arange(n)] += np.bincount(self.user_account[here], self.pace[here], n).astype(
                    np.int32
                )
                self.visitors[date + 1, np.arange(n)] += np.bincount(self.user_account[here], minlength=n).astype(
                    np.int16
                )
                begun = np.bincount(self.user_account[here & (self.pace > 1)], minlength=n)
                sessions[date + 1, np.arange(n)] += begun.astype(np.int32)
        self.peopled, self.sessions = _before(self.visitors > 0), _before(sessions)

    # ── events that happen once ──────────────────────────────────────────────────────────────────

    def _steps(self) -> None:
        """Draws the first time of each milestone, feature and integration: microseconds, NEVER if there is none."""
        n, rng = self.size.accounts, self.rng
        gets = rng.random((3, n)) < np.array([[0.95], [0.85], [0.85]])
        gaps = rng.exponential(np.array([[0.1], [3], [3]]) * DAY, (3, n)).astype(np.int64)
        at = self.signup_at + np.cumsum(gaps + HOUR, axis=0)
        reached = np.logical_and.accumulate(gets, axis=0)
        self.milestone = {name: np.where(reached[i], at[i], NEVER) for i, name in enumerate(MILESTONES[:3])}
        wanted = rng.integers(0, INTEGRATIONS + 1, n)
        steps = np.cumsum(rng.exponential(15 * DAY, (INTEGRATIONS, n)).astype(np.int64) + HOUR, axis=0)
        self.integration = np.where(np.arange(INTEGRATIONS)[:, None] < wanted, at[2] + steps, NEVER)
        self.integration[:, ~reached[2]] = NEVER
        self.features = rng.integers(1, len(FEATURES) + 1, n)

    def _events(self) -> None:
        """Draws event name → (times, accounts), ordered by time."""
        n, rng = self.size.accounts, self.rng
        found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
        for name, rates in _RATES.items():
            for day in range(self.days):
                rate = np.where(self.is_ripe[day], rates[1], rates[0]) * (self.signup < day)
                if day - BEFORE in _LAUNCHES and name in ("pricing_viewed", "premium_feature_attempted"):
                    rate = np.maximum(rate, 0.35 * (self.signup < day))
                who = np.flatnonzero(rng.random(n) < rate)
                found[name].append((self.begin + day * DAY + rng.integers(0, DAY, len(who)), who))
        own = np.random.default_rng([self.size.seed, 7])  # apart, so that all else is drawn as it was without them
        for day in range(self.days):
            who = np.flatnonzero(
                own.random(n) < np.where(self.is_ripe[day], _DEMOS[1], _DEMOS[0]) * (self.signup < day)
            )
            found["demo_viewed"].append((self.begin + day * DAY + own.integers(0, DAY, len(who)), who))
        invited = np.flatnonzero(self.joined > self.signup[self.user_account])
        invited = invited[(self.joined[invited] >= 0) & (self.joined[invited] < self.days)]
        invited_at = self.begin + self.joined[invited] * DAY + rng.integers(0, DAY, len(invited))
        found["teammate_invited"].append((invited_at, self.user_account[invited]))
        for name, at in {"signed_up": self.signup_at, **self.milestone}.items():
            found[name].append((at[at < NEVER], np.flatnonzero(at < NEVER)))
        for at in self.integration:
            found["integration_connected"].append((at[at < NEVER], np.flatnonzero(at < NEVER)))
        self.events = {}
        for name, parts in found.items():
            at, who = (np.concatenate(column) for column in zip(*parts, strict=True))
            order = np.argsort(at, kind="stable")
            self.events[name] = (at[order], who[order])

    def _limits(self) -> None:
        """Draws one reading of the metered limit a day (in the day's first slot), and when the limit is reached."""
        n, rng = self.size.accounts, self.rng
        base = rng.uniform(0.1, 0.7, n)
        peak = np.where(rng.random(n) < 0.4, rng.uniform(0.75, 1.1, n), base)
        self.used = np.full((self.days, n), -1, dtype=np.int16)
        for day in range(self.days):
            share = base.copy()
            for begins, length in self.ripe:
                grown = np.clip((day - begins) / (0.5 * length), 0, 1)
                share = np.where((day >= begins) & (day < begins + length + 25), base + (peak - base) * grown, share)
            reads = self.metered & (self.signup < day) & (rng.random(n) < 0.9)
            self.used[day, reads] = np.rint(share[reads] * CAP)
        over = self.used >= CAP
        self.last_reading = np.full((self.days + 1, n), -1, dtype=np.int16)  # last day with a reading before the day
        self.near_since = np.full((self.days + 1, n), -1, dtype=np.int16)  # first of the adjacent readings near it
        was_over = np.zeros(n, dtype=bool)
        hits = []
        for day in range(self.days):
            there = self.used[day] >= 0
            near = self.used[day] >= 0.8 * CAP
            run = np.where(self.near_since[day] >= 0, self.near_since[day], day)
            self.near_since[day + 1] = np.where(there, np.where(near, run, -1), self.near_since[day])
            self.last_reading[day + 1] = np.where(there, day, self.last_reading[day])
            who = np.flatnonzero(over[day] & ~was_over)
            hits.append((self.begin + day * DAY + rng.integers(2 * HOUR, DAY, len(who)), who))
            was_over = np.where(there, over[day], was_over)
        self.next_reading = np.full((self.days + 1, n), self.days, dtype=np.int16)  # first reading on or after the day
        for day in reversed(range(self.days)):
            self.next_reading[day] = np.where(self.used[day] >= 0, day, self.next_reading[day + 1])
        at, who = (np.concatenate(column) for column in zip(*hits, strict=True))
        order = np.argsort(at, kind="stable")
        self.events["limit_reached"] = (at[order], who[order])

    def _sum_up(self) -> None:
        """Computes sums over all dates before each date, so that any window is one subtraction."""
        n = self.size.accounts
        for name, (at, who) in self.events.items():
            if name not in NOT_USE:
                date = self.date_of(at, who)
                inside = (date >= -1) & (date <= self.days)
                np.add.at(self.by_date, (date[inside] + 1, who[inside]), 1)
        self.use = _before(self.by_date)
        self.used_days = _before(self.by_date > 0)
        self.by_account = {}
        for name, (at, who) in self.events.items():
            order = np.argsort(who, kind="stable")
            self.by_account[name] = (at[order], np.searchsorted(who[order], np.arange(n + 1)))

    # ── self-serve upgrades ──────────────────────────────────────────────────────────────────────

    def _checkouts(self) -> None:
        n, rng = self.size.accounts, self.rng
        self.checkouts: dict[int, list[Checkout]] = defaultdict(list)
        self._listed: list[Checkout] = []
        self._arrays: dict[str, np.ndarray] | None = None
        for number in range(3):
            chance = np.where([begins < self.days for begins in self.ripe[0][0]], 0.35, 0.08) / (1 + number)
            who = np.flatnonzero(rng.random(n) < chance)
            for account, at in zip(who, self.begin + rng.integers(0, self.days * DAY, len(who)), strict=True):
                if at > self.signup_at[account]:
                    self.start_checkout(int(account), int(at))

    def start_checkout(self, account: int, at: int) -> bool:
        """Begins an upgrade at `at` with a random course, unless another is near; returns whether it began."""
        if any(abs(other.start - at) < 8 * DAY for other in self.checkouts[account]):
            return False
        rng = self.rng
        ends = rng.random()
        end = NEVER if ends > 0.75 else at + int(rng.exponential(3 * HOUR)) + HOUR // 60
        if 0.45 < ends <= 0.75:
            end = at + int(rng.uniform(0.1, 40) * HOUR)
        checkout = Checkout(account, at, end, ends <= 0.45, int(rng.uniform(0, 20) * HOUR / 60))
        self.checkouts[account].append(checkout)
        self.checkouts[account].sort(key=lambda c: c.start)
        self._listed.append(checkout)
        self._arrays = None
        self._add_use(at, account)
        if end < NEVER:
            self._add_use(end, account)
        if checkout.completed:
            self._add_use(end, account)  # plan_upgraded
            self.revenue.append((end, account, float(rng.integers(10, 60) * 100)))
        return True

    def _add_use(self, at: int, account: int) -> None:
        [date] = self.date_of(np.array([at]), np.array([account]))
        if -1 <= date <= self.days:
            self.used_days[date + 2 :, account] += self.by_date[date + 1, account] == 0
            self.by_date[date + 1, account] += 1
            self.use[date + 2 :, account] += 1

    def upgrading(self, account: int, known: int, policy: Policy) -> bool:
        """Whether an upgrade of the account is in progress, as far as could be known at `known`."""
        hours = policy.signals
        begun = [c for c in self.checkouts.get(account, ()) if c.start + c.lag < known]
        if not begun:
            return False
        last = begun[-1]
        ended = last.end < NEVER and last.end + last.lag < known
        if ended and last.completed:
            return False
        if ended:
            return known - last.end < hours.abandoned_barrier_hours * HOUR
        return known - last.start < hours.checkout_abandoned_hours * HOUR

    def first_checkout(self, account: int, since: int) -> datetime | None:
        """The first moment since `since` at which the start of an upgrade became known; None without one."""
        known = [c.start + c.lag for c in self.checkouts.get(account, ()) if c.start + c.lag >= since]
        return moment(min(known)) if known else None

    def _checkout_columns(self, as_of: int, policy: Policy) -> dict[str, np.ndarray]:
        n, hours = self.size.accounts, policy.signals
        if self._arrays is None:
            self._listed.sort(key=lambda c: c.start)
            columns = zip(*self._listed, strict=True) if self._listed else ([],) * 5
            self._arrays = dict(zip(Checkout._fields, map(np.array, columns), strict=True))
        c = self._arrays
        earliest, recent = as_of - 90 * DAY, as_of - 28 * DAY
        begun = (c["start"] + c["lag"] < as_of) & (c["start"] >= earliest)
        ended = (
            (c["end"] < NEVER) & (np.where(c["end"] < NEVER, c["end"], 0) + c["lag"] < as_of) & (c["end"] >= earliest)
        )
        none = np.full(n, -1)
        started, completed, left, counted_left = none.copy(), none.copy(), none.copy(), none.copy()
        started[c["account"][begun].astype(int)] = c["start"][begun]  # ordered by start, so the last one stays
        for what, into in ((c["completed"].astype(bool), completed), (~c["completed"].astype(bool), left)):
            rows = ended & what
            into[c["account"][rows].astype(int)] = c["end"][rows]
        barrier = ended & ~c["completed"].astype(bool) & (c["end"] <= as_of - hours.abandoned_barrier_hours * HOUR)
        barrier &= c["end"] >= recent
        abandoned = np.bincount(c["account"][barrier].astype(int), minlength=n).astype(float)
        counted_left[c["account"][barrier].astype(int)] = c["end"][barrier]
        bought = (completed >= np.where(started >= 0, started, left)) & (completed >= 0)
        said = (left >= 0) & ((started < 0) | (left > started))
        silent = (started >= 0) & (started <= as_of - hours.checkout_abandoned_hours * HOUR)
        there = (started >= 0) | (left >= 0)
        state = np.select(
            [
                ~there, bought, said & (left > as_of - hours.abandoned_barrier_hours * HOUR), said | silent,
                started <= as_of - hours.checkout_stalled_hours * HOUR,
            ],
            ["none", "completed", "stalled", "abandoned", "stalled"],
            "started",
        )  # fmt: skip
        fell_silent = ~bought & ~said & silent & (started >= recent)
        at = np.select([~there, bought, said], [-1, completed, left], started)
        return {
            "bought_at": completed,
            "checkout_state": state,
            "checkout_at": at,
            "checkouts_abandoned": abandoned + fell_silent,
            "checkouts_abandoned_at": np.where(fell_silent, started, counted_left),
        }

    # ── signals of all accounts ──────────────────────────────────────────────────────────────────

    def date_of(self, at: np.ndarray, accounts: np.ndarray) -> np.ndarray:
        """The dates of moments on the clocks of accounts (positions)."""
        dates = np.empty(len(at), dtype=np.int64)
        for place, midnights in enumerate(self.midnights):
            here = self.place[accounts] == place
            dates[here] = np.searchsorted(midnights, at[here], side="right") - 2
        return dates

    def _last_seen(self, before: np.ndarray) -> np.ndarray:
        """The last day on which each user was active before a moment, which is given for each place; -1 for none."""
        begins = self.begin + self.user_slot * SLOT
        days = -((begins - before[self.place[self.user_account]]) // DAY)
        return self.last_before[days, np.arange(len(days))].astype(np.int64) - 1

    def present(self, as_of: datetime) -> np.ndarray:
        """Positions of the accounts that have signed up by `as_of`."""
        return np.flatnonzero(self.signup_at < microseconds(as_of))

    def signals(
        self,
        as_of: datetime,
        policy: Policy,
        reps: pd.DataFrame,
        open_opportunities: np.ndarray,
        deal_closed: np.ndarray,
    ) -> pa.Table:
        """`signals/{run_id}.parquet` as of a boundary of slots: one row for each account that has signed up.

        By account: `open_opportunities`, and when the last deal closed (`deal_closed`, microseconds; -1: never).
        """
        now, n = microseconds(as_of), self.size.accounts
        every = np.arange(n)
        today = self.date_of(np.full(n, now), every)
        midnights = np.array([m[np.searchsorted(m, now, "right") - 1] for m in self.midnights])

        def whole(sums: np.ndarray, days: int, ended: int = 0) -> np.ndarray:
            """The sum of so many whole dates, of which the last ended so many dates before today."""
            upto = today + 1 - ended
            return sums[upto, every] - sums[np.maximum(0, upto - days), every]

        seen = self._last_seen(midnights)
        seen_at = np.where(seen >= 0, self.begin + seen * DAY + self.user_slot * SLOT, -1)
        seen_on = self.date_of(seen_at, self.user_account)

        def users_of(days: int) -> np.ndarray:
            counts = (seen >= 0) & (seen_on >= today[self.user_account] - days)
            return np.bincount(self.user_account[counts], minlength=n)

        values: dict[str, np.ndarray] = {name: np.zeros(n) for name in SIGNAL_NAMES}
        moments: dict[str, np.ndarray] = {name: np.full(n, -1) for name in MOMENTS}
        tried = np.zeros(n, dtype=bool)
        for signal, (names, days) in COUNTED.items():
            for name in names:
                at, who = self.events[name]
                rows = slice(np.searchsorted(at, now - days * DAY), np.searchsorted(at, now))
                values[signal] += np.bincount(who[rows], minlength=n)
                latest = np.full(n, -1)
                latest[who[rows]] = at[rows]  # ordered by time, so the last one stays
                moments[signal] = np.maximum(moments[signal], latest)
        at, who = self.events["demo_viewed"]
        rows = slice(np.searchsorted(at, now - 28 * DAY), np.searchsorted(at, now))
        values["demos_watched"] = np.bincount(who[rows], minlength=n)
        moments["demos_watched"][who[rows]] = at[rows]
        rows = slice(np.searchsorted(at, now - 90 * DAY), np.searchsorted(at, now))
        values["demo_completion"] = np.where(np.bincount(who[rows], minlength=n) > 0, 100.0, np.nan)
        at, who = self.events["pricing_viewed"]
        rows = slice(np.searchsorted(at, now - 14 * DAY), np.searchsorted(at, now))
        looked = np.unique(np.stack([who[rows], self.date_of(at[rows], who[rows])]), axis=1)
        values["pricing_days"] = np.bincount(looked[0], minlength=n)
        at, who = self.events["premium_feature_attempted"]
        tried[who[np.searchsorted(at, now - 90 * DAY) : np.searchsorted(at, now)]] = True

        invited = self._first("teammate_invited")
        first = {**self.milestone, "integration_connected": self.integration[0], "teammate_invited": invited}
        reached = np.array([first[name] < now for name in MILESTONES])
        activation = np.maximum.reduce([first[name] for name in MILESTONES[:3]])
        activated = activation < now
        took = np.where(activated, activation - self.signup_at, 0) / DAY
        in_use = users_of(90) > 0
        adopted = np.where(in_use, self.features, 0)
        team_days, working_days_share = self._working_week(today, users_of(90))
        week, before = whole(self.use, 7), whole(self.use, 7, ended=7)
        begun_on = self.date_of(self.signup_at, every)
        with np.errstate(divide="ignore", invalid="ignore"):
            growth = np.where(before > 0, week / before, np.nan)
        known_domain = self.domain_from < now
        values |= {
            "users": users_of(90), "active_users_7d": users_of(7), "active_users": users_of(28),
            "milestones_done": reached.sum(axis=0), "activated": activated,
            "days_to_activate": np.where(activated, took, np.nan),
            "features_used": adopted, "integrations": (self.integration < now).sum(axis=0),
            "developer_days": np.where(self.developer, whole(self.peopled, 28), 0),
            "active_days_7d": whole(self.used_days, 7), "active_days": whole(self.used_days, 14),
            "team_days": team_days, "working_days_share": working_days_share,
            "return_days": whole(self.used_days, 28) - ((begun_on >= today - 28) & (begun_on < today)),
            "events_7d": week, "events": whole(self.use, 28), "usage_growth_7d": growth,
            "sessions_7d": whole(self.sessions, 7),
            "enterprise_domain": known_domain
            if policy.signals.enterprise == "business"
            else self.employees >= (policy.signals.enterprise_employees or np.inf),
        }  # fmt: skip
        with np.errstate(divide="ignore", invalid="ignore"):
            failed = values["failed_actions"] / values["events"]
        values["failed_share"] = np.where(values["events"] > 0, np.minimum(failed, 1.0), np.nan)
        values |= self._limit_columns(now, today)
        checkout = self._checkout_columns(now, policy)
        values["checkouts_abandoned"] = checkout["checkouts_abandoned"]
        moments["checkouts_abandoned"] = checkout["checkouts_abandoned_at"]

        rows = self.present(as_of)
        owner = self.owner
        owned = owner >= 0
        emails, ids = reps["email"].to_numpy(dtype=object), reps["owner_id"].to_numpy(dtype=object)
        works = reps["active"].to_numpy(dtype=bool)
        arr = self.base_arr + self._earned(now)
        limits = np.where(self.metered, f'{{"{LIMIT}": {CAP}}}', None)
        in_crm = self.crm_id != np.array(None)
        snapshot: dict[str, Any] = {
            "account_id": self.ids,
            "name": np.where(self.named_from < now, self.name, None),
            "domain": np.where(known_domain, self.domain, None),
            "industry": self.industry, "employees": self.employees,
            "plan": np.where(arr > 0, "team", "free"), "seats": np.where(arr > 0, np.rint(arr / 240), np.nan),
            "arr": arr, "plan_limits": limits, "region": self.region, "timezone": self.timezone,
            "funding_stage": np.full(n, None), "owner_email": np.where(owned, emails[owner], None),
            "signed_up_at": self.signup_at, "crm_account_id": self.crm_id,
            "owner_id": np.where(owned, ids[owner], None), "owner_active": np.where(owned, works[owner], None),
            "open_opportunities": np.where(in_crm, open_opportunities, 0),
        }  # fmt: skip
        columns: dict[str, pa.Array] = {}
        for name, kind in {**SNAPSHOT, **CRM}.items():
            # A column that is not simulated is unknown for all accounts.
            told = snapshot[name][rows] if name in snapshot else [None] * len(self.ids[rows])
            columns[name] = pa.array(told, _ARROW[kind], from_pandas=True)
        columns["deal_closed_at"] = _moments(np.where(in_crm, deal_closed, -1)[rows])
        columns["account_basis"] = pa.array(self.basis[rows], pa.string())
        for name in SIGNAL_NAMES:
            columns[name] = pa.array(values[name][rows].astype(float), pa.float64(), from_pandas=True)
        for name in MOMENTS:
            columns[f"{name}_at"] = _moments(moments[name][rows])
        growing = policy.signals.growing_ratio
        columns["trend"] = pa.array(
            np.select(
                [growth >= growing, growth <= 1 / growing, ~np.isnan(growth)], ["growing", "declining", "stable"], None
            )[rows],
            pa.string(),
        )
        columns["checkout_state"] = pa.array(checkout["checkout_state"][rows].astype(object), pa.string())
        columns["checkout_at"] = _moments(checkout["checkout_at"][rows])
        columns["bought_at"] = _moments(checkout["bought_at"][rows])
        done = (reached * (1 << np.arange(len(MILESTONES)))[:, None]).sum(axis=0)
        columns["milestones_done_list"] = _taken(MILESTONES, done[rows])
        columns["milestones_left"] = _taken(MILESTONES, ~done[rows] & 31)
        columns["features_used_list"] = _taken(FEATURES, ((1 << adopted) - 1)[rows])
        columns["features_unused"] = _taken(FEATURES, (~((1 << adopted) - 1) & 63)[rows])
        columns["premium_attempted"] = _taken(PREMIUM, tried[rows].astype(int))
        metered = ~np.isnan(values["limit_share"])
        columns["limit_name"] = pa.array(np.where(metered, LIMIT, None)[rows], pa.string())
        columns["limit_used"] = pa.array((values["limit_share"] * CAP)[rows], pa.float64(), from_pandas=True)
        for name, at in self.limit_moments.items():
            columns[name] = _moments(at[rows])
        columns["limit_cap"] = pa.array(np.where(metered, float(CAP), np.nan)[rows], pa.float64(), from_pandas=True)
        columns["top_user"] = pa.array(np.where(in_use, self.somebody, None)[rows], pa.string())
        for name, habit in (("usual_hour", self.usual_hour), ("usual_weekday", self.usual_weekday)):
            columns[name] = pa.array(
                np.where(habit >= 0, habit, np.nan)[rows], pa.int64(), from_pandas=True, safe=False
            )
        columns["first_seen_at"] = _moments(self.signup_at[rows])
        ever = self._last_seen(np.full(len(_ZONES), now))
        latest = self.begin + np.maximum.reduceat(ever, self.first_user[:-1]) * DAY
        columns["last_seen_at"] = _moments(np.maximum(latest, self.signup_at)[rows])
        columns["activated_at"] = _moments(np.where(activated, activation, -1)[rows])
        signals = table_kind("signals", "any.parquet")
        assert signals is not None
        for name, kind in signals.columns.items():  # what is not simulated is unknown
            columns.setdefault(name, pa.nulls(len(rows), kind))
        return pa.table(columns)

    def _working_week(self, today: np.ndarray, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many days of the last 14 each account was there, with two users in one of five; the share of its working
        days: the five weekdays on which it was there most often in 28 days, less the public holidays of its country."""
        every, n = np.arange(len(today)), len(today)
        dates = today - np.arange(1, 29)[:, None]
        there = np.where(users >= 5, self.visitors[dates + 1, every] >= 2, self.by_date[dates + 1, every] > 0)
        weekdays = (self.first_date.weekday() + 1 + dates) % 7
        often = np.stack([(there & (weekdays == day)).sum(axis=0) for day in range(7)])
        # of equal weekdays the first of the week
        order = np.argsort(-(often * 8 - np.arange(7)[:, None]), axis=0, kind="stable")
        worked = np.zeros((7, n), dtype=bool)
        worked[order[:5], every] = True
        expected = (worked[weekdays[:14], every] & ~self.holidays[self.place, dates[:14] + 1]).sum(axis=0)
        days = there[:14].sum(axis=0)
        return days, np.where(expected > 0, np.minimum(1.0, days / np.maximum(expected, 1)), np.minimum(days, 1))

    def _first(self, name: str) -> np.ndarray:
        at, places = self.by_account[name]
        padded = np.append(at, NEVER)
        return np.where(places[1:] > places[:-1], padded[np.minimum(places[:-1], len(at))], NEVER)

    def shown(self, account: int, signals: Iterable[str], now: int, policy: Policy) -> list[int]:
        """When the account did what these signals count, before `now`, event by event, in any order.

        An upgrade that was given up or fell silent counts with its last step, from the moment it can be known as such.
        """
        found = []
        for name in signals:
            events = ("demo_viewed",) if name == "demos_watched" else COUNTED.get(name, ((), 0))[0]
            for event in events:
                at, places = self.by_account[event]
                found += [int(t) for t in at[places[account] : places[account + 1]] if t < now]
            if name == "checkouts_abandoned":
                hours = policy.signals
                for c in self.checkouts.get(account, ()):
                    said = c.end < NEVER and not c.completed and c.end + c.lag < now
                    silent = c.start + c.lag < now and now - c.start >= hours.checkout_abandoned_hours * HOUR
                    if said and now - c.end >= hours.abandoned_barrier_hours * HOUR:
                        found.append(c.end)
                    elif silent and c.end == NEVER:
                        found.append(c.start)
        return found

    def near_limit(self, account: int, now: int, share: float) -> tuple[int, int] | None:
        """When the limit was neared and last read, if the last reading before `now` is near it; else None."""
        day = (now - 1 - self.begin) // DAY
        last = int(self.last_reading[day + 1, account])
        if not self.metered[account] or last < 0 or self.used[last, account] < share * CAP:
            return None
        return self.begin + int(self.near_since[day + 1, account]) * DAY, self.begin + last * DAY

    def _limit_columns(self, now: int, today: np.ndarray) -> dict[str, np.ndarray]:
        """The columns of the metered limit, which is read at the beginning of a day: today's reading counts at once."""
        n = self.size.accounts
        every = np.arange(n)
        day = (now - 1 - self.begin) // DAY
        # The date of a reading in each zone, compared with its day; the hour of the reading is never near midnight.
        ahead = self.date_of(np.full(n, self.begin + day * DAY), every) - day
        first_day = np.maximum(0, today - 89 - ahead)
        latest = self.last_reading[day + 1].astype(int)
        known = latest >= first_day
        earliest = np.where(known, self.next_reading[first_day, every], 0).astype(int)
        at = np.where(known, latest, 0)
        used = np.where(known, self.used[at, every], np.nan)
        first_used = np.where(known, self.used[np.minimum(earliest, self.days - 1), every], np.nan)
        since = np.maximum(self.near_since[day + 1], earliest)
        held = np.where(self.near_since[day + 1] >= 0, latest - since + 1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            pace = np.where(latest > earliest, (used - first_used) / (latest - earliest), np.nan)
            left = np.maximum((CAP - used) / pace - (today - latest - ahead), 0)
        self.limit_moments = {
            "limit_near_at": np.where(known & (held > 0), self.begin + since * DAY, -1),
            "limit_read_at": np.where(known, self.begin + latest * DAY, -1),
        }
        return {
            "limit_share": used / CAP,
            "limit_held_days": np.where(known, held, np.nan),
            "limit_days_left": np.where(used >= CAP, 0.0, np.where(pace > 0, left, np.nan)),
        }

    def _earned(self, now: int) -> np.ndarray:
        """Dollars a year that upgrades and deals have added up to `now`."""
        rows = [(account, amount) for at, account, amount in self.revenue if at < now]
        if not rows:
            return np.zeros(self.size.accounts)
        who, amounts = zip(*rows, strict=True)
        return np.bincount(who, amounts, minlength=self.size.accounts)

    # ── one account, event by event ──────────────────────────────────────────────────────────────

    def plain(self, account: int, as_of: datetime, policy: Policy) -> dict[str, float | None]:
        """The signals of one account that earn points, counted from its events one by one."""
        now, zone = microseconds(as_of), ZoneInfo(_ZONES[self.place[account]])
        today = as_of.astimezone(zone).date()

        def within(at: int, days: int) -> bool:
            return now - days * DAY <= at < now

        def on(at: int) -> date:
            return moment(at).astimezone(zone).date()

        def lived(at: int, days: int) -> bool:
            return today - timedelta(days=days) <= on(at) < today

        def times(name: str) -> list[int]:
            at, places = self.by_account[name]
            return [int(t) for t in at[places[account] : places[account + 1]]]

        visits: list[tuple[int, int, int]] = []  # (moment, user, events)
        lookback = range(max(0, (now - self.begin) // DAY - 92), min(self.days, (now - self.begin) // DAY + 1))
        for user in range(self.first_user[account], self.first_user[account + 1]):
            for day in lookback:
                at = self.begin + day * DAY + int(self.user_slot[user]) * SLOT
                if self.active[day, user] and at < now:
                    visits.append((at, user, int(self.pace[user])))
        done = [(at, 1) for name in self.events if name not in NOT_USE for at in times(name) if at < now]
        for c in self.checkouts.get(account, ()):
            steps = [c.start, *([c.end] if c.end < NEVER else []), *([c.end] if c.completed else [])]
            done += [(at, 1) for at in steps if at < now]
        use = [(at, amount) for at, _, amount in visits] + done
        days14 = {on(at) for at, _ in use if lived(at, 14)}
        week = sum(amount for at, amount in use if lived(at, 7))
        before = sum(amount for at, amount in use if lived(at, 14) and not lived(at, 7))
        days28 = {on(at) for at, _, _ in visits if lived(at, 28)}
        there: dict[date, set[int]] = defaultdict(set)  # by the users, of whom an event tells none
        for at, *visitor in [*visits, *((at,) for at, _ in done)]:
            there[on(at)] |= set(visitor[:1])
        team = len({user for at, user, _ in visits if lived(at, 90)}) >= 5
        together = {day for day, who in there.items() if not team or len(who) >= 2}
        often = [sum(today - timedelta(days=28) <= d < today and d.weekday() == n for d in together) for n in range(7)]
        worked = sorted(range(7), key=lambda n: (-often[n], n))[:5]
        off = holidays.country_holidays(_COUNTRIES[self.place[account]])
        fortnight = [today - timedelta(days=n) for n in range(1, 15)]
        expected = [day for day in fortnight if day.weekday() in worked and day not in off]
        team_days = sum(day in together for day in fortnight)
        given_up = 0
        for c in self.checkouts.get(account, ()):
            known = c.end < NEVER and c.end + c.lag < now
            if known and not c.completed:
                given_up += within(c.end, 28) and now - c.end >= policy.signals.abandoned_barrier_hours * HOUR
        begun = [c for c in self.checkouts.get(account, ()) if c.start + c.lag < now]
        if begun and not (begun[-1].end < NEVER and begun[-1].end + begun[-1].lag < now):
            silent = now - begun[-1].start >= policy.signals.checkout_abandoned_hours * HOUR
            given_up += silent and within(begun[-1].start, 28)
        read = [(self.begin + day * DAY, int(self.used[day, account])) for day in lookback]
        readings = [used for at, used in read if used >= 0 and at < now and (today - on(at)).days < 90]
        milestones = [self.milestone[name][account] for name in MILESTONES[:3]]
        return {
            **{
                signal: float(sum(within(at, days) for name in names for at in times(name)))
                for signal, (names, days) in COUNTED.items()
            },
            "activated": float(all(at < now for at in milestones)),
            "users": float(len({user for at, user, _ in visits if lived(at, 90)})),
            "active_users": float(len({user for at, user, _ in visits if lived(at, 28)})),
            "integrations": float(sum(at < now for at in times("integration_connected"))),
            "limit_share": readings[-1] / CAP if readings else None,
            "active_days_7d": float(len({on(at) for at, _ in use if lived(at, 7)})),
            "active_days": float(len(days14)),
            "team_days": float(team_days),
            "working_days_share": min(1.0, team_days / len(expected)) if expected else float(team_days > 0),
            "events_7d": float(week),
            "usage_growth_7d": week / before if before else None,
            "developer_days": float(len(days28)) if self.developer[account] else 0.0,
            "checkouts_abandoned": float(given_up),
            "sessions_7d": float(sum(amount > 1 and lived(at, 7) for at, _, amount in visits)),
            "return_days": float(len({on(at) for at, _ in use if lived(at, 28)} - {on(int(self.signup_at[account]))})),
            "features_used": float(self.features[account] if any(lived(at, 90) for at, _, _ in visits) else 0),
            "pricing_days": float(len({on(at) for at in times("pricing_viewed") if within(at, 14)})),
            "demos_watched": float(sum(within(at, 28) for at in times("demo_viewed"))),
            "enterprise_domain": float(self._enterprise(account, now, policy)),
        }

    def _enterprise(self, account: int, now: int, policy: Policy) -> bool:
        if policy.signals.enterprise == "business":
            return bool(self.domain_from[account] < now)
        most = policy.signals.enterprise_employees
        return most is not None and bool(self.employees[account] >= most)


_ARROW = {
    "str": pa.string(), "Int64": pa.int64(), "float64": pa.float64(), "boolean": pa.bool_(),
    "datetime64[us, UTC]": pa.timestamp("us", "UTC"),
}  # fmt: skip


def _midnights(start: datetime, days: int, zone: ZoneInfo) -> list[int]:
    """When each date begins on the clocks of a zone, from the date -1 on, and one more than are ever asked for."""
    dates = [_first_date(start) + timedelta(days=n) for n in range(days + 3)]
    return [microseconds(datetime(d.year, d.month, d.day, tzinfo=zone)) for d in dates]


def _first_date(start: datetime) -> date:
    """The date -1."""
    return (start - timedelta(days=BEFORE + 1)).date()


def _holidays(country: str, first: date, days: int) -> list[bool]:
    """Whether each date is a public holiday of the country."""
    known = holidays.country_holidays(country)
    return [first + timedelta(days=n) in known for n in range(days)]


def _before(by_date: np.ndarray) -> np.ndarray:
    """The sums over all dates before each date; the first row is of the date -1."""
    sums = np.zeros((len(by_date) + 1, by_date.shape[1]), dtype=np.int32)
    np.cumsum(by_date, axis=0, out=sums[1:])
    return sums


def microseconds(at: datetime) -> int:
    """A moment as microseconds since 1970, UTC."""
    return int(at.timestamp()) * 1_000_000 + at.microsecond


def moment(us: int) -> datetime:
    """Microseconds since 1970 as an aware datetime."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(us))


def _moments(us: np.ndarray) -> pa.Array:
    return pa.array(us.astype(np.int64), pa.int64(), mask=us < 0).cast(pa.timestamp("us", "UTC"))


def _taken(names: tuple[str, ...], bits: np.ndarray) -> pa.Array:
    """Lists of names from bit masks."""
    each = [[name for i, name in enumerate(names) if mask >> i & 1] for mask in range(1 << len(names))]
    return pa.array(each, pa.list_(pa.string())).take(pa.array(bits.astype(np.int32)))
