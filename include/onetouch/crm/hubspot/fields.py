"""The product's fields as HubSpot has them: names, values, and the properties an account needs."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, date, datetime
from typing import Any, Final

from onetouch.crm.protocol import DISPOSITIONS, OUTCOMES, Due
from onetouch.handoff import AccountContext, OpportunityContent, TaskContent, inert

ACCOUNT_ID: Final = "onetouch_account_id"
ACTION: Final = "onetouch_action"
AS_OF: Final = "onetouch_as_of"
HANDOFF_ID: Final = "onetouch_handoff_id"
OUTCOME: Final = "onetouch_outcome"
DISPOSITION: Final = "onetouch_disposition"
SOURCE: Final = "onetouch_source"
GROUP: Final = "onetouch"

LINE_CHARS: Final = 255
"""Ours: characters of a subject or of one line of the context; longer texts are not readable in a list."""

_TEXT_CHARS: Final = 65_536
"""Characters a text property holds."""

_TASK_TO_COMPANY, _TASK_TO_CONTACT, _CONTACT_TO_COMPANY = 192, 204, 1
_DEAL_TO_COMPANY, _DEAL_TO_CONTACT = 5, 3
"""HubSpot's own association types."""

_COMPANY: Final = {
    "Name": "name",
    "Website": "domain",
    "Industry": "industry",
    "NumberOfEmployees": "numberofemployees",
}
"""Salesforce name → HubSpot property of standard account fields; other names lose __c and are put in lower case."""

_CONTACT: Final = {"Title": "jobtitle", "DoNotCall": None, "HasOptedOutOfEmail": "hs_email_optout"}
"""Salesforce name → HubSpot property of a contact's standard fields, as `_COMPANY`; None: HubSpot has none."""

OWN_VALUES: Final[Mapping[str, str]] = {"open": "NOT_STARTED", "high": "HIGH", "medium": "MEDIUM", "low": "LOW"}
"""The values of a task's status and priority; the policy may name others (`crm.task_values`)."""


def _property(name: str, label: str, kind: str = "text", *options: str, unique: bool = False) -> dict[str, Any]:
    types = {
        "text": ("string", "text"), "long text": ("string", "textarea"), "number": ("number", "number"),
        "moment": ("datetime", "date"), "yes or no": ("bool", "booleancheckbox"), "choice": ("enumeration", "select"),
    }  # fmt: skip
    definition: dict[str, Any] = {
        "name": f"{GROUP}_{name}",
        "label": f"Onetouch {label}",
        "groupName": GROUP,
        "type": types[kind][0],
        "fieldType": types[kind][1],
    }
    if kind == "yes or no":
        options = ("true", "false")
    if options:
        definition["options"] = [
            {
                "label": {"true": "Yes", "false": "No"}.get(option, option),
                "value": option,
                "displayOrder": i,
                "hidden": False,
            }
            for i, option in enumerate(options)
        ]
    return definition | ({"hasUniqueValue": True} if unique else {})


PROPERTIES: Final[dict[str, tuple[dict[str, Any], ...]]] = {
    "companies": (
        _property("account_id", "account id", unique=True),
        _property("score", "score", "number"),
        _property("tier", "tier", "choice", "high", "medium", "low"),
        _property("action", "action"),
        _property("trigger", "trigger"),
        _property("motion", "motion", "choice", "self_serve", "sales_assist", "sales_led"),
        _property("activated", "activated", "yes or no"),
        _property("milestones", "milestones"),
        _property("team_size", "team size", "number"),
        _property("features_used", "features used"),
        _property("usage_28d", "usage (28 days)", "number"),
        _property("limit_share", "limit share", "number"),
        _property("dossier", "dossier", "long text"),
        _property("policy_version", "policy version"),
        _property("as_of", "as of", "moment"),
    ),
    "tasks": (
        _property("handoff_id", "handoff id", unique=True),
        _property("outcome", "outcome", "choice", *OUTCOMES),
        _property("disposition", "disposition", "choice", *DISPOSITIONS),
    ),
    "deals": (
        _property("handoff_id", "handoff id", unique=True),
        _property("source", "source"),
    ),
}
"""Object type → our properties as HubSpot's API defines them."""


def properties_used(*, deals: bool, standing: bool) -> dict[str, tuple[dict[str, Any], ...]]:
    """Those of PROPERTIES that have to be there: of deals only where we create some, the action only for standings."""
    used = {thing: wanted for thing, wanted in PROPERTIES.items() if deals or thing != "deals"}
    if not standing:
        used["companies"] = tuple(p for p in used["companies"] if p["name"] != ACTION)
    return used


_CONTEXT: Final = {"usage": f"{GROUP}_usage_28d"}
"""Part of an AccountContext → its property, where that is not onetouch_ and the part's name."""

_LINES: Final = frozenset(f"{GROUP}_{name}" for name in ("trigger", "milestones", "features_used"))
"""Properties that hold one line."""


def company_property(field: str) -> str:
    """HubSpot's name of a field of `crm.account_fields`; Salesforce names are translated: Plan__c is plan."""
    return _COMPANY.get(field) or field.removesuffix("__c").lower()


def contact_property(field: str) -> str | None:
    """HubSpot's name of a field of `crm.contact_fields`; None for what HubSpot itself does not keep."""
    return _CONTACT.get(field, field.removesuffix("__c").lower())


