"""Our fields of a Salesforce org, and whether it has them as they must be (deployed from include/salesforce)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from onetouch.crm.protocol import DISPOSITIONS, OUTCOMES

ACCOUNT_ID = "Onetouch_Account_Id__c"
HANDOFF_ID = "Onetouch_Handoff_Id__c"
OUTCOME = "Onetouch_Outcome__c"
DISPOSITION = "Onetouch_Disposition__c"

_TYPES = {
    "text": {"string", "textarea"},
    "pick": {"picklist", "string"},
    "number": {"double", "int", "percent", "currency"},
    "yes or no": {"boolean"},
    "day": {"date"},
    "moment": {"datetime"},
    "record": {"reference"},
    "any": set[str](),
}
"""What we write → the types of describe that take it."""


@dataclass(frozen=True)
class Wanted:
    """What a field must be. `size`: characters of a text, digits before the point of a number.

    `values`: those a picklist must offer. `key`: an external id, unique. `written`: not only read.
    """

    kind: str
    size: int = 0
    values: tuple[str, ...] = ()
    key: bool = False
    written: bool = True


_CONTEXT = {
    ACCOUNT_ID: Wanted("text", 255, key=True),
    "Onetouch_Score__c": Wanted("number", 5),
    "Onetouch_Tier__c": Wanted("pick"),
    "Onetouch_Trigger__c": Wanted("text", 255),
    "Onetouch_Motion__c": Wanted("pick"),
    "Onetouch_Activated__c": Wanted("yes or no"),
    "Onetouch_Milestones__c": Wanted("text", 80),
    "Onetouch_Team_Size__c": Wanted("number", 9),
    "Onetouch_Features_Used__c": Wanted("text", 255),
    "Onetouch_Usage_28d__c": Wanted("number", 12),
    "Onetouch_Limit_Share__c": Wanted("number", 6),
    "Onetouch_Dossier__c": Wanted("text", 32_000),
    "Onetouch_Policy_Version__c": Wanted("text", 64),
    "Onetouch_As_Of__c": Wanted("moment"),
}

WANTED: Mapping[str, Mapping[str, Wanted]] = {
    "Account": _CONTEXT,
    "Lead": _CONTEXT,
    "Task": {
        HANDOFF_ID: Wanted("text", 64, key=True),
        OUTCOME: Wanted("pick", values=OUTCOMES, written=False),
        DISPOSITION: Wanted("pick", values=DISPOSITIONS, written=False),
        "Subject": Wanted("any", 255),
        "Description": Wanted("text", 32_000),
        "Status": Wanted("pick", values=("Not Started", "Completed")),
        "Priority": Wanted("pick", values=("High", "Normal", "Low")),
        "ActivityDate": Wanted("day"),
        "IsReminderSet": Wanted("yes or no"),
        "ReminderDateTime": Wanted("moment"),
        "OwnerId": Wanted("record"),
        "WhatId": Wanted("record"),
        "WhoId": Wanted("record"),
    },
}
"""Every field the product writes, and those of ours it reads, by object."""


def problems(thing: str, there: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong with the object's fields as describe tells them."""
    for name, wanted in WANTED[thing].items():
        field = there.get(name)
        if field is None:
            yield f"{thing}.{name} is missing"
        else:
            yield from (f"{thing}.{name} {wrong}" for wrong in _wrong(field, wanted))


def missing(thing: str, there: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> Iterator[str]:
    """Those of the fields that describe does not tell of; `Owner.Name` is a field of the record `Owner` refers to."""
    relations = {field.get("relationshipName") for field in there.values()}
    for name in names:
        first, _, rest = name.partition(".")
        if first not in (relations if rest else there):
            yield f"{thing}.{name} is missing"


def _wrong(field: Mapping[str, Any], wanted: Wanted) -> Iterator[str]:
    """What describe leaves out is taken for right."""
    if wanted.written and not (field.get("updateable", True) and field.get("createable", True)):
        yield "may not be written"
    kinds = _TYPES[wanted.kind]
    if kinds and field.get("type", min(kinds)) not in kinds:
        yield f"is of type {field['type']}, not {' or '.join(sorted(kinds))}"
    elif wanted.kind == "number":
        digits = field.get("digits") or field.get("precision", wanted.size) - field.get("scale", 0)
        if digits < wanted.size:
            yield f"holds fewer than {wanted.size} digits"
    elif field.get("length", wanted.size) < wanted.size:
        yield f"holds {field['length']} characters, not {wanted.size}"
    if wanted.key and not (field.get("externalId", True) and field.get("unique", True)):
        yield "is no unique external id"
    offered = {value["value"] for value in field.get("picklistValues", ()) if value.get("active", True)}
    if offered and (lacking := [value for value in wanted.values if value not in offered]):
        yield f"lacks the value {', '.join(lacking)}"
