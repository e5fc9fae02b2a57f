"""The ramp: how many tasks all reps together may be given on a day, fewer on the first days since going live.

A company that goes live has history: on its first day everybody who would have been called in the weeks before is
called for. With a ramp the best are sent, and the rest wait in the queue as on any day that is full.
"""

from __future__ import annotations

from datetime import UTC, datetime

from onetouch.policy import Policy


def tasks_of_the_day(policy: Policy, first_task_at: datetime | None, as_of: datetime) -> int:
    """The most tasks of all reps together on the (UTC) day of `as_of`.

    `first_task_at`: when the first task of all was decided, of which day the ramp counts; None: none was yet.
    """
    most, ramp = policy.assignment.tasks_per_day, policy.delivery.ramp
    today = as_of.astimezone(UTC).date()
    day = 0 if first_task_at is None else (today - first_task_at.astimezone(UTC).date()).days
    return min(most, ramp[day]) if 0 <= day < len(ramp) else most
