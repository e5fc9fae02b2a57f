"""Salesforce, read and written so that nothing is done twice and no row's outcome is lost."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import simple_salesforce
from requests.adapters import HTTPAdapter
from simple_salesforce.exceptions import (
    SalesforceError,
    SalesforceExpiredSession,
    SalesforceRefusedRequest,
)
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from tenacity.wait import wait_base

from onetouch.connections import Connection, ConnectionConfigError, require_tls
from onetouch.policy import Policy

VERSION = "62.0"
"""The API version spoken unless the connection names another; pinned, since answers change with it."""

ROWS = 200
"""Records a SObject Collections request holds."""

_IN_CHARS = 3_000
"""Ours: characters of one IN list; Salesforce takes 4,000 in a WHERE."""

_TIMEOUT = (10, 120)
"""Ours: seconds to connect and to wait for an answer. simple-salesforce sets none."""

_ATTEMPTS = 5
"""Ours: how often a call or a locked row is tried before giving up until the next run."""

ACCOUNT_FIELDS = (
    "Onetouch_Account_Id__c", "Onetouch_Score__c", "Onetouch_Tier__c", "Onetouch_Trigger__c", "Onetouch_Motion__c",
    "Onetouch_Activated__c", "Onetouch_Milestones__c", "Onetouch_Team_Size__c", "Onetouch_Features_Used__c",
    "Onetouch_Usage_28d__c", "Onetouch_Limit_Share__c", "Onetouch_Dossier__c", "Onetouch_Policy_Version__c",
    "Onetouch_As_Of__c",
)  # fmt: skip
"""Our fields of the account."""

HANDOFF_ID = "Onetouch_Handoff_Id__c"
OUTCOME = "Onetouch_Outcome__c"

WITHDRAWN, RELEASED, EXPIRED = "[Withdrawn] ", "[Released] ", "[Expired] "
CLOSED_BY_US = (WITHDRAWN, RELEASED, EXPIRED)
"""How the subject of a task begins that we closed: such a task is not a rep's touch."""

_TASK = (
    "Id", "Subject", "Description", "Status", "IsClosed", "IsDeleted", "WhatId", "AccountId", "OwnerId", "TaskSubtype",
    "CreatedDate", "CompletedDateTime", "SystemModstamp", HANDOFF_ID, OUTCOME,
)  # fmt: skip

_SUBJECT, _DESCRIPTION = 255, 32_000

Record = dict[str, Any]
T = TypeVar("T")


class CrmError(Exception):
    """The CRM could not be used. The message holds codes and what to do, no secrets and no personal data."""


class Unreachable(CrmError):
    """No usable answer, also after several attempts."""


class SignInRefused(CrmError):
    """The connection's credentials are not accepted."""


class LimitReached(CrmError):
    """The org's daily API calls are used up: nothing is lost, the next run goes on."""


class FieldsMissing(CrmError):
    """The org lacks our fields, or the integration user may not write them."""


class Refused(CrmError):
    """The request as such was refused: a bug or a missing permission, no use in trying again."""


class _Locked(Exception):
    """Some rows were locked by another writer."""


@dataclass(frozen=True)
class Outcome:
    """What became of one row: its record id, or the code and message of its refusal."""

    ok: bool
    id: str | None = None
    code: str = ""
    message: str = ""
    deleted: bool = False
    by_rep: bool = False

    @property
    def retryable(self) -> bool:
        """Whether a later run may succeed with the same row."""
        return self.code in _RETRYABLE_ROW

    @property
    def reason(self) -> str:
        """The refusal in one line."""
        return f"{self.code}: {self.message}" if self.message else self.code


_LOCKED = "UNABLE_TO_LOCK_ROW"
_RETRYABLE_ROW = frozenset({_LOCKED, "REQUEST_LIMIT_EXCEEDED", "SERVER_UNAVAILABLE", "UNKNOWN_EXCEPTION"})


class _Adapter(HTTPAdapter):
    """Sets time-outs. On a loopback stand-in also speaks http where simple-salesforce insists on https."""

    def __init__(self, plain: bool = False) -> None:
        self.plain = plain
        super().__init__()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: D102
        if self.plain and request.url is not None:
            request.url = re.sub(r"^https:", "http:", request.url)
        kwargs["timeout"] = kwargs.get("timeout") or _TIMEOUT
        return super().send(request, *args, **kwargs)


