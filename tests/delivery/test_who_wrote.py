"""Who wrote an e-mail and who called: what the CRM logs by itself is taken for what it is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from onetouch.crm.automatic_replies import is_automatic
from onetouch.sandbox.fields import make_id

from tests.delivery.world import AS_OF, OWNER, crm_id

HOUR = timedelta(hours=1)


def logged(world: Any, at: Any, *, incoming: bool | None, headers: str = "", subject: str = "Email: Re: hello") -> None:
    """An e-mail that software has logged as a completed task of the rep whose mailbox it reads."""
    world.org.clock(at)
    task = {"WhatId": crm_id(1), "OwnerId": OWNER, "Subject": subject, "TaskSubtype": "Email", "Status": "Completed"}
    task_id = world.rep_writes("Task", None, **task)
    if incoming is not None:
        email = {
            "Id": "02s" + task_id[3:15],
            "ActivityId": task_id,
            "Incoming": incoming,
            "Subject": subject,
            "Headers": headers,
        }
        world.org.post("load", {"EmailMessage": [email]})


def called(world: Any, at: Any, direction: str) -> None:
    world.org.clock(at)
    task = {"WhatId": crm_id(1), "OwnerId": OWNER, "Subject": "Call", "TaskSubtype": "Call", "Status": "Completed"}
    world.rep_writes("Task", None, **task, CallType=direction)


def handed_over(world: Any) -> None:
    world.accounts(1)
    run = world.run()
    world.decide(run, 1)
    world.deliver(run)


def state(world: Any, at: Any) -> str:
    world.org.clock(at)
    world.extract(world.run(at))
    return str(world.handoff(1).state)


def test_the_customers_own_mail_is_no_touch_of_the_rep(world: Any) -> None:
    handed_over(world)
    logged(world, AS_OF + HOUR, incoming=True)
    assert state(world, AS_OF + 2 * HOUR) == "task_open"
    assert world.ledger.touches().empty


def test_what_the_customer_writes_after_the_touch_is_an_answer(world: Any) -> None:
    handed_over(world)
    logged(world, AS_OF + HOUR, incoming=False, subject="Email: hello")
    assert state(world, AS_OF + 2 * HOUR) == "touched"
    logged(world, AS_OF + 3 * HOUR, incoming=True)
    assert state(world, AS_OF + 4 * HOUR) == "replied"


@pytest.mark.parametrize(
    ("headers", "subject"),
    [
        ("Date: Tue\nAuto-Submitted: auto-replied\nTo: rep", "Email: Re: hello"),
        ("", "Email: Automatic reply: hello"),
        ("", "Abwesenheitsnotiz: hello"),
    ],
)
def test_an_out_of_office_note_is_neither(world: Any, headers: str, subject: str) -> None:
    handed_over(world)
    logged(world, AS_OF + HOUR, incoming=True, headers=headers, subject=subject)
    assert state(world, AS_OF + 2 * HOUR) == "task_open"
    logged(world, AS_OF + 3 * HOUR, incoming=False, subject="Email: hello")
    assert state(world, AS_OF + 4 * HOUR) == "touched"
    logged(world, AS_OF + 5 * HOUR, incoming=True, headers=headers, subject=subject)
    assert state(world, AS_OF + 6 * HOUR) == "touched"


def test_a_mail_that_a_rep_logs_by_hand_is_a_touch(world: Any) -> None:
    handed_over(world)
    logged(world, AS_OF + HOUR, incoming=None, subject="Sent them the intro")
    assert state(world, AS_OF + 2 * HOUR) == "touched"


def test_who_calls_back_has_answered(world: Any) -> None:
    handed_over(world)
    called(world, AS_OF + HOUR, "Outbound")
    assert state(world, AS_OF + 2 * HOUR) == "touched"
    called(world, AS_OF + 3 * HOUR, "Inbound")
    assert state(world, AS_OF + 4 * HOUR) == "replied"


def met(world: Any, at: Any, subject: str = "Intro", **who: Any) -> str:
    """A meeting of half an hour that the rep's calendar has logged."""
    world.org.clock(at)
    who = who or {"WhatId": crm_id(1)}
    fields = {"Subject": subject, "OwnerId": OWNER, "ActivityDateTime": at.isoformat(), "DurationInMinutes": 30}
    return str(world.rep_writes("Event", None, **fields, **who))


