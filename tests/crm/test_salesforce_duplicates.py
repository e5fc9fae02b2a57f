"""What becomes of records that a duplicate rule of the org refuses, at the stand-in's records."""

from __future__ import annotations

from typing import Any

import pytest
from onetouch.connections import Connection
from onetouch.crm.salesforce import client
from onetouch.crm.salesforce.client import Salesforce
from onetouch.crm.salesforce.duplicates import AT_ONCE
from onetouch.sandbox.fields import make_id
from tenacity.wait import wait_none

from tests.delivery.world import OTHER, OWNER

FIRST, SECOND = make_id("001", 1), make_id("001", 2)
BY_NAME = {"object": "Account", "match": {"Account": {"Name": "Name"}}, "action": "block"}


def rules(world: Any, *given: dict[str, Any]) -> None:
    world.org.post("duplicates", {"rules": list(given) or [BY_NAME]})


def crm(world: Any, duplicates: Any = "ask", **given: Any) -> Salesforce:
    extra = {"instance_url": world.org.url, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
    connection = Connection("salesforce_default", extra=extra | {"version": "62.0"})
    return Salesforce(connection, wait=wait_none(), sleep=lambda _: None, duplicates=duplicates, **given)


def row(name: str, domain: str | None = None, email: str | None = None) -> dict[str, Any]:
    return {"name": name, "domain": domain, "owner_id": OWNER, "contact": {"email": email}}


def accounts(world: Any) -> int:
    return int(world.org.state()["accounts"])


def our_id(world: Any, record_id: str) -> Any:
    return world.org.account(record_id)["Onetouch_Account_Id__c"]


# A custom field holds the domain here, so that the search by domain finds nothing and the rule is what finds the twin.
ELSEWHERE = {"account_fields": {"domain": "Region__c"}}


@pytest.mark.parametrize("bulk_above", [2_000, 0], ids=["collection", "bulk"])
@pytest.mark.parametrize("duplicates", ["adopt", "allow", "ask"])
def test_the_only_match_of_the_domain_is_the_record(world: Any, duplicates: str, bulk_above: int) -> None:
    world.accounts(1, Name="Acme", Website="https://www.acme.example")
    world.accounts(2, Name="ACME Inc", Website="https://acme.other.example")
    rules(world)
    world.org.post("limits", {"bulk_looks": 0})
    outcomes = crm(world, duplicates, bulk_above=bulk_above, **ELSEWHERE).ensure_accounts(
        {"org-1": row("Acme GmbH", "acme.example"), "org-2": row("Nobody", "nobody.example")}, "account"
    )
    assert (outcomes["org-1"].ok, outcomes["org-1"].id) == (True, FIRST)
    assert our_id(world, FIRST) == "org-1"
    assert our_id(world, SECOND) is None
    assert world.org.account(FIRST)["Name"] == "Acme"  # nothing but our id is written
    assert outcomes["org-2"].ok
    assert accounts(world) == 3


@pytest.mark.parametrize("duplicates", ["adopt", "ask"])
def test_a_match_that_carries_another_accounts_id_is_never_taken(world: Any, duplicates: str) -> None:
    world.accounts(1, Name="Acme", Website="acme.example", Onetouch_Account_Id__c="org-9")
    rules(world)
    outcome = crm(world, duplicates).ensure_accounts({"org-1": row("Acme", "acme.example")}, "account")["org-1"]
    assert (outcome.ok, outcome.retryable, outcome.candidates) == (False, False, (FIRST,))
    assert FIRST in outcome.reason
    assert our_id(world, FIRST) == "org-9"
    assert accounts(world) == 1


@pytest.mark.parametrize(("duplicates", "ok"), [("adopt", True), ("ask", False)])
def test_a_match_of_which_nothing_is_known_is_taken_by_policy_alone(world: Any, duplicates: str, ok: bool) -> None:
    world.accounts(1, Name="Acme", Website=None)
    rules(world)
    outcome = crm(world, duplicates).ensure_accounts({"org-1": row("Acme", "acme.example")}, "account")["org-1"]
    assert outcome.ok is ok
    assert our_id(world, FIRST) == ("org-1" if ok else None)


def test_a_match_of_another_domain_or_one_of_two_is_not_taken_by_policy_either(world: Any) -> None:
    world.accounts(1, Name="Acme", Website="https://acme.other.example")
    rules(world)
    outcome = crm(world, "adopt").ensure_accounts({"org-1": row("Acme", "acme.example")}, "account")["org-1"]
    assert not outcome.ok
    world.accounts(2, Name="Acme", Website=None)
    world.accounts(1, Name="Acme", Website=None)
    outcome = crm(world, "adopt").ensure_accounts({"org-1": row("Acme", "acme.example")}, "account")["org-1"]
    assert (outcome.ok, outcome.candidates) == (False, (FIRST, SECOND))
    assert our_id(world, FIRST) is our_id(world, SECOND) is None


def test_two_accounts_never_take_one_match(world: Any) -> None:
    world.accounts(1, Name="Acme", Website="acme.example")
    rules(world)
    rows = {"org-1": row("Acme", "acme.example"), "org-2": row("Acme", "acme.example")}
    outcomes = crm(world, **ELSEWHERE).ensure_accounts(rows, "account")
    assert [outcomes[a].ok for a in sorted(rows)] == [True, False]
    assert (outcomes["org-2"].code, outcomes["org-2"].candidates) == ("DUPLICATES_DETECTED", (FIRST,))
    assert our_id(world, FIRST) == "org-1"


@pytest.mark.parametrize(("action", "ok"), [("alert", True), ("block", False)])
def test_allow_makes_the_record_where_the_rule_only_alerts(world: Any, action: str, ok: bool) -> None:
    world.accounts(1, Name="Acme", Website="https://acme.other.example")
    rules(world, BY_NAME | {"action": action})
    given = {"org-1": row("Acme", "acme.example")}
    outcome = crm(world, "allow").ensure_accounts(given, "account")["org-1"]
    assert outcome.ok is ok
    assert accounts(world) == (2 if ok else 1)
    if ok:
        assert our_id(world, str(outcome.id)) == "org-1"
        assert crm(world, "allow").ensure_accounts(given, "account")["org-1"].id == outcome.id
    else:
        assert FIRST in outcome.reason


def test_a_new_lead_that_looks_like_a_contact_is_the_contacts_account_if_of_the_domain(world: Any) -> None:
    world.accounts(1, Name="Another name", Website=None)
    person = {"LastName": "Acme", "Email": "jane@acme.example", "AccountId": FIRST}
    world.rep_writes("Contact", None, **person)
    rules(world, {"object": "Lead", "match": {"Contact": {"LastName": "LastName"}}, "action": "block"})
    outcome = crm(world).ensure_accounts({"org-1": row("Acme", "acme.example")}, "lead")["org-1"]
    assert (outcome.id, our_id(world, FIRST)) == (FIRST, "org-1")


def test_a_lone_user_never_becomes_a_company_that_its_contact_belongs_to(world: Any) -> None:
    world.accounts(1, Name="Company", Website="company1.example")
    world.rep_writes("Contact", None, LastName="Doe", Email="doe@gmail.com", AccountId=FIRST)
    rules(world, {"object": "Lead", "match": {"Contact": {"LastName": "LastName"}}, "action": "block"})
    for duplicates in ("ask", "adopt"):
        rows = {"user:1": row("Doe", "gmail.com", "doe@gmail.com")}
        assert not crm(world, duplicates).ensure_accounts(rows, "lead")["user:1"].ok
    assert our_id(world, FIRST) is None


def test_what_is_not_visible_to_us_is_never_taken(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.accounts(1, Name="Acme", Website="acme.example")
    rules(world)
    ours = crm(world, "adopt", **ELSEWHERE)
    monkeypatch.setattr(ours._alike, "candidates", lambda _: {})
    outcome = ours.ensure_accounts({"org-1": row("Acme", "acme.example")}, "account")["org-1"]
    assert (outcome.ok, our_id(world, FIRST)) == (False, None)


def test_more_refused_rows_than_are_sent_singly_wait_for_the_next_run(world: Any) -> None:
    many = AT_ONCE + 3
    world.accounts(*range(1, many + 1), Website=None)
    rules(world)
    rows = {f"org-{n}": row(f"Company {n}", f"company{n}.example") for n in range(1, many + 1)}
    outcomes = crm(world).ensure_accounts(rows, "account")
    assert sum(outcome.retryable for outcome in outcomes.values()) == 3
    assert sum(bool(outcome.candidates) for outcome in outcomes.values()) == AT_ONCE


@pytest.mark.parametrize("drop", ["request", "answer"])
def test_an_answer_that_is_lost_makes_no_second_record(world: Any, drop: str) -> None:
    world.accounts(1, Name="Acme", Website=None)
    rules(world, BY_NAME | {"action": "alert"})
    rows = {"org-1": row("Acme", "acme.example")}
    world.org.post("faults", [{"match": "sobjects/Account$", "method": "POST", "drop": drop, "times": 2}])
    for _ in range(4):
        outcomes = crm(world, "allow").ensure_accounts(rows, "account")
    assert outcomes["org-1"].ok
    assert accounts(world) == 2


# ── contacts ─────────────────────────────────────────────────────────────────────────────────────

ALIKE = {"object": "Contact", "match": {"Contact": {"LastName": "LastName"}}, "action": "alert"}


def jane(account: str = FIRST) -> dict[str, Any]:
    of = {"crm_account_id": account, "email": "jane@acme.example", "name": "Jane Doe"}
    return of | {"title": None, "owner_id": OWNER}


@pytest.mark.parametrize("duplicates", ["adopt", "ask"])
def test_a_contact_of_another_account_is_never_taken(world: Any, duplicates: str) -> None:
    world.accounts(1, 2)
    world.rep_writes("Contact", None, LastName="Doe", Email="jane@acme.example", AccountId=SECOND)
    rules(world, ALIKE)
    outcome = crm(world, duplicates, makes_contacts=True).ensure_contacts({"h1": jane()})["h1"]
    assert (outcome.ok, len(outcome.candidates)) == (False, 1)


def test_a_contact_is_made_all_the_same_where_that_is_allowed(world: Any) -> None:
    world.accounts(1, 2)
    other = world.rep_writes("Contact", None, LastName="Doe", Email="jane@acme.example", AccountId=SECOND)
    rules(world, ALIKE)
    made = crm(world, "allow", makes_contacts=True).ensure_contacts({"h1": jane()})["h1"]
    assert made.ok
    assert made.id != other
    assert crm(world).contacts(["jane@acme.example"]) == {
        (FIRST, "jane@acme.example"): made.id, (SECOND, "jane@acme.example"): other
    }  # fmt: skip


def test_a_contact_made_meanwhile_in_the_same_account_is_taken(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.accounts(1)
    there = world.rep_writes("Contact", None, LastName="Doe", Email="Jane@Acme.example", AccountId=FIRST)
    rules(world, ALIKE)
    ours = crm(world, makes_contacts=True)
    monkeypatch.setattr(client.Salesforce, "contacts", lambda *_: {})
    assert ours.ensure_contacts({"h1": jane()})["h1"].id == there


def test_an_owner_who_may_not_own_is_still_told_as_that(world: Any) -> None:
    world.org.sql("UPDATE User SET IsActive = 0 WHERE Id = ?", OTHER)
    world.accounts(1, Name="Acme", Website=None)
    rules(world)
    outcome = crm(world).ensure_accounts({"org-1": row("Else", "e.example") | {"owner_id": OTHER}}, "account")["org-1"]
    assert (outcome.code, outcome.owner) == ("INACTIVE_OWNER_OR_USER", True)
