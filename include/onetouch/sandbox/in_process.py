"""The org and the workspace in the caller's process: no HTTP, no threads, and only the clock that is set.

For simulators that need tens of thousands of orgs. The same code as over HTTP checks everything; the state is SQLite in
memory. A new `Org` is a copy of a template, or of any other org's `image()`.
"""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from functools import cache
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import parse_qsl, unquote, urlsplit

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from slack_sdk import WebClient
from slack_sdk.web.file_upload_v2_result import FileUploadV2Result

from onetouch.sandbox import faults
from onetouch.sandbox.fields import SObject, build_org
from onetouch.sandbox.metadata import METADATA, read_metadata
from onetouch.sandbox.salesforce import Salesforce
from onetouch.sandbox.slack import Slack
from onetouch.sandbox.store import Store
from onetouch.sandbox.tooling import Tooling

URL: Final = "https://sandbox.my.salesforce.com"
"""The org's address; every other host of the same session is answered in the same way."""


@dataclass(frozen=True)
class Reply:
    """The answer to a call."""

    status: int
    headers: dict[str, str]
    body: bytes


class Lost(Exception):
    """There is no answer: the connection was cut, or (`late`) the client's time-out has passed."""

    def __init__(self, *, late: bool) -> None:
        super().__init__("late" if late else "cut")
        self.late = late


@cache
def _template() -> tuple[dict[str, SObject], bytes]:
    org = build_org(read_metadata(METADATA))
    return org, Store(None, org).db.serialize()


class Org:
    """A Salesforce org and a Slack workspace. `tooling` sets time, data, limits and faults; `store` holds the state."""

    def __init__(self, image: bytes | None = None) -> None:
        org, template = _template()
        self.store = Store(None, org, image or template)
        self.salesforce, self.slack = Salesforce(self.store), Slack(self.store)
        self.tooling = Tooling(self.store, self.slack)

    def image(self) -> bytes:
        """The present state; any number of orgs can start from it: `Org(image)`."""
        return self.store.db.serialize()

    def close(self) -> None:
        """Frees the memory."""
        self.store.db.close()

    def session(self) -> requests.Session:
        """A session whose requests are all answered by this org."""
        session = requests.Session()
        session.trust_env = False  # no proxies and no netrc, since looking for them takes most of a call's time
        for scheme in ("https://", "http://"):
            session.mount(scheme, Adapter(self))
        return session

    def answer_slack(self, client: WebClient) -> None:
        """Makes a Slack client send its requests to this workspace."""

        def perform(url: str, request: Any) -> dict[str, Any]:
            body = request.data or b""
            raw = body.encode() if isinstance(body, str) else body
            reply = self._slack(request.get_method(), url, dict(request.header_items()), raw, client.timeout)
            return {"status": reply.status, "headers": _message(reply.headers), "body": reply.body.decode()}

        def upload(*, url: str, data: bytes, **_: Any) -> FileUploadV2Result:
            reply = self._slack("POST", url, {}, data, client.timeout)
            return FileUploadV2Result(status=reply.status, body=reply.body.decode())

        client._perform_urllib_http_request_internal = perform  # type: ignore[method-assign, assignment]
        client._upload_file = upload  # type: ignore[method-assign]

    def _slack(self, method: str, url: str, headers: Mapping[str, str], body: bytes, patience: float) -> Reply:
        try:
            reply = self.exchange(method, url, headers, body, patience)
        except Lost as lost:
            if lost.late:
                raise TimeoutError("The read operation timed out") from lost
            raise http.client.RemoteDisconnected("Remote end closed connection without response") from lost
        if reply.status >= 400:
            raise HTTPError(url, reply.status, "", _message(reply.headers), io.BytesIO(reply.body))
        return reply

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes, patience: float | None) -> Reply:
        """The answer to one HTTP request, faults included. `patience`: the client's time-out, seconds. Raises Lost."""
        parts = urlsplit(url)
        path = unquote(parts.path)
        api = faults.api_of(path)
        shown = path + (f"?{unquote(parts.query)}" if parts.query else "")
        fault = faults.of_call(self.store, method, shown) if api else {}
        status = 0
        try:
            if fault.get("drop") == "request":
                raise Lost(late=False)
            base = f"{parts.scheme}://{parts.netloc}"
            if "status" not in fault or fault.get("executed"):
                reply = self._answer(method, parts.path, parts.query, CaseInsensitiveDict(headers), body, base)
            if "status" in fault:
                usage = self.salesforce.usage() if api == "salesforce" else {}
                reply = _reply(fault["status"], fault.get("body", ""), usage | fault.get("headers", {}))
            status = reply.status
        finally:
            if api:
                self.store.count_call(api, method, faults.pattern(path), status)
        if "drop" in fault:
            raise Lost(late=False)
        if patience is not None and fault.get("slow", 0) > patience:
            raise Lost(late=True)
        return reply

    def _answer(
        self, method: str, raw_path: str, query: str, headers: Mapping[str, str], body: bytes, base: str
    ) -> Reply:
        path = unquote(raw_path)
        if path.startswith("/services/data"):
            with self.store.transaction():
                answer = self.salesforce.request(method, raw_path, query, body, headers)
            return _reply(answer.status, answer.body, answer.headers)
        authorization = headers.get("authorization", "")
        if path == "/services/oauth2/token" and method == "POST":
            with self.store.transaction():
                answer = self.salesforce.token(_fields("", headers, body), authorization, base)
            return _reply(answer.status, answer.body, answer.headers)
        if path.startswith("/api/") and path.count("/") == 2:
            given = _fields(query, headers, body)
            status, document, more = self.slack.request(path.removeprefix("/api/"), given, authorization, base)
            return _reply(status, document, more)
        if path == "/_sandbox/clock" and method == "POST":
            self.tooling.clock(json.loads(body)["now"])
            return _reply(200, {"now": self.store.now().isoformat()}, {})
        if path == "/_sandbox/load" and method == "POST":
            return _reply(200, self.tooling.load(json.loads(body)), {})
        if path.startswith("/upload/v1/"):
            status, text = self.slack.upload(path.removeprefix("/upload/v1/"), body)
            return _reply(status, text, {})
        return _reply(404, "Not Found", {})


