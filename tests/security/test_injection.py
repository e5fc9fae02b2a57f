"""No value of anybody's becomes a part of a query.

CSV of bulk jobs, HTML, mrkdwn, spreadsheets and terminals: test_tampered_inputs. Archives that would leave their
folder or fill the disk: tests/exports/test_folder. Quoting of long lists: tests/delivery/test_salesforce.
"""

from __future__ import annotations

from typing import Any

import pytest
from onetouch.connections import Connection
from onetouch.crm.salesforce import Salesforce
from onetouch.lake import Lake, key
from onetouch.sandbox.fields import make_id
from onetouch.sandbox.in_process import URL, Adapter, Org
from tenacity import wait_none

from tests.security.hostile import ATTACKS

ACCOUNT, CONTACT, OWNER = make_id("001", 1), make_id("003", 1), make_id("005", 101)
VALUES = [
    text for text in ATTACKS
    if 0 < len(text.strip()) < 200 and text.isprintable() and not any("\ue000" <= c <= "\uffff" for c in text)
]  # fmt: skip


@pytest.fixture
def org() -> Org:
    org = Org()
    org.tooling.load(
        {
            "User": [{"Id": OWNER, "Name": "Rita", "Email": "rita@rep.example"}],
            "Account": [{"Id": ACCOUNT, "Name": "Acme", "Website": "acme.example", "OwnerId": OWNER}],
            "Contact": [{"Id": CONTACT, "LastName": "A", "Email": "a@acme.example", "AccountId": ACCOUNT}],
            "Task": [
                {
                    "Id": make_id("00T", 1),
                    "Onetouch_Handoff_Id__c": "h1",
                    "Subject": "S",
                    "WhatId": ACCOUNT,
                    "OwnerId": OWNER,
                }
            ],
        }
    )
    return org


@pytest.fixture
def crm(org: Org) -> Salesforce:
    session = org.session()
    extra = {"instance_url": URL, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
    client = Salesforce(Connection("c", extra=extra), wait=wait_none(), sleep=lambda _: None, session=session)
    session.mount("https://", Adapter(org))
    return client


def count(org: Org, table: str) -> int:
    return org.store.db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_a_value_stays_a_value_in_soql(org: Org, crm: Salesforce) -> None:
    assert crm.contacts(["a@acme.example"]) and crm.tasks_of(["h1"]), "what is there is found"
    assert crm.contacts(VALUES) == {} and crm.tasks_of(VALUES) == {}
    for value in ("x' OR Email != '", "x') OR (Id != null", "\\' OR Id != null --", "%", "_"):
        assert crm.contacts([value]) == {} and crm.tasks_of([value]) == {}


def test_an_account_id_stays_one_where_records_are_made(org: Org, crm: Salesforce) -> None:
    ids = [value for value in VALUES if value == value.strip()][:60]
    rows: dict[str, Any] = {i: {"name": i[:80], "domain": None, "owner_id": OWNER} for i in ids}
    made = crm.ensure_accounts(rows, "account")
    assert {outcome.reason for outcome in made.values() if not outcome.ok} == set()
    held = {row["Onetouch_Account_Id__c"] for row in org.store.db.execute("SELECT * FROM Account")} - {None}
    assert held == set(ids) and count(org, "Account") == 1 + len(ids)
    assert {o.id for o in crm.ensure_accounts(rows, "account").values()} == {o.id for o in made.values()}
    assert count(org, "Account") == 1 + len(ids), "the same again makes none"


@pytest.mark.parametrize("text", [*VALUES, "..", ".", "a\x00b", "\ud800", "x" * 5_000])
def test_no_text_leaves_the_lake(text: str, tmp_path: Any) -> None:
    lake = Lake(tmp_path / "lake")
    try:
        path = lake.path("raw", key(text))
    except (ValueError, UnicodeEncodeError):
        return
    assert path.startswith(f"{tmp_path}/lake/raw/") and "/.." not in path
