"""The stand-in of HubSpot's CRM API answers as HubSpot's documentation and observed answers have it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from onetouch.sandbox.faults import HUBSPOT_ERRORS, HUBSPOT_ROW_ERRORS

NOW = "2025-03-03T10:00:00+00:00"
TOKEN = "pat-sandbox-token"
KEY = {
    "name": "ext_key",
    "label": "Key",
    "type": "string",
    "fieldType": "text",
    "groupName": "ext",
    "hasUniqueValue": True,
}


class Account:
    """A HubSpot account with two owners, spoken to with nothing but HTTP."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = requests.Session()
        self.http.headers["Authorization"] = f"Bearer {TOKEN}"

    def admin(self, path: str, body: Any) -> Any:
        answer = self.http.post(f"{self.url}/_sandbox/{path}", json=body, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any) -> requests.Response:
        return self.http.post(f"{self.url}/crm/{path}", json=body, timeout=20)

    def get(self, path: str, **query: Any) -> requests.Response:
        return self.http.get(f"{self.url}/crm/{path}", params=query, timeout=20)

    def make(self, type_: str, **properties: Any) -> str:
        answer = self.post(f"v3/objects/{type_}", {"properties": properties})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])


@pytest.fixture
def account(shared: Any) -> Iterator[Account]:
    one = Account(shared.url)
    assert one.http.delete(f"{one.url}/_sandbox/state", timeout=20).status_code == 200
    one.admin("clock", {"now": NOW})
    one.admin("limits", {"hubspot_ten_seconds": 100_000, "hubspot_searches": 100_000})
    one.admin(
        "hubspot",
        {"owners": [{"id": 7, "email": "ann@acme.example"}, {"id": 8, "email": "b@acme.example", "archived": True}]},
    )
    for type_ in ("companies", "tasks"):
        assert one.post(f"v3/properties/{type_}/groups", {"name": "ext", "label": "Ext"}).status_code == 201
        assert one.post(f"v3/properties/{type_}", KEY).status_code == 201
    yield one
    one.http.close()


def test_a_wrong_token_is_refused_and_every_error_has_a_category_and_a_correlation_id(account: Account) -> None:
    account.http.headers["Authorization"] = "Bearer wrong"
    answer = account.get("v3/owners")
    assert answer.status_code == 401
    assert answer.json()["category"] == "INVALID_AUTHENTICATION"
    assert answer.json()["status"] == "error"
    assert len(answer.json()["correlationId"]) == 36


def test_values_come_back_as_text_and_only_those_asked_for(account: Account) -> None:
    made = account.make("companies", name="Acme", domain="ACME.example", numberofemployees=120)
    found = account.get(f"v3/objects/companies/{made}", properties="numberofemployees,nonsense").json()
    assert found["properties"]["numberofemployees"] == "120"
    assert found["properties"]["domain"] == "acme.example"
    assert "nonsense" not in found["properties"]
    assert found["createdAt"] == "2025-03-03T10:00:00.000Z"
    assert found["archived"] is False


@pytest.mark.parametrize(
    ("type_", "properties", "error"),
    [
        ("companies", {"nonsense": "x"}, "PROPERTY_DOESNT_EXIST"),
        ("companies", {"numberofemployees": "many"}, "INVALID_VALUE"),
        ("companies", {"hs_object_id": "1"}, "READ_ONLY_VALUE"),
        ("companies", {"hubspot_owner_id": "99"}, "INVALID_OWNER_ID"),
        ("companies", {"name": "x" * 65_537}, "INVALID_VALUE"),
        ("tasks", {"hs_timestamp": "2025-03-03T10:00:00Z", "hs_task_priority": "URGENT"}, "INVALID_VALUE"),
        ("tasks", {"hs_timestamp": "soon"}, "INVALID_VALUE"),
        ("tasks", {"hs_task_subject": "no due date"}, "hs_timestamp"),
        ("deals", {"dealname": "d", "dealstage": "nonsense"}, "no stage"),
    ],
)
def test_invalid_values_are_refused(account: Account, type_: str, properties: dict[str, Any], error: str) -> None:
    answer = account.post(f"v3/objects/{type_}", {"properties": properties})
    assert answer.status_code == 400
    assert answer.json()["category"] == "VALIDATION_ERROR"
    assert error in answer.json()["message"]
    assert account.get(f"v3/objects/{type_}").json()["results"] == []


