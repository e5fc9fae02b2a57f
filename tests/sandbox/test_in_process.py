"""The org in this process answers as it does over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from onetouch.sandbox.in_process import URL, Org
from simple_salesforce import Salesforce
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from tests.sandbox.conftest import ACME, NOW, ORG

KEY = {"grant_type": "client_credentials", "client_id": "sandbox-key", "client_secret": "sandbox-secret"}
DATA = f"{URL}/services/data/v62.0"


@pytest.fixture(scope="module")
def image() -> bytes:
    org = Org()
    org.tooling.clock(NOW)
    org.tooling.load(ORG)
    return org.image()


@pytest.fixture
def org(image: bytes) -> Org:
    return Org(image)


@pytest.fixture
def session(org: Org) -> requests.Session:
    session = org.session()
    token = session.post(f"{URL}/services/oauth2/token", data=KEY).json()["access_token"]
    session.headers["Authorization"] = f"Bearer {token}"
    return session


def task(session: requests.Session, key: str, **more: Any) -> requests.Response:
    row = {"attributes": {"type": "Task"}, "Onetouch_Handoff_Id__c": key, "WhatId": ACME}
    return session.post(f"{DATA}/composite/sobjects", json={"records": [row]}, timeout=10, **more)


def test_the_clients_people_use_speak_to_it(org: Org, session: requests.Session) -> None:
    token = session.headers["Authorization"].split()[1]
    client = Salesforce(instance=URL.removeprefix("https://"), session_id=token, version="62.0", session=session)
    assert client.Task.upsert("Onetouch_Handoff_Id__c/h%2F1", {"Subject": "A", "WhatId": ACME}) == 201
    assert client.query("SELECT Onetouch_Handoff_Id__c FROM Task")["records"][0]["Onetouch_Handoff_Id__c"] == "h/1"
    assert org.tooling.log()["by_api"] == {"salesforce sign-in": 1, "salesforce": 2}
    assert [t["account"]["Name"] for t in org.tooling.state()["tasks"]] == ["Acme"]


def test_slack_too(org: Org) -> None:
    client = WebClient("xoxb-sandbox", retry_handlers=[])
    org.answer_slack(client)
    ts = client.chat_postMessage(channel="C0ALERTS", text="hello")["ts"]
    client.chat_update(channel="C0ALERTS", ts=ts, text="hello again")
    assert [post["text"] for post in org.tooling.state()["posts"]] == ["hello again"]
    client.files_upload_v2(content="a,b", filename="a.csv", channel="C0ALERTS")
    assert [file["name"] for file in org.tooling.state()["files"]] == ["a.csv"]
    with pytest.raises(SlackApiError, match="channel_not_found"):
        client.chat_postMessage(channel="C0NOWHERE", text="x")
    org.tooling.limits(slack_burst=1)
    with pytest.raises(SlackApiError) as caught:
        for _ in range(3):
            client.chat_postMessage(channel="C0LEADERS", text="x")
    assert (caught.value.response.status_code, "Retry-After" in caught.value.response.headers) == (429, True)
    org.tooling.fault({"match": "chat.postMessage", "drop": "answer"})
    with pytest.raises(OSError):
        client.chat_postMessage(channel="C0ALERTS", text="heard by nobody")
    assert "heard by nobody" in [post["text"] for post in org.tooling.state()["posts"]]


def test_what_is_lost_is_lost_as_over_http(org: Org, session: requests.Session) -> None:
    kept = []
    for number, fault in enumerate(({"drop": "request"}, {"drop": "answer"}, {"slow": 30})):
        org.tooling.fault({"match": "composite/sobjects", **fault})
        with pytest.raises(requests.ReadTimeout if "slow" in fault else requests.ConnectionError):
            task(session, f"h{number}")
        kept.append(len(session.get(f"{DATA}/query", params={"q": "SELECT Id FROM Task"}).json()["records"]))
    assert kept == [0, 1, 2]
    org.tooling.fault({"match": "composite/sobjects", "slow": 3})
    assert task(session, "h4").json()[0]["success"], "a patient client has its answer"
    calls = [call for call in org.tooling.log()["calls"] if call["path"].endswith("composite/sobjects")]
    assert {call["status"]: call["n"] for call in calls} == {0: 1, 200: 3}


def test_a_named_error_comes_as_salesforce_words_it_and_tells_the_days_calls(
    org: Org, session: requests.Session
) -> None:
    org.tooling.fault({"match": "sobjects", "error": "SERVER_UNAVAILABLE", "after": 1, "times": 2})
    answers = [task(session, f"h{number}") for number in range(4)]
    assert [answer.status_code for answer in answers] == [200, 503, 503, 200]
    assert answers[1].json()[0]["errorCode"] == "SERVER_UNAVAILABLE"
    assert [answer.headers["Sforce-Limit-Info"] for answer in answers] == [
        f"api-usage={n}/100000" for n in (1, 2, 3, 4)
    ]


def test_orgs_are_copies_that_share_nothing(org: Org, image: bytes, session: requests.Session) -> None:
    task(session, "h1")
    other = Org(image)
    assert (len(org.tooling.state()["tasks"]), len(other.tooling.state()["tasks"])) == (1, 0)
    assert other.tooling.state()["now"] == NOW
    assert len(Org().tooling.state()["tasks"]) == 0
    again = Org(org.image()).session()
    again.headers = session.headers
    assert task(again, "h1").json()[0]["errors"][0]["statusCode"] == "DUPLICATE_VALUE"


def test_an_address_nobody_answers(session: requests.Session) -> None:
    assert session.get(f"{URL}/nowhere").status_code == 404
