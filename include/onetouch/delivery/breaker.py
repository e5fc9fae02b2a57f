"""The circuit breaker: why nothing may be written outside; every stage that sends checks it."""

from __future__ import annotations

from datetime import datetime, timedelta

from onetouch.policy import Policy
from onetouch.stop import in_words


def held(policy: Policy, as_of: datetime, now: datetime, *, dry_run: bool, stopped: str | None) -> str | None:
    """Why nothing may be written outside for a run of `as_of`; None: it may.

    A dry run never sends, nor does a run whose `as_of` is further back than the policy's `delivery.fresh_hours`
    (backfill, backtest, a run cleared a day later). While the stop is set (`stopped`: its reason), no run sends.
    """
    if dry_run:
        return "dry run"
    if stopped:
        return in_words(stopped)
    if now - as_of > timedelta(hours=policy.delivery.fresh_hours):
        return "as_of is not fresh"
    return None
