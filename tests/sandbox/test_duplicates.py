"""Duplicate rules of the stand-in, as Salesforce has them: what is refused, what is named, what the header changes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.conftest import ACME, Sandbox

BY_NAME = {"object": "Account", "match": {"Account": {"Name": "Name"}}, "action": "alert"}
NEW = {"Name": "ACME, Inc."}
HEADER = {"Sforce-Duplicate-Rule-Header": "allowSave=true"}


def post(sandbox: Sandbox, what: str, body: Any, **headers: str) -> Any:
    signed = {"Authorization": f"Bearer {sandbox.token()}", **headers}
    return sandbox.http.post(f"{sandbox.url}/services/data/v62.0/{what}", json=body, headers=signed, timeout=20)


def rule(sandbox: Sandbox, **given: Any) -> None:
    sandbox.admin("duplicates", {"rules": [BY_NAME | given]})


@pytest.mark.parametrize("action", ["alert", "block"])
def test_the_answer_for_one_record_names_its_matches(sandbox: Sandbox, action: str) -> None:
    rule(sandbox, action=action)
    answer = post(sandbox, "sobjects/Account", NEW)
    [error] = answer.json()
    assert (answer.status_code, error["errorCode"]) == (400, "DUPLICATES_DETECTED")
    told = error["duplicateResut"]
    assert told["allowSave"] is (action == "alert")
    [[match]] = [result["matchRecords"] for result in told["matchResults"]]
    assert match["record"]["Id"] == ACME
    assert len(sandbox.rows("SELECT Id FROM Account")) == 2


def test_the_answer_for_a_row_of_a_collection_names_none(sandbox: Sandbox) -> None:
    rule(sandbox)
    rows = [{"attributes": {"type": "Account"}, **row} for row in (NEW, {"Name": "Another"})]
    refused, made = post(sandbox, "composite/sobjects", {"records": rows}).json()
    assert refused["errors"] == [
        {"statusCode": "DUPLICATES_DETECTED", "message": "Use one of these records?", "fields": []}
    ]
    assert made["success"]


@pytest.mark.parametrize(("action", "status"), [("alert", 201), ("block", 400)])
def test_the_header_overrides_an_alert_and_never_a_block(sandbox: Sandbox, action: str, status: int) -> None:
    rule(sandbox, action=action)
    assert post(sandbox, "sobjects/Account", NEW, **HEADER).status_code == status
    assert post(sandbox, "sobjects/Account", NEW).status_code == 400  # it holds for one call alone


def test_a_rule_of_fields_that_are_empty_or_differ_matches_nothing(sandbox: Sandbox) -> None:
    rule(sandbox, match={"Account": {"Name": "Name", "Website": "Website"}})
    assert post(sandbox, "sobjects/Account", NEW).status_code == 201
    rule(sandbox)
    assert post(sandbox, "sobjects/Account", {"Name": "Acme Bakery"}).status_code == 201


def test_a_deleted_record_matches_nothing(sandbox: Sandbox) -> None:
    rule(sandbox)
    sandbox.client().Account.delete(ACME)
    assert post(sandbox, "sobjects/Account", NEW).status_code == 201


def test_a_bulk_job_is_refused_row_by_row_and_knows_no_header(sandbox: Sandbox) -> None:
    rule(sandbox)
    sandbox.admin("limits", {"bulk_looks": 0})
    [told] = sandbox.client().bulk2.Account.insert(records=[NEW, {"Name": "Another"}], wait=0)
    assert (told["numberRecordsProcessed"], told["numberRecordsFailed"]) == (2, 1)
    failed = sandbox.client().bulk2.Account.get_failed_records(told["job_id"])
    assert "DUPLICATES_DETECTED:Use one of these records?:--" in failed


def test_a_rule_of_a_field_that_is_not_there_is_refused(sandbox: Sandbox) -> None:
    answer = sandbox.http.post(
        f"{sandbox.url}/_sandbox/duplicates", json={"rules": [BY_NAME | {"match": {"Account": {"X": "Y"}}}]}, timeout=20
    )
    assert (answer.status_code, "Account has no field X" in answer.text) == (400, True)