def test_a_batch_is_all_or_nothing_without_trace_ids_and_row_by_row_with_them(account: Account) -> None:
    rows = [{"properties": {"name": "A"}}, {"properties": {"nonsense": "x"}}]
    assert account.post("v3/objects/companies/batch/create", {"inputs": rows}).status_code == 400
    assert account.get("v3/objects/companies").json()["results"] == []

    traced = [row | {"objectWriteTraceId": str(i)} for i, row in enumerate(rows)]
    answer = account.post("v3/objects/companies/batch/create", {"inputs": traced})
    assert answer.status_code == 207
    assert [r["objectWriteTraceId"] for r in answer.json()["results"]] == ["0"]
    assert answer.json()["numErrors"] == 1
    assert answer.json()["errors"][0]["context"]["objectWriteTraceId"] == ["1"]


def test_batches_hold_a_hundred_and_no_id_twice(account: Account) -> None:
    rows = [{"properties": {"name": str(n)}} for n in range(101)]
    assert account.post("v3/objects/companies/batch/create", {"inputs": rows}).status_code == 400
    assert account.post("v3/objects/companies/batch/create", {"inputs": rows[:100]}).status_code == 201
    one = account.make("companies", name="x")
    twice = [{"id": one, "properties": {"name": "y"}}] * 2
    assert account.post("v3/objects/companies/batch/update", {"inputs": twice}).status_code == 400


def test_a_unique_value_belongs_to_one_record(account: Account) -> None:
    first = account.make("companies", name="A", ext_key="k1")
    answer = account.post("v3/objects/companies", {"properties": {"name": "B", "ext_key": "K1"}})
    assert answer.status_code == 400
    assert "CONFLICTING_UNIQUE_VALUE" in answer.json()["message"]
    account.make("contacts", email="eve@acme.example")
    answer = account.post("v3/objects/contacts", {"properties": {"email": "Eve@acme.example"}})
    assert answer.status_code == 409
    assert answer.json()["category"] == "CONFLICT"
    read = {"inputs": [{"id": "k1"}, {"id": "k2"}], "idProperty": "ext_key", "properties": ["ext_key"]}
    answer = account.post("v3/objects/companies/batch/read", read)
    assert answer.status_code == 207
    assert [r["id"] for r in answer.json()["results"]] == [first]
    assert answer.json()["errors"][0]["category"] == "OBJECT_NOT_FOUND"
    assert answer.json()["errors"][0]["context"]["ids"] == ["k2"]
    refused = account.post("v3/objects/companies/batch/read", read | {"idProperty": "name"})
    assert refused.status_code == 400


def test_upsert_updates_or_creates_by_a_unique_value(account: Account) -> None:
    account.make("companies", name="A", ext_key="k1")
    rows = [{"id": k, "idProperty": "ext_key", "properties": {"name": f"new {k}"}} for k in ("k1", "k2")]
    results = account.post("v3/objects/companies/batch/upsert", {"inputs": rows}).json()["results"]
    assert [(r["new"], r["properties"]["name"]) for r in results] == [(False, "new k1"), (True, "new k2")]