class Adapter(BaseAdapter):
    """A `requests` transport adapter whose requests an Org answers."""

    def __init__(self, org: Org) -> None:
        super().__init__()
        self.org = org

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """The answer. Raises the error of requests when there is none."""
        body = request.body or b""
        raw = body.encode() if isinstance(body, str) else body
        patience = timeout[1] if isinstance(timeout, tuple) else timeout
        try:
            reply = self.org.exchange(str(request.method), str(request.url), request.headers, raw, patience)
        except Lost as lost:
            if lost.late:
                raise requests.ReadTimeout("Read timed out.", request=request) from lost
            raise requests.ConnectionError("Connection aborted.", request=request) from lost
        response = requests.Response()
        response.status_code, response.url, response.request = reply.status, str(request.url), request
        response.headers, response._content = CaseInsensitiveDict(reply.headers), reply.body
        response.encoding = "utf-8"
        return response

    def close(self) -> None:
        """Does nothing, since nothing is open."""


def _reply(status: int, body: Any, headers: Mapping[str, Any]) -> Reply:
    shown = {str(name): str(value) for name, value in headers.items()}
    if status == 204:
        return Reply(status, shown, b"")
    if isinstance(body, str):
        return Reply(status, {"Content-Type": "text/plain; charset=utf-8"} | shown, body.encode())
    return Reply(status, {"Content-Type": "application/json"} | shown, json.dumps(body).encode())


def _fields(query: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Query, form or JSON body as one flat dictionary."""
    given: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    if headers.get("content-type", "").startswith("application/json"):
        try:
            document = json.loads(body or b"{}")
        except ValueError:
            document = {}
        return given | (document if isinstance(document, dict) else {})
    return given | dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def _message(headers: Mapping[str, str]) -> Message:
    message = Message()
    for name, value in headers.items():
        message[name] = value
    return message
