"""The circuit breaker: why nothing may leave the house, looked at by every stage that sends."""

from __future__ import annotations

from datetime import datetime, timedelta

from onetouch.policy import Policy
from onetouch.stop import in_words


def held(policy: Policy, as_of: datetime, now: datetime, *, dry_run: bool, stopped: str | None) -> str | None:
    """Why nothing may be written outside for a run of `as_of`; None: it may.

    A dry run never sends, nor does one whose moment is further back than the policy's `delivery.fresh_hours`
    (backfill, backtest, a run cleared a day later); while it is `stopped` (the reason) nobody does.
    """
    if dry_run:
        return "dry run"
    if stopped:
        return in_words(stopped)
    if now - as_of > timedelta(hours=policy.delivery.fresh_hours):
        return "as_of is not fresh"
    return None
