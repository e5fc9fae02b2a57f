"""HubSpot's own property definitions, association types and deal pipeline, as far as the stand-in needs them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

TYPES: Final = {
    "companies": "COMPANY", "contacts": "CONTACT", "deals": "DEAL", "tasks": "TASK", "calls": "CALL",
    "emails": "EMAIL", "meetings": "MEETING_EVENT", "users": "USER",
}  # fmt: skip
"""Object type → its name in error messages."""

DEFAULTS: Final = {
    "companies": ("name", "domain"),
    "contacts": ("firstname", "lastname", "email"),
    "deals": ("dealname", "amount", "closedate", "pipeline", "dealstage"),
}
"""Properties that every answer contains."""

MODIFIED: Final = {"contacts": "lastmodifieddate"}
"""Object type → the property of the last change, where it is not hs_lastmodifieddate."""

_ACTIVITY: Final = ("hs_timestamp",)
REQUIRED: Final = {"tasks": _ACTIVITY, "calls": _ACTIVITY, "emails": _ACTIVITY, "meetings": _ACTIVITY}

ASSOCIATIONS: Final[dict[tuple[str, str], list[int]]] = {
    ("tasks", "companies"): [192], ("companies", "tasks"): [191],
    ("tasks", "contacts"): [204], ("contacts", "tasks"): [203],
    ("calls", "companies"): [182], ("companies", "calls"): [181],
    ("calls", "contacts"): [194], ("contacts", "calls"): [193],
    ("emails", "companies"): [186], ("companies", "emails"): [185],
    ("emails", "contacts"): [198], ("contacts", "emails"): [197],
    ("meetings", "companies"): [188], ("companies", "meetings"): [187],
    ("meetings", "contacts"): [200], ("contacts", "meetings"): [199],
    ("deals", "companies"): [341, 5], ("companies", "deals"): [342, 6],
    ("deals", "contacts"): [3], ("contacts", "deals"): [4],
    ("contacts", "companies"): [279, 1], ("companies", "contacts"): [280, 2],
}  # fmt: skip
"""(from, to) object types → association type ids: the unlabelled one first, then the primary one."""

_STAGES: Final = (
    ("appointmentscheduled", "Appointment Scheduled", "0.2"),
    ("qualifiedtobuy", "Qualified To Buy", "0.4"),
    ("presentationscheduled", "Presentation Scheduled", "0.6"),
    ("decisionmakerboughtin", "Decision Maker Bought-In", "0.8"),
    ("contractsent", "Contract Sent", "0.9"),
    ("closedwon", "Closed Won", "1.0"),
    ("closedlost", "Closed Lost", "0.0"),
)
PIPELINES: Final[list[dict[str, Any]]] = [
    {
        "id": "default",
        "label": "Sales Pipeline",
        "displayOrder": 0,
        "archived": False,
        "stages": [
            {
                "id": id_,
                "label": label,
                "displayOrder": order,
                "archived": False,
                "metadata": {"isClosed": "true" if id_.startswith("closed") else "false", "probability": probability},
            }
            for order, (id_, label, probability) in enumerate(_STAGES)
        ],
    }
]

_STRING, _NUMBER, _DATETIME, _BOOL = "string", "number", "datetime", "bool"


def _definition(name: str, kind: str, options: tuple[str, ...] = (), *, locked: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "label": name,
        "type": kind,
        "fieldType": "select" if options else "text",
        "groupName": "information",
        "options": [{"label": o, "value": o, "hidden": False} for o in options],
        "hasUniqueValue": name == "email",
        "hubspotDefined": True,
        "modificationMetadata": {"archivable": False, "readOnlyDefinition": True, "readOnlyValue": locked},
    }


_SYSTEM: Final = {
    "hs_object_id": _NUMBER, "hs_createdate": _DATETIME, "hs_lastmodifieddate": _DATETIME,
    "hs_merged_object_ids": _STRING,
}  # fmt: skip
_OWN: Final[dict[str, dict[str, Any]]] = {
    "companies": {
        "name": _STRING, "domain": _STRING, "website": _STRING, "industry": _STRING, "numberofemployees": _NUMBER,
        "hubspot_owner_id": _STRING, "phone": _STRING, "country": _STRING,
        "lifecyclestage": (
            "subscriber", "lead", "marketingqualifiedlead", "salesqualifiedlead", "opportunity", "customer",
            "evangelist", "other",
        ),
    },
    "contacts": {
        "email": _STRING, "firstname": _STRING, "lastname": _STRING, "hubspot_owner_id": _STRING, "phone": _STRING,
        "jobtitle": _STRING,
    },
    "deals": {
        "dealname": _STRING, "amount": _NUMBER, "closedate": _DATETIME, "pipeline": ("default",), "dealstage": _STRING,
        "hubspot_owner_id": _STRING, "deal_currency_code": ("USD", "EUR", "JPY"),
    },
    "tasks": {
        "hs_timestamp": _DATETIME, "hs_task_subject": _STRING, "hs_task_body": _STRING, "hubspot_owner_id": _STRING,
        "hs_task_status": ("NOT_STARTED", "IN_PROGRESS", "WAITING", "DEFERRED", "COMPLETED"),
        "hs_task_priority": ("NONE", "LOW", "MEDIUM", "HIGH"), "hs_task_type": ("TODO", "CALL", "EMAIL"),
        "hs_task_reminders": _NUMBER,
    },
    "calls": {
        "hs_timestamp": _DATETIME, "hs_call_title": _STRING, "hs_call_body": _STRING, "hubspot_owner_id": _STRING,
        "hs_call_direction": ("INBOUND", "OUTBOUND"),
        "hs_call_status": (
            "BUSY", "CALLING_CRM_USER", "CANCELED", "COMPLETED", "CONNECTING", "FAILED", "IN_PROGRESS", "NO_ANSWER",
            "QUEUED", "RINGING",
        ),
    },
    "emails": {
        "hs_timestamp": _DATETIME, "hs_email_subject": _STRING, "hs_email_text": _STRING, "hubspot_owner_id": _STRING,
        "hs_email_direction": ("EMAIL", "INCOMING_EMAIL", "FORWARDED_EMAIL"),
        "hs_email_status": ("BOUNCED", "FAILED", "SCHEDULED", "SENDING", "SENT"),
    },
    "meetings": {
        "hs_timestamp": _DATETIME, "hs_meeting_title": _STRING, "hs_meeting_body": _STRING,
        "hubspot_owner_id": _STRING, "hs_meeting_start_time": _DATETIME, "hs_meeting_end_time": _DATETIME,
        "hs_meeting_outcome": ("SCHEDULED", "COMPLETED", "RESCHEDULED", "NO_SHOW", "CANCELED"),
    },
    "users": {"hs_standard_time_zone": _STRING, "hs_internal_user_id": _NUMBER, "hs_email": _STRING},
}  # fmt: skip
_LOCKED: Final = {
    "companies": {"createdate": _DATETIME},
    "contacts": {
        "createdate": _DATETIME, "lastmodifieddate": _DATETIME, "hs_email_optout": _BOOL,
        "hs_additional_emails": _STRING,
    },
    "deals": {
        "createdate": _DATETIME, "hs_is_closed": _BOOL, "hs_is_closed_won": _BOOL, "hs_analytics_source": _STRING,
    },
    "tasks": {"hs_task_completion_date": _DATETIME},
}  # fmt: skip

DEFINED: Final[dict[str, dict[str, dict[str, Any]]]] = {
    type_: {
        name: _definition(name, "enumeration", kind) if isinstance(kind, tuple) else _definition(name, kind)
        for name, kind in own.items()
    }
    | {name: _definition(name, kind, locked=True) for name, kind in (_SYSTEM | _LOCKED.get(type_, {})).items()}
    for type_, own in _OWN.items()
}
"""Object type → property → its definition."""

_LONGEST: Final = 65_536


def read_value(definition: Mapping[str, Any], value: Any) -> str:
    """A value as HubSpot stores it: a text, "" for no value. Raises ValueError saying what is wrong."""
    name, kind = definition["name"], definition["type"]
    if value is None or value == "":
        return ""
    if not isinstance(value, str | int | float | bool):
        raise ValueError(f"{name}: must be text, a number or a boolean")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if kind == _NUMBER:
        try:
            number = float(text)
        except ValueError as error:
            raise ValueError(f"{text} was not a valid number.") from error
        if not math.isfinite(number):
            raise ValueError(f"{text} was not a valid number.")
        return str(int(number)) if number.is_integer() else text
    if kind in (_DATETIME, "date"):
        return _moment(text, kind)
    if kind in ("enumeration", _BOOL):
        allowed = [option["value"] for option in definition["options"]] or ["true", "false"]
        if text not in allowed:
            raise ValueError(f"{text} was not one of the allowed options: {allowed}")
    if len(text) > _LONGEST:
        raise ValueError(f"{name}: longer than {_LONGEST} characters")
    return text.lower() if name in ("domain", "email") else text


def _moment(text: str, kind: str) -> str:
    """A moment as HubSpot stores it, given in milliseconds since 1970 or as ISO text."""
    try:
        if text.lstrip("-").isdigit():
            at = datetime.fromtimestamp(int(text) / 1000, UTC)
        elif kind == "date":
            return date.fromisoformat(text).isoformat()
        else:
            at = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{text} was not a valid {kind}.") from error
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    if kind == "date":
        return at.astimezone(UTC).date().isoformat()
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
