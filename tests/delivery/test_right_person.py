"""Right person, right record: wherever contacts of one address are, no task names another company's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onetouch.sandbox.fields import make_id

from tests.crm.portal import Portal
from tests.delivery.world import crm_id

NUMBERS = count(1)
ACCOUNTS = (1, 2, 3)
PLACES = st.sampled_from([None, *ACCOUNTS])
ADDRESSES = st.sampled_from(["ida@company1.example", "Ida@Company1.Example", "max@company1.example"])
CASES = st.fixed_dictionaries(
    {
        "contacts": st.lists(st.tuples(PLACES, ADDRESSES), max_size=6),
        "policy": st.sampled_from(["match", "create"]),
        "duplicates": st.sampled_from(["adopt", "allow", "ask"]),
        "rule": st.sampled_from([None, "alert", "block"]),
    }
)
TO_IDA = {"contact_email": "ida@company1.example", "contact_name": "Ida Berg"}
MANY = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@MANY
@given(case=CASES)
def test_no_task_names_a_contact_of_another_account(make_world: Callable[[str], Any], case: dict[str, Any]) -> None:
    world = make_world(f"world {next(NUMBERS)}")
    world.policy = world.policy.changed(crm__contacts=case["policy"], crm__duplicates=case["duplicates"])
    world.accounts(*ACCOUNTS)
    rows = [
        {"Id": make_id("003", n), "LastName": "Berg", "Email": email, "AccountId": place and crm_id(place)}
        for n, (place, email) in enumerate(case["contacts"], 1)
    ]
    world.org.post("load", {"Contact": rows})
    if case["rule"]:
        alike = {"object": "Contact", "match": {"Contact": {"LastName": "LastName"}}, "action": case["rule"]}
        world.org.post("duplicates", {"rules": [alike]})
    run = world.run()
    world.decide(run, *ACCOUNTS, signals=TO_IDA)
    assert world.deliver(run)["delivered"] == len(ACCOUNTS)
    with sqlite3.connect(world.org.home / "sandbox.sqlite") as db:
        people = {i: (email, account) for i, email, account in db.execute("SELECT Id, Email, AccountId FROM Contact")}
    for number in ACCOUNTS:
        task = world.task(number)
        assert task["WhatId"] == task["AccountId"] == crm_id(number)
        free = [p for p, e in case["contacts"] if e.lower() == TO_IDA["contact_email"] and p in (None, number)]
        if task["WhoId"] is None:
            assert not free
            assert case["policy"] == "match" or case["rule"]
        else:
            email, account = people[task["WhoId"]]
            assert email.lower() == TO_IDA["contact_email"]
            assert account in (None, crm_id(number))


NAMES = st.sampled_from(["ida", "max", "eve"])
HUBSPOT = st.fixed_dictionaries(
    {
        "contacts": st.dictionaries(NAMES, st.sets(st.sampled_from(ACCOUNTS)), max_size=3),
        "merged": st.booleans(),
        "wanted": st.lists(st.tuples(st.sampled_from(ACCOUNTS), NAMES), max_size=5),
    }
)


@MANY
@given(case=HUBSPOT)
def test_no_contact_of_another_company_is_taken_in_hubspot(
    make_world: Callable[[str], Any], org: Any, case: dict[str, Any]
) -> None:
    portal = Portal(org, make_world(f"portal {next(NUMBERS)}"))
    portal.empty()
    companies = portal.companies(*ACCOUNTS)
    there: dict[str, str] = {}
    for name, places in case["contacts"].items():
        first, *more = [companies[n] for n in sorted(places)] or [None]
        there[name] = portal.make("contacts", first, email=f"{name}@x.example")
        portal.load(associations=[["contacts", there[name], "companies", company] for company in more])
    if case["merged"] and {"ida", "max"} <= there.keys():
        body = {"primaryObjectId": there["ida"], "objectIdToMerge": there["max"]}
        portal.post("v3/objects/contacts/merge", body)
    rows = {
        f"h{i}": {"crm_account_id": companies[n], "email": f"{name}@x.example", "name": name, "title": None}
        for i, (n, name) in enumerate(case["wanted"])
    }
    outcomes = portal.client().ensure_contacts(rows)
    for key, outcome in outcomes.items():
        if not outcome.ok:
            continue
        of = portal.post("v4/associations/contacts/companies/batch/read", {"inputs": [{"id": str(outcome.id)}]})
        theirs = {str(link["toObjectId"]) for row in of["results"] for link in row["to"]}
        assert not theirs or rows[key]["crm_account_id"] in theirs
