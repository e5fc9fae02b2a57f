"""What goes wrong on purpose, and what survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from onetouch.sandbox.faults import ERRORS, ROW_ERRORS

from tests.sandbox.conftest import ACME, NOW, ORG, Sandbox
from tests.sandbox.test_bulk import create, look, put, results, state

TASKS = "composite/sobjects/Task/Onetouch_Handoff_Id__c"


def upsert(sandbox: Sandbox, *keys: str) -> requests.Response:
    rows = [{"attributes": {"type": "Task"}, "Onetouch_Handoff_Id__c": key, "WhatId": ACME} for key in keys]
    return sandbox.rest("PATCH", TASKS, json={"records": rows})


def keys(sandbox: Sandbox) -> list[str]:
    rows = sandbox.rows("SELECT Onetouch_Handoff_Id__c FROM Task ORDER BY Onetouch_Handoff_Id__c")
    return [row["Onetouch_Handoff_Id__c"] for row in rows]


def test_a_dropped_request_did_nothing_and_a_dropped_answer_did_it(sandbox: Sandbox) -> None:
    sandbox.admin("faults", [{"match": "composite/sobjects/Task", "method": "PATCH", "drop": "request"}])
    with pytest.raises(requests.ConnectionError):
        upsert(sandbox, "a")
    assert keys(sandbox) == []
    sandbox.admin("faults", [{"match": "composite/sobjects/Task", "drop": "answer"}])
    with pytest.raises(requests.ConnectionError):
        upsert(sandbox, "a")
    assert keys(sandbox) == ["a"]
    assert upsert(sandbox, "a").json()[0]["created"] is False
    assert sandbox.admin("faults") == []


def test_an_error_comes_as_often_as_asked(sandbox: Sandbox) -> None:
    body = [{"errorCode": "SERVER_UNAVAILABLE", "message": "busy"}]
    sandbox.admin("faults", [{"match": "q=SELECT", "times": 2, "status": 503, "body": body, "headers": {"X-Try": "1"}}])
    answers = [sandbox.query("SELECT Id FROM Account") for _ in range(3)]
    assert [a.status_code for a in answers] == [503, 503, 200]
    assert (answers[0].json(), answers[0].headers["X-Try"]) == (body, "1")


def test_one_row_of_a_call_can_fail(sandbox: Sandbox) -> None:
    error = {"statusCode": "UNABLE_TO_LOCK_ROW", "message": "unable to obtain exclusive access to this record"}
    sandbox.admin("faults", [{"match": "sobjects/Task", "row_error": error, "rows": [1]}])
    outcome = upsert(sandbox, "a", "b", "c").json()
    assert [row["success"] for row in outcome] == [True, False, True]
    assert outcome[1]["errors"][0]["statusCode"] == "UNABLE_TO_LOCK_ROW"
    assert keys(sandbox) == ["a", "c"]
    assert upsert(sandbox, "b").json()[0]["success"]


@pytest.mark.parametrize("name", sorted(ROW_ERRORS))
def test_a_row_can_fail_in_every_way_there_is(sandbox: Sandbox, name: str) -> None:
    sandbox.admin("faults", {"match": "sobjects/Task", "row_error": name, "rows": [0, 2], "times": 2})
    outcome = upsert(sandbox, "a", "b", "c").json()
    assert [row["success"] for row in outcome] == [False, True, False]
    [error] = outcome[0]["errors"]
    assert (error["statusCode"], set(error)) == (name, {"statusCode", "message", "fields"})
    sandbox.admin("faults", {"match": "sobjects/Task", "row_error": name})
    single = sandbox.rest("POST", "sobjects/Task", json={"WhatId": ACME})
    assert (single.status_code, single.json()[0]["errorCode"]) == (404 if name == "ENTITY_IS_DELETED" else 400, name)
    assert keys(sandbox) == ["b"]


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_a_call_can_fail_in_every_way_there_is(sandbox: Sandbox, name: str) -> None:
    status, code, message = ERRORS[name]
    sandbox.admin("faults", {"match": "composite/sobjects/Task", "error": name})
    answer = upsert(sandbox, "a")
    assert (answer.status_code, answer.json()) == (status, [{"message": message, "errorCode": code}])
    assert "Retry-After" not in answer.headers
    assert keys(sandbox) == []


def test_a_session_can_end_in_the_middle(sandbox: Sandbox) -> None:
    sandbox.admin("faults", {"match": "composite/sobjects", "after": 2, "error": "INVALID_SESSION_ID"})
    assert [upsert(sandbox, key).status_code for key in "abcd"] == [200, 200, 401, 200]
    assert keys(sandbox) == ["a", "b", "d"]


def test_every_answer_about_data_tells_the_days_calls(sandbox: Sandbox) -> None:
    sandbox.http.delete(f"{sandbox.url}/_sandbox/log", timeout=20)
    sandbox.admin(
        "faults", [{"match": "q=SELECT", "status": 500, "body": "<html>"}, {"match": "limits", "status": 503}]
    )
    answers = [
        sandbox.query("SELECT Id FROM Account"),
        sandbox.rest("GET", "limits"),
        sandbox.query("SELECT Nothing FROM Account"),
        sandbox.rest("GET", "nowhere"),
        sandbox.query(f"SELECT Id FROM Account WHERE Name = '{'x' * 20_000}'"),
        sandbox.http.get(
            f"{sandbox.url}/services/data/v62.0/limits", headers={"Authorization": "Bearer x"}, timeout=20
        ),
        sandbox.rest("DELETE", "sobjects/Account/001000000000009AAA"),
        upsert(sandbox, "a"),
    ]
    assert [answer.status_code for answer in answers] == [500, 503, 400, 404, 414, 401, 404, 200]
    assert [answer.headers["Sforce-Limit-Info"] for answer in answers] == [f"api-usage={n}/100000" for n in range(1, 9)]


def test_a_late_answer_is_of_a_call_that_was_done(sandbox: Sandbox) -> None:
    sandbox.admin("faults", {"match": "composite/sobjects/Task", "slow": 0.3})
    row = {"attributes": {"type": "Task"}, "Onetouch_Handoff_Id__c": "a", "WhatId": ACME}
    with pytest.raises(requests.ReadTimeout):
        sandbox.http.patch(f"{sandbox.url}/services/data/v62.0/{TASKS}", json={"records": [row]}, timeout=(5, 0.05))
    assert keys(sandbox) == ["a"]


def test_an_answer_can_be_cut_in_the_middle(sandbox: Sandbox) -> None:
    sandbox.admin("faults", {"match": "composite/sobjects/Task", "drop": "half"})
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        upsert(sandbox, "a")
    assert keys(sandbox) == ["a"]


def test_a_lost_slack_answer_is_a_second_post_for_a_naive_client(sandbox: Sandbox) -> None:
    sandbox.admin("faults", [{"match": "chat.postMessage", "drop": "answer"}])
    sandbox.slack().chat_postMessage(channel="C0ALERTS", text="once?")  # the client's default sends again
    assert len(sandbox.admin("state")["posts"]) == 2


@pytest.mark.parametrize(
    "fault",
    [
        {"match": "("},
        {"match": "x"},
        {"match": "x", "drop": "both"},
        {"match": "x", "status": 500, "drop": "answer"},
        {"status": 500},
        {"match": "x", "status": 500, "colour": 1},
        {"match": "x", "error": "NO_SUCH_ERROR"},
        {"match": "x", "row_error": "NO_SUCH_ERROR"},
        {"match": "x", "row_error": {"message": "no code"}},
        {"match": "x", "slow": -1},
        {"match": "x", "status": 500, "after": "later"},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(sandbox: Sandbox, fault: dict[str, Any]) -> None:
    answer = sandbox.http.post(f"{sandbox.url}/_sandbox/faults", json=fault, timeout=20)
    assert answer.status_code == 400
    assert sandbox.admin("faults") == []


def test_calls_are_counted_by_api_and_address(sandbox: Sandbox) -> None:
    sandbox.http.delete(f"{sandbox.url}/_sandbox/log", timeout=20)
    upsert(sandbox, "a", "b")
    for account in ("001000000000001AAA", "001000000000002AAA"):
        sandbox.rest("GET", f"sobjects/Account/{account}")
    sandbox.slack().auth_test()
    log = sandbox.admin("log")
    assert log["by_api"] == {"salesforce": 3, "slack": 1}
    assert {(c["method"], c["path"], c["n"]) for c in log["calls"]} == {
        ("PATCH", f"/services/data/v62.0/{TASKS}", 1),
        ("GET", "/services/data/v62.0/sobjects/Account/{id}", 2),
        ("POST", "/api/auth.test", 1),
    }


def test_other_pages_and_other_names_do_not_reach_it(sandbox: Sandbox) -> None:
    foreign = sandbox.http.post(
        f"{sandbox.url}/_sandbox/clock", json={"now": None}, headers={"Origin": "https://evil.example"}, timeout=20
    )
    assert foreign.status_code == 403
    renamed = sandbox.http.get(f"{sandbox.url}/_sandbox/state", headers={"Host": "evil.example"}, timeout=20)
    assert renamed.status_code == 400
    assert sandbox.admin("clock")["virtual"] is True


def test_the_clock_needs_a_zone(sandbox: Sandbox) -> None:
    for now in ("2025-03-03T10:00:00", "yesterday", 12):
        assert sandbox.http.post(f"{sandbox.url}/_sandbox/clock", json={"now": now}, timeout=20).status_code == 400
    assert sandbox.admin("clock", {"now": "2025-03-03T12:00:00+02:00"})["now"] == NOW


def spawn(home: Path) -> tuple[subprocess.Popen[str], Sandbox]:
    command = [sys.executable, "-m", "onetouch.sandbox", "--home", str(home), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    line = process.stdout.readline()
    assert line.startswith("onetouch sandbox ready on http://127.0.0.1:"), line
    return process, Sandbox(line.split()[-1])


def test_the_same_home_is_the_same_org_after_a_kill(tmp_path: Path) -> None:
    process, one = spawn(tmp_path)
    try:
        one.admin("clock", {"now": NOW})
        one.admin("load", ORG)
        one.sign_in()
        assert upsert(one, "a").json()[0]["created"]
        ts = one.slack().chat_postMessage(channel="C0ALERTS", text="still here")["ts"]
        job = create(one, object="Task", operation="insert")
        put(one, job, f"Subject,WhatId\nx,{ACME}\ny,{ACME}\n")
        state(one, job, "UploadComplete")
        assert look(one, job)["state"] == "InProgress"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    process, two = spawn(tmp_path)
    try:
        two.http.headers["Authorization"] = one.http.headers["Authorization"]
        assert upsert(two, "a").json()[0]["created"] is False
        assert [m["ts"] for m in two.slack().conversations_history(channel="C0ALERTS")["messages"]] == [ts]
        assert two.admin("clock")["now"] == NOW
        assert (look(two, job)["state"], len(results(two, job, "successfulResults"))) == ("JobComplete", 2)
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode in (0, -signal.SIGTERM)
