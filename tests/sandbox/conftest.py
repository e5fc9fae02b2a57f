"""A sandbox of its own for every test, over real HTTP; time stands at NOW."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from onetouch.sandbox.server import make_server
from simple_salesforce import Salesforce
from slack_sdk import WebClient

NOW = "2025-03-03T10:00:00+00:00"
ANN, BOB, GONE = "005000000000001AAA", "005000000000002AAA", "005000000000003AAA"
ACME, OTHER = "001000000000001AAA", "001000000000002AAA"
ORG = {
    "User": [
        {"Id": ANN, "Name": "Ann Rep", "Email": "ann@acme.example", "TimeZoneSidKey": "Europe/Berlin"},
        {"Id": BOB, "Name": "Bob Rep", "Email": "bob@acme.example"},
        {"Id": GONE, "Name": "Gone Rep", "Email": "gone@acme.example", "IsActive": False},
    ],
    "Account": [
        {"Id": ACME, "Name": "Acme", "OwnerId": ANN, "Seats__c": 12, "CreatedDate": "2024-05-01T00:00:00Z"},
        {"Id": OTHER, "Name": "Other O'Neil", "OwnerId": BOB, "Region__c": "EU"},
    ],
}  # fmt: skip


class _Loopback(requests.adapters.HTTPAdapter):
    """simple-salesforce builds https://{host} itself; here it is plain HTTP on loopback."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        request.url = (request.url or "").replace("https://", "http://", 1)
        return super().send(request, *args, **kwargs)


@dataclass
class Sandbox:
    url: str
    http: requests.Session = field(default_factory=requests.Session)

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    def admin(self, path: str, body: Any = None) -> Any:
        method = "GET" if body is None else "POST"
        answer = self.http.request(method, f"{self.url}/_sandbox/{path}", json=body, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def token(self) -> str:
        answer = self.http.post(
            f"{self.url}/services/oauth2/token",
            data={"grant_type": "client_credentials"},
            auth=("sandbox-key", "sandbox-secret"),
            timeout=20,
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def sign_in(self) -> None:
        self.http.headers["Authorization"] = f"Bearer {self.token()}"

    def rest(self, method: str, path: str, **more: Any) -> requests.Response:
        return self.http.request(method, f"{self.url}/services/data/v62.0/{path}", timeout=20, **more)

    def query(self, soql: str, *, deleted: bool = False) -> requests.Response:
        return self.rest("GET", "queryAll" if deleted else "query", params={"q": soql})

    def rows(self, soql: str, *, deleted: bool = False) -> list[dict[str, Any]]:
        answer = self.query(soql, deleted=deleted)
        assert answer.status_code == 200, answer.text
        return [{k: v for k, v in row.items() if k != "attributes"} for row in answer.json()["records"]]

    def client(self) -> Salesforce:
        session = requests.Session()
        session.mount("https://", _Loopback())
        return Salesforce(instance=self.host, session_id=self.token(), version="62.0", session=session)

    def slack(self, **more: Any) -> WebClient:
        return WebClient("xoxb-sandbox", base_url=f"{self.url}/api/", **more)

    def export(self, start: str, end: str, auth: tuple[str, str] = ("sandbox-amplitude", "sandbox-amplitude-secret")) -> requests.Response:  # fmt: skip  # noqa: E501
        basic = base64.b64encode(":".join(auth).encode()).decode()
        return requests.get(
            f"{self.url}/api/2/export",
            params={"start": start, "end": end},
            headers={"Authorization": f"Basic {basic}"},
            timeout=20,
        )


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Sandbox]]:
    """Starts sandboxes in this process."""
    running: list[tuple[Any, threading.Thread]] = []

    def start_one(exports: Path | None = None) -> Sandbox:
        server, listener = make_server(tmp_path_factory.mktemp("home"), 0, exports)
        listener.listen()  # a client may connect before the server's loop turns
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        running.append((server, thread))
        return Sandbox(f"http://127.0.0.1:{listener.getsockname()[1]}")

    yield start_one
    for server, thread in running:
        server.should_exit = server.force_exit = True
        thread.join()


@pytest.fixture(scope="session")
def shared(start: Callable[..., Sandbox]) -> Sandbox:
    return start()


@pytest.fixture
def sandbox(shared: Sandbox) -> Iterator[Sandbox]:
    """A new org with two accounts and three users, signed in to."""
    one = Sandbox(shared.url)
    assert one.http.delete(f"{one.url}/_sandbox/state", timeout=20).status_code == 200
    one.admin("clock", {"now": NOW})
    one.admin("load", ORG)
    one.sign_in()
    yield one
    one.http.close()
