"""The stop: once it is set, nothing more is written to other systems.

Code that writes to other systems gets a `WhyStopped` and calls it directly before each request that changes anything,
because one call of a client may be many requests. Reading goes on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any, TypeVar, cast

T = TypeVar("T")

WhyStopped = Callable[[], str | None]
"""Returns why nothing may be written outside at this moment; None: writing is allowed."""


class Stopped(Exception):
    """Sending was stopped during a stage: what had been sent is on record, the rest waits in the outbox.

    `summary` is the stage's accounting.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"{in_words(reason)}; nothing more is written until it is lifted (onetouch resume)")
        self.summary = {"held": in_words(reason)}


def never() -> None:
    """A WhyStopped that never stops anything."""


def ask(stopped: WhyStopped) -> None:
    """Raises Stopped if `stopped` gives a reason; call it directly before each request that changes anything."""
    if reason := stopped():
        raise Stopped(reason)


def stoppable(client: T, writes: Collection[str], stopped: WhyStopped) -> T:
    """The client, whose methods named in `writes` first check the stop and raise Stopped if it is set.

    The check at the beginning of a stage is not enough, because it may be minutes old when the last rows are written.
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
    """The reason in the words of a run's accounting."""
    return f"stopped: {reason}"
