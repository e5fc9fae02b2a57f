"""The people of a Salesforce org: contacts and leads, and what field-level security shows of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from onetouch.sandbox.fields import make_id

from tests.delivery.world import AS_OF

ACCOUNT = make_id("001", 1)
LATER = AS_OF + timedelta(hours=1)


def contact(world: Any, number: int, **fields: Any) -> str:
    given = {"LastName": "Doe", "Email": f"Doe{number}@Company1.example", "AccountId": ACCOUNT} | fields
    return str(world.rep_writes("Contact", None, **given))


def lead(world: Any, number: int, **fields: Any) -> str:
    given = {"LastName": "Roe", "Company": "Company 9", "Email": f"roe{number}@company9.example"} | fields
    return str(world.rep_writes("Lead", None, **given))


def people(world: Any, *since: Any) -> dict[str, dict[str, Any]]:
    return {row["contact_id"]: row for row in world.salesforce().read_contacts(*since)}


def test_a_contact_and_a_lead_in_full(world: Any) -> None:
    world.accounts(1)
    doe = contact(world, 1, FirstName="Jane", Title="CTO", DoNotCall=True)
    roe = lead(world, 1, HasOptedOutOfEmail=True)
    assert people(world) == {
        doe: {
            "contact_id": doe, "kind": "contact", "crm_account_id": ACCOUNT, "email": "doe1@company1.example",
            "name": "Jane Doe", "title": "CTO", "do_not_call": True, "email_opt_out": False, "is_deleted": False,
            "changed_at": AS_OF,
        },
        roe: {
            "contact_id": roe, "kind": "lead", "crm_account_id": roe, "email": "roe1@company9.example",
            "name": "Roe", "title": None, "do_not_call": False, "email_opt_out": True, "is_deleted": False,
            "changed_at": AS_OF,
        },
    }  # fmt: skip
    crm = world.salesforce()
    assert {row["contact_id"] for row in crm.contacts_of([ACCOUNT, roe])} == {doe, roe}
    assert [row["contact_id"] for row in crm.contacts_of([], ["roe1@company9.example"])] == [roe]


def test_a_converted_lead_is_the_contact_it_became_with_its_opt_outs(world: Any) -> None:
    world.accounts(1)
    roe = lead(world, 1, HasOptedOutOfEmail=True)
    world.org.clock(LATER)
    world.org.post("convert", {"lead": roe, "account": ACCOUNT})
    [now] = people(world).values()
    assert (now["kind"], now["crm_account_id"], now["email_opt_out"]) == ("contact", ACCOUNT, True)
    changed = people(world, LATER)
    assert {i: row["is_deleted"] for i, row in changed.items()} == {roe: True, now["contact_id"]: False}
    assert [row["kind"] for row in world.salesforce().contacts_of([roe, ACCOUNT], [now["email"]])] == ["contact"]


def test_of_merged_contacts_one_is_left_and_a_merged_accounts_go_with_it(world: Any) -> None:
    world.accounts(1, 2)
    one, two = contact(world, 1), contact(world, 2)
    other = contact(world, 3, AccountId=make_id("001", 2))
    world.org.clock(LATER)
    world.org.post("merge", {"winner": one, "losers": [two], "values": {"DoNotCall": True}})
    world.org.post("merge", {"winner": ACCOUNT, "losers": [make_id("001", 2)]})
    changed = people(world, LATER)
    assert {i: row["is_deleted"] for i, row in changed.items()} == {one: False, two: True, other: False}
    assert changed[one]["do_not_call"] is True
    assert changed[other]["crm_account_id"] == ACCOUNT


@pytest.mark.parametrize(
    ("hidden", "told"),
    [
        ("Contact.DoNotCall", "do_not_call of every contact is unknown"),
        ("Lead.HasOptedOutOfEmail", "email_opt_out of every lead is unknown"),
        ("Contact.Email", "whose opt-out a contact holds is unknown"),
        ("Contact.AccountId", "whose opt-out a contact holds is unknown"),
    ],
)
def test_a_hidden_field_is_said_with_what_to_do_and_never_asked_for(world: Any, hidden: str, told: str) -> None:
    world.accounts(1)
    contact(world, 1, DoNotCall=True)
    lead(world, 1)
    world.org.post("hidden", {"fields": [hidden]})
    lines: list[str] = []
    assert len(list(world.salesforce().read_contacts(tell=lines.append))) == 2
    [line] = lines
    assert hidden in line and told in line and "permission set Onetouch" in line
    assert len(list(world.salesforce().contacts_of([ACCOUNT], ["doe1@company1.example"]))) == 1


def test_what_the_policy_does_not_ask_for_is_neither_read_nor_missed(world: Any) -> None:
    world.accounts(1)
    contact(world, 1, DoNotCall=True)
    world.org.post("hidden", {"fields": ["Contact.DoNotCall"]})
    world.policy = world.policy.changed(crm__contact_fields={"title": None, "do_not_call": None, "email_opt_out": None})
    lines: list[str] = []
    [row] = world.salesforce().read_contacts(tell=lines.append)
    assert (row["do_not_call"], row["email_opt_out"], row["title"], lines) == (False, False, None, [])
