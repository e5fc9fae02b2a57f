"""Our fields in a Salesforce org: their values, and the check that they exist as required.

They are deployed from include/salesforce.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from onetouch.crm.protocol import DISPOSITIONS, OUTCOMES, Due
from onetouch.handoff import EPISODE, REQUIRED_CONTEXT, AccountContext, OpportunityContent, TaskContent, inert

ACCOUNT_ID = "Onetouch_Account_Id__c"
ACTION = "Onetouch_Action__c"
AS_OF = "Onetouch_As_Of__c"
HANDOFF_ID = "Onetouch_Handoff_Id__c"
OUTCOME = "Onetouch_Outcome__c"
DISPOSITION = "Onetouch_Disposition__c"
CONTACT_KEY = "Onetouch_Contact_Key__c"

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
"""Kind of value we write → the describe types of fields that accept it."""


@dataclass(frozen=True)
class Wanted:
    """The requirements on a field. `size`: characters of a text, digits before the point of a number.

    `values`: the values a picklist must offer. `key`: it is a unique external id. `written`: we do not only read it.
    `changed`: we write it after the record was created, too.
    """

    kind: str
    size: int = 0
    values: tuple[str, ...] = ()
    key: bool = False
    written: bool = True
    changed: bool = True


CONTEXT: Mapping[str, tuple[str, Wanted]] = {
    "account_id": (ACCOUNT_ID, Wanted("text", 255, key=True)),
    "score": ("Onetouch_Score__c", Wanted("number", 5)),
    "tier": ("Onetouch_Tier__c", Wanted("pick")),
    "action": (ACTION, Wanted("text", 40)),
    "trigger": ("Onetouch_Trigger__c", Wanted("text", 255)),
    "motion": ("Onetouch_Motion__c", Wanted("pick")),
    "activated": ("Onetouch_Activated__c", Wanted("yes or no")),
    "milestones": ("Onetouch_Milestones__c", Wanted("text", 80)),
    "team_size": ("Onetouch_Team_Size__c", Wanted("number", 9)),
    "features_used": ("Onetouch_Features_Used__c", Wanted("text", 255)),
    "usage": ("Onetouch_Usage_28d__c", Wanted("number", 12)),
    "limit_share": ("Onetouch_Limit_Share__c", Wanted("number", 6)),
    "dossier": ("Onetouch_Dossier__c", Wanted("text", 32_000)),
    "policy_version": ("Onetouch_Policy_Version__c", Wanted("text", 64)),
    "as_of": (AS_OF, Wanted("moment")),
}
"""Part of an AccountContext → the field it is written to, on accounts and leads."""

REQUIRED_FIELDS = tuple(CONTEXT[name][0] for name in REQUIRED_CONTEXT)
"""The fields a record must hold before a rep sees a task."""

WANTED: Mapping[str, Mapping[str, Wanted]] = {
    "Account": dict(CONTEXT.values()),
    "Lead": dict(CONTEXT.values()),
    "Contact": {
        CONTACT_KEY: Wanted("text", 64, key=True),
        "LastName": Wanted("text", 80),
        "FirstName": Wanted("text", 40),
        "Email": Wanted("any", 80),
        "Title": Wanted("text", 128),
        "AccountId": Wanted("record"),
        "OwnerId": Wanted("record"),
    },
    "Task": {
        HANDOFF_ID: Wanted("text", 64, key=True),
        OUTCOME: Wanted("pick", values=OUTCOMES, written=False),
        DISPOSITION: Wanted("pick", values=DISPOSITIONS, written=False),
        "Subject": Wanted("any", 255),
        "Description": Wanted("text", 32_000),
        "Status": Wanted("pick"),
        "Priority": Wanted("pick"),
        "ActivityDate": Wanted("day"),
        "IsReminderSet": Wanted("yes or no"),
        "ReminderDateTime": Wanted("moment"),
        "OwnerId": Wanted("record"),
        "WhatId": Wanted("record"),
        "WhoId": Wanted("record"),
    },
    "Opportunity": {
        HANDOFF_ID: Wanted("text", 64, key=True, changed=False),
        "Name": Wanted("any", 120, changed=False),
        "AccountId": Wanted("record", changed=False),
        "OwnerId": Wanted("record", changed=False),
        "StageName": Wanted("pick", changed=False),
        "CloseDate": Wanted("day", changed=False),
        "Amount": Wanted("number", 12, changed=False),
        "LeadSource": Wanted("pick", changed=False),
    },
}
"""Object → every field the product writes, and our own fields that it reads."""


SUBJECT, DESCRIPTION = WANTED["Task"]["Subject"].size, WANTED["Task"]["Description"].size

OWN_VALUES: Mapping[str, str] = {
    "open": "Not Started", "closed": "Completed", "high": "High", "medium": "Normal", "low": "Low",
}  # fmt: skip
"""The values of a task's status and priority in a new org; the policy may name others (`crm.task_values`)."""


def context_fields(context: AccountContext) -> dict[str, Any]:
    """The context as fields of an account; values that are unknown or that a field cannot hold are left out, or None
    where an earlier episode's is to be emptied."""
    fields = {field: _held(getattr(context, name), wanted) for name, (field, wanted) in CONTEXT.items()}
    emptied = {CONTEXT[name][0] for name in EPISODE} if context.dossier is not None else set()
    return {field: value for field, value in fields.items() if value is not None or field in emptied}


def due_fields(due: Due) -> dict[str, Any]:
    """By when a task is to be done, as fields of a task."""
    return {
        "ActivityDate": due.on.isoformat(),
        "IsReminderSet": True,
        "ReminderDateTime": iso_utc(due.remind_at),
    }


