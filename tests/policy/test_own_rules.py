"""What the policy may say of rules of the company's own, and what is refused with the key and the fix."""

from __future__ import annotations

from typing import Any

import pytest
from onetouch.handoff import extra_fields
from onetouch.policy import read_policy
from pydantic import ValidationError

NOTHING: dict[str, dict[str, Any]] = {"task": {}, "account": {}, "lead": {}, "contact": {}}
TYPES = dict.fromkeys(NOTHING)
VALUES = dict.fromkeys(("open", "closed", "high", "medium", "low"))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"crm__extra_fields": NOTHING | {"task": {"Region__c": "{regoin}"}}}, "did you mean region"),
        ({"crm__extra_fields": NOTHING | {"task": {"Region__c": "{region"}}}, "a brace that is not closed"),
        ({"crm__extra_fields": NOTHING | {"task": {"Subject": "Call"}}}, "Subject: is written by us already"),
        ({"crm__extra_fields": NOTHING | {"account": {"Onetouch_Score__c": 1}}}, "is written by us already"),
        ({"crm__task_values": VALUES | {"open": "Done", "closed": "Done"}}, "open and closed are both 'Done'"),
        ({"crm__system": "hubspot", "crm__task_values": VALUES | {"closed": "DEFERRED"}}, "one closed status"),
        ({"crm__system": "hubspot", "crm__record_types": TYPES | {"task": "X"}}, "HubSpot has none"),
    ],
)
def test_what_cannot_be_written_is_refused_with_the_fix(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        read_policy().changed(**keys)


def test_a_lone_placeholder_keeps_its_kind_and_texts_are_safe_in_a_spreadsheet() -> None:
    own = {"A": "{score}", "B": "Tier {tier}, {score}", "C": True, "D": "{plan}", "E": "{region}", "F": 3}
    policy = read_policy().changed(crm__extra_fields=NOTHING | {"task": own})
    decision = {"account_id": "a", "score": 57.0, "tier": "high", "owner_email": None}
    filled = extra_fields(decision, {"plan": None, "region": "=1+1"}, policy, handoff_id="h")
    task = filled["task"]
    assert task.pop("E") != "=1+1"
    assert task == {"A": 57.0, "B": "Tier high, 57", "C": True, "F": 3}
    assert type(task["C"]) is bool and set(filled) == {"task"}


def test_a_policy_without_rules_lays_out_nothing() -> None:
    assert extra_fields({"account_id": "a"}, {}, read_policy(), handoff_id="h") == {}
