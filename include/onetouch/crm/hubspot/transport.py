"""Transport to a HubSpot account: its official client with time-outs, retries and the daily call limit."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from functools import cached_property
from typing import Any, NoReturn, TypeVar

import hubspot
import urllib3
from hubspot.crm.associations.v4.exceptions import ApiException as AssociationsError
from hubspot.crm.objects.exceptions import ApiException as ObjectsError
from hubspot.crm.owners.exceptions import ApiException as OwnersError
from hubspot.crm.pipelines.exceptions import ApiException as PipelinesError
from hubspot.crm.properties.exceptions import ApiException as PropertiesError
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from tenacity.wait import wait_base

from onetouch.connections import Connection, ConnectionConfigError, require_tls
from onetouch.crm.masking import masked
from onetouch.crm.protocol import LimitReached, Refused, SignInRefused, Unreachable
from onetouch.stop import WhyStopped, ask

_HOST = "https://api.hubapi.com"

_ATTEMPTS = 5
"""Ours: how often a call is tried before giving up until the next run."""

_TIMEOUT = (10, 120)
"""Ours: seconds to connect and to wait for an answer. The client sets none."""

_LONGEST_PAUSE = 120
"""Ours: seconds; when HubSpot asks for a longer wait, the call is left to the next run."""

_PAUSES = {"SECONDLY": 1, "TEN_SECONDLY_ROLLING": 10}
"""Name of the limit in a 429 response → seconds until its window ends; HubSpot seldom sends Retry-After."""

_LOCKED = 423
T = TypeVar("T")
_ERRORS = (ObjectsError, AssociationsError, OwnersError, PipelinesError, PropertiesError)
"""Each API package of the client defines its own ApiException."""


class Busy(Unreachable):
    """The request was refused for now and nothing was done: it may be sent again after `seconds`."""

    seconds = 0.0


class Transport:
    """HTTP access to one account through hubspot-api-client.

    Answers are read as raw JSON: the client's models drop the errors of some 207 responses and reject unknown
    enumeration values. One object of each API class is kept, since each has its own connection pool.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        api_reserve: float,
        wait: wait_base | None,
        sleep: Callable[[float], None],
        stopped: WhyStopped,
    ) -> None:
        if not connection.password:
            raise ConnectionConfigError(f"{connection.conn_id}: password is missing; give the private app's token")
        if not connection.password.isascii() or re.search(r"[\s\x00-\x1f]", connection.password):
            raise ConnectionConfigError(f"{connection.conn_id}: password holds blanks or line breaks; a token has none")
        base = str(connection.extra.get("base_url") or connection.base_url(_HOST)).rstrip("/")
        require_tls(base)
        # urllib3's own retries would repeat a request without our knowledge.
        once = urllib3.Retry(0, redirect=False)
        self._crm = hubspot.HubSpot(access_token=connection.password, host=base, retry=once).crm
        self._reserve, self._sleep, self._stopped = api_reserve, sleep, stopped
        self._wait = wait or wait_random_exponential(multiplier=1, max=60)
        self._spent: str | None = None

    @cached_property
    def batch(self) -> Any:
        """Reads and writes of up to 100 records at once."""
        return self._crm.objects.batch_api

    @cached_property
    def records(self) -> Any:
        """Reads of records, page by page."""
        return self._crm.objects.basic_api

    @cached_property
    def search(self) -> Any:
        """Searches of records by filters."""
        return self._crm.objects.search_api

    @cached_property
    def associations(self) -> Any:
        """Associations between records."""
        return self._crm.associations.v4.batch_api

    @cached_property
    def owners(self) -> Any:
        """Users who may own records."""
        return self._crm.owners.owners_api

    @cached_property
    def pipelines(self) -> Any:
        """Deal stages."""
        return self._crm.pipelines.pipelines_api

    @cached_property
    def properties(self) -> Any:
        """Definitions of properties."""
        return self._crm.properties.core_api

    @cached_property
    def property_groups(self) -> Any:
        """Groups of properties."""
        return self._crm.properties.groups_api

    # ── one request ──────────────────────────────────────────────────────────────────────────────

    def call(self, request: Callable[..., Any], *given: Any, **query: Any) -> Any:
        """The JSON answer of a reading request of the client; retried while there is no answer. Raises CrmError."""
        return self.retrying(self._once, request, *given, **query)

    def write(self, request: Callable[..., Any], *given: Any, repeat: bool = True) -> Any:
        """`call` for a writing request: the stop is checked before each attempt. Raises Stopped, too.

        `repeat`: whether it may be repeated without harm, and is. The method does not show it, since HubSpot also reads
        by POST.
        """

        def attempt() -> Any:
            ask(self._stopped)
            return self._once(request, *given)

        return self.retrying(attempt) if repeat else attempt()

    def retrying(self, attempt: Callable[..., T], *given: Any, **named: Any) -> T:
        """Retries on Unreachable, with growing pauses; raises the last such error unchanged."""
        tries = Retrying(
            retry=retry_if_exception_type(Unreachable),
            wait=self._pause,
            stop=stop_after_attempt(_ATTEMPTS),
            sleep=self._sleep,
            reraise=True,
        )
        return tries(attempt, *given, **named)

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return max(error.seconds if isinstance(error, Busy) else 0.0, self._wait(state))

    def _once(self, request: Callable[..., Any], *given: Any, **query: Any) -> Any:
        if self._spent:
            raise LimitReached(self._spent)
        try:
            answer = request(*given, _preload_content=False, _request_timeout=_TIMEOUT, **query)
            self._note_usage(answer.headers)
            return json.loads(answer.data) if answer.status != 204 else None
        except _ERRORS as error:
            self._note_usage(error.headers or {})
            _refuse(error)
        except (urllib3.exceptions.HTTPError, ValueError) as error:  # ValueError: the body was cut off, or is no JSON
            # `from None`: the chained error would show the address
            raise Unreachable(f"HubSpot: no answer ({type(error).__name__})") from None

    def _note_usage(self, headers: Any) -> None:
        """Reads how many of the day's calls are used; no call beyond the limit is made. Search answers do not say."""
        daily, left = headers.get("X-HubSpot-RateLimit-Daily"), headers.get("X-HubSpot-RateLimit-Daily-Remaining")
        if not (daily or "").isdigit() or not (left or "").isdigit():
            return
        total, used = int(daily), int(daily) - int(left)
        if used >= total * (1 - self._reserve):
            reserved = f", {self._reserve:.0%} are left to others (delivery.api_reserve)" if self._reserve else ""
            self._spent = (
                f"HubSpot: {used:,} of {total:,} API calls of the day are used up{reserved}; "
                "what is left goes out with the next run"
            )


