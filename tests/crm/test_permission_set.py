"""The permission set in include/salesforce is enough for everything the client does in an org."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from onetouch.connections import Connection
from onetouch.crm import FieldsMissing
from onetouch.crm.salesforce import Salesforce
from onetouch.handoff import AccountContext, OpportunityContent, TaskContent
from onetouch.policy import read_policy
from onetouch.sandbox.fields import make_id
from onetouch.sandbox.in_process import URL, Adapter, Org

SINCE = datetime(2025, 11, 1, tzinfo=UTC)
ACCOUNT, OWNER, PERSON, DEAL = make_id("001", 1), make_id("005", 101), make_id("003", 1), make_id("006", 1)
LEAD = make_id("00Q", 1)


@pytest.fixture
def org() -> Org:
    org = Org()
    org.tooling.clock("2025-11-18T10:00:00+00:00")
    org.tooling.load(
        {
            "User": [{"Id": OWNER, "Name": "Ann Rep", "Email": "ann@acme.example"}],
            "Account": [{"Id": ACCOUNT, "Name": "Acme", "Website": "acme.example", "OwnerId": OWNER}],
            "Contact": [
                {"Id": PERSON, "LastName": "Doe", "Email": "doe@acme.example", "AccountId": ACCOUNT, "DoNotCall": True}
            ],
            "Lead": [{"Id": LEAD, "LastName": "Roe", "Company": "R", "Title": "CTO", "HasOptedOutOfEmail": True}],
            "Opportunity": [
                {"Id": DEAL, "Name": "D", "AccountId": ACCOUNT, "StageName": "Prospecting", "CloseDate": "2025-12-01"}
            ],
        }
    )
    org.tooling.limits(permissions=1, bulk_looks=0)
    return org


@pytest.mark.parametrize("bulk_above", [2_000, 0])
def test_the_set_is_enough(org: Org, bulk_above: int) -> None:
    policy = read_policy()
    extra = {"instance_url": URL, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
    session = org.session()
    crm = Salesforce(
        Connection(conn_id="salesforce_default", extra=extra),
        session=session,
        account_fields=policy.crm.account_fields,
        contact_fields=dict(policy.crm.contact_fields),
        bulk_above=bulk_above,
        sleep=lambda seconds: None,
    )
    session.mount("https://", Adapter(org))  # the client mounts its own, for the network

    crm.check_fields()
    assert "ann@acme.example" in {rep["email"] for rep in crm.read_reps()}
    [account] = crm.read_accounts(policy)
    assert (account["domain"], account["employees"]) == ("acme.example", None)
    assert [deal["opportunity_id"] for deal in crm.read_opportunities(SINCE)] == [DEAL]
    assert crm.contacts(["doe@acme.example"]) == {(ACCOUNT, "doe@acme.example"): PERSON}
    told: list[str] = []
    people = {row["contact_id"]: row for row in crm.read_contacts(tell=told.append)}
    assert (people.keys(), told) == ({PERSON, LEAD}, [])
    assert (people[PERSON]["do_not_call"], people[LEAD]["email_opt_out"], people[LEAD]["title"]) == (True, True, "CTO")
    assert crm.opportunities_since(SINCE) == {ACCOUNT} and crm.gone_since(SINCE) == {}

    new = {"domain": "new.example", "name": "New", "owner_id": OWNER}
    made = crm.ensure_accounts({"org-1": {**new, "domain": "acme.example"}, "org-2": new}, "account")
    made |= crm.ensure_accounts({"org-3": {**new, "domain": "third.example"}}, "lead")
    assert [outcome.reason for outcome in made.values() if not outcome.ok] == []
    assert str(made["org-1"].id) == ACCOUNT and str(made["org-3"].id).startswith("00Q")
    context = {str(outcome.id): AccountContext(score=71, tier="high") for outcome in made.values()}
    assert [outcome.reason for outcome in crm.update_accounts(context).values() if not outcome.ok] == []

    person = {"crm_account_id": ACCOUNT, "email": "mia@acme.example", "name": "Mia Koch", "title": "CTO"}
    contact = crm.ensure_contacts({"h1": person | {"owner_id": OWNER}})["h1"]
    assert contact.reason == "" and str(contact.id).startswith("003")

    task = TaskContent(
        subject="Call",
        description="Why",
        priority="high",
        due_on=date(2025, 11, 19),
        remind_at=datetime(2025, 11, 18, 12, tzinfo=UTC),
        owner_id=OWNER,
    )
    tasks = {
        "h1": replace(task, crm_account_id=ACCOUNT, contact_id=PERSON),
        "h2": replace(task, crm_account_id=str(made["org-3"].id)),
    }
    outcomes = crm.create_tasks(tasks) | crm.close_tasks({"h2": ("[Withdrawn] ", "touched meanwhile")})
    assert [outcome.reason for outcome in outcomes.values() if not outcome.ok] == []
    assert {activity.handoff_id for activity in crm.read_activities(SINCE)} == {"h1", "h2"}
    assert {activity.handoff_id for activity in crm.keyed_tasks(SINCE)} == {"h1", "h2"}
    assert crm.last_written(SINCE) is None

    deal = {"h1": OpportunityContent("Acme", 9_000.0, date(2025, 12, 18), owner_id=OWNER, crm_account_id=ACCOUNT)}
    with pytest.raises(FieldsMissing, match=r"Opportunity\.Amount may not be written"):
        crm.create_opportunities(deal)


def test_opportunities_need_the_second_set_and_a_lead_has_none(org: Org) -> None:
    org.tooling.limits(permissions=2)
    extra = {"instance_url": URL, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
    session = org.session()
    crm = Salesforce(Connection(conn_id="salesforce_default", extra=extra), session=session)
    session.mount("https://", Adapter(org))
    wanted = OpportunityContent("Acme", 9_000.0, date(2025, 12, 18), owner_id=OWNER, crm_account_id=ACCOUNT)
    rows = {"h1": wanted, "h2": replace(wanted, crm_account_id=make_id("00Q", 1))}
    made = crm.create_opportunities(rows)
    assert (made["h1"].ok, made["h2"].code) == (True, "NOT_YET")
    [deal] = [deal for deal in crm.read_opportunities(SINCE) if deal["opportunity_id"] == made["h1"].id]
    assert (deal["crm_account_id"], deal["amount"], deal["lead_source"]) == (ACCOUNT, 9_000.0, "Product")
    assert crm.create_opportunities(rows, unsure=["h1"])["h1"] == made["h1"], "it is adopted, not made again"
