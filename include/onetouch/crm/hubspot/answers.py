"""The properties to request from HubSpot, and the conversion of its records to the vendor-neutral rows of `Crm`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from onetouch.crm.automatic_replies import is_automatic
from onetouch.crm.hubspot import fields
from onetouch.crm.hubspot.fields import ACCOUNT_ID, DISPOSITION, HANDOFF_ID, OUTCOME, datetime_of
from onetouch.crm.hubspot.records import Record
from onetouch.crm.protocol import Activity, Refused, Row

MERGED = "hs_merged_object_ids"

COMPANY = ("hubspot_owner_id", ACCOUNT_ID, "createdate", MERGED)

DEAL = (
    "dealstage", "pipeline", "amount", "createdate", "closedate", "hs_is_closed", "hs_is_closed_won",
    "hs_analytics_source", "hubspot_owner_id", "hs_lastmodifieddate", "deal_currency_code",
)  # fmt: skip

ACTIVITIES: dict[str, tuple[str, ...]] = {
    "tasks": (
        "hs_task_subject", "hs_task_body", "hs_task_status", "hs_task_completion_date", "hubspot_owner_id",
        "hs_createdate", "hs_lastmodifieddate", HANDOFF_ID, OUTCOME, DISPOSITION,
    ),
    "calls": (
        "hs_call_title", "hs_call_body", "hs_call_status", "hs_call_direction", "hs_timestamp", "hubspot_owner_id",
        "hs_createdate", "hs_lastmodifieddate",
    ),
    "emails": (
        "hs_email_subject", "hs_email_text", "hs_email_status", "hs_email_direction", "hs_timestamp",
        "hubspot_owner_id", "hs_createdate", "hs_lastmodifieddate",
    ),
    "meetings": (
        "hs_meeting_title", "hs_meeting_body", "hs_meeting_outcome", "hs_meeting_end_time", "hs_timestamp",
        "hubspot_owner_id", "hs_createdate", "hs_lastmodifieddate",
    ),
}  # fmt: skip

_NO_CALL = {"QUEUED", "RINGING", "CONNECTING", "CALLING_CRM_USER", "IN_PROGRESS", "CANCELED"}
_NO_EMAIL = {"BOUNCED", "FAILED", "SCHEDULED", "SENDING"}
_NO_MEETING = {"CANCELED", "NO_SHOW", "RESCHEDULED"}


def account_of(record: Record, columns: Mapping[str, str]) -> Row:
    """A company as a row of `Crm.read_accounts`; `columns`: snapshot column → property."""
    properties = record["properties"]
    return {
        "crm_account_id": record["id"],
        "owner_id": properties.get("hubspot_owner_id"),
        "account_id": properties.get(ACCOUNT_ID),
        "created_at": created_at(record),
        "is_deleted": False,
        "merged_into": None,
    } | {column: properties.get(name) for column, name in columns.items()}


def state_of(deal: Record, stages: Mapping[str, Record]) -> tuple[str | None, bool, bool]:
    """The label of a deal's stage, whether the deal is closed, and whether it is won."""
    properties = deal["properties"]
    stage = stages.get(properties.get("dealstage") or "", {})
    told = stage.get("metadata") or {}
    closed = str(properties.get("hs_is_closed") or told.get("isClosed")).lower() == "true"
    won = properties.get("hs_is_closed_won") or (closed and float(told.get("probability") or 0) == 1)
    return stage.get("label") or properties.get("dealstage"), closed, closed and str(won).lower() == "true"


def opportunity_of(deal: Record, company: str | None, stages: Mapping[str, Record]) -> Row:
    """A deal of a company as a row of `Crm.read_opportunities`."""
    properties, (stage, closed, won) = deal["properties"], state_of(deal, stages)
    return {
        "opportunity_id": deal["id"],
        "crm_account_id": company,
        "stage": stage,
        "is_closed": closed,
        "is_won": won,
        "amount": float(properties["amount"]) if properties.get("amount") else None,
        "created_at": created_at(deal),
        "closed_at": datetime_of(properties.get("closedate")) if closed else None,
        "lead_source": properties.get("hs_analytics_source"),
        "owner_id": properties.get("hubspot_owner_id"),
        "changed_at": datetime_of(
            deal.get("archivedAt") or properties.get("hs_lastmodifieddate") or deal.get("updatedAt")
        ),
        "is_deleted": bool(deal.get("archived")),
    }


def activity_of(thing: str, record: Record, company: str | None) -> Activity:
    """A task, call, e-mail or meeting of a company."""
    properties = record["properties"]
    changed = datetime_of(record.get("archivedAt") or properties.get("hs_lastmodifieddate") or record.get("updatedAt"))
    created, at = created_at(record), datetime_of(properties.get("hs_timestamp"))
    if thing == "tasks":
        title, body, done = "hs_task_subject", "hs_task_body", properties.get("hs_task_status") == "COMPLETED"
        at = datetime_of(properties.get("hs_task_completion_date")) or changed
    elif thing == "calls":
        title, body, done = "hs_call_title", "hs_call_body", properties.get("hs_call_status") not in _NO_CALL
    elif thing == "emails":
        title, body, done = "hs_email_subject", "hs_email_text", properties.get("hs_email_status") not in _NO_EMAIL
    else:
        title, body, done = (
            "hs_meeting_title",
            "hs_meeting_body",
            properties.get("hs_meeting_outcome") not in _NO_MEETING,
        )
        at = datetime_of(properties.get("hs_meeting_end_time")) or at
    return Activity(
        activity_id=record["id"],
        kind=thing.removesuffix("s"),
        crm_account_id=company,
        owner_id=properties.get("hubspot_owner_id"),
        subject=properties.get(title) or "",
        description=fields.text_of(properties.get(body)),
        is_done=done,
        is_deleted=bool(record.get("archived")),
        created_at=created,
        done_at=(at or created) if done else None,
        changed_at=changed or created,
        key=properties.get(HANDOFF_ID),
        outcome=properties.get(OUTCOME),
        disposition=properties.get(DISPOSITION),
        is_answer=properties.get("hs_email_direction") == "INCOMING_EMAIL",
        is_inbound=thing == "calls" and properties.get("hs_call_direction") == "INBOUND",
        is_automatic=thing == "emails" and is_automatic(properties.get(title)),
    )


def merged_ids(record: Record) -> list[str]:
    """Ids of the records that were merged into this one."""
    ids = (record["properties"].get(MERGED) or "").split(";")
    return [i for i in ids if i and i != record["id"]]


def created_at(record: Record) -> datetime:
    """When a record was created. Raises Refused when the record has no creation date."""
    at = datetime_of(record.get("createdAt"))
    if at is None:
        raise Refused(f"HubSpot: record {record.get('id')} has no createdAt")
    return at
