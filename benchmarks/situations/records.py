"""Which record is whose: duplicate rules, person accounts, contacts of other companies, merges, late deliveries."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from datetime import timedelta
from typing import Any

from onetouch.delivery import DeliveryFailed, back_off

from benchmarks.situations.situation import Seen, Stage, situation
from tests.crm.portal import Portal
from tests.delivery.world import AS_OF, World, crm_id

AN_HOUR, A_DAY = timedelta(hours=1), timedelta(days=1)
BY_NAME = {"object": "Account", "match": {"Account": {"Name": "Name"}}}
IDA = {"contact_email": "ida@acme.example", "contact_name": "Ida Berg"}


def unknown(world: World, at: Any = AS_OF, account_id: str = "org-1", **signals: Any) -> str:
    """A run that hands over an account without a record in the CRM; what it says that is not green."""
    world.org.clock(at)
    run = world.run(at)
    named = {"account_id": account_id, "name": "Acme GmbH", "domain": "acme.example"} | signals
    world.decide(run, 1, account_id=account_id, crm_account_id=None, signals=named)
    try:
        world.deliver(run)
    except DeliveryFailed as failure:
        return str(failure)
    return ""


def ours(world: World, number: int) -> Any:
    """Our id on a record."""
    return world.org.account(crm_id(number))["Onetouch_Account_Id__c"]


def next_run(world: World, at: Any) -> None:
    """What the hourly run does before it decides: it reads the CRM and backs off."""
    world.org.clock(at)
    run = world.run(at)
    world.extract(run)
    back_off(world.ledger, world.policy, run, world.salesforce(), held=None, lake=world.lake)


def opened(world: World, number: int, at: Any = AS_OF, **signals: Any) -> None:
    """The account is handed over."""
    world.org.clock(at)
    run = world.run(at)
    world.decide(run, number, signals=signals)
    world.deliver(run)


def open_tasks(world: World) -> list[str]:
    """The keys of the open tasks."""
    return [t["Onetouch_Handoff_Id__c"] for t in world.org.tasks() if not t["IsClosed"] and not t["IsDeleted"]]


def people(world: World) -> dict[str, tuple[str, str | None]]:
    """Contact → its address and its account."""
    with sqlite3.connect(world.org.home / "sandbox.sqlite") as db:
        rows = db.execute("SELECT Id, Email, AccountId FROM Contact").fetchall()
    return {i: (email, account) for i, email, account in rows}


# ── duplicate rules ──────────────────────────────────────────────────────────────────────────────


@situation(
    source="jsforce/jsforce #1055",
    happens="A new lead is refused: a duplicate rule finds a contact of that company, whose account has no website.",
    expected="The answer names the contact; its address has the account's domain, so its account gets our id and task.",
)
def duplicate_rule_names_the_right_record(stage: Stage) -> Seen:
    world = stage.world(crm__unknown_accounts="lead")
    world.accounts(1, Website=None)
    world.rep_writes("Contact", None, LastName="Acme GmbH", Email="ida@acme.example", AccountId=crm_id(1))
    rule = {"object": "Lead", "match": {"Contact": {"LastName": "LastName"}}, "action": "block"}
    world.org.post("duplicates", {"rules": [rule]})
    said = unknown(world)
    [task] = world.org.tasks()
    return Seen(
        not said and (ours(world, 1), task["WhatId"]) == ("org-1", crm_id(1)),
        f"{said or 'the run is green'}, our id on the contact's account: {ours(world, 1)}, the task is there",
    )


@situation(
    source="SalesforceFoundation/NPSP #2475",
    happens="A rule that only alerts refuses all the same what comes through the API; the policy says allow.",
    expected="The record is created with the header that acknowledges the alert, once, and has its task.",
)
def alert_refuses_the_api_and_may_be_overridden(stage: Stage) -> Seen:
    world = stage.world(crm__duplicates="allow")
    world.accounts(1, Name="Acme Inc", Website="acme.other.example")
    world.org.post("duplicates", {"rules": [BY_NAME | {"action": "alert"}]})
    said = unknown(world)
    accounts, record = world.org.state()["accounts"], world.handoff(1).crm_account_id
    holds = not said and accounts == 2 and record != crm_id(1) and len(world.org.tasks()) == 1
    return Seen(holds, f"{said or 'the run is green'}, {accounts} accounts, {len(world.org.tasks())} task")


@situation(
    source="salesforce.stackexchange.com, question 66050",
    happens="Two accounts look like the new one, and neither has a website. A person gives the right one its website.",
    expected="Refused, with both named; nothing is written on either. The next day the right one is the record.",
)
def two_lookalikes_are_a_persons_question(stage: Stage) -> Seen:
    world = stage.world()
    world.accounts(1, 2, Name="Acme", Website=None)
    world.org.post("duplicates", {"rules": [BY_NAME | {"action": "block"}]})
    said = unknown(world)
    named = crm_id(1) in said and crm_id(2) in said
    untouched = ours(world, 1) is None and ours(world, 2) is None
    world.rep_writes("Account", crm_id(2), Website="https://www.acme.example")
    again = unknown(world, AS_OF + A_DAY)
    holds = named and untouched and not again and ours(world, 2) == "org-1" and len(world.org.tasks()) == 1
    return Seen(holds, f"refused with both named: {named}; after the website {again or 'a task on the right one'}")


@situation(
    source="simple-salesforce/simple-salesforce #628",
    happens="Accounts go in a bulk job, whose refused rows name no match, and which knows no header.",
    expected="The refused row is sent once more by itself, which names the match: it gets our id, the others are made.",
)
def bulk_job_names_no_match(stage: Stage) -> Seen:
    world = stage.world()
    world.accounts(1, Name="Acme", Website=None)
    world.rep_writes("Contact", None, LastName="Acme", Email="ida@acme.example", AccountId=crm_id(1))
    rule = {"object": "Lead", "match": {"Contact": {"Company": "LastName"}}, "action": "block"}
    world.org.post("duplicates", {"rules": [rule]})
    client = world.salesforce()
    client._bulk_above = 1
    rows = {
        f"org-{n}": {"name": name, "domain": domain, "owner_id": None}
        for n, (name, domain) in enumerate([("Acme", "acme.example"), ("Two", "two.example")], 1)
    }
    outcomes = client.ensure_accounts(rows, "lead")
    holds = all(outcome.ok for outcome in outcomes.values()) and ours(world, 1) == "org-1"
    return Seen(holds, f"our id on the match: {ours(world, 1)}, the other: {outcomes['org-2'].id}")


@situation(
    source="ours: right person, right record",
    happens="The only match that the rule names carries the id of another account of the product.",
    expected="It is never taken, whatever the policy says: refused with the match named, its id as it was.",
)
def match_belongs_to_another_account(stage: Stage) -> Seen:
    seen = []
    for policy in ("adopt", "ask"):
        world = stage.world(crm__duplicates=policy)
        world.accounts(1, Name="Acme", Website="acme.example", Onetouch_Account_Id__c="org-9")
        world.org.post("duplicates", {"rules": [BY_NAME | {"action": "block"}]})
        said = unknown(world)
        seen.append(crm_id(1) in said and ours(world, 1) == "org-9" and not world.org.tasks())
    return Seen(all(seen), "refused and named, the id of the other account stands" if all(seen) else f"{seen}")


# ── persons ──────────────────────────────────────────────────────────────────────────────────────


@situation(
    source="SalesforceCommerceCloud/b2c-crm-sync #267",
    happens="An org with person accounts refuses a Name for a person; a lone user is handed over.",
    expected="A person account by its own fields, once; the task goes to its contact and is the account's.",
)
def lone_user_in_an_org_with_person_accounts(stage: Stage) -> Seen:
    world = stage.world(handoff__required_context=["features_used", "users", "events", "activated"])
    world.org.post("limits", {"person_accounts": 1})
    lone = {"name": None, "domain": None, "contact_email": "ida@gmail.com", "contact_name": "Ida Berg"}
    said = unknown(world, account_id="user:ida@gmail.com", **lone)
    if said:
        return Seen(False, said)
    [task] = world.org.tasks()
    account = world.org.account(task["AccountId"])
    told = people(world)[task["WhoId"]]
    holds = not said and account["IsPersonAccount"] and told == ("ida@gmail.com", account["Id"]) and not task["WhatId"]
    return Seen(bool(holds), f"{account['Name']}, person account; the task's contact: {told[0]}")


@situation(
    source="SalesforceCommerceCloud/b2c-crm-sync #54",
    happens="The org keeps a private customer whose mailbox has the company's domain, as a person account.",
    expected="The company is not that person: it gets an account of its own.",
)
def company_is_not_the_person_of_its_domain(stage: Stage) -> Seen:
    world = stage.world()
    world.org.post("limits", {"person_accounts": 1})
    person = world.rep_writes("Account", None, LastName="Berg", PersonEmail="ida@acme.example", Website="acme.example")
    said = unknown(world)
    [task] = world.org.tasks()
    holds = not said and task["AccountId"] != person and world.org.account(person)["Onetouch_Account_Id__c"] is None
    return Seen(holds, f"{said or 'the run is green'}, the task is on {world.org.account(task['AccountId'])['Name']}")


@situation(
    source="HubSpot/hubspot-api-nodejs #545",
    happens="A contact is not found by an address that it has beside its own, and refused as existing when created.",
    expected="The id in the refusal is taken within the same company, and never where it is another company's.",
)
def contact_exists_under_a_further_address(stage: Stage) -> Seen:
    outcomes = []
    for whose in (1, 2):
        world = stage.world(crm__system="hubspot")
        portal = Portal(stage.org, world)
        portal.empty()
        companies = portal.companies(1, 2)
        kept, gone = (portal.make("contacts", companies[whose], email=f"{n}@acme.example") for n in ("ida", "i.berg"))
        portal.post("v3/objects/contacts/merge", {"primaryObjectId": kept, "objectIdToMerge": gone})
        row = {"crm_account_id": companies[1], "email": "i.berg@acme.example", "name": "Ida", "title": None}
        outcomes.append(portal.client().ensure_contacts({"h1": row})["h1"])
    same, other = outcomes
    return Seen(same.ok and other.code == "OTHER_COMPANY", f"same company: {same.ok}; another's: {other.code}")


@situation(
    source="ours: right person, right record",
    happens="The person to write to is a contact of another company with the same address, and of none at this one.",
    expected="The task names no contact; where contacts are made, it names a new one of this account.",
)
def same_address_at_another_company(stage: Stage) -> Seen:
    told = []
    for policy in ("match", "create"):
        world = stage.world(crm__contacts=policy)
        world.accounts(1, 2)
        other = world.rep_writes("Contact", None, LastName="Berg", Email="ida@acme.example", AccountId=crm_id(2))
        opened(world, 1, **IDA)
        who = world.task(1)["WhoId"]
        told.append(who != other and (people(world)[who][1] == crm_id(1) if policy == "create" else who is None))
    return Seen(all(told), "match: no contact; create: one of the account's own" if all(told) else f"{told}")


# ── merges, and what is late ─────────────────────────────────────────────────────────────────────


@situation(
    source="Salesforce documentation: merge() (the master record keeps its own field values)",
    happens="An admin merges the account of an open task into another one, which has none of our fields.",
    expected="The survivor gets our id and the dossier with the next run, once; the task and the handoff are on it.",
)
def account_of_an_open_task_is_merged(stage: Stage) -> Seen:
    world = stage.world()
    world.accounts(1, 3)
    opened(world, 1)
    world.org.clock(AS_OF + AN_HOUR)
    world.org.post("merge", {"winner": crm_id(3), "losers": [crm_id(1)]})
    next_run(world, AS_OF + 2 * AN_HOUR)
    record, handoff = world.org.account(crm_id(3)), world.handoff(1)
    dossier = bool(record["Onetouch_Dossier__c"])
    holds = ours(world, 3) == "org-1" and dossier and handoff.crm_account_id == crm_id(3)
    return Seen(
        holds and open_tasks(world) == [handoff.handoff_id],
        f"our id on the survivor: {ours(world, 3)}, dossier: {dossier}, {len(open_tasks(world))} open task",
    )


@situation(
    source="Salesforce documentation: merge() (child records move to the master record)",
    happens="Two accounts are merged, and a rep has an open task for each.",
    expected="One stays open, the survivor's own; the other is closed with the reason, and stays so.",
)
def both_merged_accounts_had_a_task(stage: Stage) -> Seen:
    kept = []
    for winner in (1, 2):
        world = stage.world()
        world.accounts(1, 2)
        opened(world, 1)
        opened(world, 2, AS_OF + AN_HOUR)
        world.org.post("merge", {"winner": crm_id(winner), "losers": [crm_id(3 - winner)]})
        for hours in (2, 3):
            next_run(world, AS_OF + hours * AN_HOUR)
        kept.append(open_tasks(world) == [world.handoff(winner).handoff_id])
    return Seen(all(kept), "the survivor's task is the one open, whichever survives" if all(kept) else f"{kept}")


@situation(
    source="ours: own fields of an earlier episode",
    happens="The account was handed over at 92 % of its limit; in the next episode no limit is in play.",
    expected="The record shows nothing of the earlier limit; the rep's and the customer's own fields are untouched.",
)
def earlier_episode_leaves_nothing_behind(stage: Stage) -> Seen:
    world = stage.world()
    world.accounts(1, Region__c="EU")
    opened(world, 1)
    then = world.org.account(crm_id(1))["Onetouch_Limit_Share__c"]
    world.ledger.move(world.handoff(1).handoff_id, "withdrawn", AS_OF + AN_HOUR, "bought: by themselves")
    opened(world, 1, AS_OF + 90 * A_DAY, limit_share=None, limit_used=None)
    now = world.org.account(crm_id(1))
    holds = then == 92 and now["Onetouch_Limit_Share__c"] is None and now["Region__c"] == "EU"
    return Seen(holds, f"limit then {then}, now {now['Onetouch_Limit_Share__c']}; region {now['Region__c']}")


@situation(
    source="ours: a delivery that waited",
    happens="The CRM takes no task for a whole day; the task was due two hours after the decision.",
    expected="It is delivered with a due time and a reminder of its own, in working time from then on.",
)
def delivered_a_day_late(stage: Stage) -> Seen:
    world = stage.world()
    world.accounts(1)
    run = world.run()
    world.decide(run, 1)
    locked = {"match": "composite/sobjects$", "method": "POST", "row_error": "UNABLE_TO_LOCK_ROW", "times": 5}
    world.org.post("faults", [locked])
    with suppress(DeliveryFailed):
        world.deliver(run)
    late = AS_OF + A_DAY
    world.org.clock(late)
    again = world.run(late)
    world.decide(again, 1, action="hold_touched")
    world.deliver(again)
    task, due = world.task(1), world.handoff(1).due_at
    holds = due is not None and due > late and task["ActivityDate"] == due.date().isoformat()
    return Seen(bool(holds), f"delivered {late:%a %H:%M}, due {due:%a %H:%M}, in the CRM on {task['ActivityDate']}")