def said(document: Any) -> str:
    """HubSpot's message, shortened and without values, which may be personal; of a validation error the codes and
    properties."""
    text = str(document.get("message", "")) if isinstance(document, dict) else ""
    start = text.find("[{")
    if start >= 0:
        with contextlib.suppress(ValueError):
            problems = [p for p in json.loads(text[start:]) if isinstance(p, dict)]
            return ", ".join(f"{p.get('error')} ({p.get('name')})" for p in problems)[:200]
    return masked(text)


def _refuse(error: Any) -> NoReturn:
    """Raises the error that the status and body of a response mean."""
    try:
        document = json.loads(error.body or "{}")
    except ValueError:
        document = {}
    document = document if isinstance(document, dict) else {}
    status, category = int(error.status or 0), str(document.get("category") or "")
    if status == 401:
        raise SignInRefused(
            f"HubSpot: the token is not accepted ({category or status}); check the connection's password, and that "
            "the private app is there"
        ) from None
    message = str(document.get("message") or "").lower()
    if status == 429 and (document.get("policyName") == "DAILY" or "daily limit" in message):
        raise LimitReached(
            "HubSpot: the account's API calls of the day are used up (DAILY); what is left goes out with the next run"
        ) from None
    if status in (429, _LOCKED):
        busy = Busy(f"HubSpot: answered {status} {document.get('policyName') or ''}".rstrip())
        told = (error.headers or {}).get("Retry-After", "")
        busy.seconds = float(told) if told.isdigit() else _PAUSES.get(str(document.get("policyName")), 2.0)
        if busy.seconds <= _LONGEST_PAUSE:
            raise busy from None
    if status in (0, 408, 429, _LOCKED, 477) or status >= 500:
        raise Unreachable(f"HubSpot: answered {status} {category}".rstrip()) from None
    hint = ""
    if category == "MISSING_SCOPES":
        hint = f"; give the private app {_scopes(document) or 'the scopes of docs/hubspot.md'}"
    refused = Refused(f"HubSpot: {status} {category}: {said(document)}{hint}")
    refused.status, refused.code = status, category or str(status)
    raise refused from None


def _scopes(document: dict[str, Any]) -> str:
    """The scopes that a 403 response names as missing."""
    found: list[str] = []
    for problem in document.get("errors") or []:
        for scopes in (problem.get("context") or {}).values():
            found += [str(scope) for scope in scopes]
    return ", ".join(dict.fromkeys(found))[:300]
