"""The settings of one rep: the policy's entry for the rep, else the CRM's value, else the default for everyone."""

from __future__ import annotations

import functools
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from onetouch.policy.schema import Assignment, Rep


def listed_reps(assignment: Assignment) -> dict[str, Rep]:
    """The reps of `assignment.reps`, keyed by e-mail in lower case."""
    return {rep.email.strip().lower(): rep for rep in assignment.reps}


def zone_of(rep: Rep | None, told: object, assignment: Assignment) -> str:
    """The IANA time zone in which the rep works; `told` is the CRM's value, which may be missing or invalid."""
    return (rep and rep.timezone) or _zone(told) or assignment.working_time.timezone


def country_of(rep: Rep | None, assignment: Assignment) -> str | None:
    """The country (ISO code) whose public holidays the rep has; None: no country is known."""
    return (rep and rep.country) or assignment.working_time.country


def tasks_of(rep: Rep | None, assignment: Assignment) -> int:
    """How many new tasks the rep may be given on a day of their own calendar."""
    if rep is None or rep.tasks_per_day is None:
        return assignment.tasks_per_rep_per_day
    return rep.tasks_per_day


@functools.cache
def _zone(name: object) -> str | None:
    try:
        return ZoneInfo(name).key if isinstance(name, str) and name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
