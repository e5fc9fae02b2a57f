"""One answer of a vendor's API, streamed to disk: retried when it may help, whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
import tenacity

from onetouch.sources.raw import ExportError

TIMEOUT = (10.0, 300.0)
"""Seconds to connect, and of silence while reading; vendors take minutes to prepare a large export (ours)."""

ATTEMPTS = 6

Wait = Callable[[tenacity.RetryCallState], float]

_LONGEST_WAIT = 120.0
_DOUBLING = tenacity.wait_random_exponential(multiplier=2, max=_LONGEST_WAIT)
_CHUNK = 1 << 20


class _TryAgain(Exception):
    """A failure that another try may not meet. `after`: seconds the server asks to wait."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


def back_off(state: tenacity.RetryCallState) -> float:
    """Seconds until the next try: random, doubling, up to two minutes (ours); Retry-After may ask for more of it."""
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

    Tried again: no connection, time-out, a body that breaks off or is not `whole`, 429, 5xx other than 504, and the
    statuses of `retry_also`. Redirects are not followed: they would carry the request where nobody checked for TLS.
    Raises ExportError when every try failed.
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
                if not whole(into):  # a body without a length may end early unnoticed
                    raise _TryAgain("answered 200 with a body that is not whole")
            return status
    except requests.exceptions.SSLError as error:
        raise ExportError(f"{url}: its certificate is not trusted; check the host of the connection") from error
    except requests.RequestException as error:
        # the exception's own text may show the address with its parameters; its kind says enough
        raise _TryAgain(f"broke off ({type(error).__name__})") from error


def _retry_after(answer: requests.Response) -> float:
    try:
        seconds = float(answer.headers.get("Retry-After", "0"))
    except ValueError:  # a date: the usual pause does
        return 0.0
    return min(max(seconds, 0.0), _LONGEST_WAIT) if math.isfinite(seconds) else 0.0