def task_fields(task: TaskContent, values: Mapping[str, str] = OWN_VALUES) -> dict[str, Any]:
    """The fields of a task, the company's own among them; unknown values are left out. `values`: as OWN_VALUES."""
    fields = dict(task.extra or {}) | {
        "Subject": shortened(task.subject, SUBJECT),
        "Description": cut(task.description, DESCRIPTION) or None,
        "Status": values["open"],
        "Priority": values[task.priority],
        "ActivityDate": task.due_on and task.due_on.isoformat(),
        "IsReminderSet": True if task.remind_at else None,
        "ReminderDateTime": task.remind_at and iso_utc(task.remind_at),
        "OwnerId": task.owner_id,
        "WhatId": task.crm_account_id,
        "WhoId": task.contact_id,
    }
    return {name: value for name, value in fields.items() if value is not None}


def opportunity_fields(content: OpportunityContent, stage: str) -> dict[str, Any]:
    """The fields of an opportunity; unknown values are left out."""
    fields = {
        "Name": shortened(content.name, WANTED["Opportunity"]["Name"].size),
        "AccountId": content.crm_account_id,
        "OwnerId": content.owner_id,
        "StageName": stage,
        "CloseDate": content.close_on and content.close_on.isoformat(),
        "Amount": _held(content.amount, WANTED["Opportunity"]["Amount"]),
        "LeadSource": content.source,
        "ContactId": content.contact_id,
    }
    return {name: value for name, value in fields.items() if value is not None}


def contact_key(crm_account_id: str, email: str) -> str:
    """The unique key of a contact that we create: a digest, so that the key itself names nobody."""
    return hashlib.sha256(f"{crm_account_id}:{email.strip().lower()}".encode()).hexdigest()[:32]


def contact_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a new contact; unknown values are left out. Without a name its address stands for the last one."""
    first, _, last = str(row.get("name") or row["email"]).strip().rpartition(" ")
    fields = dict(row.get("extra") or {}) | {
        "FirstName": cut(inert(first), WANTED["Contact"]["FirstName"].size) if first else None,
        "LastName": cut(inert(last), WANTED["Contact"]["LastName"].size),
        "Email": row["email"],
        "Title": cut(inert(row["title"]), WANTED["Contact"]["Title"].size) if row.get("title") else None,
        "AccountId": row["crm_account_id"],
        "OwnerId": row.get("owner_id"),
    }
    return {name: value for name, value in fields.items() if value is not None}


def iso_utc(at: datetime) -> str:
    """A moment in Salesforce's notation, UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shortened(text: str, size: int) -> str:
    """At most `size` UTF-16 units of the text, ending in "…" when it was cut."""
    return text if units(text) <= size else f"{cut(text, size - 1).rstrip()}…"


def cut(text: str, size: int) -> str:
    """At most `size` UTF-16 code units of the text, as Salesforce counts; no character is cut in half."""
    return text.encode("utf-16-le", "surrogatepass")[: 2 * size].decode("utf-16-le", "ignore")


def units(text: str) -> int:
    """The length of a text as Salesforce counts it: in UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _held(value: Any, wanted: Wanted) -> Any:
    """A value in the form its field stores; None when it does not fit and is to be left out of the record."""
    if isinstance(value, datetime):
        return iso_utc(value)
    if wanted.kind == "number" and value is not None:
        return value if abs(value) < 10**wanted.size else None
    if wanted.kind != "text" or value is None:
        return value
    if wanted.key:  # a shortened id could be another record's
        return value if units(value) <= wanted.size else None
    return shortened(value, wanted.size)


def problems(
    thing: str,
    there: Mapping[str, Mapping[str, Any]],
    unused: Collection[str] = (),
    values: Mapping[str, str] = OWN_VALUES,
) -> Iterator[str]:
    """What is wrong with the object's fields according to describe. `unused`: fields that need not be there.

    `values`: the values of a task's status and priority, as OWN_VALUES.
    """
    picked = {"Status": ("open", "closed"), "Priority": ("high", "medium", "low")} if thing == "Task" else {}
    for name, wanted in WANTED[thing].items():
        if name in picked:
            wanted = replace(wanted, values=tuple(values[of] for of in picked[name]))
        if name in unused:
            continue
        field = there.get(name)
        if field is None:
            yield f"{thing}.{name} is missing"
        else:
            yield from (f"{thing}.{name} {wrong}" for wrong in _wrong(field, wanted))


def own_problems(thing: str, there: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> Iterator[str]:
    """What is wrong with the company's own fields (`crm.extra_fields`) on records that we create."""
    for name in names:
        field = there.get(name)
        if field is None:
            yield f"{thing}.{name} (crm.extra_fields.{thing.lower()}) is missing"
        elif not field.get("createable", True):
            yield f"{thing}.{name} (crm.extra_fields.{thing.lower()}) may not be written"


def missing(thing: str, there: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> Iterator[str]:
    """The fields among `names` missing from the describe result; `Owner.Name` is a field of the record that `Owner`
    refers to."""
    relations = {field.get("relationshipName") for field in there.values()}
    for name in names:
        first, _, rest = name.partition(".")
        if first not in (relations if rest else there):
            yield f"{thing}.{name} is missing"


def _wrong(field: Mapping[str, Any], wanted: Wanted) -> Iterator[str]:
    """What is wrong with one field. Anything the describe result leaves out is taken as correct."""
    may_change = field.get("updateable", True) or not wanted.changed
    if wanted.written and not (may_change and field.get("createable", True)):
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
