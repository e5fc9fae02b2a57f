"""Downloads one response of a vendor's API to disk, with retries for failures that may be temporary."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
import tenacity

from onetouch.sources.raw import ExportError

TIMEOUT = (10.0, 300.0)
"""Seconds to connect, and seconds to wait for data; vendors take minutes to prepare a large export (ours)."""

ATTEMPTS = 6

Wait = Callable[[tenacity.RetryCallState], float]

_LONGEST_WAIT = 120.0
_DOUBLING = tenacity.wait_random_exponential(multiplier=2, max=_LONGEST_WAIT)
_CHUNK = 1 << 20


class _TryAgain(Exception):
    """A failure that may be temporary. `after`: seconds the server asks to wait before the next attempt."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


def back_off(state: tenacity.RetryCallState) -> float:
    """Seconds until the next attempt: random, doubling, up to two minutes (ours); a longer Retry-After of up to two
    minutes is respected."""
    error = state.outcome.exception() if state.outcome else None
    return max(_DOUBLING(state), error.after if isinstance(error, _TryAgain) else 0.0)


def download(
    session: requests.Session,
    url: str,
    params: dict[str, Any],
    into: Path,
    *,
    whole: Callable[[Path], bool],
    wait: Wait = back_off,
    timeout: tuple[float, float] = TIMEOUT,
    retry_also: frozenset[int] = frozenset(),
) -> int:
    """GETs `url` into the file `into`; returns the status (the file is written for 200 only).

    Retried: no connection, time-out, a body that breaks off or is not `whole`, 429, 5xx other than 504, and the
    statuses of `retry_also`. Redirects are not followed, because their target has not been checked for TLS. Raises
    ExportError when every attempt failed.
    """
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=wait,
        retry=tenacity.retry_if_exception_type(_TryAgain),
        reraise=True,
    )
    try:
        return retrying(_once, session, url, params, into, whole, timeout, retry_also)
    except _TryAgain as error:
        raise ExportError(f"{url}: {error}, {ATTEMPTS} times in a row; run again later") from error


def _once(
    session: requests.Session,
    url: str,
    params: dict[str, Any],
    into: Path,
    whole: Callable[[Path], bool],
    timeout: tuple[float, float],
    retry_also: frozenset[int],
) -> int:
    try:
        with session.get(url, params=params, stream=True, timeout=timeout, allow_redirects=False) as answer:
            status = answer.status_code
            if status == 429 or (status >= 500 and status != 504) or status in retry_also:
                raise _TryAgain(f"answered {status}", _retry_after(answer))
            if status == 200:
                with into.open("wb") as file:
                    for chunk in answer.iter_content(_CHUNK):
                        file.write(chunk)
                if not whole(into):  # a body without Content-Length may end early unnoticed
                    raise _TryAgain("answered 200 with a body that is not whole")
            return status
    except requests.exceptions.SSLError as error:
        raise ExportError(f"{url}: its certificate is not trusted; check the host of the connection") from error
    except requests.RequestException as error:
        # the exception's own text may show the URL with its parameters; its type is enough
        raise _TryAgain(f"broke off ({type(error).__name__})") from error


def _retry_after(answer: requests.Response) -> float:
    try:
        seconds = float(answer.headers.get("Retry-After", "0"))
    except ValueError:  # a date: the usual wait is enough
        return 0.0
    return min(max(seconds, 0.0), _LONGEST_WAIT) if math.isfinite(seconds) else 0.0
