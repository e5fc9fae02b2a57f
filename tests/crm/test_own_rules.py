"""Rules of an org's own: extra fields, record types, and other values of a task's status and priority."""

from __future__ import annotations

from typing import Any

import pytest
from onetouch.crm import RELEASED
from onetouch.crm.protocol import FieldsMissing
from onetouch.delivery import DeliveryFailed
from onetouch.handoff import TaskContent
from onetouch.sandbox.fields import make_id

from tests.crm.portal import Portal
from tests.delivery.world import AS_OF, crm_id

NOTHING = {"task": {}, "account": {}, "lead": {}, "contact": {}}
REGION = {"Task": [{"name": "Region__c", "label": "Region", "required": True, "values": ["EMEA", "APAC"],
                    "type": "picklist"}, {"name": "Points__c", "type": "double", "scale": 1}]}  # fmt: skip


def delivered(world: Any, signals: dict[str, Any] | None = None) -> Any:
    world.accounts(1)
    run = world.run()
    world.decide(run, 1, signals=signals)
    return world.deliver(run)


def test_required_fields_of_the_orgs_own_are_filled_from_the_policy(world: Any) -> None:
    own = {"Region__c": "{region}", "Points__c": "{score}"}
    world.policy = world.policy.changed(crm__extra_fields=NOTHING | {"task": own})
    world.org.post("rules", {"fields": REGION})
    assert delivered(world, {"region": "EMEA"})["delivered"] == 1
    (task,) = world.org.tasks()
    assert (task["Region__c"], task["Points__c"]) == ("EMEA", 57.5)


def test_without_the_policy_the_same_org_refuses_the_task(world: Any) -> None:
    world.org.post("rules", {"fields": REGION})
    with pytest.raises(DeliveryFailed, match="Region__c"):
        delivered(world, {"region": "EMEA"})
    assert world.org.tasks() == []


def test_a_field_whose_fact_is_not_known_is_left_out(world: Any) -> None:
    own = {"Region__c": "EMEA", "Plan__c": "Plan {plan}"}
    fields = {"Task": [*REGION["Task"], {"name": "Plan__c"}]}
    world.policy = world.policy.changed(crm__extra_fields=NOTHING | {"task": own})
    world.org.post("rules", {"fields": fields})
    assert delivered(world)["delivered"] == 1
    assert world.org.tasks()[0]["Plan__c"] is None


def test_a_reps_edit_of_an_extra_field_stays(world: Any) -> None:
    world.policy = world.policy.changed(crm__extra_fields=NOTHING | {"task": {"Region__c": "EMEA"}})
    world.org.post("rules", {"fields": REGION})
    delivered(world)
    (task,) = world.org.tasks()
    world.rep_writes("Task", task["Id"], Region__c="APAC")
    (handoff,) = world.ledger.handoffs()
    world.salesforce().close_tasks({handoff.handoff_id: (RELEASED, "no response")})
    (task,) = world.org.tasks()
    assert (task["Region__c"], task["Status"]) == ("APAC", "Completed")


def test_an_extra_field_that_is_not_there_is_named_with_its_key(world: Any) -> None:
    world.policy = world.policy.changed(crm__extra_fields=NOTHING | {"task": {"Regoin__c": "EMEA"}})
    with pytest.raises(FieldsMissing, match=r"Task\.Regoin__c \(crm\.extra_fields\.task\) is missing"):
        world.salesforce().check_fields()


