"""Transport to a Salesforce org: sign-in, time-outs, retries, the daily call limit, and paged queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote_plus, urlsplit

import jwt
import requests
from requests.adapters import HTTPAdapter
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceError, SalesforceExpiredSession
from simple_salesforce.format import format_soql
from simple_salesforce.util import call_salesforce
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from tenacity.wait import wait_base

from onetouch.connections import Connection, ConnectionConfigError, require_tls
from onetouch.crm.masking import masked, without_names
from onetouch.crm.protocol import LimitReached, Refused, SignInRefused, Unreachable
from onetouch.stop import WhyStopped, ask

VERSION = "62.0"
"""The API version used unless the connection names another; pinned, since answers change with it."""

_NO_RULES = {"Sforce-Auto-Assign": "FALSE"}
"""Turns the org's assignment rules off: by default Salesforce runs them on a lead or account that is written, and may
reassign it to another owner."""

ATTEMPTS = 5
"""Ours: how often a call or a locked row is tried before giving up until the next run."""

_IN_CHARS = 15_000
"""Ours: encoded characters of one IN list; Salesforce accepts 16,384 in a URL, the rest of the query among them."""

_QUERIES = 5
"""The most queries in one composite request, which counts as one call."""

_TIMEOUT = (10, 120)
"""Ours: seconds to connect and to wait for an answer. simple-salesforce sets none."""

_ASSERTION_SECONDS = 120
"""Ours: seconds a signed assertion is valid; Salesforce accepts three minutes at most, by its own clock."""

Record = dict[str, Any]
T = TypeVar("T")


class _Adapter(HTTPAdapter):
    """Sets time-outs and follows no redirect, which would send dossiers to any host, even without TLS."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: D102
        kwargs["timeout"] = kwargs.get("timeout") or _TIMEOUT
        answer = super().send(request, *args, **kwargs)
        answer.headers.pop("Location", None)
        return answer


