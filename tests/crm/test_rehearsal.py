"""`crm check`: everything that would refuse a task is found before the first one, and nothing of the trial stays."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from onetouch.crm.protocol import Finding

from tests.crm.portal import Portal
from tests.crm.test_own_rules import NOTHING, REGION
from tests.delivery.world import OTHER, OWNER

TODAY = date(2025, 11, 18)


def rehearsed(world: Any) -> dict[tuple[str, str], Finding]:
    """What is found; nothing may be left of the trial, and each finding is one line."""
    before = world.org.state()
    found = world.salesforce().rehearse(world.policy, TODAY)
    after = world.org.state()
    assert (after["tasks"], after["accounts"], after["opportunities"]) == (before["tasks"], before["accounts"], 0)
    assert all("\n" not in finding.line for finding in found)
    assert len(found) == len({(f.record, f.field, f.value) for f in found})
    return {(f.record, f.field): f for f in found}


def test_an_org_without_rules_refuses_nothing(world: Any) -> None:
    world.accounts(1)
    assert rehearsed(world) == {}


def test_an_empty_org_is_tried_with_an_account_that_is_undone_too(world: Any) -> None:
    assert rehearsed(world) == {}


def test_required_fields_are_all_named_with_who_can_mend_them(world: Any) -> None:
    world.accounts(1)
    fields = [*REGION["Task"], {"name": "Reason__c", "required": True}]
    world.org.post("rules", {"fields": {"Task": fields}, "admins": [OTHER]})
    found = rehearsed(world)
    assert set(found) == {("Task", "Region__c"), ("Task", "Reason__c")}
    assert found["Task", "Reason__c"].line == (
        "Task.Reason__c: is required and has no default value; Otto: give it a default value, or name its value in "
        "crm.extra_fields.task of the policy"
    )


def test_naming_their_values_mends_them_and_a_wrong_value_is_named(world: Any) -> None:
    world.accounts(1)
    world.org.post("rules", {"fields": REGION})
    for value, wanted in (("EMEA", set()), ("Mars", {("Task", "Region__c")})):
        world.policy = world.policy.changed(crm__extra_fields=NOTHING | {"task": {"Region__c": value}})
        assert set(rehearsed(world)) == wanted


@pytest.mark.parametrize("field", ["Status", None])
def test_a_validation_rule_is_found_by_the_trial(world: Any, field: str | None) -> None:
    world.accounts(1)
    rule = {"object": "Task", "when": {"Priority": "High"}, "message": "No task of high priority.", "field": field}
    world.org.post("rules", {"validations": [rule]})
    (finding,) = rehearsed(world).values()
    assert finding.field == (field or "")
    assert "FIELD_CUSTOM_VALIDATION_EXCEPTION" in finding.refuses
    assert "validation rule" in finding.mend and finding.who == "an admin"


def test_rules_of_new_accounts_are_found_where_the_policy_makes_some(world: Any) -> None:
    world.org.post("rules", {"fields": {"Account": [{"name": "Segment__c", "required": True}]}})
    assert set(rehearsed(world)) == {("Account", "Segment__c")}
    world.policy = world.policy.changed(crm__unknown_accounts="leave")
    world.accounts(1)
    assert rehearsed(world) == {}


def test_a_closing_status_that_does_not_close_is_named(world: Any) -> None:
    world.accounts(1)
    world.org.post("rules", {"closed": ["Deferred"]})
    assert "would stay open" in rehearsed(world)["Task", "Status"].refuses


def test_the_trial_is_of_a_rep_of_the_policy(world: Any) -> None:
    world.accounts(1)
    rule = {"object": "Task", "when": {"OwnerId": OWNER}, "message": "Rita takes no tasks.", "field": "OwnerId"}
    world.org.post("rules", {"validations": [rule]})
    world.policy = world.policy.changed(assignment__reps=[{"email": "rita@rep.example"}], assignment__territories=[])
    assert set(rehearsed(world)) == {("Task", "OwnerId")}


@pytest.fixture
def portal(org: Any, world: Any) -> Portal:
    found = Portal(org, world)
    found.empty()
    return found


def test_hubspots_options_and_properties_are_looked_at(portal: Portal) -> None:
    own = NOTHING | {"task": {"hs_task_type": "LETTER", "segment": "x"}}
    policy = portal.world.policy.changed(crm__system="hubspot", crm__extra_fields=own)
    found = portal.client().rehearse(policy, TODAY)
    assert {f.field for f in found} == {"hs_task_type", "segment"}
    assert portal.records("tasks") == []
    assert portal.client().rehearse(portal.world.policy, TODAY) == []