class Salesforce:
    """One org, signed in when first used.

    The connection's extras are those of Airflow's Salesforce connection: `instance_url` (or `domain`),
    `consumer_key`, `consumer_secret` for client credentials, or `private_key` with the user as login for JWT
    bearer; `version`. Raises ConnectionConfigError at once when they cannot work.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        wait: wait_base | None = None,
        sleep: Callable[[float], None] = time.sleep,
        session: requests.Session | None = None,
    ) -> None:
        extra = connection.extra
        self._key, self._secret = extra.get("consumer_key"), extra.get("consumer_secret")
        self._private_key, self._login, self._domain = extra.get("private_key"), connection.login, extra.get("domain")
        self._base = str(extra.get("instance_url") or "").rstrip("/")
        if not self._base and self._domain not in (None, "", "login", "test"):
            self._base = f"https://{self._domain}.salesforce.com"
        signs_in = self._key and (self._secret or (self._private_key and self._login))
        if not self._base or not signs_in:
            raise ConnectionConfigError(
                f"{connection.conn_id}: extras instance_url (or domain), consumer_key and consumer_secret are needed "
                "(or private_key with the user as login)"
            )
        require_tls(self._base)
        self.version = str(extra.get("version") or VERSION).removeprefix("v")
        self._wait = wait or wait_random_exponential(multiplier=1, max=60)
        self._sleep = sleep
        self._session = session or requests.Session()
        self._session.mount("https://", _Adapter())
        if self._base.startswith("http://"):
            self._session.trust_env = False  # a proxy of the environment does not lead to this machine
            self._session.mount(f"https://{urlsplit(self._base).netloc}/", _Adapter(plain=True))
            self._session.mount("http://", _Adapter())
        self._sf: simple_salesforce.Salesforce | None = None
        self._checked = False

    # ── reading ──────────────────────────────────────────────────────────────────────────────────

    def query(self, soql: str, *, include_deleted: bool = False) -> Iterator[Record]:
        """All records of a query, page by page."""
        page = self._call(lambda sf: sf.query(soql, include_deleted=include_deleted))
        while True:
            yield from page["records"]
            if page["done"]:
                return
            page = self._call(partial(_next_page, url=page["nextRecordsUrl"]))

    def query_in(
        self, soql: str, values: Iterable[str], *, include_deleted: bool = False, **others: Any
    ) -> Iterator[Record]:
        """All records of a query holding `IN {values}`, in as many requests as the length of a WHERE asks for."""
        for chunk in _chunks(sorted(set(values))):
            yield from self.query(_soql(soql, values=chunk, **others), include_deleted=include_deleted)

    def read_accounts(self, policy: Policy, since: datetime | None = None) -> Iterator[Record]:
        """Accounts with the policy's own fields and ours; with `since` only those changed since, deleted ones too."""
        own = [field for field in policy.crm.account_fields.values() if field]
        names = dict.fromkeys(
            [
                "Id",
                "Onetouch_Account_Id__c",
                "OwnerId",
                "Owner.Email",
                "Owner.IsActive",
                "CreatedDate",
                "IsDeleted",
                *own,
            ]
        )
        soql = f"SELECT {', '.join(names)} FROM Account"
        if since is not None:
            soql += _soql(" WHERE SystemModstamp >= {since}", since=since)
        return self.query(soql, include_deleted=since is not None)

    def read_opportunities(self, since: datetime | None = None) -> Iterator[Record]:
        """Opportunities of accounts; with `since` only those changed since, deleted ones too."""
        soql = (
            "SELECT Id, AccountId, StageName, IsClosed, IsWon, Amount, CreatedDate, CloseDate, SystemModstamp, "
            "LeadSource, OwnerId, IsDeleted FROM Opportunity WHERE AccountId != null"
        )
        if since is not None:
            soql += _soql(" AND SystemModstamp >= {since}", since=since)
        return self.query(soql, include_deleted=since is not None)

    def read_reps(self) -> Iterator[Record]:
        """Users: id, name, e-mail, active, time zone."""
        return self.query("SELECT Id, Name, Email, IsActive, TimeZoneSidKey FROM User")

    def read_tasks(self, since: datetime) -> Iterator[Record]:
        """Tasks of accounts that changed at or after `since`, deleted ones too."""
        soql = f"SELECT {', '.join(_TASK)} FROM Task WHERE AccountId != null AND SystemModstamp >= {{since}}"
        return self.query(_soql(soql, since=since), include_deleted=True)

    def tasks_of(self, handoff_ids: Iterable[str]) -> dict[str, Record]:
        """The task of each handoff that has one, by handoff id; a deleted one only when there is no other."""
        found: dict[str, Record] = {}
        soql = f"SELECT {', '.join(_TASK)} FROM Task WHERE {HANDOFF_ID} IN {{values}}"
        for task in self.query_in(soql, handoff_ids, include_deleted=True):
            if task[HANDOFF_ID] not in found or not task["IsDeleted"]:
                found[task[HANDOFF_ID]] = task
        return found

    def open_opportunities(self, crm_account_ids: Iterable[str]) -> set[str]:
        """Those of the accounts that have an open opportunity now."""
        soql = "SELECT AccountId FROM Opportunity WHERE IsClosed = false AND AccountId IN {values}"
        return {record["AccountId"] for record in self.query_in(soql, crm_account_ids)}

    def existing_accounts(self, crm_account_ids: Iterable[str]) -> set[str]:
        """Those of the accounts that are there and not deleted."""
        return {r["Id"] for r in self.query_in("SELECT Id FROM Account WHERE Id IN {values}", crm_account_ids)}

    # ── writing ──────────────────────────────────────────────────────────────────────────────────

    def check_fields(self) -> None:
        """Raises FieldsMissing naming each of our fields that the org lacks or we may not write. Once a client."""
        if self._checked:
            return
        problems = []
        for thing, wanted in (("Account", ACCOUNT_FIELDS), ("Task", (HANDOFF_ID, OUTCOME))):
            answer = self._call(partial(_describe, thing=thing))
            there = {field["name"]: field for field in answer["fields"]}
            problems += [f"{thing}.{name} is missing" for name in wanted if name not in there]
            problems += [
                f"{thing}.{name} may not be written"
                for name in wanted
                if name in there and name != OUTCOME and not there[name].get("updateable", True)
            ]
            if thing == "Task" and not there.get(HANDOFF_ID, {"externalId": True}).get("externalId", True):
                problems.append(f"Task.{HANDOFF_ID} is no external id")
        if problems:
            raise FieldsMissing(
                f"Salesforce: {', '.join(problems)}; deploy include/salesforce "
                "(sf project deploy start) and give the integration user the permission set Onetouch"
            )
        self._checked = True

    def update_accounts(self, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Outcome]:
        """Writes fields of accounts, record id → fields; nulls are left out, so nothing is erased."""
        ids = sorted(rows)
        records = [{"id": i} | {name: v for name, v in rows[i].items() if v is not None} for i in ids]
        return dict(zip(ids, self._write("Account", records), strict=True))

    def upsert_tasks(self, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Outcome]:
        """Creates the task of each handoff (handoff id → fields) unless it is there already.

        A task that exists is the rep's: it is adopted as it is, also when it was deleted (`deleted`; it is not
        made again). Two writers at once end with one task, by the unique external id.
        """
        found = self.tasks_of(rows)
        outcomes = {handoff_id: _adopted(task) for handoff_id, task in found.items()}
        # Inserting a task locks its account: in one order, so that two writers wait instead of blocking each other.
        new = sorted((h for h in rows if h not in found), key=lambda h: (str(rows[h].get("WhatId")), h))
        records = [{name: v for name, v in rows[h].items() if v is not None} | {HANDOFF_ID: h} for h in new]
        outcomes |= dict(zip(new, self._write("Task", records, key=HANDOFF_ID), strict=True))
        duplicates = [h for h in new if outcomes[h].code == "DUPLICATE_VALUE"]
        outcomes |= {h: _adopted(task) for h, task in self.tasks_of(duplicates).items()}
        return outcomes

    def close_tasks(self, reasons: Mapping[str, tuple[str, str]]) -> dict[str, Outcome]:
        """Closes the task of each handoff: handoff id → (label of CLOSED_BY_US, reason).

        An open task becomes Completed, the label before its subject, the reason on top of its description. One
        the rep closed (`by_rep`) is left alone, except that a release notes its reason there. Closed by us already,
        reopened by the rep since, deleted, or never made: nothing to do, ok.
        """
        tasks = {h: task for h, task in self.tasks_of(reasons).items() if not task["IsDeleted"]}
        outcomes = {handoff_id: Outcome(ok=True) for handoff_id in reasons}
        changes: dict[str, Record] = {}
        by_rep: set[str] = set()
        for handoff_id, task in tasks.items():
            label, reason = reasons[handoff_id]
            subject, description = task["Subject"] or "", task["Description"] or ""
            note = f"{label.strip('[] ')}: {reason}"
            noted = f"{note}\n\n{description}"[:_DESCRIPTION].rstrip()
            if subject.startswith(CLOSED_BY_US):
                outcomes[handoff_id] = Outcome(ok=True, id=task["Id"])
            elif task["IsClosed"]:
                by_rep.add(handoff_id)
                outcomes[handoff_id] = Outcome(ok=True, id=task["Id"], by_rep=True)
                if label == RELEASED and not description.startswith(note):
                    changes[handoff_id] = {"id": task["Id"], "Description": noted}
            else:
                changes[handoff_id] = {
                    "id": task["Id"],
                    "Status": "Completed",
                    "Subject": f"{label}{subject}"[:_SUBJECT].rstrip(),
                    "Description": noted,
                }
        ordered = sorted(changes, key=lambda h: (str(tasks[h]["AccountId"]), h))
        for handoff_id, outcome in zip(ordered, self._write("Task", [changes[h] for h in ordered]), strict=True):
            outcomes[handoff_id] = replace(outcome, by_rep=handoff_id in by_rep, ok=outcome.ok or outcome.deleted)
        return outcomes

    def _write(self, thing: str, records: Sequence[Record], key: str | None = None) -> list[Outcome]:
        """Writes records by `id`, or by the external id `key`; one outcome a record, in their order.

        Both kinds may be repeated without harm, so whole requests are retried when no answer came and single
        rows when they were locked.
        """
        if records:
            self.check_fields()
        path = f"composite/sobjects/{thing}/{key}" if key else "composite/sobjects"
        outcomes: list[Outcome] = []
        for start in range(0, len(records), ROWS):
            chunk = records[start : start + ROWS]
            done: list[Outcome] = [Outcome(ok=False, code=_LOCKED)] * len(chunk)

            def attempt(chunk: Sequence[Record] = chunk, done: list[Outcome] = done) -> None:
                left = [i for i, outcome in enumerate(done) if outcome.code == _LOCKED]
                body = [{"attributes": {"type": thing}} | chunk[i] for i in left]
                payload = {"allOrNone": False, "records": body}
                answers = self._call(lambda sf: sf.restful(path, method="PATCH", json=payload))
                if not isinstance(answers, list) or len(answers) != len(left):
                    raise Refused(f"Salesforce: {path} answered {len(answers or [])} outcomes for {len(left)} rows")
                for i, answer in zip(left, answers, strict=True):
                    done[i] = _outcome(answer)
                if any(outcome.code == _LOCKED for outcome in done):
                    raise _Locked

            with contextlib.suppress(_Locked):  # what is still locked then is reported as such, row by row
                self._retrying(_Locked)(attempt)
            outcomes += done
        return outcomes

    # ── the wire ─────────────────────────────────────────────────────────────────────────────────

    def _retrying(self, error: type[Exception]) -> Retrying:
        return Retrying(
            retry=retry_if_exception_type(error),
            wait=self._wait,
            stop=stop_after_attempt(_ATTEMPTS),
            sleep=self._sleep,
            reraise=True,
        )

    def _call(self, request: Callable[[simple_salesforce.Salesforce], T]) -> T:
        """The answer of a request that may be repeated without harm."""
        return self._retrying(Unreachable)(self._once, request)

    def _once(self, request: Callable[[simple_salesforce.Salesforce], T]) -> T:
        try:
            try:
                return request(self._client())
            except SalesforceExpiredSession:
                self._sf = None  # sign in once more, then give up
                return request(self._client())
        except SalesforceExpiredSession as error:
            raise SignInRefused(f"Salesforce: the session is refused right after signing in ({_code(error)})") from None
        except SalesforceRefusedRequest as error:
            if _code(error) == "REQUEST_LIMIT_EXCEEDED":
                raise LimitReached(
                    "Salesforce: the org's API calls of 24 hours are used up (REQUEST_LIMIT_EXCEEDED); what is left "
                    "goes out with the next run"
                ) from None
            raise Refused(f"Salesforce: 403 {_code(error)}; check the integration user's permissions") from None
        except SalesforceError as error:
            if error.status == 429 or error.status >= 500:
                raise Unreachable(f"Salesforce: answered {error.status}") from None
            raise Refused(f"Salesforce: {error.status} {_code(error)}: {_said(error.content)}") from None
        except requests.RequestException as error:  # also an answer cut off in the middle of its JSON
            # `from None`: the chained error would show the address with the query in it
            raise Unreachable(f"Salesforce: no answer ({type(error).__name__})") from None

    def _client(self) -> simple_salesforce.Salesforce:
        if self._sf is None:
            token, instance = self._sign_in()
            # "direct" authentication: simple-salesforce then never signs in again by itself, over and over
            self._sf = simple_salesforce.Salesforce(
                session_id=token, instance=instance, session=self._session, version=self.version
            )
        return self._sf

    def _sign_in(self) -> tuple[str, str]:
        """Access token and host. Raises SignInRefused, Unreachable."""
        if self._secret is None:
            return simple_salesforce.SalesforceLogin(
                username=self._login,
                consumer_key=self._key,
                privatekey=self._private_key,
                domain=self._domain or "login",
                instance_url=urlsplit(self._base).hostname.removesuffix(".salesforce.com"),  # type: ignore[union-attr]
                session=self._session,
                sf_version=self.version,
            )
        answer = self._session.post(
            f"{self._base}/services/oauth2/token",
            data={"grant_type": "client_credentials"},
            auth=(str(self._key), str(self._secret)),
        )
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
                f"Salesforce: sign-in refused ({answer.status_code} {_said(error)}); check consumer_key, "
                "consumer_secret and that the app allows client credentials"
            )
        if self._base.startswith("http://"):
            return token, urlsplit(self._base).netloc
        return token, urlsplit(document.get("instance_url") or self._base).netloc


