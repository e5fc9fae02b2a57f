"""The product's fields as HubSpot has them: names, values, and the properties an account needs."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from onetouch.crm.protocol import DISPOSITIONS, OUTCOMES

ACCOUNT_ID: Final = "onetouch_account_id"
HANDOFF_ID: Final = "onetouch_handoff_id"
OUTCOME: Final = "onetouch_outcome"
DISPOSITION: Final = "onetouch_disposition"
GROUP: Final = "onetouch"

SUBJECT_CHARS: Final = 255
"""Ours, as in Salesforce: more is not readable in a list."""

_TEXT_CHARS: Final = 65_536
"""Characters a text property holds."""

_TASK_TO_COMPANY, _TASK_TO_CONTACT = 192, 204
"""HubSpot's own association types."""

_COMPANY: Final = {
    "Name": "name",
    "Website": "domain",
    "Industry": "industry",
    "NumberOfEmployees": "numberofemployees",
}
"""Standard fields of the account; others lose their __c and their capitals."""

_PRIORITY: Final = {"High": "HIGH", "Normal": "MEDIUM", "Low": "LOW"}
_STATUS: Final = {"Not Started": "NOT_STARTED", "Completed": "COMPLETED"}


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
}
"""Object type → our properties as HubSpot's API defines them."""


def company_property(field: str) -> str:
    """A field of the account under HubSpot's name: Onetouch_Score__c is onetouch_score, Website is domain."""
    return _COMPANY.get(field) or field.removesuffix("__c").lower()


def company_properties(fields: Mapping[str, Any]) -> dict[str, str]:
    """Account fields as properties; nulls are left out, so nothing is erased."""
    return {company_property(name): _written(value) for name, value in fields.items() if value is not None}


def task_properties(fields: Mapping[str, Any]) -> dict[str, str]:
    """A task's content as properties.

    HubSpot has no due day, only a moment: noon UTC of the day, which is that day in every zone from UTC-12 to UTC+11.
    """
    properties = {"hs_task_type": "TODO"}
    if fields.get("Subject"):
        properties["hs_task_subject"] = str(fields["Subject"])[:SUBJECT_CHARS]
    if fields.get("Description"):
        properties["hs_task_body"] = _paragraphs(str(fields["Description"]))
    if fields.get("Priority"):
        properties["hs_task_priority"] = _PRIORITY.get(fields["Priority"], "MEDIUM")
    if fields.get("Status"):
        properties["hs_task_status"] = _STATUS.get(fields["Status"], "NOT_STARTED")
    if fields.get("ActivityDate"):
        properties["hs_timestamp"] = f"{fields['ActivityDate']}T12:00:00Z"
    if fields.get("IsReminderSet") and fields.get("ReminderDateTime"):
        at = moment(fields["ReminderDateTime"])
        properties["hs_task_reminders"] = str(int(at.timestamp() * 1000)) if at else ""
    if fields.get("OwnerId"):
        properties["hubspot_owner_id"] = str(fields["OwnerId"])
    return properties


def task_associations(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The company and the contact a task belongs to."""
    of = [(fields.get("WhatId"), _TASK_TO_COMPANY), (fields.get("WhoId"), _TASK_TO_CONTACT)]
    return [
        {"to": {"id": str(i)}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": kind}]}
        for i, kind in of
        if i
    ]


def noted(note: str, body: str) -> dict[str, str]:
    """A task's body (HTML) with a note on top; none when it would not fit: the rep's words are never cut."""
    text = f"{_paragraphs(note)}<br><br>{body}"
    return {"hs_task_body": text} if len(text.encode("utf-16-le", "surrogatepass")) <= 2 * _TEXT_CHARS else {}


def text_of(body: str | None) -> str:
    """The text of HubSpot's HTML."""
    lines = re.sub(r"<br\s*/?>|</p>|</div>|</li>", "\n", body or "")
    return html.unescape(re.sub(r"<[^>]{0,1000}>", "", lines)).strip()


def moment(value: Any) -> datetime | None:
    """A moment as HubSpot tells it: ISO, or milliseconds since 1970; UTC. None for none."""
    text = str(value or "")
    if not text:
        return None
    if text.isdigit():
        return datetime.fromtimestamp(int(text) / 1000, UTC)
    at = datetime.fromisoformat(text)
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def milliseconds(at: datetime) -> str:
    """A moment as search filters take it."""
    return str(int(at.timestamp() * 1000))


def _paragraphs(text: str) -> str:
    """Plain text as HTML: nothing of it is markup, its lines stay lines."""
    while len(body := html.escape(text, quote=False).replace("\n", "<br>")) > _TEXT_CHARS:
        text = text[: len(text) * 9 // 10]
    return body


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
