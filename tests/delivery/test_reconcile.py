"""Ledger and CRM side by side: what is safe is repaired, the rest is named, and nobody is forgotten in the count."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from onetouch.delivery import DeliveryFailed, reconcile
from onetouch.sandbox.fields import make_id

AS_OF = datetime(2025, 11, 18, 10, tzinfo=UTC)
RITA, OTTO = make_id("005", 101), make_id("005", 102)


def crm_id(number: int) -> str:
    return make_id("001", number)


def hours(n: float) -> datetime:
    return AS_OF + timedelta(hours=n)


def opened(world: Any, *numbers: int) -> None:
    world.accounts(*numbers)
    run = world.run()
    world.decide(run, *numbers)
    world.deliver(run)


def compared(world: Any, at: datetime = AS_OF + timedelta(hours=20), *, held: str | None = None) -> dict[str, Any]:
    """Reconciles, and whatever comes of it: everybody is accounted for, and nobody is named."""
    world.org.clock(at)
    try:
        summary = reconcile(world.ledger, world.policy, world.run(at), world.salesforce(), held=held)
    except DeliveryFailed as failure:
        summary = failure.summary | {"error": str(failure)}
    repaired, reported = sum(summary["repaired"].values()), summary["reported"]
    assert summary["looked_at"] == summary["agreeing"] + repaired + len(reported)
    text = json.dumps(summary, default=str)
    assert "@" not in text and "Company" not in text and "Rita" not in text
    return summary


def settled(world: Any) -> None:
    """A second comparison finds nothing left to do."""
    again = compared(world, hours(21))
    assert (again["repaired"], again["agreeing"]) == ({}, again["looked_at"]), again


def test_where_both_sides_agree_nothing_is_done(world: Any) -> None:
    opened(world, 1, 2, 3)
    world.org.clock(hours(1))
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed")
    world.extract(world.run(hours(2)))
    before = (world.ledger.dump()["handoffs"], world.org.tasks())
    summary = compared(world)
    assert (summary["looked_at"], summary["agreeing"], summary["reported"]) == (3, 3, [])
    assert (world.ledger.dump()["handoffs"], world.org.tasks()) == before


def test_a_task_left_open_after_its_handoff_ended_is_closed_with_the_reason(world: Any) -> None:
    opened(world, 1)
    world.ledger.move(world.handoff(1).handoff_id, "withdrawn", hours(1), "checkout: started by the customer")
    assert compared(world)["repaired"] == {"a task open after its handoff has ended": 1}
    task = world.task(1)
    assert task["IsClosed"] and task["Subject"].startswith("[Withdrawn] ")
    assert task["Description"].startswith("Withdrawn: checkout: started by the customer")
    settled(world)


def test_what_a_rep_opens_again_after_us_is_theirs(world: Any) -> None:
    opened(world, 1, 2)
    for number, (state, reason) in {1: ("withdrawn", "checkout: started"), 2: ("released", "no response")}.items():
        handoff_id = world.handoff(number).handoff_id
        label = {"withdrawn": "[Withdrawn] ", "released": "[Released] "}[state]
        if state == "released":
            world.rep_writes("Task", world.task(2)["Id"], Status="Completed")
            world.extract(world.run(hours(1)))
        world.salesforce().close_tasks({handoff_id: (label, reason)})
        world.ledger.move(handoff_id, state, hours(2), reason)
        world.rep_writes("Task", world.task(number)["Id"], Status="In Progress")
    before = world.org.tasks()
    assert compared(world)["agreeing"] == 2
    assert world.org.tasks() == before


def test_a_task_whose_run_died_is_adopted_and_its_touch_counts(world: Any) -> None:
    world.accounts(1, 2)
    run = world.run()
    world.decide(run, 1, 2)
    world.die_after_writing_tasks(run)
    world.org.clock(hours(1))
    world.rep_writes("Task", world.task(2)["Id"], Status="Completed")
    assert compared(world)["repaired"] == {"a task not heard of": 2}
    assert [(world.handoff(n).state, world.handoff(n).task_id) for n in (1, 2)] == [
        ("task_open", world.task(1)["Id"]), ("touched", world.task(2)["Id"])
    ]  # fmt: skip
    rows = world.ledger.outbox(keys=[f"task:{world.handoff(n).handoff_id}" for n in (1, 2)])
    assert {(row.state, row.external_id) for row in rows} == {("sent", world.task(n)["Id"]) for n in (1, 2)}
    settled(world)


def test_a_touch_and_a_reply_that_no_run_has_read_are_made_up_for(world: Any) -> None:
    opened(world, 1)
    world.org.clock(hours(1))
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed", Onetouch_Outcome__c="Replied")
    assert compared(world)["repaired"] == {"a touch or reply not heard of": 1}
    assert (world.handoff(1).state, world.handoff(1).touched_at) == ("replied", hours(1))


@pytest.mark.parametrize("gone", ["deleted", "purged"])
def test_a_handoff_whose_task_is_gone_ends(world: Any, gone: str) -> None:
    opened(world, 1)
    world.rep_writes("Task", world.task(1)["Id"])
    if gone == "purged":
        world.org.post("purge", {})
        assert world.org.tasks() == []
    assert compared(world)["repaired"] == {"a task that was deleted": 1}
    assert (world.handoff(1).state, world.handoff(1).reason.split(":")[0]) == ("withdrawn", "task deleted")
    settled(world)


def test_a_task_we_closed_before_dying_ends_its_handoff_as_it_says(world: Any) -> None:
    opened(world, 1)
    world.salesforce().close_tasks({world.handoff(1).handoff_id: ("[Expired] ", "not contacted within 72 hours")})
    assert compared(world)["repaired"] == {"a task we closed while its handoff goes on": 1}
    assert world.handoff(1).state == "expired"
    settled(world)


def test_a_task_passed_on_takes_the_handoff_along_and_one_nobody_owns_is_named(world: Any) -> None:
    opened(world, 1, 2)
    world.rep_writes("Task", world.task(1)["Id"], OwnerId=OTTO)
    queue = make_id("00G", 1)
    world.org.post("load", {"Task": [{"Id": world.task(2)["Id"], "OwnerId": queue}]})
    summary = compared(world)
    assert summary["repaired"] == {"a task of another owner": 1}
    assert world.handoff(1).owner_email == "otto@rep.example"
    assert [row["what"] for row in summary["reported"]] == ["a task that no user owns"]
    assert world.handoff(2).owner_id == RITA


def test_what_a_person_must_judge_is_named_with_its_ids_and_left_alone(world: Any) -> None:
    opened(world, 1)
    stranger = world.rep_writes("Task", None, Subject="x", WhatId=crm_id(1), Onetouch_Handoff_Id__c="f" * 32)
    early = world.run(hours(1))
    world.accounts(2)
    world.decide(early, 2)
    decision = world.lake.read("decisions", f"{early.run_id}.parquet").to_dict("records")[0]
    decided = world.ledger.open_handoff(decision, early).handoff_id
    before_context = world.rep_writes("Task", None, Subject="y", WhatId=crm_id(2), Onetouch_Handoff_Id__c=decided)
    before = (world.ledger.dump()["handoffs"], world.org.tasks())
    assert compared(world)["reported"] == sorted(
        [
            {"what": "a task with a key the ledger does not know", "handoff_id": "f" * 32, "task_ids": [stranger]},
            {"what": "a task before its context", "handoff_id": decided, "task_ids": [before_context]},
        ],
        key=lambda row: str(row["handoff_id"]),
    )
    assert (world.ledger.dump()["handoffs"], world.org.tasks()) == before


def test_several_living_tasks_of_one_key_are_named(world: Any) -> None:
    """Where the CRM keeps keys unique this cannot be; where an import has lost that, it can."""
    opened(world, 1)
    [task] = world.org.tasks()
    client = world.salesforce()
    told = client.keyed_tasks
    client.keyed_tasks = lambda since: [again for one in told(since) for again in (one, one)]
    summary = reconcile(world.ledger, world.policy, world.run(hours(1)), client, held=None)
    assert [(row["what"], row["task_ids"]) for row in summary["reported"]] == [
        ("several tasks with one key", [task["Id"], task["Id"]])
    ]


def test_what_must_not_be_written_is_told_instead(world: Any) -> None:
    opened(world, 1)
    world.ledger.move(world.handoff(1).handoff_id, "withdrawn", hours(1), "checkout: started by the customer")
    before = (world.ledger.dump()["handoffs"], world.org.tasks())
    summary = compared(world, held="stopped: audit")
    assert (summary["repaired"], summary["held"]) == ({}, "stopped: audit")
    assert [row["what"] for row in summary["reported"]] == [
        "a task open after its handoff has ended (not repaired: stopped: audit)"
    ]
    assert (world.ledger.dump()["handoffs"], world.org.tasks()) == before


def test_a_repair_that_is_refused_turns_the_night_red_after_all_others(world: Any) -> None:
    opened(world, 1, 2, 3)
    for number in (1, 2):
        world.ledger.move(world.handoff(number).handoff_id, "withdrawn", hours(1), "checkout: started")
    world.rep_writes("Task", world.task(3)["Id"])
    refusal = {"statusCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "message": "no"}
    fault = {"match": "composite/sobjects$", "method": "PATCH", "row_error": refusal, "rows": [0], "times": 3}
    world.org.post("faults", [fault])
    summary = compared(world)
    assert "1 differences between ledger and CRM could not be repaired" in summary["error"]
    assert sum(summary["repaired"].values()) == 2
    assert "FIELD_CUSTOM_VALIDATION_EXCEPTION" in summary["reported"][0]["what"]
    assert world.handoff(3).state == "withdrawn"
    assert sorted(task["IsClosed"] for task in world.org.tasks()) == [False, False, True]
    assert compared(world)["repaired"] == {"a task open after its handoff has ended": 1}  # the next night
    settled(world)


def test_handoffs_older_than_the_lookback_are_still_compared_while_they_go_on(world: Any) -> None:
    opened(world, 1, 2, 3)
    for number in (1, 2):
        world.rep_writes("Task", world.task(number)["Id"], Status="Completed", Onetouch_Outcome__c="Replied")
    world.extract(world.run(hours(1)))
    world.ledger.move(world.handoff(2).handoff_id, "lost", hours(2))
    summary = compared(world, AS_OF + timedelta(days=world.policy.signals.lookback_days + 1))
    assert (summary["looked_at"], summary["agreeing"]) == (2, 2)
    assert world.handoff(3).state == "task_open"  # its task is there, however old


def test_a_night_ends_no_answered_conversation_whose_deals_it_has_not_read(world: Any) -> None:
    opened(world, 1)
    picks = {"Onetouch_Outcome__c": "Replied", "Onetouch_Disposition__c": "Not now"}
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed", **picks)
    compared(world, AS_OF + timedelta(days=world.policy.handoff.reply_days + 1))
    assert world.handoff(1).state == "replied"


def test_a_task_that_went_to_another_crm_is_named_and_its_handoff_left_alone(world: Any) -> None:
    opened(world, 1)
    handoff_id = world.handoff(1).handoff_id

    class Other:
        """The CRM the policy names since: it knows the reps, and nothing of the task."""

        name = "hubspot"
        read_reps = staticmethod(lambda: world.salesforce().read_reps())
        keyed_tasks = staticmethod(lambda since: iter(()))
        tasks_of = staticmethod(lambda handoff_ids: {})

    before = world.ledger.dump()["handoffs"]
    summary = reconcile(world.ledger, world.policy, world.run(hours(20)), Other(), held=None)  # type: ignore[arg-type]
    assert (summary["repaired"], summary["reported"]) == (
        {},
        [{"what": "its task is in salesforce", "handoff_id": handoff_id, "task_ids": []}],
    )
    assert world.ledger.dump()["handoffs"] == before
