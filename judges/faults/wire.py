"""Transport without a network: the clients' requests go directly to the stand-in org and channel, with faults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from email.message import Message
from functools import cache
from io import BytesIO
from typing import Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qsl, unquote_plus, urlsplit

import requests
from onetouch.sandbox.api import Answer
from onetouch.sandbox.audience import PATH, Receiver
from onetouch.sandbox.fields import SObject, build_org
from onetouch.sandbox.metadata import METADATA, read_metadata
from onetouch.sandbox.salesforce import Salesforce
from onetouch.sandbox.slack import Slack
from onetouch.sandbox.store import Store
from slack_sdk import WebClient

BASE = "http://127.0.0.1:9"
"""The stand-in's address for the clients; nothing listens there and no connection is ever made."""


@cache
def _template() -> tuple[dict[str, SObject], bytes]:
    """The objects of an org, and the bytes of an empty org."""
    org = build_org(read_metadata(METADATA))
    store = Store(None, org)
    for name, value in (("slack_per_second", 1e6), ("slack_burst", 1e6)):
        store.set(name, value)
    Receiver(store)  # makes its tables
    return org, store.db.serialize()


class Org:
    """A stand-in of Salesforce, Slack and the receiver of audiences in memory; `now` is its clock."""

    def __init__(self, now: datetime) -> None:
        self.store = Store(None, *_template())
        self.now = now
        self.store.now = lambda: self.now  # type: ignore[method-assign]
        self.salesforce, self.slack = Salesforce(self.store), Slack(self.store)
        self.audience = Receiver(self.store)
        self.db = self.store.db

    def rest(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer to one request of the REST API or the token endpoint, handled as by the server."""
        parts = urlsplit(url)
        lower = {name.lower(): value for name, value in headers.items()}
        with self.store.transaction():
            if parts.path == "/services/oauth2/token":
                form = dict(parse_qsl(body.decode()))
                return self.salesforce.token(form, lower.get("authorization", ""), BASE)
            return self.salesforce.request(method, parts.path, parts.query, body, lower)

    def told(self, method: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer of the receiver of audiences to one request."""
        with self.store.transaction():
            return self.audience.request(method, {name.lower(): value for name, value in headers.items()}, body)

    def finish_jobs(self) -> None:
        """Processes the bulk jobs that have begun."""
        with self.store.transaction():
            self.db.execute("UPDATE job SET due = ? WHERE due IS NOT NULL", (self.now.isoformat(),))
            self.salesforce.ingest.process_due()

    def rows(self, table: str) -> dict[str, dict[str, Any]]:
        """Every record of a table by id, deleted ones too."""
        return {row["Id"]: dict(row) for row in self.db.execute(f'SELECT * FROM "{table}"')}

    def messages(self) -> list[dict[str, Any]]:
        """Every message of every channel, with its metadata."""
        found = [dict(row) for row in self.db.execute("SELECT * FROM message ORDER BY ts")]
        return [row | {"metadata": json.loads(row["metadata"]) if row["metadata"] else {}} for row in found]


class Traveller(Protocol):
    """Carries requests: it may delay or lose a request, or end the process that sends it."""

    def carry(self, request: Request) -> Answer:
        """The answer to the request. Raises Lost when none arrives."""


class Lost(Exception):
    """No answer arrived."""


class Request:
    """One request on its way; each call of `execute` makes it arrive once."""

    def __init__(self, org: Org, api: str, method: str, url: str, body: Any, headers: Mapping[str, str]) -> None:
        self.org, self.api, self.method, self.url, self.body, self.headers = org, api, method, url, body, headers
        parts = urlsplit(url)
        self.path = parts.path
        self.query = unquote_plus(parts.query)

    @property
    def writes(self) -> bool:
        """Whether the request may change what people see."""
        if self.api == "slack":
            return self.path.endswith(("chat.postMessage", "chat.update", "chat.delete"))
        return self.method != "GET" and not self.path.endswith("/token")

    @property
    def makes_tasks(self) -> bool:
        """Whether the request creates tasks of ours."""
        return self.api == "salesforce" and self.method != "GET" and b"Onetouch_Handoff_Id__c" in self.body

    @property
    def starts_job(self) -> bool:
        """Whether the request starts a bulk job."""
        return self.method == "PATCH" and "/jobs/ingest/" in self.path and b"UploadComplete" in self.body

    @property
    def reads_tasks(self) -> bool:
        """Whether the request reads tasks."""
        return self.api == "salesforce" and not self.writes and "FROM Task" in self.query

    @property
    def name(self) -> str:
        """A short name of the request, without ids."""
        if self.api == "slack":
            return self.path.rpartition("/")[2]
        if "/query" in self.path:
            return f"query {self.query.partition(' FROM ')[2].partition(' ')[0]}"
        tail = self.path.partition("/services/data/")[2].partition("/")[2] or self.path.rpartition("/")[2]
        return f"{self.method} {tail}"

    def execute(self) -> Answer:
        """Makes the request arrive; returns its answer."""
        if self.api == "audience":
            return self.org.told(self.method, self.body, self.headers)
        if self.api == "salesforce":
            return self.org.rest(self.method, self.url, self.body, self.headers)
        method = self.path.rpartition("/")[2]
        authorization = self.headers.get("Authorization", "")
        status, body, headers = self.org.slack.request(method, dict(self.body), authorization, BASE)
        return Answer(status, body, headers)


class Session(requests.Session):
    """A session of one process whose requests a Traveller carries instead of the network."""

    def __init__(self, org: Org, traveller: Traveller) -> None:
        super().__init__()
        self.org, self.traveller, self.trust_env = org, traveller, False

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        body = request.body or b""
        raw = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else body.read()
        api = "audience" if str(request.url) == f"{BASE}{PATH}" else "salesforce"
        going = Request(self.org, api, str(request.method), str(request.url), raw, dict(request.headers))
        try:
            answer = self.traveller.carry(going)
        except Lost:
            raise requests.ConnectionError("no answer", request=request) from None
        return _response(request, answer)


_described: dict[str, bytes] = {}


def _encoded(request: requests.PreparedRequest, answer: Answer) -> bytes:
    """The answer's JSON; describe results are cached, since they are long, constant and read by every client."""
    url = str(request.url)
    if not (url.endswith("/describe") and answer.status == 200):
        return json.dumps(answer.body).encode()
    if url not in _described:
        _described[url] = json.dumps(answer.body).encode()
    return _described[url]


def _response(request: requests.PreparedRequest, answer: Answer) -> requests.Response:
    response = requests.Response()
    response.status_code, response.request, response.url = answer.status, request, str(request.url)
    response.headers.update({name: str(value) for name, value in answer.headers.items()})
    response.encoding = "utf-8"
    if answer.status == 204 or answer.body is None:
        content = b""
    elif isinstance(answer.body, bytes):
        content = answer.body
    elif isinstance(answer.body, str):
        content = answer.body.encode()
    else:
        content = _encoded(request, answer)
        response.headers["Content-Type"] = "application/json"
    response._content = content
    return response


class Channel(WebClient):
    """slack_sdk's client with the product's retries; a Traveller carries its requests instead of the network."""

    org: Org
    traveller: Traveller

    def _perform_urllib_http_request_internal(self, url: str, req: Any) -> dict[str, Any]:
        kind = req.get_header("Content-type", "")
        data = req.data or b""
        given = json.loads(data) if kind.startswith("application/json") else dict(parse_qsl(data.decode()))
        going = Request(self.org, "slack", "POST", url, given, dict(req.headers))
        try:
            answer = self.traveller.carry(going)
        except Lost:
            raise URLError("no answer") from None
        headers = Message()
        for name, value in answer.headers.items():
            headers[name] = value
        if answer.status != 200:
            raise HTTPError(url, answer.status, "", headers, BytesIO(json.dumps(answer.body).encode()))
        return {"status": 200, "headers": headers, "body": json.dumps(answer.body)}
