"""What an auditor sees who has only the CRM and an export of the sender's ledger."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from onetouch import audit

from benchmarks.situations.situation import Seen, Stage, situation
from tests.delivery.world import AS_OF, World, crm_id

KEY = "Onetouch_Handoff_Id__c"


def handed_over(stage: Stage, *numbers: int) -> World:
    """A company with a task for each of these accounts."""
    world = stage.world()
    world.accounts(*numbers)
    run = world.run()
    world.decide(run, *numbers)
    world.deliver(run)
    return world


def judged(world: World, without: str = "") -> dict[str, Any]:
    """The auditor's judgement by an export, from which the handoff `without` is missing."""
    lines = [
        json.dumps(line) for line in audit.export(world.ledger) if line.get("handoff_id", "") != (without or "nobody")
    ]
    return audit.judge(world.salesforce(), world.policy, audit.read_export(lines), AS_OF - timedelta(days=1))


def only(found: dict[str, Any], promise: str, key: str) -> Seen:
    """Whether exactly this promise is said to be broken, for exactly this key."""
    named = [(one["promise"], one["key"]) for one in found["wrong"]]
    why = "; ".join(f"{one['promise']}: {one['why']}" for one in found["wrong"])
    return Seen(named == [(promise, key)], f"{audit.in_words(found)} ({why})")


@situation(
    source="django-salesforce/django-salesforce #159",
    happens="The answer to a request that created 3 tasks is lost, and the request is sent again.",
    expected="The auditor counts 3 tasks and nothing wrong.",
)
def an_answer_lost_leaves_nothing_to_find(stage: Stage) -> Seen:
    world = stage.world()
    world.accounts(1, 2, 3)
    run = world.run()
    world.decide(run, 1, 2, 3)
    world.org.post("faults", [{"match": "composite/sobjects$", "method": "POST", "drop": "answer", "times": 1}])
    world.deliver(run)
    found = judged(world)
    return Seen(found["tasks"] == 3 and not found["wrong"], audit.in_words(found))


@situation(
    source="segment-boneyard/segment-docs #3459",
    happens="A sender repeats a request that had arrived, after a rep had deleted the task: the key is free again.",
    expected="The second task of the handoff is named as a duplicate, although the rep sees only one.",
)
def a_second_task_after_a_deleted_one(stage: Stage) -> Seen:
    world = handed_over(stage, 1, 2)
    key = world.handoff(1).handoff_id
    world.rep_writes("Task", world.task(1)["Id"])
    world.rep_writes("Task", None, **{KEY: key, "WhatId": crm_id(1), "Subject": "Call"})
    return only(judged(world), "duplicates", key)


@situation(
    source="mautic/mautic #4855",
    happens="A rep deletes a task in the CRM, and the sender does not notice: its handoff goes on.",
    expected="The task is named as lost.",
)
def a_task_deleted_behind_the_senders_back(stage: Stage) -> Seen:
    world = handed_over(stage, 1, 2)
    key = world.handoff(1).handoff_id
    world.rep_writes("Task", world.task(1)["Id"])
    return only(judged(world), "lost", key)


@situation(
    source="Salesforce documentation: Data Loader, Insert Null Values",
    happens="An import with empty columns blanks our fields on an account whose task is open.",
    expected="The task is named as one without context, with the field that its record lacks.",
)
def an_import_blanks_our_fields(stage: Stage) -> Seen:
    world = handed_over(stage, 1, 2)
    world.org.post("load", {"Account": [{"Id": crm_id(2), "Onetouch_Trigger__c": None}]})
    return only(judged(world), "without_context", world.handoff(2).handoff_id)


@situation(
    source="ours",
    happens="Somebody else's export leaves out a handoff whose task is in the CRM.",
    expected="The task is named as one that the export does not know.",
)
def an_export_that_leaves_one_out(stage: Stage) -> Seen:
    world = handed_over(stage, 1, 2)
    key = world.handoff(1).handoff_id
    return only(judged(world, without=key), "unknown", key)
