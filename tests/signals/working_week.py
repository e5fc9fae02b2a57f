"""A plain reading of the working week: how much of its working days an account was there, from its days one by one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date, timedelta

import holidays

Use = tuple[date, str | None]
"""A date with use, and the user; None: nobody knows who."""

EARLY = ("IL", "EG")
"""Countries of the tests whose weekend is Friday and Saturday."""


def working_week(use: Iterable[Use], today: date, country: str | None, people: int) -> dict[str, float]:
    """`team_days` and `working_days_share`; `people`: how many users the account has."""
    users: dict[date, set[str]] = defaultdict(set)
    for day, user in use:
        users[day] |= {user} - {None}
    there = {day for day, who in users.items() if people < 5 or len(who) >= 2}
    fortnight = [today - timedelta(days=n) for n in range(1, 15)]
    team_days = sum(day in there for day in fortnight)
    often = Counter(day.weekday() for day in there if 1 <= (today - day).days <= 28)
    usual = [0, 1, 2, 3, 6, 4, 5] if country in EARLY else [0, 1, 2, 3, 4, 5, 6]
    week = sorted(range(7), key=lambda weekday: (-often[weekday], usual.index(weekday)))[:5]
    off = holidays.country_holidays(country) if country else ()
    expected = [day for day in fortnight if day.weekday() in week and day not in off]
    share = min(1.0, team_days / len(expected)) if expected else 1.0
    return {"team_days": team_days, "working_days_share": share if there else 0.0}