def company_properties(context: AccountContext) -> dict[str, str]:
    """An account's context as properties; unknown values are left out, or empty where an earlier episode's is to be
    emptied."""
    known = {_CONTEXT.get(f.name, f"{GROUP}_{f.name}"): getattr(context, f.name) for f in fields(context)}
    emptied = {_CONTEXT.get(name, f"{GROUP}_{name}"): "" for name in context.emptied}
    return emptied | {name: _written(name, value) for name, value in known.items() if value is not None}


def _noon(day: date) -> str:
    return f"{day.isoformat()}T12:00:00Z"


def due_properties(due: Due) -> dict[str, str]:
    """By when a task is to be done, as properties of a task (`task_properties`)."""
    return {"hs_timestamp": _noon(due.on), "hs_task_reminders": milliseconds(due.remind_at)}


def task_properties(task: TaskContent, values: Mapping[str, str] = OWN_VALUES) -> dict[str, str]:
    """A task's content as properties, the company's own among them. `values`: as OWN_VALUES.

    HubSpot's due date is a moment, not a day. It is set to noon UTC, which is the same day in every time zone from
    UTC-12 to UTC+11.
    """
    properties = (
        {"hs_task_type": "TODO"}
        | extra_properties(task.extra)
        | {
            "hs_task_subject": _shortened(task.subject),
            "hs_task_body": _paragraphs(task.description),
            "hs_task_priority": values[task.priority],
            "hs_task_status": values["open"],
            "hs_timestamp": _noon(task.due_on) if task.due_on else "",
            "hs_task_reminders": milliseconds(task.remind_at) if task.remind_at else "",
            "hubspot_owner_id": task.owner_id or "",
        }
    )
    return {name: value for name, value in properties.items() if value}


def extra_properties(given: Mapping[str, Any] | None) -> dict[str, str]:
    """The company's own properties of a record that we create (`crm.extra_fields`)."""
    return {name: _written(name, value) for name, value in (given or {}).items()}


def task_associations(task: TaskContent) -> list[dict[str, Any]]:
    """The company and the contact a task belongs to."""
    return _links((task.crm_account_id, _TASK_TO_COMPANY), (task.contact_id, _TASK_TO_CONTACT))


def _links(*of: tuple[str | None, int]) -> list[dict[str, Any]]:
    return [
        {"to": {"id": str(i)}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": kind}]}
        for i, kind in of
        if i
    ]


def deal_properties(content: OpportunityContent, pipeline: str, stage: str) -> dict[str, str]:
    """An opportunity's content as properties; unknown values are left out."""
    properties = {
        "dealname": _shortened(content.name),
        "pipeline": pipeline,
        "dealstage": stage,
        "amount": "" if content.amount is None else str(content.amount),
        "closedate": f"{content.close_on.isoformat()}T00:00:00Z" if content.close_on else "",
        "hubspot_owner_id": content.owner_id or "",
        SOURCE: content.source,
    }
    return {name: value for name, value in properties.items() if value}


def deal_associations(content: OpportunityContent) -> list[dict[str, Any]]:
    """The company and the contact a deal belongs to."""
    return _links((content.crm_account_id, _DEAL_TO_COMPANY), (content.contact_id, _DEAL_TO_CONTACT))


def contact_input(email: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A new contact of a company; unknown values are left out."""
    first, _, last = str(row.get("name") or "").strip().rpartition(" ")
    known = {
        "email": email,
        "firstname": _shortened(inert(first)) if first else None,
        "lastname": _shortened(inert(last)) if last else None,
        "jobtitle": _shortened(inert(row["title"])) if row.get("title") else None,
        "hubspot_owner_id": row.get("owner_id"),
    }
    kind = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": _CONTACT_TO_COMPANY}
    return {
        "properties": extra_properties(row.get("extra")) | {name: str(value) for name, value in known.items() if value},
        "associations": [{"to": {"id": str(row["crm_account_id"])}, "types": [kind]}],
    }


def noted(note: str, body: str) -> dict[str, str]:
    """A task's body (HTML) with a note on top; empty when it would not fit, since the rep's text is never cut."""
    text = f"{_paragraphs(note)}<br><br>{body}"
    return {"hs_task_body": text} if len(text.encode("utf-16-le", "surrogatepass")) <= 2 * _TEXT_CHARS else {}


def text_of(body: str | None) -> str:
    """The text of HubSpot's HTML."""
    lines = re.sub(r"<br\s*/?>|</p>|</div>|</li>", "\n", body or "")
    return html.unescape(re.sub(r"<[^>]{0,1000}>", "", lines)).strip()


def datetime_of(value: Any) -> datetime | None:
    """A moment in UTC from HubSpot's ISO text or milliseconds since 1970; None for an empty value."""
    text = str(value or "")
    if not text:
        return None
    if text.isdigit():
        return datetime.fromtimestamp(int(text) / 1000, UTC)
    at = datetime.fromisoformat(text)
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def milliseconds(at: datetime) -> str:
    """A moment in the form that search filters require: milliseconds since 1970."""
    return str(int(at.timestamp() * 1000))


def _paragraphs(text: str) -> str:
    """Plain text as HTML: markup is escaped, line breaks are kept."""
    while len(body := html.escape(text, quote=False).replace("\n", "<br>")) > _TEXT_CHARS:
        text = text[: len(text) * 9 // 10]
    return body


def _written(name: str, value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, bool):
        return str(value).lower()
    return _shortened(str(value)) if name in _LINES else str(value)


def _shortened(text: str) -> str:
    return text if len(text) <= LINE_CHARS else f"{text[: LINE_CHARS - 1].rstrip()}…"
