"""Person accounts: recognized, matched by their own address, written by their own fields, at the stand-in's records."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from onetouch.connections import Connection
from onetouch.crm.salesforce.client import Salesforce
from onetouch.handoff import AccountContext, TaskContent
from onetouch.sandbox.fields import make_id
from tenacity.wait import wait_none

from tests.delivery.world import OWNER

FIRST = make_id("001", 1)


@pytest.fixture
def persons(world: Any) -> Any:
    """An org that has person accounts."""
    world.org.post("limits", {"person_accounts": 1})
    return world


def crm(world: Any, lone_users: Any = "person", **given: Any) -> Salesforce:
    extra = {"instance_url": world.org.url, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
    connection = Connection("salesforce_default", extra=extra | {"version": "62.0"})
    return Salesforce(connection, wait=wait_none(), sleep=lambda _: None, lone_users=lone_users, **given)


def row(called: str | None, domain: str | None = None, **contact: Any) -> dict[str, Any]:
    return {"name": called, "domain": domain, "owner_id": OWNER, "contact": contact}


def jane(world: Any, **fields: Any) -> str:
    given = {"FirstName": "Jane", "LastName": "Doe", "PersonEmail": "Jane@Gmail.com"} | fields
    return str(world.rep_writes("Account", None, **given))


def test_a_lone_user_becomes_a_person_account_by_its_own_fields_once(persons: Any) -> None:
    rows = {
        "user:jane@gmail.com": row(None, email="jane@gmail.com", name="Jane Doe"),
        "user:7": row(None),
        "org-1": row("Acme", "acme.example"),
    }
    made = crm(persons).ensure_accounts(rows, "account")
    person = persons.org.account(made["user:jane@gmail.com"].id)
    assert (person["IsPersonAccount"], person["Name"], person["PersonEmail"]) == (1, "Jane Doe", "jane@gmail.com")
    assert (person["Onetouch_Account_Id__c"], person["OwnerId"]) == ("user:jane@gmail.com", OWNER)
    assert persons.org.account(made["user:7"].id)["Name"] == "user:7"
    assert persons.org.account(made["org-1"].id)["IsPersonAccount"] == 0
    assert crm(persons).ensure_accounts(rows, "account") == made
    assert persons.org.state()["accounts"] == 3


def test_a_person_account_is_found_by_its_own_address(persons: Any) -> None:
    there = jane(persons)
    jane(persons, PersonEmail="other@gmail.com")
    made = crm(persons).ensure_accounts({"user:jane@gmail.com": row(None)}, "account")["user:jane@gmail.com"]
    assert made.id == there
    assert persons.org.account(there)["Onetouch_Account_Id__c"] == "user:jane@gmail.com"
    assert persons.org.account(there)["Name"] == "Jane Doe"


@pytest.mark.parametrize("domain", ["gmail.com", "acme.example"])
def test_a_person_account_is_found_by_no_domain(persons: Any, domain: str) -> None:
    there = jane(persons, Website=f"https://{domain}", PersonEmail=f"jane@{domain}")
    made = crm(persons).ensure_accounts({"org-1": row("Acme", domain)}, "account")["org-1"]
    assert made.ok
    assert made.id != there
    [read] = [r for r in crm(persons).read_accounts(persons.policy) if r["crm_account_id"] == there]
    assert (read["domain"], read["name"]) == (None, "Jane Doe")


def test_a_company_is_no_person_whatever_address_its_people_have(persons: Any) -> None:
    there = jane(persons)
    made = crm(persons).ensure_accounts({"group:9": row("Nine", None, email="jane@gmail.com")}, "account")["group:9"]
    assert made.ok
    assert made.id != there
    assert persons.org.account(made.id)["IsPersonAccount"] == 0


def test_a_duplicate_rule_never_makes_a_person_a_companys_record(persons: Any) -> None:
    there = jane(persons, PersonEmail="jane@acme.example")
    rule = {"object": "Account", "match": {"Account": {"Name": "Name"}}, "action": "block"}
    persons.org.post("duplicates", {"rules": [rule]})
    outcome = crm(persons, duplicates="adopt").ensure_accounts({"org-1": row("Jane Doe", "acme.example")}, "account")
    assert (outcome["org-1"].ok, outcome["org-1"].candidates) == (False, (there,))


def test_the_task_of_a_person_goes_to_its_contact_and_is_its_accounts(persons: Any) -> None:
    person = jane(persons)
    persons.accounts(1)
    rows = {
        "h1": TaskContent(subject="person", crm_account_id=person, owner_id=OWNER),
        "h2": TaskContent(subject="company", crm_account_id=FIRST, owner_id=OWNER),
    }
    outcomes = crm(persons).create_tasks(rows)
    assert all(outcome.ok for outcome in outcomes.values())
    tasks = {task["Subject"]: task for task in persons.org.tasks()}
    with sqlite3.connect(persons.org.home / "sandbox.sqlite") as db:
        [(contact, email)] = db.execute("SELECT Id, Email FROM Contact WHERE AccountId = ?", (person,)).fetchall()
    assert email == "Jane@Gmail.com"
    assert (tasks["person"]["WhoId"], tasks["person"]["WhatId"], tasks["person"]["AccountId"]) == (
        contact, None, person
    )  # fmt: skip
    assert (tasks["company"]["WhoId"], tasks["company"]["WhatId"]) == (None, FIRST)
    assert crm(persons).contacts(["jane@gmail.com"]) == {(person, "jane@gmail.com"): contact}


def test_the_context_of_a_person_is_written_by_our_fields_alone(persons: Any) -> None:
    person = jane(persons)
    assert crm(persons).update_accounts({person: AccountContext(tier="high", score=80)})[person].ok
    assert persons.org.account(person)["Name"] == "Jane Doe"


def test_a_lone_user_gets_no_record_where_that_is_said(persons: Any) -> None:
    outcome = crm(persons, "leave").ensure_accounts({"user:7": row(None)}, "account")["user:7"]
    assert (outcome.ok, outcome.code, outcome.retryable) == (False, "NO_RECORD", False)
    assert persons.org.state()["accounts"] == 0


@pytest.mark.parametrize("kind", ["account", "lead"])
@pytest.mark.parametrize("lone_users", ["person", "account", "leave"])
def test_an_org_without_person_accounts_knows_nothing_of_them(world: Any, lone_users: str, kind: str) -> None:
    made = crm(world, lone_users).ensure_accounts({"user:7": row("Jane Doe", email="jane@gmail.com")}, kind)["user:7"]
    assert made.ok
    assert str(made.id).startswith("00Q" if kind == "lead" else "001")
    task = {"h1": TaskContent(subject="s", crm_account_id=made.id, owner_id=OWNER)}
    assert crm(world, lone_users).create_tasks(task)["h1"].ok


def test_the_stand_in_takes_no_name_of_a_person_and_no_person_of_a_company(persons: Any) -> None:
    person = jane(persons)
    persons.accounts(1)
    for thing, record_id, fields in (
        ("Account", None, {"Name": "Doe", "LastName": "Doe"}),
        ("Account", person, {"Name": "Doe"}),
        ("Account", FIRST, {"PersonEmail": "doe@gmail.com"}),
        ("Contact", None, {"LastName": "Roe", "AccountId": person}),
        ("Task", None, {"Subject": "s", "WhatId": person}),
    ):
        with pytest.raises(Exception, match="INVALID_FIELD_FOR_INSERT_UPDATE|FIELD_INTEGRITY_EXCEPTION"):
            persons.rep_writes(thing, record_id, **fields)
    persons.rep_writes("Account", person, LastName="Roe")
    assert persons.org.account(person)["Name"] == "Jane Roe"