def test_status_and_priority_are_written_by_their_names_in_the_org(world: Any) -> None:
    values = {"open": "Offen", "closed": "Erledigt", "high": "Hoch", "medium": "Mittel", "low": "Niedrig"}
    fields = [{"name": "Status", "values": ["Offen", "Erledigt"], "default": "Offen"},
              {"name": "Priority", "values": ["Hoch", "Mittel", "Niedrig"], "default": "Mittel"}]  # fmt: skip
    world.org.post("rules", {"fields": {"Task": fields}, "closed": ["Erledigt"]})
    with pytest.raises(FieldsMissing, match="lacks the value Not Started, Completed"):
        world.salesforce().check_fields()
    world.policy = world.policy.changed(crm__task_values=values)
    delivered(world)
    (task,) = world.org.tasks()
    assert (task["Status"], task["Priority"], task["IsClosed"]) == ("Offen", "Hoch", False)
    (handoff,) = world.ledger.handoffs()
    world.salesforce().close_tasks({handoff.handoff_id: (RELEASED, "no response")})
    (task,) = world.org.tasks()
    assert (task["Status"], task["IsClosed"]) == ("Erledigt", True)
    world.rep_writes("Task", task["Id"], Status="Offen", Subject="again")
    world.salesforce().answer_tasks({handoff.handoff_id: None})  # a button pressed in the chat
    (task,) = world.org.tasks()
    assert (task["Status"], task["IsClosed"]) == ("Erledigt", True)


def test_the_record_type_is_found_by_its_developer_name(world: Any) -> None:
    types = {"task": "Product_Led", "account": "Customer", "lead": None, "contact": None}
    rules = {"Task": [{"developer_name": "Other"}, {"developer_name": "Product_Led"}],
             "Account": [{"developer_name": "Customer"}]}  # fmt: skip
    world.org.post("rules", {"record_types": rules})
    world.policy = world.policy.changed(crm__record_types=types)
    run = world.run()
    world.decide(run, 1, crm_account_id=None)
    assert world.deliver(run)["delivered"] == 1
    (task,) = world.org.tasks()
    assert task["RecordTypeId"] == make_id("012", 2)
    assert world.org.account(task["WhatId"])["RecordTypeId"] == make_id("012", 1)


@pytest.mark.parametrize("rules", [{}, {"record_types": {"Task": [{"developer_name": "X", "available": False}]}}])
def test_a_record_type_that_may_not_be_used_is_named_before_anything_is_written(world: Any, rules: Any) -> None:
    world.org.post("rules", rules)
    world.policy = world.policy.changed(crm__record_types={"task": "X", "account": None, "lead": None, "contact": None})
    with pytest.raises(FieldsMissing, match="Task has no record type X that the integration user may use"):
        world.salesforce().check_fields()


def test_new_accounts_get_their_extra_fields_and_found_ones_do_not(world: Any) -> None:
    own = {"Type": "Prospect", "Region__c": "{region}"}
    world.policy = world.policy.changed(crm__extra_fields=NOTHING | {"account": own})
    world.accounts(2)
    run = world.run()
    world.decide(run, 1, 2, crm_account_id=None, signals={"region": "EMEA"})
    assert world.deliver(run)["delivered"] == 2
    found = {task["WhatId"]: world.org.account(task["WhatId"]) for task in world.org.tasks()}
    (new,) = set(found) - {crm_id(2)}
    assert (found[new]["Type"], found[new]["Region__c"]) == ("Prospect", "EMEA")
    assert (found[crm_id(2)]["Type"], found[crm_id(2)]["Region__c"]) == (None, None)


@pytest.fixture
def portal(org: Any, world: Any) -> Portal:
    found = Portal(org, world)
    found.empty()
    return found


def test_hubspot_tasks_and_companies_carry_their_own_properties(portal: Portal) -> None:
    crm = portal.client(
        extra_fields={"tasks": ["hs_task_type"], "companies": ["industry"]}, task_values={"open": "WAITING"}
    )
    made = crm.ensure_accounts({"a": {"name": "A", "domain": "a.example", "extra": {"industry": "ours"}}}, "account")
    company = str(made["a"].id)
    task = TaskContent("Call", due_on=AS_OF.date(), crm_account_id=company, extra={"hs_task_type": "CALL"})
    (outcome,) = crm.create_tasks({"k" * 32: task}).values()
    assert outcome.ok, outcome
    (seen,) = crm._records.of_ids("tasks", [str(outcome.id)], ["hs_task_type", "hs_task_status"])
    assert (seen["properties"]["hs_task_type"], seen["properties"]["hs_task_status"]) == ("CALL", "WAITING")
    assert portal.record("companies", name="A")["properties"]["industry"] == "ours"
