"""The circuit breaker: why nothing may leave the house, looked at by every stage that sends and before every write."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

import requests

from onetouch.policy import Policy

T = TypeVar("T")

CRM_WRITES = ("create_fields", "ensure_accounts", "update_accounts", "create_tasks", "close_tasks")
"""The methods of a Crm that change something in it; `create_fields` is only HubSpot's."""

SLACK_WRITES = ("post", "update", "upload")
"""The methods of Slack that somebody can see the effect of."""


class Stopped(Exception):
    """Sending was stopped while a stage was at it: what had been sent is on record, the rest waits in the outbox."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{_in_words(reason)}; nothing more is written until it is lifted (onetouch resume)")
        self.summary = {"held": _in_words(reason)}


def held(policy: Policy, as_of: datetime, now: datetime, *, dry_run: bool, stopped: str | None) -> str | None:
    """Why nothing may be written outside for a run of `as_of`; None: it may.

    A dry run never sends, nor does one whose moment is further back than the policy's `delivery.fresh_hours`
    (backfill, backtest, a run cleared a day later); while it is `stopped` (the reason) nobody does.
    """
    if dry_run:
        return "dry run"
    if stopped:
        return _in_words(stopped)
    if now - as_of > timedelta(hours=policy.delivery.fresh_hours):
        return "as_of is not fresh"
    return None


def stoppable(client: T, writes: Collection[str], stopped: Callable[[], str | None]) -> T:
    """The same client, each of whose `writes` asks first whether it is stopped, and then raises Stopped instead.

    A stage's own look at its beginning may be minutes old when its last rows are written.
    """
    return cast("T", _Stoppable(client, frozenset(writes), stopped))


class StoppableSession(requests.Session):
    """An HTTP session that asks before each request that writes under /services/data/, and then raises Stopped instead.

    One call of a client may be many requests: thousands of tasks in parts. What was answered before is found again by
    its key. Reading and signing in go on.
    """

    def __init__(self, stopped: Callable[[], str | None]) -> None:
        super().__init__()
        self._stopped = stopped

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Sends, unless it writes and is stopped."""
        writes = request.method not in ("GET", "HEAD") and "/services/data/" in str(request.url)
        if writes and (reason := self._stopped()):
            raise Stopped(reason)
        return super().send(request, **kwargs)


class _Stoppable:
    def __init__(self, client: Any, writes: frozenset[str], stopped: Callable[[], str | None]) -> None:
        self._client, self._writes, self._stopped = client, writes, stopped

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name not in self._writes:
            return method

        @functools.wraps(method)
        def unless_stopped(*args: Any, **kwargs: Any) -> Any:
            if reason := self._stopped():
                raise Stopped(reason)
            return method(*args, **kwargs)

        return unless_stopped


def _in_words(reason: str) -> str:
    return f"stopped: {reason}"