def test_search_filters_sorts_and_pages(account: Account) -> None:
    ids = [account.make("companies", name=f"Company {n}", numberofemployees=n) for n in range(5)]

    def search(*filters: dict[str, Any], **more: Any) -> Any:
        return account.post("v3/objects/companies/search", {"filterGroups": [{"filters": list(filters)}]} | more).json()

    big = {"propertyName": "numberofemployees", "operator": "GTE", "value": "2"}
    page = search(big, limit=2, sorts=[{"propertyName": "numberofemployees", "direction": "DESCENDING"}])
    assert (page["total"], [r["id"] for r in page["results"]]) == (3, [ids[4], ids[3]])
    assert page["paging"]["next"]["after"] == "2"
    after = {"propertyName": "hs_object_id", "operator": "GT", "value": ids[3]}
    assert [r["id"] for r in search(after)["results"]] == [ids[4]]
    names = {"propertyName": "name", "operator": "IN", "values": ["company 1"]}
    assert [r["id"] for r in search(names)["results"]] == [ids[1]]
    assert search(names | {"values": ["Company 1"]})["total"] == 0  # IN wants lower case
    no_owner = {"propertyName": "hubspot_owner_id", "operator": "NOT_HAS_PROPERTY"}
    assert search(no_owner)["total"] == 5

    account.admin("clock", {"now": "2025-03-03T11:00:00+00:00"})
    account.http.patch(
        f"{account.url}/crm/v3/objects/companies/{ids[2]}", json={"properties": {"name": "Z"}}, timeout=20
    )
    changed = {"propertyName": "hs_lastmodifieddate", "operator": "GTE", "value": "1740999600000"}
    assert [r["id"] for r in search(changed)["results"]] == [ids[2]]


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 201},
        {"limit": 200, "after": "9900"},
        {"filterGroups": [{"filters": []}] * 6},
        {"filterGroups": [{"filters": [{"propertyName": "name", "operator": "HAS_PROPERTY"}] * 7}]},
        {"filterGroups": [{"filters": [{"propertyName": "nonsense", "operator": "HAS_PROPERTY"}]}]},
        {"filterGroups": [{"filters": [{"propertyName": "name", "operator": "IN", "values": ["x" * 3000]}]}]},
        {"sorts": ["name", "domain"]},
    ],
)
def test_search_has_limits(account: Account, body: dict[str, Any]) -> None:
    assert account.post("v3/objects/companies/search", body).status_code == 400


def test_search_is_as_late_as_it_is_set_and_reading_is_not(account: Account) -> None:
    made = account.make("companies", name="A", ext_key="k1")
    account.admin("limits", {"hubspot_search_lag": 30})
    assert account.post("v3/objects/companies/search", {}).json()["total"] == 0
    read = account.post("v3/objects/companies/batch/read", {"inputs": [{"id": "k1"}], "idProperty": "ext_key"})
    assert [r["id"] for r in read.json()["results"]] == [made]
    account.admin("clock", {"now": "2025-03-03T10:00:30+00:00"})
    assert account.post("v3/objects/companies/search", {}).json()["total"] == 1


def test_archived_records_are_listed_apart_and_free_their_associations(account: Account) -> None:
    company = account.make("companies", name="A", ext_key="k1")
    task = account.post(
        "v3/objects/tasks",
        {
            "properties": {"hs_timestamp": NOW, "hs_task_subject": "Call"},
            "associations": [
                {"to": {"id": company}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 192}]}
            ],
        },
    ).json()["id"]
    read = account.post("v4/associations/tasks/companies/batch/read", {"inputs": [{"id": task}]})
    assert read.json()["results"][0]["to"][0]["toObjectId"] == int(company)
    assert account.http.delete(f"{account.url}/crm/v3/objects/tasks/{task}", timeout=20).status_code == 204
    assert account.get(f"v3/objects/tasks/{task}").status_code == 404
    read = {"inputs": [{"id": task}], "properties": []}
    assert account.post("v3/objects/tasks/batch/read?archived=true", read).json()["results"][0]["archived"]
    assert account.get("v3/objects/tasks", archived="True").status_code == 400
    (archived,) = account.get("v3/objects/tasks", archived="true").json()["results"]
    assert (archived["id"], archived["archived"], archived["archivedAt"]) == (task, True, "2025-03-03T10:00:00.000Z")
    read = account.post("v4/associations/tasks/companies/batch/read", {"inputs": [{"id": task}]})
    assert read.status_code == 207
    assert read.json()["errors"][0]["subCategory"] == "crm.associations.NO_ASSOCIATIONS_FOUND"