class Transport:
    """HTTP access to one org, signed in when first used.

    The connection's extras are those of Airflow's Salesforce connection: `instance_url` (or `domain`),
    `consumer_key`, `consumer_secret` for client credentials, or `private_key` with the user as login for JWT
    bearer; `version`. `api_reserve`: the share of the org's daily calls that is left to others. `stopped` is called
    before each request that writes. Raises ConnectionConfigError at once when the connection cannot work.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        api_reserve: float,
        wait: wait_base | None,
        sleep: Callable[[float], None],
        session: requests.Session | None,
        clock: Callable[[], float],
        stopped: WhyStopped,
    ) -> None:
        extra = connection.extra
        self._key, self._secret = extra.get("consumer_key"), extra.get("consumer_secret")
        self._private_key, self._login, self._domain = extra.get("private_key"), connection.login, extra.get("domain")
        self.base = str(extra.get("instance_url") or "").rstrip("/")
        if not self.base and self._domain not in (None, "", "login", "test"):
            self.base = f"https://{self._domain}.salesforce.com"
        signs_in = self._key and (self._secret or (self._private_key and self._login))
        if not self.base or not signs_in:
            raise ConnectionConfigError(
                f"{connection.conn_id}: extras instance_url (or domain), consumer_key and consumer_secret are needed "
                "(or private_key with the user as login)"
            )
        require_tls(self.base)
        self.version = str(extra.get("version") or VERSION).removeprefix("v")
        self.sleep, self._stopped = sleep, stopped
        self._reserve, self._clock = api_reserve, clock
        self._wait = wait or wait_random_exponential(multiplier=1, max=60)
        self._session = session or requests.Session()
        self._session.mount("https://", _Adapter())
        if self.base.startswith("http://"):
            self._session.trust_env = False  # a proxy set in the environment cannot reach this machine
            self._session.mount("http://", _Adapter())
        self._token: str | None = None
        self._host = self.base
        self._spent: str | None = None
        self._described: dict[str, Record] = {}
        self._fields: dict[str, dict[str, Record] | None] = {}

    # ── reading ──────────────────────────────────────────────────────────────────────────────────

    def query(self, soql: str, *, include_deleted: bool = False) -> Iterator[Record]:
        """All records of a query, page by page."""
        page = self.call("GET", "queryAll" if include_deleted else "query", params={"q": soql}, read=_PAGE)
        yield from self._pages(page)

    def _pages(self, page: Record) -> Iterator[Record]:
        """The records of a page and of all that follow it."""
        while True:
            yield from page["records"]
            if page["done"]:
                return
            page = self.call("GET", page["nextRecordsUrl"], read=_PAGE)

    def query_in(
        self, soql: str, values: Iterable[str], *, include_deleted: bool = False, **others: Any
    ) -> Iterator[Record]:
        """All records of a query holding `IN {values}`, in as many requests as the limit of a URL's length requires."""
        queries = [soql_of(soql, values=chunk, **others) for chunk in _chunks(sorted(set(values)), "{value},")]
        for at in range(0, len(queries), _QUERIES):
            yield from self._queries(queries[at : at + _QUERIES], include_deleted=include_deleted)

    def _queries(self, queries: Sequence[str], *, include_deleted: bool) -> Iterator[Record]:
        """All records of a few queries, whose first pages are one call."""
        if len(queries) < 2:
            for soql in queries:
                yield from self.query(soql, include_deleted=include_deleted)
            return
        address = f"/services/data/v{self.version}/{'queryAll' if include_deleted else 'query'}?q="
        asked = [
            {"method": "GET", "url": address + quote_plus(soql), "referenceId": f"part{number}"}
            for number, soql in enumerate(queries)
        ]
        answer = self.call("POST", "composite", json={"compositeRequest": asked}, read=_parts(len(asked)), writes=False)
        for page in answer:
            yield from self._pages(page)

    def query_any(self, soql: str, condition: str, values: Iterable[str]) -> Iterator[Record]:
        """All records for which `condition` (holding `{value}`) is true of any of the values; `soql` ends in WHERE."""
        for chunk in _chunks(sorted(set(values)), f"{condition} OR "):
            yield from self.query(f"{soql} {' OR '.join(soql_of(condition, value=value) for value in chunk)}")

    def fields(self, thing: str) -> dict[str, Record] | None:
        """The describe result of each field of an object, by name, read once; None when the object is not visible."""
        if thing not in self._fields:
            found = self.described(thing)
            self._fields[thing] = {field["name"]: field for field in found["fields"]} if found else None
        return self._fields[thing]

    def described(self, thing: str) -> Record:
        """The whole describe result of an object, read once; empty when the object is not visible."""
        if thing not in self._described:
            try:
                self._described[thing] = self.call("GET", f"sobjects/{thing}/describe", read=having("fields"))
            except Refused as error:
                if error.code != "NOT_FOUND":
                    raise
                self._described[thing] = {}
        return self._described[thing]

    # ── one request ──────────────────────────────────────────────────────────────────────────────

    def call(self, method: str, path: str, **given: Any) -> Any:
        """The JSON answer of a request that may be repeated without harm; retried while there is no answer."""
        return self.retrying(Unreachable)(self.once, method, path, **given)

    def once(
        self,
        method: str,
        path: str,
        *,
        read: Callable[[requests.Response], T] = requests.Response.json,
        **given: Any,
    ) -> T:
        """The answer of one request. After a 401, which did nothing, it signs in again and sends the request once more.

        `path` is relative to the API's root, or begins with /services. Raises CrmError.
        """
        if self._spent:
            raise LimitReached(self._spent)
        send = partial(self._send, method, path, read, given)
        try:
            try:
                return send()
            except SalesforceExpiredSession:
                self._token = None  # sign in once more, then give up
            # outside the except block, so that no later error is chained to one that quotes the answer
            return send()
        except SalesforceExpiredSession as error:
            raise SignInRefused(f"Salesforce: the session is refused right after signing in ({_code(error)})") from None
        except SalesforceError as error:
            _refuse(error)
        except requests.RequestException as error:  # also a JSON answer that was cut off
            # `from None`: the chained error would show the address with the query in it
            raise Unreachable(f"Salesforce: no answer ({type(error).__name__})") from None

    def retrying(self, *errors: type[Exception]) -> Retrying:
        """Retries on these errors, with growing pauses; raises the last one unchanged."""
        return Retrying(
            retry=retry_if_exception_type(errors),
            wait=self._wait,
            stop=stop_after_attempt(ATTEMPTS),
            sleep=self.sleep,
            reraise=True,
        )

    def _send(self, method: str, path: str, read: Callable[[requests.Response], T], given: Mapping[str, Any]) -> T:
        if self._token is None:
            self._sign_in()
        if given.get("writes", method != "GET"):
            ask(self._stopped)
        root = "" if path.startswith("/services/") else f"/services/data/v{self.version}/"
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json", **_NO_RULES}
        answer = call_salesforce(
            f"{self._host}{root}{path}",
            method,
            self._session,
            headers | given.get("headers", {}),
            hooks={"response": self._note_usage},
            **{name: value for name, value in given.items() if name not in ("headers", "writes")},
        )
        return read(answer)

    def _note_usage(self, answer: requests.Response, **_: Any) -> None:
        """Reads how many of the day's calls are used; a call beyond the limit is not made."""
        told = Salesforce.parse_api_usage(answer.headers.get("Sforce-Limit-Info", ""))
        for usage in told.values():
            if usage.used >= usage.total * (1 - self._reserve):
                reserved = f", {self._reserve:.0%} are left to others (delivery.api_reserve)" if self._reserve else ""
                self._spent = (
                    f"Salesforce: {usage.used:,} of {usage.total:,} API calls of 24 hours are used up{reserved}; "
                    "what is left goes out with the next run"
                )

    # ── signing in ───────────────────────────────────────────────────────────────────────────────

    def _sign_in(self) -> None:
        if self._secret is not None:
            form, auth = {"grant_type": "client_credentials"}, (str(self._key), str(self._secret))
            check = "consumer_secret and that the app allows client credentials"
        else:
            form, auth = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"} | self._assertion(), None
            check = "the login, private_key against the app's certificate, and that the user is pre-authorised"
        answer = self._session.post(f"{self.base}/services/oauth2/token", data=form, auth=auth)
        if answer.status_code == 429 or answer.status_code >= 500:
            raise Unreachable(f"Salesforce: sign-in answered {answer.status_code}")
        try:
            document = answer.json()
            token = document["access_token"] if answer.ok else None
        except (ValueError, KeyError, TypeError):
            document, token = {}, None
        if not token:
            error = document.get("error", "") if isinstance(document, dict) else ""
            raise SignInRefused(
                f"Salesforce: sign-in refused ({answer.status_code} {said(error)}); check consumer_key, {check}"
            )
        self._token = str(token)
        if not self.base.startswith("http://"):
            host = urlsplit(document.get("instance_url") or self.base).netloc
            self._host = f"https://{host}"

    def _assertion(self) -> dict[str, str]:
        """The claims the private key signs: our identity, valid for a few minutes."""
        sandbox = self._domain == "test" or ".sandbox." in self.base
        claims = {
            "iss": self._key,
            "sub": self._login,
            "aud": f"https://{'test' if sandbox else 'login'}.salesforce.com",
            "exp": int(self._clock()) + _ASSERTION_SECONDS,
        }
        try:
            return {"assertion": jwt.encode(claims, str(self._private_key), algorithm="RS256")}
        except (ValueError, TypeError, jwt.PyJWTError):
            # `from None`: the chained error may show part of the key
            raise SignInRefused("Salesforce: private_key cannot be read; it must be the PEM of an RSA key") from None


