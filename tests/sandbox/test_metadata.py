"""The metadata in include/salesforce can be deployed, and what could not be is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from onetouch.sandbox.metadata import METADATA, MetadataError, read_metadata

from tests.sandbox.conftest import ACME, ANN, Sandbox

FIELDS = "force-app/main/default/objects"
SET = "force-app/main/default/permissionsets/Onetouch.permissionset-meta.xml"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(METADATA, tmp_path / "salesforce"))


def test_what_the_integration_needs_is_there() -> None:
    deployed = read_metadata(METADATA)
    account = {field.name: field for field in deployed["Account"]}
    assert set(account) == {
        "Onetouch_Account_Id__c", "Onetouch_Score__c", "Onetouch_Tier__c", "Onetouch_Trigger__c", "Onetouch_Motion__c",
        "Onetouch_Activated__c", "Onetouch_Milestones__c", "Onetouch_Team_Size__c", "Onetouch_Features_Used__c",
        "Onetouch_Usage_28d__c", "Onetouch_Limit_Share__c", "Onetouch_Dossier__c", "Onetouch_Policy_Version__c",
        "Onetouch_As_Of__c", "Onetouch_Action__c",
    }  # fmt: skip
    assert deployed["Lead"] == deployed["Account"]
    assert deployed["Task"] == deployed["Event"]
    picks = {field.name: field.values for field in deployed["Task"] if field.type == "picklist" and field.restricted}
    assert picks == {
        "Onetouch_Outcome__c": ("No response", "Replied", "Meeting booked"),
        "Onetouch_Disposition__c": ("Good", "Not now", "Wrong person", "Would have bought anyway"),
    }
    keys = {field.name for fields in deployed.values() for field in fields if field.external_id}
    assert keys == {"Onetouch_Account_Id__c", "Onetouch_Handoff_Id__c", "Onetouch_Contact_Key__c"}
    assert all(field.unique for fields in deployed.values() for field in fields if field.external_id)
    assert account["Onetouch_Dossier__c"].length == 32768


def test_the_project_names_its_folder() -> None:
    project = json.loads((METADATA / "sfdx-project.json").read_text())
    assert [(METADATA / d["path"]).is_dir() for d in project["packageDirectories"]] == [True]


@pytest.mark.parametrize(
    ("path", "old", "new", "message"),
    [
        ("Account/fields/Onetouch_Trigger__c", "<length>255</length>", "<length>300</length>", "a Text holds 1 to 255"),
        ("Account/fields/Onetouch_Trigger__c", "    <length>255</length>\n", "", "Text needs length"),
        ("Account/fields/Onetouch_Trigger__c", "Text</type>", "Memo</type>", "type 'Memo'"),
        ("Account/fields/Onetouch_Trigger__c", "Trigger__c", "Why__c", "differs from the file's name"),
        ("Account/fields/Onetouch_Trigger__c", "</CustomField>", "", "not well-formed"),
        ("Account/fields/Onetouch_Score__c", "<scale>1</scale>", "<scale>9</scale>", "0 ≤ scale ≤ precision"),
        ("Account/fields/Onetouch_Dossier__c", "    <visibleLines>30</visibleLines>\n", "", "needs visibleLines"),
        ("Account/fields/Onetouch_Dossier__c", "<label>", "<externalId>true</externalId><label>", "cannot be set on a"),
        ("Activity/fields/Onetouch_Outcome__c", "Replied</fullName>", "No response</fullName>", "distinct values"),
    ],
)  # fmt: skip
def test_what_would_not_deploy_is_refused(copy: Path, path: str, old: str, new: str, message: str) -> None:
    file = copy / FIELDS / f"{path}.field-meta.xml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(MetadataError, match=message):
        read_metadata(copy)


def test_a_field_nobody_was_granted_is_not_seen(copy: Path) -> None:
    text = (copy / SET).read_text()
    (copy / SET).write_text(text.replace("<field>Task.Onetouch_Outcome__c", "<field>Task.Onetouch_Handoff_Id__c"))
    seen = read_metadata(copy)
    assert [field.name for field in seen["Task"]] == ["Onetouch_Disposition__c", "Onetouch_Handoff_Id__c"]
    assert len(seen["Event"]) == 3
    (copy / SET).write_text(text.replace("<field>Task.Onetouch_Outcome__c", "<field>Activity.Onetouch_Outcome__c"))
    with pytest.raises(MetadataError, match="no such field"):
        read_metadata(copy)


def test_a_permission_on_a_field_without_field_level_security_is_refused(copy: Path) -> None:
    text = (copy / SET).read_text()
    for wrong in ("Account.Name", "Account.SystemModstamp", "Contract.Name"):
        (copy / SET).write_text(text.replace("<field>Account.Website", f"<field>{wrong}"))
        with pytest.raises(MetadataError, match="no such field"):
            read_metadata(copy)


def test_the_permission_set_is_all_the_integration_may_do(sandbox: Sandbox) -> None:
    deal = {"Name": "D", "AccountId": ACME, "StageName": "Prospecting", "CloseDate": "2025-04-01"}
    assert sandbox.rest("POST", "sobjects/Opportunity", json=deal).status_code == 201
    sandbox.admin("limits", {"permissions": 1})

    def refused(method: str, path: str, body: dict[str, object] | None = None) -> str:
        answer = sandbox.rest(method, path, json=body)
        assert answer.status_code in (400, 404), answer.text
        return str(answer.json()[0]["errorCode"])

    assert refused("POST", "sobjects/Opportunity", deal) == "INSUFFICIENT_ACCESS_OR_READONLY"
    assert refused("DELETE", f"sobjects/Account/{ACME}") == "INSUFFICIENT_ACCESS_OR_READONLY"
    assert refused("PATCH", f"sobjects/Account/{ACME}", {"Seats__c": 5}) == "INVALID_FIELD_FOR_INSERT_UPDATE"
    assert refused("PATCH", f"sobjects/Account/{ACME}", {"Industry": "x"}) == "INVALID_FIELD_FOR_INSERT_UPDATE"
    assert refused("PATCH", f"sobjects/Account/{ACME}", {"Phone": "1"}) == "INVALID_FIELD"
    assert refused("GET", "sobjects/Contract/describe") == "NOT_FOUND"
    assert sandbox.query("SELECT Phone FROM Account").json()[0]["errorCode"] == "INVALID_FIELD"
    described = {field["name"]: field for field in sandbox.rest("GET", "sobjects/Account/describe").json()["fields"]}
    assert "Phone" not in described
    assert (described["Industry"]["updateable"], described["Website"]["updateable"]) == (False, True)

    account = {"Name": "New", "Website": "new.example", "Onetouch_Account_Id__c": "org-9", "OwnerId": ANN}
    assert sandbox.rest("POST", "sobjects/Account", json=account).status_code == 201
    lead = {"LastName": "New", "Company": "New", "Website": "new.example", "Onetouch_Account_Id__c": "org-8"}
    assert sandbox.rest("POST", "sobjects/Lead", json=lead).status_code == 201
    task = {"Subject": "Call", "WhatId": ACME, "OwnerId": ANN, "Onetouch_Handoff_Id__c": "h1"}
    made = sandbox.rest("POST", "sobjects/Task", json=task).json()["id"]
    assert sandbox.rest("PATCH", f"sobjects/Task/{made}", json={"Status": "Completed"}).status_code == 204
    assert refused("DELETE", f"sobjects/Task/{made}") == "INSUFFICIENT_ACCESS_OR_READONLY"