def test_a_merge_makes_a_new_record_the_old_ids_lead_to(account: Account) -> None:
    one, two = (
        account.make("companies", name="A", ext_key="k1"),
        account.make("companies", name="B", domain="b.example"),
    )
    task = account.post(
        "v3/objects/tasks",
        {
            "properties": {"hs_timestamp": NOW},
            "associations": [
                {"to": {"id": two}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 192}]}
            ],
        },
    ).json()["id"]
    merged = account.post("v3/objects/companies/merge", {"primaryObjectId": one, "objectIdToMerge": two}).json()
    assert merged["id"] not in (one, two)
    assert merged["properties"]["hs_merged_object_ids"] == f"{one};{two}"
    assert (merged["properties"]["name"], merged["properties"]["domain"]) == ("A", "b.example")
    for old in (one, two):
        assert account.get(f"v3/objects/companies/{old}").json()["id"] == merged["id"]
    assert [r["id"] for r in account.get("v3/objects/companies", archived="true").json()["results"]] == [one, two]
    assert [r["id"] for r in account.get("v3/objects/companies").json()["results"]] == [merged["id"]]
    read = account.post("v4/associations/tasks/companies/batch/read", {"inputs": [{"id": task}]})
    assert str(read.json()["results"][0]["to"][0]["toObjectId"]) == merged["id"]
    # an update by an old id is passed over in silence
    answer = account.post("v3/objects/companies/batch/update", {"inputs": [{"id": one, "properties": {"name": "C"}}]})
    assert (answer.status_code, answer.json()["results"]) == (200, [])


def test_what_hubspot_itself_sets(account: Account) -> None:
    task = account.make("tasks", hs_timestamp=NOW)
    url = f"{account.url}/crm/v3/objects/tasks/{task}"
    asked = {"properties": "hs_task_status,hs_task_completion_date"}
    assert account.http.get(url, params=asked, timeout=20).json()["properties"]["hs_task_status"] == "NOT_STARTED"
    account.http.patch(url, json={"properties": {"hs_task_status": "COMPLETED"}}, timeout=20)
    done = account.http.get(url, params=asked, timeout=20).json()["properties"]
    assert done["hs_task_completion_date"] == "2025-03-03T10:00:00.000Z"
    account.http.patch(url, json={"properties": {"hs_task_status": "NOT_STARTED"}}, timeout=20)
    assert account.http.get(url, params=asked, timeout=20).json()["properties"]["hs_task_completion_date"] is None

    for stage, closed, won in (
        ("contractsent", "false", "false"),
        ("closedwon", "true", "true"),
        ("closedlost", "true", "false"),
    ):
        deal = account.make("deals", dealname=stage, dealstage=stage)
        found = account.get(f"v3/objects/deals/{deal}", properties="hs_is_closed,hs_is_closed_won").json()["properties"]
        assert (found["hs_is_closed"], found["hs_is_closed_won"]) == (closed, won)


def test_owners_are_listed_with_those_who_left_apart(account: Account) -> None:
    assert [o["email"] for o in account.get("v3/owners").json()["results"]] == ["ann@acme.example"]
    assert [o["email"] for o in account.get("v3/owners", archived="true").json()["results"]] == ["b@acme.example"]