def having(*names: str) -> Callable[[requests.Response], Record]:
    """Reads an answer that must be an object with these keys; anything else counts as no answer."""

    def read(answer: requests.Response) -> Record:
        document = answer.json()
        if not isinstance(document, dict) or not document.keys() >= set(names):
            raise requests.exceptions.InvalidJSONError("not what was asked for")
        return document

    return read


_NEEDED = {"records", "done"}
"""What a page of a query has."""

_PAGE = having(*_NEEDED)


def _parts(number: int) -> Callable[[requests.Response], list[Record]]:
    """Reads the answers to the queries of a composite request. Raises SalesforceError for one that was refused."""

    def read(answer: requests.Response) -> list[Record]:
        parts = having("compositeResponse")(answer)["compositeResponse"]
        pages = []
        for part in parts:
            if part["httpStatusCode"] >= 400:
                raise SalesforceError(answer.url, part["httpStatusCode"], part["referenceId"], part["body"])
            pages.append(part["body"])
        if len(pages) != number or not all(isinstance(page, dict) and page.keys() >= _NEEDED for page in pages):
            raise requests.exceptions.InvalidJSONError("not what was asked for")
        return pages

    return read


def soql_of(soql: str, **values: Any) -> str:
    """A query with its values inserted, each quoted by the rules of SOQL."""
    text: str = format_soql(soql, **values)
    return text


