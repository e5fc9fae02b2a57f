"""The people of a HubSpot account: their companies, opt-outs, merges, and what the app may not see."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from onetouch.crm import Refused
from onetouch.crm.hubspot.fields import contact_property

from tests.contracts.crm_stand_ins import DO_NOT_CALL
from tests.crm.portal import AS_OF, Portal

LATER = AS_OF + timedelta(hours=1)


@pytest.fixture
def portal(org: Any, world: Any) -> Portal:
    portal = Portal(org, world)
    portal.empty()
    portal.load(properties={"contacts": [DO_NOT_CALL]})
    fields = dict(world.policy.crm.contact_fields) | {"do_not_call": "do_not_call"}
    world.policy = world.policy.changed(crm__contact_fields=fields)
    return portal


def people(portal: Portal, *since: Any) -> dict[str, dict[str, Any]]:
    return {row["contact_id"]: row for row in portal.client().read_contacts(*since)}


def test_a_contact_in_full_and_one_without_a_company(portal: Portal) -> None:
    companies = portal.companies(1)
    named = {"email": "Jane@Company1.example", "firstname": "Jane", "lastname": "Doe", "jobtitle": "CTO"}
    jane = portal.make("contacts", companies[1], **named, do_not_call="true")
    alone = portal.make("contacts", email="alone@x.example")
    portal.load(unsubscribed={alone: True})
    rows = people(portal)
    assert rows[jane] == {
        "contact_id": jane, "kind": "contact", "crm_account_id": companies[1], "email": "jane@company1.example",
        "name": "Jane Doe", "title": "CTO", "do_not_call": True, "email_opt_out": False, "is_deleted": False,
        "changed_at": AS_OF,
    }  # fmt: skip
    assert (rows[alone]["crm_account_id"], rows[alone]["name"], rows[alone]["email_opt_out"]) == (None, None, True)
    assert [row["contact_id"] for row in portal.client().contacts_of([companies[1]])] == [jane]


def test_unsubscribing_is_the_persons_own_act(portal: Portal) -> None:
    contact = portal.make("contacts", email="a@x.example")
    url = f"{portal.url}/crm/v3/objects/contacts/{contact}"
    answer = portal.http.patch(url, json={"properties": {"hs_email_optout": "true"}}, timeout=10)
    assert (answer.status_code, "READ_ONLY_VALUE" in answer.text) == (400, True)


def test_a_contact_belongs_to_its_primary_company(portal: Portal) -> None:
    companies = portal.companies(1, 2)
    contact = portal.make("contacts", companies[1], email="a@x.example")
    portal.load(associations=[["contacts", contact, "companies", companies[2]]])
    primary = {"from": {"id": contact}, "to": {"id": companies[2]}, "types": [{"associationTypeId": 1}]}
    portal.post("v4/associations/contacts/companies/batch/create", {"inputs": [primary]})
    assert people(portal)[contact]["crm_account_id"] == companies[2]
    for company in companies.values():
        assert [row["contact_id"] for row in portal.client().contacts_of([company])] == [contact]


def test_of_merged_contacts_the_new_one_is_left(portal: Portal) -> None:
    companies = portal.companies(1)
    one, two = (portal.make("contacts", companies[1], email=f"{n}@x.example") for n in "ab")
    portal.load(unsubscribed={two: True})
    portal.org.clock(LATER)
    new = str(portal.post("v3/objects/contacts/merge", {"primaryObjectId": one, "objectIdToMerge": two})["id"])
    changed = people(portal, LATER)
    assert {i: row["is_deleted"] for i, row in changed.items()} == {one: True, two: True, new: False}
    assert changed[new]["email_opt_out"] is True


def test_a_property_that_is_not_there_and_an_app_without_the_scope_are_said(portal: Portal) -> None:
    portal.make("contacts", email="a@x.example")
    lines: list[str] = []
    [row] = portal.client(contact_fields={"do_not_call": "No_Calls__c"}).read_contacts(tell=lines.append)
    assert row["do_not_call"] is None
    [plain] = portal.client(contact_fields={"do_not_call": "DoNotCall"}).read_contacts(tell=lines.append)
    assert plain["do_not_call"] is False  # HubSpot keeps none, and the policy names none
    assert lines == [
        "contacts.no_calls is no property, so do_not_call of every contact is unknown: name the property in "
        "crm.contact_fields.do_not_call, or set that to null if the account keeps none"
    ]
    portal.fault(match="/properties/contacts", status=403, body={"category": "MISSING_SCOPES"}, times=1)
    assert list(portal.client().read_contacts(tell=lines.append)) == []
    assert "crm.objects.contacts.read" in lines[-1]
    portal.fault(match="/properties/contacts", status=400, body={"category": "VALIDATION_ERROR"}, times=1)
    with pytest.raises(Refused):
        list(portal.client().read_contacts())


def test_names_of_salesforce_are_translated() -> None:
    told = {name: contact_property(name) for name in ("Title", "DoNotCall", "HasOptedOutOfEmail", "No_Calls__c")}
    assert told == {
        "Title": "jobtitle",
        "DoNotCall": None,
        "HasOptedOutOfEmail": "hs_email_optout",
        "No_Calls__c": "no_calls",
    }


# ── an address that a contact has already ────────────────────────────────────────────────────────


def wanted(company: str, email: str = "old@company1.example") -> dict[str, Any]:
    return {"crm_account_id": company, "email": email, "name": "Jane Doe", "title": None, "owner_id": None}


@pytest.mark.parametrize("whose", ["same", "other", "nobody's"])
def test_a_further_address_of_a_contact_is_that_contact_within_its_company(portal: Portal, whose: str) -> None:
    companies = portal.companies(1, 2)
    of = {"same": companies[1], "other": companies[2], "nobody's": None}[whose]
    kept = portal.make("contacts", of, email="jane@company1.example")
    gone = portal.make("contacts", of, email="old@company1.example")
    body = {"primaryObjectId": kept, "objectIdToMerge": gone}
    merged = str(portal.post("v3/objects/contacts/merge", body)["id"])
    outcome = portal.client().ensure_contacts({"h1": wanted(companies[1])})["h1"]
    if whose == "other":
        assert (outcome.ok, outcome.code) == (False, "OTHER_COMPANY")
    else:
        assert (outcome.ok, outcome.id) == (True, merged)


def test_a_contact_of_another_company_that_is_made_meanwhile_is_not_taken(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    companies = portal.companies(1, 2)
    portal.make("contacts", companies[2], email="old@company1.example")
    ours = portal.client()
    monkeypatch.setattr(ours, "contacts", lambda _: {})  # nobody was there when we looked
    assert ours.ensure_contacts({"h1": wanted(companies[1])})["h1"].code == "OTHER_COMPANY"


def test_of_two_companies_with_one_new_address_one_gets_the_contact(portal: Portal) -> None:
    companies = portal.companies(1, 2)
    rows = {"h1": wanted(companies[1]), "h2": wanted(companies[2])}
    outcomes = portal.client().ensure_contacts(rows)
    assert sorted(outcome.ok for outcome in outcomes.values()) == [False, True]
    [contact] = [outcome.id for outcome in outcomes.values() if outcome.ok]
    [key] = [key for key, outcome in outcomes.items() if outcome.ok]
    at = portal.client().contacts(["old@company1.example"])
    assert at == {(rows[key]["crm_account_id"], "old@company1.example"): contact}
