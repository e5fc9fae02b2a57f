"""The Salesforce stand-in answers as the real one, to the clients people use."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import SalesforceExpiredSession, SalesforceMalformedRequest

from tests.sandbox.conftest import ACME, ANN, BOB, GONE, OTHER, Sandbox

TASKS = "composite/sobjects/Task/Onetouch_Handoff_Id__c"


def task(key: str, **more: Any) -> dict[str, Any]:
    return {
        "attributes": {"type": "Task"},
        "Onetouch_Handoff_Id__c": key,
        "Subject": f"Call {key}",
        "WhatId": ACME,
    } | more


def upsert(sandbox: Sandbox, *rows: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    answer = sandbox.rest("PATCH", TASKS, json={"records": list(rows), **more})
    assert answer.status_code == 200, answer.text
    return list(answer.json())


def code(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()[0]["errorCode"]


# -- signing in


@pytest.mark.parametrize(
    ("form", "auth", "error"),
    [
        ({"grant_type": "client_credentials"}, ("sandbox-key", "wrong"), "invalid_client"),
        ({"grant_type": "client_credentials"}, ("nobody", "sandbox-secret"), "invalid_client_id"),
        ({"grant_type": "client_credentials"}, None, "invalid_client_id"),
        ({"grant_type": "password", "username": "a", "password": "b"}, None, "invalid_grant"),
        ({"grant_type": "made_up"}, None, "unsupported_grant_type"),
    ],
)
def test_a_wrong_sign_in_is_refused(sandbox: Sandbox, form: dict[str, str], auth: Any, error: str) -> None:
    answer = requests.post(f"{sandbox.url}/services/oauth2/token", data=form, auth=auth, timeout=20)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_credentials_may_stand_in_the_form(sandbox: Sandbox) -> None:
    form = {"grant_type": "client_credentials", "client_id": "sandbox-key", "client_secret": "sandbox-secret"}
    answer = requests.post(f"{sandbox.url}/services/oauth2/token", data=form, timeout=20).json()
    assert answer["instance_url"] == sandbox.url
    assert answer["token_type"] == "Bearer"


def test_without_a_session_nothing_is_answered(sandbox: Sandbox) -> None:
    expected = [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
    for header in ({}, {"Authorization": "Bearer nonsense"}):
        answer = requests.get(f"{sandbox.url}/services/data/v62.0/limits", headers=header, timeout=20)
        assert (answer.status_code, answer.json()) == (401, expected)


def test_an_expired_session_is_told_by_the_client(sandbox: Sandbox) -> None:
    client = sandbox.client()
    assert client.query("SELECT Id FROM Account")["totalSize"] == 2
    assert sandbox.http.delete(f"{sandbox.url}/_sandbox/sessions", timeout=20).json()["expired"] >= 1
    with pytest.raises(SalesforceExpiredSession):
        client.query("SELECT Id FROM Account")


# -- records through simple-salesforce


def test_a_task_is_created_read_completed_and_deleted(sandbox: Sandbox) -> None:
    client: Salesforce = sandbox.client()
    made = client.Task.create({"Subject": "Call", "WhatId": ACME, "OwnerId": ANN, "ActivityDate": "2025-03-04"})
    assert made["success"]
    assert made["id"].startswith("00T")
    assert len(made["id"]) == 18
    found = client.Task.get(made["id"])
    assert (found["AccountId"], found["Status"], found["IsClosed"]) == (ACME, "Not Started", False)
    assert (found["CreatedDate"], found["Priority"]) == ("2025-03-03T10:00:00.000+0000", "Normal")

    sandbox.admin("clock", {"now": "2025-03-05T08:30:15.5+00:00"})
    client.Task.update(made["id"], {"Status": "Completed", "Onetouch_Outcome__c": "Replied"})
    found = client.Task.get(made["id"])
    assert found["IsClosed"] is True
    assert found["CompletedDateTime"] == found["SystemModstamp"] == "2025-03-05T08:30:15.000+0000"

    client.Task.update(made["id"], {"Status": "In Progress"})
    assert client.Task.get(made["id"])["CompletedDateTime"] is None

    client.Task.delete(made["id"])
    assert client.query("SELECT Id FROM Task")["totalSize"] == 0
    deleted = client.query("SELECT Id, IsDeleted FROM Task", include_deleted=True)["records"]
    assert [row["IsDeleted"] for row in deleted] == [True]
    assert code(sandbox.rest("GET", f"sobjects/Task/{made['id']}")) == (404, "ENTITY_IS_DELETED")
    assert code(sandbox.rest("PATCH", f"sobjects/Task/{made['id']}", json={"Subject": "x"})) == (
        404,
        "ENTITY_IS_DELETED",
    )


def test_an_upsert_by_external_id_creates_then_updates(sandbox: Sandbox) -> None:
    client = sandbox.client()
    assert client.Task.upsert("Onetouch_Handoff_Id__c/h%2F1", {"Subject": "A", "WhatId": ACME}) == 201
    assert client.Task.upsert("Onetouch_Handoff_Id__c/h%2F1", {"Subject": "B"}) == 200
    assert sandbox.rows("SELECT Subject, Onetouch_Handoff_Id__c FROM Task") == [
        {"Subject": "B", "Onetouch_Handoff_Id__c": "h/1"}
    ]
    again = sandbox.rest("PATCH", "sobjects/Task/Onetouch_Handoff_Id__c/x", json={"Onetouch_Handoff_Id__c": "x"})
    assert code(again) == (400, "INVALID_FIELD")
    assert code(sandbox.rest("PATCH", "sobjects/Task/Subject/x", json={"Subject": "x"})) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"Nonsense__c": 1}, "INVALID_FIELD"),
        ({"Subject": "x" * 256}, "STRING_TOO_LONG"),
        ({"Subject": "😀" * 128}, "STRING_TOO_LONG"),  # counted as UTF-16, as the database does
        ({"Description": "x\n" * 11_000}, "STRING_TOO_LONG"),  # a line break counts twice
        ({"Subject": 12}, "JSON_PARSER_ERROR"),
        ({"Subject": "a\x00b"}, "JSON_PARSER_ERROR"),
        ({"Subject": "\ud800"}, "JSON_PARSER_ERROR"),
        ({"Status": "Done"}, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"),
        ({"Onetouch_Outcome__c": "Bought"}, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"),
        ({"ActivityDate": "04.03.2025"}, "JSON_PARSER_ERROR"),
        ({"ReminderDateTime": "2025-03-04 10:00:00"}, "JSON_PARSER_ERROR"),
        ({"IsReminderSet": "yes"}, "JSON_PARSER_ERROR"),
        ({"WhatId": "001000000000009AAA"}, "INVALID_CROSS_REFERENCE_KEY"),
        ({"WhatId": ANN}, "FIELD_INTEGRITY_EXCEPTION"),
        ({"WhatId": ACME[:-1] + "B"}, "MALFORMED_ID"),  # the checksum is wrong
        ({"OwnerId": GONE}, "INACTIVE_OWNER_OR_USER"),
        ({"IsClosed": True}, "INVALID_FIELD_FOR_INSERT_UPDATE"),
        ({"CompletedDateTime": "2025-03-04T10:00:00Z"}, "INVALID_FIELD_FOR_INSERT_UPDATE"),
        ({"AccountId": ACME}, "INVALID_FIELD_FOR_INSERT_UPDATE"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(sandbox: Sandbox, values: dict[str, Any], error: str) -> None:
    assert code(sandbox.rest("POST", "sobjects/Task", json={"WhatId": ACME} | values)) == (400, error)
    row = upsert(sandbox, task("h1", **values))[0]
    assert (row["success"], row["errors"][0]["statusCode"]) == (False, error)
    assert sandbox.rows("SELECT Id FROM Task", deleted=True) == []


def test_numbers_are_held_to_their_precision(sandbox: Sandbox) -> None:
    def change(**values: Any) -> requests.Response:
        return sandbox.rest("PATCH", f"sobjects/Account/{ACME}", json=values)

    assert code(change(Onetouch_Score__c=123_456)) == (400, "NUMBER_OUTSIDE_VALID_RANGE")
    assert code(change(NumberOfEmployees=1.5)) == (400, "JSON_PARSER_ERROR")
    assert code(change(Onetouch_Score__c="high")) == (400, "JSON_PARSER_ERROR")
    assert change(Onetouch_Score__c=71.26, NumberOfEmployees=12).status_code == 204
    assert sandbox.rows(f"SELECT Onetouch_Score__c, NumberOfEmployees FROM Account WHERE Id = '{ACME}'") == [
        {"Onetouch_Score__c": 71.3, "NumberOfEmployees": 12}
    ]
    raw = sandbox.rest("PATCH", f"sobjects/Account/{ACME}", data='{"Seats__c": NaN}', headers={"Content-Type": "application/json"})  # fmt: skip  # noqa: E501
    assert code(raw) == (400, "JSON_PARSER_ERROR")


def test_required_fields_are_asked_for_and_kept(sandbox: Sandbox) -> None:
    answer = sandbox.rest("POST", "sobjects/Opportunity", json={"Name": "Deal", "AccountId": ACME})
    assert answer.json() == [
        {
            "message": "Required fields are missing: [StageName, CloseDate]",
            "errorCode": "REQUIRED_FIELD_MISSING",
            "fields": ["StageName", "CloseDate"],
        }
    ]
    assert code(sandbox.rest("PATCH", f"sobjects/Account/{ACME}", json={"Name": None})) == (
        400,
        "REQUIRED_FIELD_MISSING",
    )


def test_the_system_derives_what_it_derives(sandbox: Sandbox) -> None:
    deal = {"Name": "Deal", "AccountId": OTHER, "StageName": "Closed Won", "CloseDate": "2025-03-31", "Amount": 9000}
    made = sandbox.rest("POST", "sobjects/Opportunity", json=deal).json()["id"]
    assert made.startswith("006")
    assert sandbox.rows("SELECT IsClosed, IsWon, Account.Name FROM Opportunity")[0]["IsWon"] is True
    upsert(sandbox, task("h1", WhatId=made))
    assert sandbox.rows("SELECT AccountId FROM Task") == [{"AccountId": OTHER}]
    lead = sandbox.rest("POST", "sobjects/Lead", json={"LastName": "L", "Company": "C"}).json()["id"]
    both = upsert(sandbox, task("h2", WhoId=lead), task("h3", WhoId=lead, WhatId=None))
    assert [row["success"] for row in both] == [False, True]
    assert both[0]["errors"][0]["statusCode"] == "FIELD_INTEGRITY_EXCEPTION"


def test_users_are_not_the_integrations_to_write(sandbox: Sandbox) -> None:
    answer = sandbox.rest("PATCH", f"sobjects/User/{ANN}", json={"Name": "Mallory"})
    assert code(answer) == (400, "INSUFFICIENT_ACCESS_OR_READONLY")


def test_deleting_an_account_takes_its_tasks(sandbox: Sandbox) -> None:
    upsert(sandbox, task("h1"))
    assert sandbox.rest("DELETE", f"sobjects/Account/{ACME}").status_code == 204
    assert sandbox.rows("SELECT IsDeleted FROM Task", deleted=True) == [{"IsDeleted": True}]
    assert upsert(sandbox, task("h2"))[0]["errors"][0]["statusCode"] == "ENTITY_IS_DELETED"


# -- collections


def test_every_row_has_its_own_outcome_in_order(sandbox: Sandbox) -> None:
    first = upsert(
        sandbox,
        task("a"),
        task("b", Status="Nonsense"),
        task("c"),
        task("a"),
        {**task("d"), "Onetouch_Handoff_Id__c": None},
    )
    assert [row["success"] for row in first] == [True, False, True, False, False]
    assert [row["errors"][0]["statusCode"] for row in first if not row["success"]] == [
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
        "DUPLICATE_VALUE",
        "MISSING_ARGUMENT",
    ]
    second = upsert(sandbox, task("c", Subject="Changed"), task("a"))
    assert [(row["id"], row["created"]) for row in second] == [(first[2]["id"], False), (first[0]["id"], False)]
    assert sandbox.rows("SELECT COUNT() FROM Task") == []
    assert sandbox.query("SELECT COUNT() FROM Task").json()["totalSize"] == 2


def test_all_or_none_rolls_everything_back(sandbox: Sandbox) -> None:
    rows = upsert(sandbox, task("a"), task("b", Status="Nonsense"), allOrNone=True)
    assert [row["errors"][0]["statusCode"] for row in rows] == [
        "ALL_OR_NONE_OPERATION_ROLLED_BACK",
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
    ]
    assert sandbox.rows("SELECT Id FROM Task", deleted=True) == []


def test_a_unique_key_is_unique_by_case(sandbox: Sandbox) -> None:
    upsert(sandbox, task("key"), task("KEY"))
    taken = sandbox.rest("POST", "sobjects/Task", json={"Onetouch_Handoff_Id__c": "key", "WhatId": ACME})
    assert code(taken) == (400, "DUPLICATE_VALUE")
    assert sandbox.rows("SELECT Subject FROM Task WHERE Onetouch_Handoff_Id__c = 'KEY'") == [{"Subject": "Call KEY"}]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"records": [task(str(i)) for i in range(201)]}, "EXCEEDED_ID_LIMIT"),
        ({"records": []}, "REQUIRED_FIELD_MISSING"),
        ({"records": [{"Onetouch_Handoff_Id__c": "a"}]}, "INVALID_INPUT"),
        ({"records": [task("a") | {"attributes": {"type": "Account"}}]}, "INVALID_INPUT"),
        ({"records": [task("a") | {"attributes": {"type": "Nothing"}}]}, "INVALID_TYPE"),
        ({"rows": [task("a")]}, "JSON_PARSER_ERROR"),
        ([task("a")], "JSON_PARSER_ERROR"),
    ],
)
def test_an_ill_formed_collection_is_refused_whole(sandbox: Sandbox, body: Any, error: str) -> None:
    assert code(sandbox.rest("PATCH", TASKS, json=body)) == (400, error)
    assert sandbox.rows("SELECT Id FROM Task", deleted=True) == []


def test_collections_create_update_read_and_delete(sandbox: Sandbox) -> None:
    rows = [{"attributes": {"type": "Task"}, "Subject": s, "WhatId": ACME} for s in ("a", "b")]
    ids = [row["id"] for row in sandbox.rest("POST", "composite/sobjects", json={"records": rows}).json()]
    changes = [{"attributes": {"type": "Task"}, "id": i, "Subject": "c"} for i in ids]
    changes.append({"attributes": {"type": "Task"}, "id": "00T000000000001EAA", "Subject": "c"})
    done = sandbox.rest("PATCH", "composite/sobjects", json={"records": changes}).json()
    assert [row["success"] for row in done] == [True, True, False]
    assert done[2]["errors"][0]["statusCode"] == "INVALID_CROSS_REFERENCE_KEY"
    read = sandbox.rest("GET", "composite/sobjects/Task", params={"ids": ",".join(ids), "fields": "Subject"}).json()
    assert [row["Subject"] for row in read] == ["c", "c"]
    gone = sandbox.rest("DELETE", "composite/sobjects", params={"ids": ",".join([*ids, ids[0]])}).json()
    assert [row["success"] for row in gone] == [True, True, False]


def test_composite_refers_to_what_came_before(sandbox: Sandbox) -> None:
    root = "/services/data/v62.0/sobjects"
    requests_ = [
        {"method": "POST", "url": f"{root}/Account", "referenceId": "made", "body": {"Name": "New"}},
        {"method": "POST", "url": f"{root}/Task", "referenceId": "call", "body": {"WhatId": "@{made.id}"}},
        {"method": "POST", "url": f"{root}/Task", "referenceId": "bad", "body": {"Status": "Nonsense"}},
    ]  # fmt: skip
    answer = sandbox.rest("POST", "composite", json={"compositeRequest": requests_}).json()["compositeResponse"]
    assert [part["httpStatusCode"] for part in answer] == [201, 201, 400]
    assert sandbox.rows("SELECT AccountId FROM Task") == [{"AccountId": answer[0]["body"]["id"]}]
    sandbox.rest("POST", "composite", json={"compositeRequest": requests_, "allOrNone": True})
    assert len(sandbox.rows("SELECT Id FROM Task", deleted=True)) == 1
    too_many = sandbox.rest("POST", "composite", json={"compositeRequest": requests_ * 9})
    assert code(too_many) == (400, "LIMIT_EXCEEDED")


# -- limits and addresses


def test_every_answer_tells_the_days_calls_and_over_the_limit_nothing_more_is_answered(sandbox: Sandbox) -> None:
    sandbox.admin("limits", {"api_daily": 3})
    seen = [sandbox.rest("GET", "limits").headers["Sforce-Limit-Info"] for _ in range(3)]
    assert seen == ["api-usage=1/3", "api-usage=2/3", "api-usage=3/3"]
    answer = sandbox.rest("GET", "limits")
    assert code(answer) == (403, "REQUEST_LIMIT_EXCEEDED")
    assert "Retry-After" not in answer.headers
    sandbox.admin("clock", {"now": "2025-03-04T00:00:01+00:00"})
    assert sandbox.rest("GET", "limits").status_code == 200


def test_a_long_address_is_refused(sandbox: Sandbox) -> None:
    assert sandbox.query(f"SELECT Id FROM Account WHERE Name IN ('{'x' * 3000}')").status_code == 200
    names = ",".join(f"'{'x' * 1000}'" for _ in range(17))
    assert sandbox.query(f"SELECT Id FROM Account WHERE Name IN ({names})").status_code == 414


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "sobjects/Nothing/describe", 404, "NOT_FOUND"),
        ("GET", "nowhere", 404, "NOT_FOUND"),
        ("GET", f"sobjects/Task/{ACME}", 404, "NOT_FOUND"),
        ("GET", "sobjects/Account/001000000000009AAA", 404, "NOT_FOUND"),
        ("PUT", f"sobjects/Account/{ACME}", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "query/01gAAAAAAAAAAAAAAA-2000", 400, "INVALID_QUERY_LOCATOR"),
    ],
)
def test_wrong_addresses(sandbox: Sandbox, method: str, path: str, status: int, error: str) -> None:
    assert code(sandbox.rest(method, path, json={} if method == "PUT" else None)) == (status, error)


def test_a_version_the_org_does_not_have(sandbox: Sandbox) -> None:
    answer = sandbox.http.get(f"{sandbox.url}/services/data/v12.0/limits", timeout=20)
    assert code(answer) == (404, "NOT_FOUND")


def test_the_body_must_be_json(sandbox: Sandbox) -> None:
    assert code(sandbox.rest("POST", "sobjects/Task", data="Subject=x")) == (415, "UNSUPPORTED_MEDIA_TYPE")
    broken = sandbox.rest("POST", "sobjects/Task", data="{", headers={"Content-Type": "application/json"})
    assert code(broken) == (400, "JSON_PARSER_ERROR")


def test_describe_tells_the_deployed_fields(sandbox: Sandbox) -> None:
    fields = {f["name"]: f for f in sandbox.client().Task.describe()["fields"]}
    key = fields["Onetouch_Handoff_Id__c"]
    assert (key["externalId"], key["unique"], key["length"], key["type"]) == (True, True, 64, "string")
    assert [v["value"] for v in fields["Onetouch_Outcome__c"]["picklistValues"]][:2] == ["No response", "Replied"]


def test_a_malformed_request_reaches_the_client_with_its_code(sandbox: Sandbox) -> None:
    with pytest.raises(SalesforceMalformedRequest) as caught:
        sandbox.client().query("SELECT Nonsense FROM Account")
    assert caught.value.content[0]["errorCode"] == "INVALID_FIELD"


def test_loading_twice_is_loading_once(sandbox: Sandbox) -> None:
    document = {"Account": [{"Id": ACME[:15], "Name": "Acme", "SystemModstamp": "2025-01-01T00:00:00Z"}]}
    for _ in range(2):
        sandbox.admin("load", document)
    assert sandbox.rows(f"SELECT Name, SystemModstamp, CreatedDate, Seats__c FROM Account WHERE Id = '{ACME}'") == [
        {
            "Name": "Acme",
            "SystemModstamp": "2025-01-01T00:00:00.000+0000",
            "CreatedDate": "2024-05-01T00:00:00.000+0000",
            "Seats__c": 12.0,
        }
    ]
    for bad in ({"Acount": []}, {"Account": [{"Id": "x"}]}, {"Account": [{"Id": ACME, "Nme": 1}]}):
        answer = sandbox.http.post(f"{sandbox.url}/_sandbox/load", data=json.dumps(bad), timeout=20)
        assert answer.status_code == 400
        assert answer.json()["error"]


# -- what people do to records


def made(sandbox: Sandbox, sobject: str, **values: Any) -> str:
    answer = sandbox.rest("POST", f"sobjects/{sobject}", json=values)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_a_merge_hands_over_what_the_loser_had(sandbox: Sandbox) -> None:
    deal = made(sandbox, "Opportunity", Name="D", AccountId=OTHER, StageName="Prospecting", CloseDate="2025-04-01")
    person = made(sandbox, "Contact", LastName="Doe", Email="doe@example.com", AccountId=OTHER)
    call = made(sandbox, "Task", WhatId=OTHER, WhoId=person, Onetouch_Handoff_Id__c="h1")
    about_deal = made(sandbox, "Task", WhatId=deal)
    sandbox.rest("PATCH", f"sobjects/Account/{OTHER}", json={"Onetouch_Account_Id__c": "org-2"})
    sandbox.admin("clock", {"now": "2025-03-04T09:00:00+00:00"})
    sandbox.admin("merge", {"winner": ACME, "losers": [OTHER], "values": {"Onetouch_Account_Id__c": "org-2"}})

    assert code(sandbox.rest("GET", f"sobjects/Account/{OTHER}")) == (404, "ENTITY_IS_DELETED")
    loser = "SELECT IsDeleted, MasterRecordId, SystemModstamp FROM Account WHERE MasterRecordId != null"
    assert sandbox.rows(loser) == []
    assert sandbox.rows(loser, deleted=True) == [
        {"IsDeleted": True, "MasterRecordId": ACME, "SystemModstamp": "2025-03-04T09:00:00.000+0000"}
    ]
    assert sandbox.rows("SELECT Id, Onetouch_Account_Id__c FROM Account") == [
        {"Id": ACME, "Onetouch_Account_Id__c": "org-2"}
    ]
    tasks = sandbox.rows("SELECT Id, WhatId, AccountId, SystemModstamp, LastModifiedDate FROM Task ORDER BY Id")
    assert tasks == [
        {
            "Id": task_id,
            "WhatId": what,
            "AccountId": ACME,
            "SystemModstamp": "2025-03-04T09:00:00.000+0000",
            "LastModifiedDate": "2025-03-03T10:00:00.000+0000",
        }
        for task_id, what in ((call, ACME), (about_deal, deal))
    ]
    assert sandbox.rows("SELECT AccountId FROM Opportunity") == [{"AccountId": ACME}]
    assert sandbox.rows("SELECT AccountId FROM Contact WHERE Email = 'DOE@example.com'") == [{"AccountId": ACME}]
    refused = sandbox.http.post(f"{sandbox.url}/_sandbox/merge", json={"winner": ACME, "losers": [OTHER]}, timeout=20)
    assert refused.status_code == 400


def test_an_emptied_recycle_bin_leaves_no_trace(sandbox: Sandbox) -> None:
    first, second = made(sandbox, "Task", WhatId=ACME), made(sandbox, "Task", WhatId=ACME)
    for record in (first, second):
        sandbox.rest("DELETE", f"sobjects/Task/{record}")
    sandbox.admin("undelete", {"ids": [second]})
    assert [row["Id"] for row in sandbox.rows("SELECT Id FROM Task")] == [second]
    assert sandbox.admin("purge", {}) == {"purged": 1}
    assert [row["Id"] for row in sandbox.rows("SELECT Id FROM Task", deleted=True)] == [second]
    assert code(sandbox.rest("GET", f"sobjects/Task/{first}")) == (404, "NOT_FOUND")


def test_what_went_into_the_bin_together_comes_out_together(sandbox: Sandbox) -> None:
    upsert(sandbox, task("h1"), task("h2"))
    alone = sandbox.rows("SELECT Id FROM Task WHERE Onetouch_Handoff_Id__c = 'h2'")[0]["Id"]
    sandbox.rest("DELETE", f"sobjects/Task/{alone}")
    sandbox.admin("clock", {"now": "2025-03-03T11:00:00+00:00"})
    sandbox.rest("DELETE", f"sobjects/Account/{ACME}")
    sandbox.admin("undelete", {"ids": [ACME]})
    assert [row["Onetouch_Handoff_Id__c"] for row in sandbox.rows("SELECT Onetouch_Handoff_Id__c FROM Task")] == ["h1"]
    upsert(sandbox, task("h2"))
    refused = sandbox.http.post(f"{sandbox.url}/_sandbox/undelete", json={"ids": [alone]}, timeout=20)
    assert (refused.status_code, "DUPLICATE_VALUE" in refused.text) == (400, True)


def test_a_lead_has_our_fields_and_takes_its_tasks_along(sandbox: Sandbox) -> None:
    lead = made(
        sandbox, "Lead", LastName="Doe", Company="Acme", Website="acme.example", Email="doe@acme.example",
        Onetouch_Account_Id__c="org-1", Onetouch_Score__c=71, Onetouch_Activated__c=True,
    )  # fmt: skip
    sent = made(sandbox, "Task", WhoId=lead, Onetouch_Handoff_Id__c="h1")
    assert sandbox.rows("SELECT WhoId, WhatId, AccountId FROM Task") == [
        {"WhoId": lead, "WhatId": None, "AccountId": None}
    ]
    again = sandbox.rest(
        "POST", "sobjects/Lead", json={"LastName": "D", "Company": "A", "Onetouch_Account_Id__c": "org-1"}
    )
    assert code(again) == (400, "DUPLICATE_VALUE")
    became = sandbox.admin("convert", {"lead": lead})
    assert sandbox.rows("SELECT Id, ConvertedAccountId FROM Lead WHERE IsConverted = true") == [
        {"Id": lead, "ConvertedAccountId": became["account"]}
    ]
    assert sandbox.rows("SELECT Website, Onetouch_Score__c, Onetouch_Activated__c, Onetouch_Account_Id__c FROM Account"
                        f" WHERE Id = '{became['account']}'") == [
        {"Website": "acme.example", "Onetouch_Score__c": 71, "Onetouch_Activated__c": True,
         "Onetouch_Account_Id__c": "org-1"}
    ]  # fmt: skip
    assert sandbox.rows(f"SELECT WhoId, AccountId FROM Task WHERE Id = '{sent}'") == [
        {"WhoId": became["contact"], "AccountId": became["account"]}
    ]
    assert code(sandbox.rest("PATCH", f"sobjects/Lead/{lead}", json={"Onetouch_Score__c": 1})) == (
        400,
        "CANNOT_UPDATE_CONVERTED_LEAD",
    )


def test_deleting_a_lead_or_a_deal_takes_its_activities(sandbox: Sandbox) -> None:
    lead = made(sandbox, "Lead", LastName="Doe", Company="Acme")
    deal = made(sandbox, "Opportunity", Name="D", AccountId=ACME, StageName="Prospecting", CloseDate="2025-04-01")
    made(sandbox, "Task", WhoId=lead)
    made(sandbox, "Task", WhatId=deal)
    kept = made(sandbox, "Task", WhatId=ACME)
    sandbox.rest("DELETE", f"sobjects/Lead/{lead}")
    sandbox.rest("DELETE", f"sobjects/Opportunity/{deal}")
    assert [row["Id"] for row in sandbox.rows("SELECT Id FROM Task")] == [kept]


def test_an_event_has_a_start_and_an_end(sandbox: Sandbox) -> None:
    person = made(sandbox, "Contact", LastName="Doe", AccountId=ACME)
    start = "2025-03-05T14:00:00.000+0000"
    meeting = made(sandbox, "Event", Subject="Demo", WhoId=person, ActivityDateTime=start, DurationInMinutes=45)
    times = "StartDateTime, EndDateTime, DurationInMinutes, ActivityDate"
    held = f"SELECT AccountId, {times} FROM Event WHERE Id = '{meeting}'"
    assert sandbox.rows(held) == [
        {
            "AccountId": ACME,
            "StartDateTime": start,
            "EndDateTime": "2025-03-05T14:45:00.000+0000",
            "DurationInMinutes": 45,
            "ActivityDate": "2025-03-05",
        }
    ]
    sandbox.rest("PATCH", f"sobjects/Event/{meeting}", json={"EndDateTime": "2025-03-05T15:00:00.000+0000"})
    assert sandbox.rows(held)[0]["DurationInMinutes"] == 60
    for values, error in (
        ({"WhatId": ACME}, "REQUIRED_FIELD_MISSING"),
        ({"StartDateTime": start}, "REQUIRED_FIELD_MISSING"),
        ({"StartDateTime": start, "EndDateTime": "2025-03-05T13:00:00Z"}, "FIELD_INTEGRITY_EXCEPTION"),
        (
            {"StartDateTime": start, "EndDateTime": "2025-03-05T15:00:00Z", "DurationInMinutes": 5},
            "FIELD_INTEGRITY_EXCEPTION",
        ),
    ):
        assert code(sandbox.rest("POST", "sobjects/Event", json=values)) == (400, error)


def test_a_task_is_completed_once_and_reopened_clean(sandbox: Sandbox) -> None:
    call = made(sandbox, "Task", WhatId=ACME, OwnerId=ANN)
    told = f"SELECT IsClosed, CompletedDateTime, OwnerId FROM Task WHERE Id = '{call}'"
    for hour, change, closed, completed in (
        (11, {"Status": "Completed"}, True, 11),
        (12, {"Onetouch_Disposition__c": "Good"}, True, 11),  # an edit of a completed task completes nothing again
        (13, {"OwnerId": BOB}, True, 11),
        (14, {"Status": "Waiting on someone else"}, False, None),
        (15, {"Status": "Completed"}, True, 15),
    ):
        sandbox.admin("clock", {"now": f"2025-03-03T{hour}:00:00+00:00"})
        assert sandbox.rest("PATCH", f"sobjects/Task/{call}", json=change).status_code == 204
        [row] = sandbox.rows(told)
        moment = f"2025-03-03T{completed}:00:00.000+0000" if completed else None
        assert (row["IsClosed"], row["CompletedDateTime"]) == (closed, moment)
    assert row["OwnerId"] == BOB