def test_property_definitions_are_checked(account: Account) -> None:
    assert account.post("v3/properties/tasks", KEY).status_code == 409
    assert account.post("v3/properties/tasks", KEY | {"name": "other", "groupName": "none"}).status_code == 400
    assert account.post("v3/properties/tasks", KEY | {"name": "Not Lower"}).status_code == 400
    choice = KEY | {"name": "choice", "type": "enumeration", "fieldType": "select", "hasUniqueValue": False}
    assert account.post("v3/properties/tasks", choice).status_code == 400
    for n in range(9):
        assert account.post("v3/properties/tasks", KEY | {"name": f"k{n}"}).status_code == 201
    assert account.post("v3/properties/tasks", KEY | {"name": "k9"}).status_code == 400  # ten unique ones a type


def test_limits_are_those_of_a_private_app(account: Account) -> None:
    answer = account.get("v3/owners")
    assert answer.headers["X-HubSpot-RateLimit-Daily"] == "650000"
    assert "X-HubSpot-RateLimit-Daily" not in account.post("v3/objects/tasks/search", {}).headers
    account.admin("limits", {"hubspot_ten_seconds": 0})
    answer = account.get("v3/owners")
    assert (answer.status_code, answer.json()["policyName"]) == (429, "TEN_SECONDLY_ROLLING")
    account.admin("limits", {"hubspot_ten_seconds": 1000, "hubspot_searches": 0})
    assert account.post("v3/objects/tasks/search", {}).json()["policyName"] == "SECONDLY"
    account.admin("limits", {"hubspot_daily": 1})
    answer = account.get("v3/owners")
    assert (answer.status_code, answer.json()["policyName"]) == (429, "DAILY")
    assert answer.headers["X-HubSpot-RateLimit-Daily-Remaining"] == "0"


def test_faults_and_the_call_log_reach_it(account: Account) -> None:
    account.admin("faults", [{"match": "/crm/v3/owners", "status": 503, "body": "busy"}])
    assert account.get("v3/owners").status_code == 503
    made = account.make("companies", name="A")
    account.get(f"v3/objects/companies/{made}")
    calls = account.http.get(f"{account.url}/_sandbox/log", timeout=20).json()["calls"]
    assert {c["api"] for c in calls} == {"hubspot"}
    assert "/crm/v3/objects/companies/{id}" in {c["path"] for c in calls}


@pytest.mark.parametrize("name", sorted(HUBSPOT_ERRORS))
def test_a_call_can_fail_in_every_way_there_is(account: Account, name: str) -> None:
    status, body, headers = HUBSPOT_ERRORS[name]
    account.admin("faults", [{"match": "/crm/v3/owners", "error": name}])
    answer = account.get("v3/owners")
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in headers} == headers
    if isinstance(body, dict):
        assert body.items() <= answer.json().items() and answer.json()["correlationId"]
    else:
        assert answer.text == body
    assert account.get("v3/owners").status_code == 200


@pytest.mark.parametrize("name", sorted(HUBSPOT_ROW_ERRORS))
def test_a_row_can_fail_in_every_way_there_is(account: Account, name: str) -> None:
    account.admin("faults", [{"match": "companies/batch/create", "row_error": name, "rows": [1]}])
    inputs = [{"properties": {"name": n}, "objectWriteTraceId": n} for n in ("a", "b", "c")]
    answer = account.post("v3/objects/companies/batch/create", {"inputs": inputs})
    assert answer.status_code == 207
    [error] = answer.json()["errors"]
    assert (error["category"], error["context"]["objectWriteTraceId"]) == (name, ["b"])
    assert error["message"] == HUBSPOT_ROW_ERRORS[name][0]
    assert [record["properties"]["name"] for record in answer.json()["results"]] == ["a", "c"]


def test_a_gateway_can_give_up_on_a_call_that_is_executed(account: Account) -> None:
    account.admin("faults", [{"match": "objects/companies$", "error": "GATEWAY_TIMEOUT", "executed": True}])
    assert account.post("v3/objects/companies", {"properties": {"name": "A"}}).status_code == 504
    found = account.get("v3/objects/companies?properties=name").json()["results"]
    assert [company["properties"]["name"] for company in found] == ["A"]