def invited(world: Any, meeting: str, *answers: str, who: str = "003") -> None:
    """People who were invited to it, and what they answered."""
    relations = [
        {"Id": make_id("0RE", n), "EventId": meeting, "RelationId": make_id(who, n), "Status": status}
        for n, status in enumerate(answers, 1)
    ]
    world.org.post("load", {"EventRelation": relations})


@pytest.mark.parametrize(
    ("answers", "then"),
    [
        ((), "replied"),
        (("Accepted",), "replied"),
        (("New", "Declined"), "replied"),
        (("Declined",), "task_open"),
        (("Declined", "Declined"), "task_open"),
    ],
)
def test_a_meeting_that_the_customer_declined_was_none(world: Any, answers: tuple[str, ...], then: str) -> None:
    handed_over(world)
    invited(world, met(world, AS_OF + HOUR), *answers)
    assert state(world, AS_OF + 2 * HOUR) == then


def test_a_colleague_who_declines_does_not_cancel_it(world: Any) -> None:
    handed_over(world)
    invited(world, met(world, AS_OF + HOUR), "Declined", who="005")
    assert state(world, AS_OF + 2 * HOUR) == "replied"


@pytest.mark.parametrize("subject", ["Canceled: Intro", "Cancelled: Intro", "Abgesagt: Intro", "Annulé : Intro"])
def test_a_meeting_that_was_called_off_was_none(world: Any, subject: str) -> None:
    handed_over(world)
    met(world, AS_OF + HOUR, subject)
    assert state(world, AS_OF + 2 * HOUR) == "task_open"


def test_a_meeting_about_cancelled_orders_was_one(world: Any) -> None:
    handed_over(world)
    met(world, AS_OF + HOUR, "Cancelled orders: what to do")
    assert state(world, AS_OF + 2 * HOUR) == "replied"


@pytest.mark.parametrize(
    ("email", "then"), [("ann@company1.example", "touched"), ("ann@gmail.com", "task_open"), (None, "task_open")]
)
def test_a_call_to_a_lead_is_of_the_account_with_its_domain(world: Any, email: str | None, then: str) -> None:
    handed_over(world)
    lead = world.rep_writes("Lead", None, LastName="Doe", Company="Company 1", OwnerId=OWNER, Email=email)
    world.org.clock(AS_OF + HOUR)
    call = {"WhoId": lead, "OwnerId": OWNER, "Subject": "Call", "TaskSubtype": "Call", "Status": "Completed"}
    world.rep_writes("Task", None, **call)
    assert state(world, AS_OF + 2 * HOUR) == then


def test_a_domain_of_two_accounts_says_nothing_of_a_lead(world: Any) -> None:
    handed_over(world)
    world.accounts(2, Website="company1.example")
    lead = world.rep_writes("Lead", None, LastName="Doe", Company="?", OwnerId=OWNER, Email="ann@company1.example")
    met(world, AS_OF + HOUR, WhoId=lead)
    assert state(world, AS_OF + 2 * HOUR) == "task_open"


@pytest.mark.parametrize(
    "subject",
    [
        "Re: out of stock?",
        "Automation at Acme",
        "Auto insurance",
        "Our office hours",
        "Abwechslung",
        "",
        None,
        "Away game",
    ],
)
def test_what_somebody_wrote_is_not_taken_for_automatic(subject: str | None) -> None:
    assert not is_automatic(subject)
    assert not is_automatic(subject, "Auto-Submitted: no\nPrecedence: bulk\nSubject: x-autoreply")
