"""The stand-in's rules of an org's own: strict as an org is, and gone when they are taken away."""

from __future__ import annotations

from typing import Any

import pytest
from onetouch.sandbox.customs import KEYS
from onetouch.sandbox.fields import make_id
from onetouch.sandbox.in_process import Org
from onetouch.sandbox.records import DmlError
from onetouch.sandbox.tooling import Refused

TASK = {"Subject": "Call", "Status": "Not Started"}


def made(org: Org, **values: Any) -> str:
    """The code with which the org refuses a task; its id when it does not."""
    try:
        return org.salesforce.records.insert(org.store.org["task"], TASK | values)
    except DmlError as error:
        return error.code


@pytest.mark.parametrize(
    ("rules", "values", "code"),
    [
        ({"fields": {"Task": [{"name": "Region__c", "required": True}]}}, {}, "REQUIRED_FIELD_MISSING"),
        (
            {"fields": {"Task": [{"name": "Status", "values": ["Offen"]}]}},
            {},
            "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
        ),
        (
            {"validations": [{"object": "Task", "when": {"Description": None}, "message": "Say why."}]},
            {},
            "FIELD_CUSTOM_VALIDATION_EXCEPTION",
        ),
        (
            {"record_types": {"Task": [{"developer_name": "A", "available": False}]}},
            {"RecordTypeId": make_id("012", 1)},
            "INVALID_CROSS_REFERENCE_KEY",
        ),
    ],
)
def test_what_breaks_a_rule_is_refused_until_the_rule_is_gone(rules: Any, values: Any, code: str) -> None:
    org = Org()
    assert made(org).startswith("00T")
    org.tooling.rules(**rules)
    assert made(org, **values) == code
    org.tooling.rules()
    assert made(org).startswith("00T")
    org.close()


def test_one_orgs_rules_are_not_anothers_and_go_with_its_image() -> None:
    org, other = Org(), Org()
    org.tooling.rules(fields={"Task": [{"name": "Region__c", "required": True}]})
    assert made(other).startswith("00T")
    copy = Org(org.image())
    assert made(copy) == made(org) == "REQUIRED_FIELD_MISSING"
    org.tooling.empty()
    assert made(org).startswith("00T")


@pytest.mark.parametrize(
    "rules",
    [
        {"rule": []},
        {"fields": {"Tusk": [{"name": "A__c"}]}},
        {"fields": {"Task": [{"name": "A__c", "colour": 1}]}},
        {"currencies": {"USD": 2}},
    ],
)
def test_rules_that_are_not_valid_change_nothing(rules: Any) -> None:
    org = Org()
    with pytest.raises(Refused, match="rules"):
        org.tooling.rules(**rules)
    assert made(org).startswith("00T") and set(KEYS) >= org.store.rules.keys()