def _next_page(sf: simple_salesforce.Salesforce, url: str) -> Any:
    return sf.query_more(url, identifier_is_url=True)


def _describe(sf: simple_salesforce.Salesforce, thing: str) -> Any:
    return sf.restful(f"sobjects/{thing}/describe")


def _soql(soql: str, **values: Any) -> str:
    return simple_salesforce.format_soql(soql, **values)


def _chunks(values: Sequence[str]) -> Iterator[list[str]]:
    """Runs of `values` whose quoted list stays within the length of a WHERE."""
    chunk: list[str] = []
    length = 0
    for value in values:
        size = len(_soql("{value}", value=value)) + 1
        if chunk and length + size > _IN_CHARS:
            yield chunk
            chunk, length = [], 0
        chunk.append(value)
        length += size
    if chunk:
        yield chunk


def _adopted(task: Record) -> Outcome:
    return Outcome(ok=True, id=task["Id"], deleted=bool(task["IsDeleted"]))


def _outcome(answer: Mapping[str, Any]) -> Outcome:
    if answer.get("success"):
        return Outcome(ok=True, id=answer.get("id"))
    errors = answer.get("errors") or [{}]
    first = errors[0]
    fields = ", ".join(first.get("fields") or [])
    said = _said(first.get("message", ""))
    return Outcome(
        ok=False,
        code=str(first.get("statusCode") or "UNKNOWN_ERROR"),
        message=f"{said} ({fields})" if fields else said,
        deleted=first.get("statusCode") == "ENTITY_IS_DELETED",
    )


def _said(text: Any) -> str:
    """What the CRM said, short, with e-mail addresses and quoted values (they may be personal) masked."""
    if isinstance(text, list):
        text = text[0].get("message", "") if text and isinstance(text[0], dict) else ""
    line = " ".join(str(text).split())[:300]
    return re.sub(r"'[^']{0,200}'|\"[^\"]{0,200}\"", "'…'", re.sub(r"\S+@\S+", "…", line))[:200]


def _code(error: SalesforceError) -> str:
    content: Any = error.content
    if isinstance(content, list) and content and isinstance(content[0], dict):
        return str(content[0].get("errorCode", ""))
    return ""
