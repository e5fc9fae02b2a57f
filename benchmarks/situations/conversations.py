"""Who was in touch with whom: what mailboxes, calendars and people log, taken for what it is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from onetouch.sandbox.fields import make_id

from benchmarks.situations.situation import Seen, Stage, situation
from tests.delivery.world import AS_OF, OWNER, World, crm_id

AN_HOUR = timedelta(hours=1)


def handed_over(stage: Stage) -> World:
    """A company whose rep Rita has a task of ours for account 1."""
    world = stage.world()
    world.accounts(1)
    run = world.run()
    world.decide(run, 1)
    world.deliver(run)
    return world


def email(world: World, at: datetime, *, incoming: bool, subject: str = "Email: Re: hello", headers: str = "") -> None:
    """An e-mail of the rep's mailbox, as Einstein Activity Capture logs it."""
    world.org.clock(at)
    task = {"WhatId": crm_id(1), "OwnerId": OWNER, "Subject": subject, "TaskSubtype": "Email", "Status": "Completed"}
    task_id = world.rep_writes("Task", None, **task)
    message = {"Id": "02s" + task_id[3:15], "ActivityId": task_id, "Incoming": incoming, "Headers": headers}
    world.org.post("load", {"EmailMessage": [message | {"Subject": subject}]})


def state(world: World, at: datetime) -> str:
    """The state of the handoff after the next reading of the CRM."""
    world.org.clock(at)
    world.extract(world.run(at))
    return world.handoff(1).state


def _states(*wanted: str, got: list[str]) -> Seen:
    return Seen(tuple(got) == wanted, ", then ".join(got))


@situation(
    source="Salesforce Help: Guidelines for Using Sync Email as Salesforce Activity",
    happens="The customer writes first; the mailbox is synced, so Salesforce logs it as a completed task of the rep.",
    expected="It is no touch of the rep; after the rep has written, the customer's next e-mail is the answer.",
)
def synced_mailbox_logs_the_customers_email(stage: Stage) -> Seen:
    world = handed_over(stage)
    email(world, AS_OF + AN_HOUR, incoming=True)
    got = [state(world, AS_OF + 2 * AN_HOUR)]
    email(world, AS_OF + 3 * AN_HOUR, incoming=False)
    got.append(state(world, AS_OF + 4 * AN_HOUR))
    email(world, AS_OF + 5 * AN_HOUR, incoming=True)
    return _states("task_open", "touched", "replied", got=[*got, state(world, AS_OF + 6 * AN_HOUR)])


@situation(
    source="beyondcode/laravel-mailbox #89, getmunin/munin #921",
    happens="The rep writes; what comes back is the customer's out-of-office note.",
    expected="It is no answer: the handoff stays touched, and its days of silence go on.",
)
def out_of_office_note_comes_back(stage: Stage) -> Seen:
    world = handed_over(stage)
    email(world, AS_OF + AN_HOUR, incoming=False, subject="Email: hello")
    note: dict[str, Any] = {"incoming": True, "headers": "Auto-Submitted: auto-replied"}
    email(world, AS_OF + AN_HOUR + timedelta(minutes=1), **note)
    return _states("touched", got=[state(world, AS_OF + 2 * AN_HOUR)])


@situation(
    source="Salesforce documentation: DeclinedEventRelation",
    happens="The rep's calendar logs a meeting; the only customer who was invited has declined.",
    expected="There was no meeting: no touch, no answer; the clock to the expiry goes on.",
)
def customer_declined_the_meeting(stage: Stage) -> Seen:
    world = handed_over(stage)
    at = AS_OF + AN_HOUR
    world.org.clock(at)
    fields = {"Subject": "Intro", "OwnerId": OWNER, "WhatId": crm_id(1), "DurationInMinutes": 30}
    meeting = world.rep_writes("Event", None, **fields, ActivityDateTime=at.isoformat())
    relation = {"Id": make_id("0RE", 1), "EventId": meeting, "RelationId": make_id("003", 1), "Status": "Declined"}
    world.org.post("load", {"EventRelation": [relation]})
    return _states("task_open", got=[state(world, AS_OF + 2 * AN_HOUR)])


@situation(
    source="ours",
    happens="The rep calls somebody who is in the CRM as a lead only, with an address of the account's domain.",
    expected="The call counts for the account: the handoff is touched.",
)
def call_logged_on_a_lead(stage: Stage) -> Seen:
    world = handed_over(stage)
    person = {"LastName": "Doe", "Company": "Company 1", "OwnerId": OWNER, "Email": "ann@company1.example"}
    lead = world.rep_writes("Lead", None, **person)
    world.org.clock(AS_OF + AN_HOUR)
    call = {"WhoId": lead, "OwnerId": OWNER, "Subject": "Call", "TaskSubtype": "Call", "Status": "Completed"}
    world.rep_writes("Task", None, **call)
    return _states("touched", got=[state(world, AS_OF + 2 * AN_HOUR)])


@situation(
    source="ours",
    happens="In HubSpot a rep logs a call on a contact, not on the company; the answer to it is logged likewise.",
    expected="Both count for the contact's company.",
)
def hubspot_call_logged_on_a_contact(stage: Stage) -> Seen:
    world = stage.world(crm__system="hubspot")
    there: Any = stage.crm(world, "hubspot")
    company = there.accounts(1)[1]
    person = there.portal.make("contacts", company, email="ann@company1.example")
    at = {"hs_timestamp": AS_OF.isoformat()}
    there.portal.make("calls", contact=person, hs_call_title="Called", hs_call_status="COMPLETED", **at)
    there.portal.make("emails", contact=person, hs_email_subject="Thanks", hs_email_direction="INCOMING_EMAIL", **at)
    read = [a for a in there.portal.client().read_activities(AS_OF) if a.crm_account_id == company]
    return Seen(len(read) == 2, ", ".join(f"{a.kind} of company {a.crm_account_id}" for a in read) or "nothing")