WRITTEN_BY_THE_ORG = frozenset(
    {"FIELD_CUSTOM_VALIDATION_EXCEPTION", "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "CANNOT_EXECUTE_FLOW_TRIGGER",
     "FLOW_EXCEPTION", "APEX_ERROR", "DUPLICATES_DETECTED"}
)  # fmt: skip
"""Error codes of validation rules, flows, triggers and duplicate rules; an admin of the org wrote the message."""


def said(text: Any, code: str = "", fields: Sequence[str] = ()) -> str:
    """Salesforce's message, `masked`; a message written by the org's admins also `without_names`."""
    if isinstance(text, list):
        text = text[0].get("message", "") if text and isinstance(text[0], dict) else ""
    line = masked(str(text))
    return without_names(line, fields) if code in WRITTEN_BY_THE_ORG else line


def _chunks(values: Sequence[str], each: str) -> Iterator[list[str]]:
    """Chunks of `values` that, each written as `each`, stay within the allowed length of a URL."""
    chunk: list[str] = []
    length = 0
    for value in values:
        size = len(quote_plus(soql_of(each, value=value)))
        if chunk and length + size > _IN_CHARS:
            yield chunk
            chunk, length = [], 0
        chunk.append(value)
        length += size
    if chunk:
        yield chunk


def _code(error: SalesforceError) -> str:
    content: Any = error.content
    if isinstance(content, list) and content and isinstance(content[0], dict):
        return str(content[0].get("errorCode", ""))
    return ""


def _refuse(error: SalesforceError) -> NoReturn:
    """Raises the error that an HTTP status and errorCode mean. `from None`: a chained error would show the URL."""
    code = _code(error)
    message = said(error.content, code)
    if code == "REQUEST_LIMIT_EXCEEDED" and not message.startswith("Concurrent"):
        raise LimitReached(
            "Salesforce: the org's API calls of 24 hours are used up (REQUEST_LIMIT_EXCEEDED); what is left "
            "goes out with the next run"
        ) from None
    if error.status == 429 or error.status >= 500 or code == "REQUEST_LIMIT_EXCEEDED":
        raise Unreachable(f"Salesforce: answered {error.status} {code}".rstrip()) from None
    hint = "; check the integration user's permissions" if error.status == 403 else ""
    refused = Refused(f"Salesforce: {error.status} {code}: {message}{hint}")
    refused.status, refused.code = error.status, code or str(error.status)
    if isinstance(error.content, list):
        refused.candidates = candidates_in(error.content)
    raise refused from None


def candidates_in(errors: Iterable[Any]) -> tuple[str, ...]:
    """The ids that the errors of a refused record name as its duplicates, each once. The answer for a single record
    holds them under a misspelt key; the answers of collections and bulk jobs need not hold any."""
    found: list[str] = []
    for error in errors:
        told = (error.get("duplicateResult") or error.get("duplicateResut")) if isinstance(error, Mapping) else None
        for result in (told or {}).get("matchResults") or []:
            records = [match.get("record") or {} for match in result.get("matchRecords") or []]
            found += [str(record["Id"]) for record in records if record.get("Id")]
    return tuple(dict.fromkeys(found))
