"""The stop: once somebody has said so, nothing more is written outside.

Whoever writes outside is given a `WhyStopped` and asks it directly before each request that changes anything: one call
of a client may be many requests. Reading goes on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any, TypeVar, cast

T = TypeVar("T")

WhyStopped = Callable[[], str | None]
"""Why nothing may be written outside at this moment; None: it may."""


class Stopped(Exception):
    """Sending was stopped while a stage was at it: what had been sent is on record, the rest waits in the outbox.

    `summary` is the stage's accounting.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"{in_words(reason)}; nothing more is written until it is lifted (onetouch resume)")
        self.summary = {"held": in_words(reason)}


def never() -> None:
    """A WhyStopped where nobody can stop anything."""


def ask(stopped: WhyStopped) -> None:
    """To be called directly before a request that changes anything. Raises Stopped."""
    if reason := stopped():
        raise Stopped(reason)


def stoppable(client: T, writes: Collection[str], stopped: WhyStopped) -> T:
    """The same client, each of whose methods named in `writes` asks first whether it is stopped, and raises Stopped.

    A stage's own look at its beginning may be minutes old when its last rows are written.
    """
    return cast("T", _Stoppable(client, frozenset(writes), stopped))


class _Stoppable:
    def __init__(self, client: Any, writes: frozenset[str], stopped: WhyStopped) -> None:
        self._client, self._writes, self._stopped = client, writes, stopped

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name not in self._writes:
            return method

        @functools.wraps(method)
        def unless_stopped(*args: Any, **kwargs: Any) -> Any:
            ask(self._stopped)
            return method(*args, **kwargs)

        return unless_stopped


def in_words(reason: str) -> str:
    """The reason as the accounting of a run tells it."""
    return f"stopped: {reason}"
