"""Nothing secret or personal leaves on a way that is not encrypted, or to anybody but whom it is meant for."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from onetouch.chat import ChatError, message, post_once
from onetouch.chat.slack import Slack
from onetouch.connections import Connection, ConnectionConfigError
from onetouch.crm.hubspot import HubSpot
from onetouch.crm.protocol import CrmError
from onetouch.crm.salesforce import Salesforce
from onetouch.handoff import AccountContext
from onetouch.lake import Lake
from onetouch.ledger import Ledger
from onetouch.policy import read_policy
from onetouch.sources import ExportError, amplitude
from slack_sdk.errors import SlackClientError
from tenacity import wait_none

TOKEN = "canary-token-71f3"
TEXT = "canary-dossier-94c1"


@dataclass
class Host:
    """A loopback server that notes what it is sent, and answers every request alike."""

    status: int = 200
    location: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                host.seen.append(f"{self.path}\n{self.headers}\n{body.decode('utf-8', 'replace')}")
                document = host.answers.get(self.path.partition("?")[0])
                status = 200 if document is not None else host.status
                content = json.dumps(document if document is not None else {"ok": True}).encode()
                self.send_response(status)
                if host.location and document is None:
                    self.send_header("Location", host.location + self.path)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_PUT = handle_one

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def elsewhere() -> Iterator[Host]:
    host = Host(answers={})
    yield host
    host.server.shutdown()
    host.server.server_close()


@pytest.fixture(params=[301, 302, 303, 307, 308])
def leading_away(request: pytest.FixtureRequest, elsewhere: Host) -> Iterator[Host]:
    """A server that sends everybody to another host."""
    host = Host(request.param, elsewhere.url.replace("127.0.0.1", "localhost"))
    yield host
    host.server.shutdown()
    host.server.server_close()


def salesforce(url: str) -> Any:
    extra = {"instance_url": url, "consumer_key": "key", "consumer_secret": TOKEN}
    return Salesforce(Connection("salesforce_default", extra=extra), wait=wait_none(), sleep=lambda _: None)


def use_salesforce(host: Host, tmp_path: Path) -> None:
    crm = salesforce(host.url)
    with pytest.raises(CrmError):
        list(crm.read_reps())  # the sign-in is led away
    host.answers["/services/oauth2/token"] = {"access_token": TOKEN, "instance_url": host.url}
    with pytest.raises(CrmError):
        list(crm.read_reps())
    with pytest.raises(CrmError):
        crm.update_accounts({"001000000000001AAA": AccountContext(dossier=TEXT)})


def use_hubspot(host: Host, tmp_path: Path) -> None:
    connection = Connection("hubspot_default", password=TOKEN, extra={"base_url": host.url})
    crm = HubSpot(connection, wait=wait_none(), sleep=lambda _: None)
    with pytest.raises(CrmError):
        list(crm.read_reps())


def use_slack(host: Host, tmp_path: Path) -> None:
    slack = Slack(Connection("slack_default", password=TOKEN, extra={"base_url": f"{host.url}/api/"}))
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    ledger.migrate()
    with ledger, pytest.raises(ChatError):
        post_once(slack, ledger, message(TEXT), key="k", kind="alert", channel="C1")


def use_ops_alert(host: Host, tmp_path: Path) -> None:
    import airflow.sdk.log  # noqa: F401  Airflow's start makes its plugins importable
    from onetouch_airflow import alerts

    connection = Connection("slack_default", password=TOKEN, extra={"base_url": f"{host.url}/api/"})
    with pytest.raises(SlackClientError):
        alerts.post(connection, TEXT, "key")


def use_amplitude(host: Host, tmp_path: Path) -> None:
    connection = Connection("amplitude_default", host=host.url, login="key", password=TOKEN)
    hours = datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 3, 1, 1, tzinfo=UTC)
    with pytest.raises(ExportError):
        amplitude.fetch(Lake(tmp_path), "raw", *hours, read_policy().events, connection=connection, wait=lambda _: 0)


CLIENTS = {
    "salesforce": use_salesforce,
    "hubspot": use_hubspot,
    "slack": use_slack,
    "ops alert": use_ops_alert,
    "amplitude": use_amplitude,
}


@pytest.mark.parametrize("use", CLIENTS.values(), ids=CLIENTS)
def test_a_redirect_is_not_followed(
    use: Callable[[Host, Path], None], leading_away: Host, elsewhere: Host, tmp_path: Path
) -> None:
    use(leading_away, tmp_path)
    assert leading_away.seen and elsewhere.seen == []


@pytest.mark.parametrize("use", CLIENTS.values(), ids=CLIENTS)
def test_a_proxy_of_the_environment_sees_nothing_that_is_not_encrypted(
    use: Callable[[Host, Path], None], elsewhere: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Host()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    elsewhere.status = 403
    use(elsewhere, tmp_path)
    proxy.server.shutdown()
    assert elsewhere.seen and proxy.seen == []


@pytest.mark.parametrize(
    "url", ["http://crm.example", "http://127.0.0.1.example", "http://10.0.0.1", "ftp://127.0.0.1", "http://[::2]"]
)
def test_every_client_refuses_what_is_not_encrypted(url: str, tmp_path: Path) -> None:
    makers: list[Callable[[], Any]] = [
        lambda: salesforce(url),
        lambda: HubSpot(Connection("hubspot_default", password=TOKEN, extra={"base_url": url})),
        lambda: HubSpot(Connection("hubspot_default", password=TOKEN, host=url)),
        lambda: Slack(Connection("slack_default", password=TOKEN, extra={"base_url": f"{url}/api/"})),
        lambda: amplitude.fetch(
            Lake(tmp_path), "raw", datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 3, 1, 1, tzinfo=UTC),
            read_policy().events, connection=Connection("amplitude_default", host=url, login="k", password=TOKEN),
        ),
    ]  # fmt: skip
    for make in makers:
        with pytest.raises(ConnectionConfigError) as error:
            make()
        assert TOKEN not in str(error.value)


def test_the_host_a_sign_in_names_is_spoken_to_over_tls_only() -> None:
    host = Host(answers={"/services/oauth2/token": {"access_token": TOKEN, "instance_url": "http://crm.example"}})
    crm = salesforce(host.url)
    with pytest.raises(CrmError):
        list(crm.read_reps())
    host.server.shutdown()
    assert any(TOKEN in seen for seen in host.seen[1:]), "a loopback stand-in stays the one that is spoken to"
