"""Converts Salesforce records to the vendor-neutral rows of `Crm`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from onetouch.crm.automatic_replies import is_automatic
from onetouch.crm.protocol import MEETING, Activity
from onetouch.crm.salesforce.fields import DISPOSITION, HANDOFF_ID, OUTCOME
from onetouch.crm.salesforce.transport import Record

TASK_FIELDS = (
    "Id", "Subject", "Description", "Status", "IsClosed", "IsDeleted", "WhatId", "WhoId", "AccountId", "OwnerId",
    "TaskSubtype", "Type", "CreatedDate", "CompletedDateTime", "SystemModstamp", HANDOFF_ID, OUTCOME,
)  # fmt: skip

EVENT_FIELDS = (
    "Id", "Subject", "Description", "IsDeleted", "AccountId", "WhoId", "OwnerId", "CreatedDate", "SystemModstamp",
    "ActivityDate", "ActivityDateTime", "DurationInMinutes",
)  # fmt: skip

_KINDS = {"Call": "call", "Email": "email", "ListEmail": "email", "Meeting": MEETING}

INBOUND = "Inbound"
"""The CallType of a call that the customer made."""

_LOGGED = "Email: "
"""How Salesforce begins the subject of the task of a logged e-mail."""

_CANCELLED = re.compile(
    r"^\s*(cancell?ed|abgesagt|annulé|cancelad[oa]|annullato|geannuleerd|aflyst|inställt)\s*:", re.I
)
"""How calendars begin the subject of a meeting that was called off; Salesforce has no field for it."""

CONTACT = "003"
"""The prefix of a contact's id."""

LEAD = "00Q"
"""The prefix of a lead's id."""


def tasks_in(records: Iterable[Record]) -> Iterator[Activity]:
    """Tasks as activities."""
    return map(activity_of, records)


def meetings_in(events: Iterable[Record]) -> Iterator[Activity]:
    """Meetings as activities, without the copies that invitees hold of the same meeting."""
    yield from (_meeting(event) for event in events if not event.get("IsChild"))


def activity_of(record: Record) -> Activity:
    """A task as an activity; it may be a logged call or e-mail."""
    done = datetime_of(record["CompletedDateTime"]) or datetime_of(record["SystemModstamp"])
    kind = _KINDS.get(record["TaskSubtype"] or "") or _KINDS.get(record["Type"] or "", "task")
    return Activity(
        activity_id=record["Id"],
        kind=kind,
        crm_account_id=_record(record),
        owner_id=record["OwnerId"],
        subject=record["Subject"] or "",
        description=record["Description"] or "",
        is_done=record["IsClosed"],
        is_deleted=record["IsDeleted"],
        created_at=_required_datetime(record["CreatedDate"]),
        done_at=done if record["IsClosed"] else None,
        changed_at=_required_datetime(record["SystemModstamp"]),
        key=record[HANDOFF_ID],
        outcome=record[OUTCOME],
        disposition=record.get(DISPOSITION),
        is_inbound=kind == "call" and record.get("CallType") == INBOUND,
    )


def as_written(task: Activity, email: Record | None) -> Activity:
    """The task that a logged e-mail is, with who wrote it; `email`: its EmailMessage, if there is one.

    E-mails of both directions are logged as completed tasks of the rep whose mailbox is read (Einstein Activity
    Capture), so the task alone does not tell a rep's message from the customer's.
    """
    headers = None if email is None else email.get("Headers")
    if is_automatic(task.subject.removeprefix(_LOGGED), headers):
        return replace(task, is_automatic=True)
    return replace(task, is_answer=email is not None and bool(email["Incoming"]))


def as_attended(meeting: Activity, invited: Iterable[Record]) -> Activity:
    """The meeting, not held if it was called off or if all contacts and leads that were invited have declined.

    `invited`: its EventRelations. Where the customer was not invited by the CRM, nothing is known: it was held.
    """
    customers = [one["Status"] for one in invited if str(one["RelationId"]).startswith((CONTACT, LEAD))]
    declined = bool(customers) and all(status == "Declined" for status in customers)
    if declined or _CANCELLED.match(meeting.subject):
        return replace(meeting, is_done=False, done_at=None)
    return meeting


def _meeting(record: Record) -> Activity:
    begins = datetime_of(record["ActivityDateTime"]) or datetime_of(record["ActivityDate"])
    lasts = timedelta(minutes=record["DurationInMinutes"] or 0)
    ends = datetime_of(record.get("EndDateTime")) or (begins + lasts if begins else None)
    return Activity(
        activity_id=record["Id"],
        kind=MEETING,
        crm_account_id=_record(record),
        owner_id=record["OwnerId"],
        subject=record["Subject"] or "",
        description=record["Description"] or "",
        is_done=True,
        is_deleted=record["IsDeleted"],
        created_at=_required_datetime(record["CreatedDate"]),
        done_at=ends or datetime_of(record["CreatedDate"]),
        changed_at=_required_datetime(record["SystemModstamp"]),
    )


def _record(activity: Record) -> str | None:
    """The record an activity is about: an account, or a lead, which has no account."""
    lead = activity["WhoId"] if str(activity["WhoId"]).startswith(LEAD) else None
    return activity["AccountId"] or lead


def value_of(record: Record, field: str) -> Any:
    """A field of a record, or of the record it refers to (`Owner.Name`)."""
    value: Any = record
    for step in field.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def survivor(account: str, gone: Mapping[str, str | None]) -> str | None:
    """The surviving account after all merges."""
    into = gone[account]
    for _ in gone:
        if into is None or into not in gone:
            break
        into = gone[into]
    return into


def host_of(website: Any) -> str:
    """The host of a website as people write it (`https://www.acme.com/de`, `acme.com`)."""
    text = str(website or "").strip().lower()
    return urlsplit(text if "//" in text else f"//{text}").hostname or ""


def _required_datetime(text: Any) -> datetime:
    """A moment or a day as Salesforce writes it (2025-11-18T09:15:00.000+0000), in UTC."""
    at = datetime.fromisoformat(str(text))
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def datetime_of(text: Any) -> datetime | None:
    """A moment or a day in UTC; None for an empty value."""
    return _required_datetime(text) if text else None
