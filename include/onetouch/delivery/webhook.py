"""The webhook that an audience is sent to: signed, with an idempotency key, retried, over TLS or to this machine.

A request carries the headers `Idempotency-Key`, `X-Onetouch-Timestamp` (whole seconds since 1970) and
`X-Onetouch-Signature`: `v1=` and the hexadecimal HMAC-SHA256, under the connection's password, of the timestamp, a
full stop, and the body. The receiver refuses an old timestamp, and answers a key that it has seen as it did then.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from datetime import datetime

import requests
from requests.adapters import HTTPAdapter
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from tenacity.wait import wait_base

from onetouch.connections import Connection, ConnectionConfigError, require_tls
from onetouch.crm import UNKNOWN, Outcome
from onetouch.stop import WhyStopped, ask, never

CONNECTION = "audience_default"
"""The id of the connection: its host is the whole address of the receiver, its password the secret of the signature."""

DESTINATION = "audience"
"""The destination of its rows in the outbox."""

TIMESTAMP, SIGNATURE, IDEMPOTENCY_KEY = "X-Onetouch-Timestamp", "X-Onetouch-Signature", "Idempotency-Key"

_SHORTEST_SECRET = 16
"""Ours: characters; a shorter one could be guessed."""

_ATTEMPTS = 5
_TIMEOUT = (10, 60)
"""Ours: seconds to connect and to wait for an answer."""

_LATER = frozenset({401, 403, 404, 408, 423, 425, 429})
"""Statuses below 500 that the body did not cause (a wrong secret or address, a hurry): a later run tries again."""


class _Unanswered(Exception):  # noqa: N818 - an answer, not a failure of ours
    """There was no answer, or one that says to come again."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class Webhook:
    """One receiver. `now`: the moment at which it is opened; time that passes since then is added.

    Raises ConnectionConfigError for an address without TLS that is not on this machine, and for a missing or short
    secret.
    """

    def __init__(
        self,
        connection: Connection,
        now: datetime,
        *,
        stopped: WhyStopped = never,
        wait: wait_base | None = None,
        sleep: Callable[[float], None] = time.sleep,
        passed: Callable[[], float] = time.monotonic,
        session: requests.Session | None = None,
    ) -> None:
        if not connection.host:
            raise ConnectionConfigError(f"{connection.conn_id}: host is missing; give the receiver's whole address")
        self._url = connection.base_url("")
        require_tls(self._url)
        if len(connection.password or "") < _SHORTEST_SECRET:
            raise ConnectionConfigError(
                f"{connection.conn_id}: password is missing or short; give the secret of the signature, "
                f"{_SHORTEST_SECRET} characters or more"
            )
        self._secret = str(connection.password).encode()
        self._now, self._passed, self._began = now, passed, passed()
        self._stopped, self._sleep = stopped, sleep
        self._wait = wait or wait_random_exponential(multiplier=1, max=60)
        self._session = session or requests.Session()
        self._session.mount(self._url, HTTPAdapter(max_retries=0))
        if self._url.startswith("http://"):
            self._session.trust_env = False  # a proxy set in the environment cannot reach this machine

    def post(self, key: str, body: bytes) -> Outcome:
        """Sends one body under its key, again while there is no answer; the stop is checked before each attempt.

        The outcome is ok when the receiver has taken it, now or before. A refusal that the body did not cause is
        `retryable`; without an answer the outcome is UNKNOWN. Raises Stopped.
        """
        tries = Retrying(
            retry=retry_if_exception_type(_Unanswered),
            wait=self._wait,
            stop=stop_after_attempt(_ATTEMPTS),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return tries(self._once, key, body)
        except _Unanswered as unanswered:
            return unanswered.outcome

    def _once(self, key: str, body: bytes) -> Outcome:
        ask(self._stopped)
        timestamp = str(int(self._now.timestamp() + self._passed() - self._began))
        headers = {
            "Content-Type": "application/json",
            IDEMPOTENCY_KEY: key,
            TIMESTAMP: timestamp,
            SIGNATURE: signature(self._secret, timestamp, body),
        }
        try:
            answer = self._session.post(self._url, data=body, headers=headers, timeout=_TIMEOUT, allow_redirects=False)
        except requests.RequestException as error:
            # `from None`: the chained error would show the address, which may hold a token
            told = f"no answer ({type(error).__name__})"
            raise _Unanswered(Outcome(ok=False, code=UNKNOWN, message=told, retryable=True)) from None
        status = answer.status_code
        if 200 <= status < 300:
            return Outcome(ok=True, id=key)
        hint = "; check the connection's password against the receiver's secret" if status in (401, 403) else ""
        refused = Outcome(
            ok=False, code=f"HTTP_{status}", message=f"the receiver answered {status}{hint}",
            retryable=status in _LATER or status >= 500 or 300 <= status < 400,
        )  # fmt: skip
        if status in (408, 425, 429) or status >= 500:
            raise _Unanswered(refused)
        return refused


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """The value of the signature's header."""
    return f"v1={hmac.new(secret, timestamp.encode() + b'.' + body, hashlib.sha256).hexdigest()}"
