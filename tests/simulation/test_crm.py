"""The simulated CRM: records that a real org would take, joined to the product in more than one way."""

import json
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from onetouch.simulation import simulate
from onetouch.simulation.ids import checksum, record_id

START = datetime(2025, 6, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crm")
    simulate(folder, seed=5, start=START, until=START + timedelta(days=21), accounts=200)
    return json.loads((folder / "crm.json").read_text()), pd.read_parquet(folder / "truth" / "accounts.parquet")


def test_checksum_is_salesforces():
    # Published pairs of Salesforce's documentation.
    assert "001A0000006Vm9r" + checksum("001A0000006Vm9r") == "001A0000006Vm9rIAC"
    assert len(record_id("001", 7)) == 18


def test_ids_are_valid_unique_and_refer_to_what_is_there(company):
    document, _ = company
    prefixes = {"Account": "001", "User": "005", "Opportunity": "006", "Task": "00T"}
    assert set(document) == set(prefixes)
    ids = {name: [r["Id"] for r in records] for name, records in document.items()}
    for name, known in ids.items():
        assert known and len(set(known)) == len(known)
        assert all(len(i) == 18 and i.startswith(prefixes[name]) and checksum(i[:15]) == i[15:] for i in known)
    assert {r["OwnerId"] for name in ("Account", "Opportunity", "Task") for r in document[name]} <= set(ids["User"])
    assert {r["AccountId"] for r in document["Opportunity"]} <= set(ids["Account"])
    assert {r["WhatId"] for r in document["Task"]} <= set(ids["Account"])


def test_accounts_join_by_id_by_website_or_not_at_all(company):
    document, truth = company
    truth = truth.set_index("account_id")
    by_id = [r for r in document["Account"] if "Onetouch_Account_Id__c" in r]
    assert by_id and all(truth.at[r["Onetouch_Account_Id__c"], "crm_account_id"] == r["Id"] for r in by_id)
    domains = truth.loc[truth["domain"].notna(), "domain"]
    by_site = [r for r in document["Account"] if "Onetouch_Account_Id__c" not in r]
    joined = [r for r in by_site if any(d in r["Website"] for d in domains)]
    assert joined and len(joined) < len(by_site), "some by website, some were never in the product"
    organisations = truth[truth["account_basis"] != "personal"]
    unknown = ~organisations["in_crm"]
    assert 0 < unknown.mean() < 0.1
    assert not truth.loc[truth["account_basis"] == "personal", "in_crm"].any()


def test_reps_own_accounts_and_one_has_left(company):
    document, _ = company
    users = {u["Id"]: u for u in document["User"]}
    assert sum(u["IsActive"] for u in users.values()) == 6
    assert all(u["Name"].startswith("Simulated ") for u in users.values())
    assert len({u["TimeZoneSidKey"] for u in users.values()}) >= 5
    owners = pd.Series([users[r["OwnerId"]]["IsActive"] for r in document["Account"]])
    assert 0.2 < owners.mean() < 0.9


def test_colleagues_were_there_before_us(company):
    document, _ = company
    stages = {r["StageName"] for r in document["Opportunity"]}
    assert "Prospecting" in stages and any(s.startswith("Closed") for s in stages)
    assert document["Task"] and all(t["Status"] == "Completed" for t in document["Task"])
    limit = "2025-06-23T00:00:00.000+0000"
    assert all(r["CreatedDate"] < limit for name in ("Account", "Opportunity", "Task") for r in document[name])


def test_plan_limits_are_json_with_a_cap_for_each_limit(company):
    document, truth = company
    limits = [json.loads(r["Plan_Limits__c"]) for r in document["Account"] if "Plan_Limits__c" in r]
    assert set(truth["limit"]) <= set(limits[0])
    assert all(all(cap > 0 for cap in known.values()) for known in limits)
