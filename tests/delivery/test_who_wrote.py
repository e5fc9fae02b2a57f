"""Who wrote an e-mail and who called: what the CRM logs by itself is taken for what it is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from onetouch.crm.automatic_replies import is_automatic

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
